//! What the kernel said, with the source lines of the functions that it named.

use std::collections::BTreeMap;
use std::path::Path;

use addr2line::Loader;
use latefork_harness::complaint::complaints;

/// Lines of a console that are shown at most.
const LONGEST: usize = 120;

/// The console from its first complaint on, each `function+offset` with file
/// and line, without what the kernel itself doubts (`? function`); nothing where
/// it did not complain.
pub(super) fn lines(console: &str, kernel: &Path) -> Vec<String> {
    if complaints(console).is_empty() {
        return Vec::new();
    }
    let source = Source::open(kernel);
    let lines: Vec<&str> = console.lines().map(str::trim_end).collect();
    let first = lines
        .iter()
        .position(|line| !complaints(line).is_empty())
        .unwrap_or(0);
    let sure = |line: &&&str| !line.trim_start().starts_with("? ");
    let wanted: Vec<&&str> = lines[first..].iter().filter(sure).collect();
    let shown = wanted.iter().take(LONGEST);
    let mut shown: Vec<String> = shown.map(|line| source.annotate(line)).collect();
    let left = wanted.len() - shown.len();
    if left > 0 {
        shown.push(format!("({left} more lines: see `latefork run --console`)"));
    }
    if let Some(why) = &source.lacks {
        shown.push(format!("(no source lines: {why})"));
    }
    shown
}

/// Addresses of functions, and their lines.
struct Source {
    functions: BTreeMap<String, u64>,
    debug: Option<Loader>,
    lacks: Option<String>,
}

impl Source {
    fn open(kernel: &Path) -> Self {
        let map = kernel.with_file_name("System.map");
        let (functions, mut lacks) = match std::fs::read_to_string(&map) {
            Ok(text) => (functions(&text), None),
            Err(error) => {
                let why = format!("{}: {error}", map.display());
                (BTreeMap::new(), Some(why))
            }
        };
        let debug = Loader::new(kernel)
            .map_err(|error| lacks = Some(format!("{}: {error}", kernel.display())))
            .ok();
        Self {
            functions,
            debug,
            lacks,
        }
    }

    /// The line with the place of the first `function+0x12/0x34` behind it.
    fn annotate(&self, line: &str) -> String {
        let word = line
            .split_ascii_whitespace()
            .find(|word| word.contains("+0x"));
        match word.and_then(|word| self.place(word)) {
            Some(place) => format!("{line}  [{place}]"),
            None => line.to_owned(),
        }
    }

    fn place(&self, word: &str) -> Option<String> {
        let (name, rest) = word.split_once("+0x")?;
        let name = name.rsplit(':').next()?;
        let offset = rest.split('/').next()?;
        let offset = u64::from_str_radix(offset, 16).ok()?;
        let address = self.functions.get(name)? + offset;
        // A return address lies behind its call; the culprit's own does not.
        let inside = if word.starts_with("EIP:") {
            address
        } else {
            address.checked_sub(1)?
        };
        let location = self.debug.as_ref()?.find_location(inside).ok()??;
        Some(format!("{}:{}", short(location.file?), location.line?))
    }
}

/// A source path from the kernel's root on (`make.rs` of xtask maps folders).
fn short(path: &str) -> &str {
    let path = path.strip_prefix("objects/").unwrap_or(path);
    path.trim_start_matches("./")
}

/// Functions in a System.map: address, kind, name.
fn functions(map: &str) -> BTreeMap<String, u64> {
    let parsed = map.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let kind = words.next()?;
        let name = words.next()?;
        matches!(kind, "t" | "T" | "w" | "W").then(|| (name.to_owned(), address))
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_gives_functions_alone() {
        let map = "c0100000 T _stext\nc0100010 t local\nc1000000 D data\nnonsense\n";
        let found = functions(map);
        assert_eq!(found.len(), 2);
        assert_eq!(found["local"], 0xc010_0010);
    }

    #[test]
    fn a_console_without_complaints_shows_nothing() {
        assert!(lines("hello\nworld\n", Path::new("/none")).is_empty());
        let shown = lines("hello\nWARNING: at x\n", Path::new("/none"));
        assert_eq!(shown[0], "WARNING: at x");
        assert!(shown[1].contains("no source lines"), "{shown:?}");
    }
}
