//! What `cargo xtask kernel` says of bad input: one line, an exit code that is
//! not 0, and nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A cache folder and a source of their own, and a variant nobody else builds.
struct Place {
    folder: TempDir,
}

/// Lines that say what goes on, not what went wrong.
const PROGRESS: [&str; 3] = [
    "copying the kernel source",
    "unpacking the kernel source",
    WARNING,
];
const WARNING: &str = "warning: building Linux 6.12.9 ";

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("latefork-test")).unwrap();
        let patch = "--- a/no/such/file\n+++ b/no/such/file\n@@ -1 +1 @@\n-a\n+b\n";
        fs::write(folder.path().join("latefork-test/1.patch"), patch).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder that looks like Linux of that version, without any source.
    fn tree(&self, version: &str) -> PathBuf {
        let mut numbers = version.split('.');
        let mut makefile = String::new();
        for name in ["VERSION", "PATCHLEVEL", "SUBLEVEL"] {
            makefile.push_str(&format!("{name} = {}\n", numbers.next().unwrap()));
        }
        let tree = self.path("linux");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("Makefile"), makefile).unwrap();
        tree
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .arg("kernel")
            .args(arguments)
            .env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// Tries to build from `source`; returns the one line that says why not.
    fn refuses(&self, source: &Path) -> String {
        let mut command = self.command(&["--flavour", "faithful", "--patches"]);
        command
            .arg(self.path("latefork-test"))
            .env("KERNEL_SOURCE", source);
        let output = command.output().unwrap();
        let line = one_line(&output);
        let said = String::from_utf8_lossy(&output.stderr);
        // Accepted with a warning that names both, then the patches are tried.
        if let Some(warning) = said.lines().find(|line| line.starts_with(WARNING)) {
            has(warning, &["tested with Linux 6.12.117 (sha256 585a4a07"]);
        }
        assert_eq!(said.contains(WARNING), line.contains("does not apply"));
        for folder in ["images", "partial"] {
            let folder = self.path("cache/latefork/kernel").join(folder);
            let left: Vec<_> = fs::read_dir(folder).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
        let output = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guest");
        assert!(
            !Path::new(output)
                .join("faithful-fuzz-latefork-test")
                .exists()
        );
        line
    }
}

/// The one line of a failure.
fn one_line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!output.status.success(), "{text}");
    let mut lines: Vec<_> = text.lines().collect();
    lines.retain(|line| !PROGRESS.iter().any(|known| line.starts_with(known)));
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].starts_with("xtask: "), "{text}");
    lines[0].to_owned()
}

#[track_caller]
fn has(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "`{part}` is not in: {line}");
    }
}

#[test]
fn an_unknown_flavour_is_answered_with_those_there_are() {
    let output = Place::new().command(&["--flavour", "tasty"]).output();
    has(
        &one_line(&output.unwrap()),
        &["--flavour", "tasty", "faithful, hardened"],
    );
}

#[test]
fn an_unknown_config_is_answered_with_those_there_are() {
    let arguments = ["--flavour", "hardened", "--config", "kasan"];
    let output = Place::new().command(&arguments).output();
    has(
        &one_line(&output.unwrap()),
        &["--config", "kasan", "fuzz, lockdep, sse"],
    );
}

#[test]
fn a_missing_flavour_is_asked_for() {
    let output = Place::new().command(&[]).output();
    has(&one_line(&output.unwrap()), &["--flavour"]);
}

#[test]
fn a_source_of_another_version_is_refused() {
    let place = Place::new();
    let line = place.refuses(&place.tree("6.13.1"));
    has(&line, &["Linux 6.13", "6.12.x"]);
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let place = Place::new();
    let line = place.refuses(&place.path("nowhere"));
    has(&line, &["nowhere", "No such file"]);
}

#[test]
fn an_archive_of_another_version_is_refused() {
    let place = Place::new();
    place.tree("5.10.1");
    let archive = pack(&place);
    has(&place.refuses(&archive), &["Linux 5.10", "6.12.x"]);
    assert!(works(&place).is_empty());
}

#[test]
fn a_truncated_archive_is_refused() {
    let place = Place::new();
    let tree = place.tree("6.12.9");
    let noise: Vec<u8> = (0..100_000u32)
        .flat_map(|n| n.wrapping_mul(n ^ 0x9e37_79b1).to_le_bytes())
        .collect();
    fs::write(tree.join("noise"), noise).unwrap();
    let archive = pack(&place);
    let bytes = fs::read(&archive).unwrap();
    fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    let line = place.refuses(&archive);
    has(&line, &["linux.tar.xz", "cannot unpack"]);
    assert!(works(&place).is_empty());
}

#[test]
fn a_patch_that_does_not_apply_is_named_and_the_tree_stays_as_it_was() {
    let place = Place::new();
    let tree = place.tree("6.12.9");
    let table = "arch/x86/entry/syscalls/syscall_32.tbl";
    fs::create_dir_all(tree.join(table).parent().unwrap()).unwrap();
    fs::write(tree.join(table), "0 i386 a sys_a\n").unwrap();
    let line = place.refuses(&tree);
    has(&line, &["0001-async", "does not apply"]);
    let works = works(&place);
    let [work] = works.as_slice() else {
        panic!("{works:?}");
    };
    let text = fs::read_to_string(work.join("tree").join(table)).unwrap();
    assert_eq!(text, "0 i386 a sys_a\n");
}

#[test]
fn who_is_not_root_is_told_one_command() {
    let place = Place::new();
    let bin = place.path("bin");
    fs::create_dir(&bin).unwrap();
    // A Debian on which nothing is installed, and a user who is not root.
    for (name, script) in [("dpkg-query", "exit 1"), ("id", "echo 1000")] {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let mut command = place.command(&["--flavour", "hardened"]);
    let output = command.env("PATH", path).env_remove("KERNEL_SOURCE");
    let line = one_line(&output.output().unwrap());
    let wanted = "sudo apt-get install -y --no-install-recommends build-essential bc bison flex \
                  libelf-dev xz-utils lz4 linux-source-6.12";
    assert!(line.ends_with(wanted), "{line}");
}

/// The unpacked sources in the cache.
fn works(place: &Place) -> Vec<PathBuf> {
    let folder = place.path("cache/latefork/kernel/work");
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Packs the tree as kernel.org does.
fn pack(place: &Place) -> PathBuf {
    let archive = place.path("linux.tar.xz");
    let status = Command::new("tar")
        .arg("--directory")
        .arg(place.folder.path())
        .args(["--create", "--xz", "--file"])
        .arg(&archive)
        .arg("linux")
        .status();
    assert!(status.unwrap().success());
    archive
}
