//! Brings the source tree to a variant's patches, touching only files whose
//! text differs: `make` then rebuilds only what hangs on them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::{NamedTempFile, TempDir};

use super::source::Tree;
use super::variant::Variant;

/// The table to which the call is added, at the first free number.
const SYSCALL_TABLE: &str = "arch/x86/entry/syscalls/syscall_32.tbl";

/// Applies the series of `variant` to `tree`; returns the call's number.
///
/// # Errors
/// When a patch does not apply exactly. The tree is changed only after all of
/// them applied to a copy.
pub(crate) fn apply(variant: &Variant, tree: &Tree) -> Result<u32> {
    let series = variant.patches()?;
    let mut paths = BTreeSet::from([PathBuf::from(SYSCALL_TABLE)]);
    for patch in &series {
        let text = fs::read_to_string(patch)
            .with_context(|| format!("cannot read {}", patch.display()))?;
        paths.extend(files_of(&text).with_context(|| patch.display().to_string())?);
    }
    let known = remember(tree, &paths)?;
    let staged = TempDir::new()?;
    for path in &paths {
        copy_if_there(&tree.pristine().join(path), &staged.path().join(path))?;
    }
    for patch in &series {
        apply_one(patch, staged.path())?;
    }
    let number = add_syscall(&staged.path().join(SYSCALL_TABLE))?;
    for path in paths.union(&known) {
        let from = if paths.contains(path) {
            staged.path().join(path)
        } else {
            tree.pristine().join(path)
        };
        bring(&from, &tree.root().join(path))?;
    }
    Ok(number)
}

/// The files that a patch names.
fn files_of(patch: &str) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut lines = patch.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(old) = line.strip_prefix("--- ") else {
            continue;
        };
        let Some(new) = lines.peek().and_then(|next| next.strip_prefix("+++ ")) else {
            continue;
        };
        for name in [old, new] {
            let name = name.split('\t').next().unwrap_or(name);
            if name == "/dev/null" {
                continue;
            }
            let path = name
                .split_once('/')
                .map(|(_, path)| PathBuf::from(path))
                .filter(|path| {
                    path.components()
                        .all(|part| matches!(part, Component::Normal(_)))
                })
                .ok_or_else(|| anyhow!("`{name}` is no path inside the kernel's tree"))?;
            files.insert(path);
        }
    }
    if files.is_empty() {
        bail!("names no file: this is no patch");
    }
    Ok(files)
}

/// Keeps the unpatched text of `paths` before anything changes them; returns
/// every file that was ever patched.
fn remember(tree: &Tree, paths: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let text = fs::read_to_string(tree.manifest()).unwrap_or_default();
    let mut known: BTreeSet<PathBuf> = text.lines().map(PathBuf::from).collect();
    for path in paths {
        if known.insert(path.clone()) {
            copy_if_there(&tree.root().join(path), &tree.pristine().join(path))?;
        }
    }
    let list: Vec<_> = known.iter().map(|path| path.to_string_lossy()).collect();
    write(&tree.manifest(), list.join("\n").as_bytes())?;
    Ok(known)
}

/// Applies one patch without fuzz; lines may have moved, context may not.
fn apply_one(patch: &Path, folder: &Path) -> Result<()> {
    let output = Command::new("patch")
        .args([
            "--strip=1",
            "--fuzz=0",
            "--batch",
            "--forward",
            "--no-backup-if-mismatch",
        ])
        .arg("--directory")
        .arg(folder)
        .arg("--input")
        .arg(patch)
        .stdin(Stdio::null())
        .output()
        .context("cannot start `patch`")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let wrong = text
            .lines()
            .rfind(|line| line.contains("FAILED") || line.contains("ignored"));
        bail!(
            "{} does not apply to this kernel source: {}",
            patch.display(),
            wrong.unwrap_or("see `patch`").trim()
        );
    }
    Ok(())
}

/// Appends the call to the table; returns the number it got.
fn add_syscall(table: &Path) -> Result<u32> {
    let mut text = fs::read_to_string(table)
        .with_context(|| format!("the kernel source has no {SYSCALL_TABLE}"))?;
    let numbers = text
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok());
    let last: u32 = numbers
        .max()
        .ok_or_else(|| anyhow!("{SYSCALL_TABLE} holds no system call"))?;
    let number = last + 1;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("{number}\ti386\tasync\t\t\tsys_async\n"));
    fs::write(table, text)?;
    Ok(number)
}

