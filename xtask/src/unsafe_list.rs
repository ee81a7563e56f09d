//! The README's list of files with unsafe code, against the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::sh;

/// The workspaces but for the guest agent, which is unsafe all over.
const FOLDERS: [&str; 7] = ["cli", "cpu", "fuzz", "harness", "vmm", "wire", "xtask"];
/// Where the list begins in the README.
const HEADING: &str = "## Unsafe code";

const KEYWORD: &str = "unsafe";

/// The files in the list.
fn listed(readme: &str) -> BTreeSet<String> {
    let section = readme.split(HEADING).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect()
}

/// Whether a source has an unsafe block, function, implementation or attribute.
fn is_unsafe(source: &str) -> bool {
    let code = source.lines().map(str::trim_start);
    let code = code.filter(|line| !line.starts_with("//"));
    let forms = ["{", "fn", "impl", "extern"].map(|what| format!("{KEYWORD} {what}"));
    let attribute = format!("#[{KEYWORD}(");
    code.into_iter().any(|line| {
        forms.iter().any(|form| line.contains(form.as_str())) || line.starts_with(&attribute)
    })
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let built = path.ends_with("target") || path.ends_with("corpus");
        if path.is_dir() && !built {
            sources(&path, found);
        } else if path.extension().is_some_and(|name| name == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_readme_lists_every_file_with_unsafe_code_and_no_other() {
    let root = sh::root();
    let mut files = Vec::new();
    for folder in FOLDERS {
        sources(&root.join(folder), &mut files);
    }
    let found: BTreeSet<String> = files
        .iter()
        .filter(|path| is_unsafe(&fs::read_to_string(path).unwrap()))
        .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    assert_eq!(listed(&readme), found);
}

#[test]
fn comments_and_names_are_no_unsafe_code() {
    let block = format!("    {KEYWORD} {{ x() }}\n");
    assert!(is_unsafe(&block));
    assert!(!is_unsafe(&format!("// {block}")));
    assert!(!is_unsafe(
        "#![forbid(unsafe_code)]\nlet unsafe_list = 1;\n"
    ));
    assert!(is_unsafe(&format!("#[{KEYWORD}(no_mangle)]\n")));
}
