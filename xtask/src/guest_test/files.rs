//! Programs from the initramfs: their traces on the console, and one line for
//! each file that is none.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::sh;

/// A program in wire form: one of the seeds.
const SEED: &str = "corpora/everything/fork-read";

/// A file, and what the console must say of it: one line that starts with the
/// agent's name and the path, or an event of its trace.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    says: &'static str,
}

/// The programs, with what is expected of them.
pub(super) struct Files {
    cases: Vec<Case>,
    folder: tempfile::TempDir,
}

impl Files {
    /// Writes the programs to a temporary folder.
    pub(super) fn new() -> Result<Self> {
        let seed = sh::root().join(SEED);
        let seed = fs::read(&seed).with_context(|| format!("cannot read {}", seed.display()))?;
        let folder = tempfile::tempdir()?;
        let cases = cases(&seed);
        for case in &cases {
            fs::write(folder.path().join(case.name), &case.bytes)?;
        }
        Ok(Self { cases, folder })
    }

    /// The files, for the initramfs.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let names = self.cases.iter().map(|case| case.name);
        names.map(|name| self.folder.path().join(name)).collect()
    }

    /// What the agent is told to run, a file that is not there in between.
    pub(super) fn argument(&self) -> String {
        let paths = self.cases.iter().map(|case| path(case.name));
        let paths = [path("missing")].into_iter().chain(paths);
        paths.collect::<Vec<_>>().join(",")
    }

    /// Checks the console; says how many files there were.
    pub(super) fn judge(&self, console: &str) -> Result<usize> {
        let missing = (path("missing"), "cannot read /programs/missing (-2)");
        let cases = self.cases.iter().map(|case| (path(case.name), case.says));
        for (path, says) in [missing].into_iter().chain(cases) {
            let lines = console.lines();
            let said = lines.filter(|line| line.contains(&path)).count();
            if says.starts_with("# ") {
                ensure!(console.contains(says), "{path}: no `{says}`\n{console}");
                ensure!(said == 0, "{path}: something is said of it\n{console}");
                continue;
            }
            ensure!(said == 1, "{path}: not one line, but {said}\n{console}");
            ensure!(console.contains(says), "{path}: no `{says}`\n{console}");
        }
        let traces = console.matches("#   begin ").count();
        let ends = console.matches("#   end ").count();
        ensure!(
            (traces, ends) == (2, 2),
            "{traces} begins and {ends} ends of traces, not 2 each\n{console}"
        );
        Ok(self.cases.len())
    }
}

fn path(name: &str) -> String {
    format!("/programs/{name}")
}

fn cases(seed: &[u8]) -> Vec<Case> {
    let case = |name, bytes: &[u8], says| Case {
        name,
        bytes: bytes.to_vec(),
        says,
    };
    let mut odd = seed.to_vec();
    odd[7] = 1;
    let mut long = seed.to_vec();
    long.resize(5000, 0);
    vec![
        case("wire", seed, "#   status thread=0 op=1"),
        case("cut", &seed[..seed.len() - 5], "cut: cut off after "),
        case("long", &long, "long: 5000 bytes are more than the "),
        case("huge", &[0; 40_000], "huge: "),
        case("odd", &odd, "odd: byte 7 has a value that this version"),
        case(
            "bad.txt",
            b"t0 nop\nt0 flip\n",
            "bad.txt: line 2: there is no operation `flip`",
        ),
        case("bytes.txt", b"t0 \xff\n", "bytes.txt is not UTF-8"),
        // Whatever came before, the next one runs.
        case(
            "text.txt",
            b"t0 exit-group code=3\n",
            "#   leaving thread=0 op=0",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files::new().unwrap()
    }

    /// A console on which all is as it should be.
    fn good() -> String {
        let mut text = String::from("latefork-agent: cannot read /programs/missing (-2)\n");
        for case in &files().cases {
            if case.says.starts_with("# ") {
                text += &format!("#   begin tid=1\n{} tid=1\n#   end tid=0\n", case.says);
            } else {
                text += &format!("latefork-agent: /programs/{}\n", case.says);
            }
        }
        text
    }

    #[test]
    fn console_is_judged_line_by_line() {
        assert_eq!(files().judge(&good()).unwrap(), 8);
        for (from, to) in [
            // A bad file is run, is not mentioned, or twice.
            ("cut off after", "begins after"),
            ("latefork-agent: /programs/huge: \n", ""),
            ("/programs/huge: ", "/programs/huge: \n/programs/huge: "),
            // A trace is missing, or one too many.
            ("#   end tid=0\n", ""),
            ("#   begin tid=1\n", "#   begin tid=1\n#   begin tid=1\n"),
            ("(-2)", "(-13)"),
        ] {
            let bad = good().replacen(from, to, 1);
            assert_ne!(bad, good(), "{from}");
            assert!(files().judge(&bad).is_err(), "{from}");
        }
    }
}