/// Makes `to` what `from` is: the same text, or absent.
fn bring(from: &Path, to: &Path) -> Result<()> {
    let wanted = fs::read(from).ok();
    let found = fs::read(to).ok();
    match wanted {
        _ if wanted == found => Ok(()),
        Some(text) => write(to, &text),
        None => fs::remove_file(to).with_context(|| format!("cannot remove {}", to.display())),
    }
}

fn copy_if_there(from: &Path, to: &Path) -> Result<()> {
    match fs::read(from) {
        Ok(text) => write(to, &text),
        Err(_) => Ok(()),
    }
}

/// Writes a file at once or not at all.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.persist(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::variant::{Config, Flavour};

    const PATCH: &str = "--- a/x/old.c\n+++ b/x/old.c\n@@ -1 +1 @@\n-one\n+two\n";

    #[test]
    fn a_patch_names_its_files() {
        let text = format!("{PATCH}--- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+x\n");
        let files = files_of(&text).unwrap();
        assert_eq!(files, ["new.c", "x/old.c"].map(PathBuf::from).into());
    }

    /// The most unchanged lines on end at the start or the end of a hunk.
    fn context(patch: &str) -> usize {
        let mut hunks: Vec<Vec<&str>> = Vec::new();
        for line in patch.lines() {
            let begins = ["@@ ", "diff ", "--- "].map(|start| line.starts_with(start));
            if begins.contains(&true) {
                hunks.push(Vec::new());
            } else if let Some(hunk) = hunks.last_mut() {
                hunk.push(line);
            }
        }
        let unchanged = |line: &&&str| line.starts_with(' ') || line.is_empty();
        let ends = |hunk: &Vec<&str>| {
            let before = hunk.iter().take_while(unchanged).count();
            before.max(hunk.iter().rev().take_while(unchanged).count())
        };
        hunks.iter().map(ends).max().unwrap_or(0)
    }

    #[test]
    fn the_series_keeps_to_its_rules() {
        for flavour in [Flavour::Faithful, Flavour::Hardened] {
            let variant = Variant::new(flavour, Config::Fuzz, None).unwrap();
            for path in variant.patches().unwrap() {
                let text = fs::read_to_string(&path).unwrap();
                let name = path.display();
                assert_eq!(context(&text), 1, "{name}: lines of context");
                assert!(text.starts_with("Subject: "), "{name}");
                if path.parent().unwrap().ends_with("hardened") {
                    for part in ["What happened: ", "To whom: ", "Mended: "] {
                        assert!(text.contains(&format!("\n\n{part}")), "{name}: {part}");
                    }
                }
            }
        }
    }

    #[test]
    fn two_lines_of_context_are_two() {
        assert_eq!(context("@@ -1,3 +1,3 @@\n a\n b\n-c\n+d\n"), 2);
        assert_eq!(context("@@ -1,3 +1,3 @@\n b\n-c\n+d\n e\n\n"), 2);
        assert_eq!(context("@@ -0,0 +1 @@\n+d\n"), 0);
    }

    #[test]
    fn a_path_out_of_the_tree_is_refused() {
        for path in ["b/../../etc/passwd", "b//etc/passwd", "plain"] {
            files_of(&format!("--- /dev/null\n+++ {path}\n")).unwrap_err();
        }
        files_of("words\n").unwrap_err();
    }

    #[test]
    fn a_patch_applies_exactly_or_not_at_all() {
        let folder = TempDir::new().unwrap();
        let patch = folder.path().join("1.patch");
        fs::write(&patch, PATCH).unwrap();
        fs::create_dir(folder.path().join("x")).unwrap();
        let file = folder.path().join("x/old.c");
        fs::write(&file, "one\n").unwrap();
        apply_one(&patch, folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two\n");
        let error = apply_one(&patch, folder.path()).unwrap_err().to_string();
        assert!(error.contains("1.patch does not apply"), "{error}");
    }

    #[test]
    fn the_call_gets_the_first_free_number() {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), "# table\n0 i386 a sys_a\n7 i386 b sys_b").unwrap();
        assert_eq!(add_syscall(file.path()).unwrap(), 8);
        assert_eq!(add_syscall(file.path()).unwrap(), 9);
    }
}
