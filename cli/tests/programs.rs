//! Commands on program files: good ones, and what is said of bad ones.
//!
//! Needs `target/guest` (`cargo xtask setup`), as the harness's own tests do.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A read that forks; on faithful the kernel warns.
const FORKS: &str = "t0 create slot=0 kind=pipe\n\
    t0 sleep ticks=1\n\
    t0 async index=read a0=fd:0 a1=own a2=len:7\n\
    t0 feed slot=0 end=1 bytes=15\n\
    t0 await-status op=2 ticks=20\n";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// Runs the command in the repository's root.
fn latefork(arguments: &[&str], files: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_latefork"))
        .args(arguments)
        .args(files)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap()
}

/// Standard error, without the line that names the engine.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with("engine "));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Asserts the exit code, and one line on standard error with each of `words`.
fn check_refused(output: &Output, code: i32, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[test]
fn a_reader_that_leaves_ends_the_command_without_a_word() {
    let place = Place::new();
    let program = place.file("program.txt", FORKS);
    // The end to read from is gone before anything is printed.
    let (_, writer) = std::io::pipe().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_latefork"))
        .arg("show")
        .arg(&program)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(Child::wait_with_output)
        .unwrap();
    assert_eq!(output.status.code(), None, "{output:?}");
    assert_eq!(said(&output), "");
}

#[test]
fn text_and_wire_are_the_same_program() {
    let place = Place::new();
    let text = place.file("program.txt", FORKS);
    let wire = place.path("program");
    let output = latefork(
        &["show", "--wire", "--output", wire.to_str().unwrap()],
        &[&text],
    );
    assert!(output.status.success(), "{}", said(&output));
    let shown = latefork(&["show"], &[&wire]);
    let again = place.file("again.txt", &shown.stdout);
    let twice = place.path("twice");
    latefork(
        &["show", "--wire", "--output", twice.to_str().unwrap()],
        &[&again],
    );
    assert_eq!(
        std::fs::read(&twice).unwrap(),
        std::fs::read(&wire).unwrap()
    );
    assert!(
        String::from_utf8(shown.stdout)
            .unwrap()
            .contains("await-status op=2")
    );
}

#[test]
fn a_finding_is_kept_and_comes_again() {
    let place = Place::new();
    let text = place.file("program.txt", FORKS);
    let kept = place.path("findings");
    let kernel = "target/guest/faithful-fuzz/vmlinux";
    let findings = format!("--findings={}", kept.display());
    let template = format!("--template={}", place.path("template").display());
    let ran = latefork(
        &["run", "--json", "--kernel", kernel, &findings, &template],
        &[&text],
    );
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    let report = json(&ran);
    let kept = PathBuf::from(report["kept"].as_str().unwrap());
    let again = latefork(&["repro", "--json", "--times=2", "--between=1"], &[&kept]);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    let again = json(&again);
    assert_eq!(again[0]["result"], "reproduced");
    assert_eq!(again[0]["notes"].as_array().unwrap().len(), 0);
    for field in ["verdict", "signatures", "instructions", "memory_hash"] {
        assert_eq!(again[0][field], report[field], "{field}");
    }

    // A record that says something else is not reproduced.
    let sidecar = PathBuf::from(format!("{}.json", kept.display()));
    let mut record: Value = serde_json::from_slice(&std::fs::read(&sidecar).unwrap()).unwrap();
    record["instructions"] = 1.into();
    std::fs::write(&sidecar, record.to_string()).unwrap();
    let other = latefork(&["repro", "--json"], &[&kept]);
    assert_eq!(other.status.code(), Some(1));
    assert_eq!(json(&other)[0]["differences"][0], "recorded 1 instructions");
}

#[test]
fn one_bad_file_does_not_keep_the_others_from_running() {
    let place = Place::new();
    let good = place.file("good.txt", FORKS);
    let old = place.file("old", "x");
    place.file("old.json", r#"{"version": 99}"#);
    let binary = place.file("binary.txt", [0xff, 0xfe]);
    let output = latefork(
        &["repro", "--json"],
        &[&old, &binary, &place.path("none"), &good],
    );
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(
        lines[0].contains("version 99") && lines[0].contains("reads 1"),
        "{said}"
    );
    assert!(lines[1].contains("binary.txt"), "{said}");
    assert!(lines[2].contains("none"), "{said}");
    // Both flavours ran the one that is left.
    assert_eq!(json(&output).as_array().unwrap().len(), 2);
}

#[test]
fn missing_images_are_named_with_the_command_that_makes_them() {
    let place = Place::new();
    let good = place.file("good.txt", FORKS);
    let images = format!("--images={}", place.0.path().display());
    let output = latefork(&["repro", &images], &[&good]);
    check_refused(
        &output,
        2,
        &[
            "good.txt",
            "vmlinux",
            "cargo xtask kernel --flavour faithful",
        ],
    );
    let output = latefork(&["minimize", &images], &[&good]);
    check_refused(&output, 2, &["vmlinux", "cargo xtask kernel"]);
}

#[test]
fn what_is_no_program_is_refused_by_every_command() {
    let place = Place::new();
    let wrong = place.file("wrong.txt", "t0 nop\nt0 fly away\n");
    for command in ["show", "repro", "run", "minimize", "reproducer"] {
        let output = latefork(&[command], &[&wrong]);
        check_refused(&output, 2, &["wrong.txt", "line 2", "fly"]);
    }
    let output = latefork(&["run", "--list"], &[&wrong]);
    check_refused(&output, 2, &["wrong.txt", "line 1", "program NAME"]);
    let header = place.file("header.txt", "#: hardened clean\nt0 nop\n");
    let output = latefork(&["repro"], &[&header]);
    check_refused(&output, 2, &["header.txt", "ordered"]);
    let empty = place.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let output = latefork(&["repro"], &[&empty]);
    check_refused(&output, 2, &["empty", "no program"]);
}

#[test]
fn a_minimised_program_is_smaller_and_shows_the_same() {
    let place = Place::new();
    let text = place.file(
        "program.txt",
        format!("t0 nop\nt1 yield more=4\n{}", FORKS.replace("op=2", "op=4")),
    );
    let output = place.path("small");
    let argument = format!("--output={}", output.display());
    let ran = latefork(
        &["minimize", "--json", "--flavour=faithful", &argument],
        &[&text],
    );
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    let report = json(&ran);
    assert!(report["operations"].as_u64().unwrap() < 4, "{report}");
    let again = latefork(&["repro", "--json"], &[&output]);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert_eq!(json(&again)[0]["signatures"], report["signatures"]);

    let clean = latefork(&["minimize", "--flavour=hardened"], &[&text]);
    check_refused(&clean, 1, &["program.txt", "no finding"]);
}

#[test]
fn every_regression_says_why_it_holds_and_few_are_timed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpora/regressions");
    let (mut all, mut timed) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let header = latefork_harness::replay::regression::Expectations::parse(&text);
        let header = header
            .unwrap()
            .unwrap_or_else(|| panic!("{}: no header", path.display()));
        for flavour in latefork_harness::replay::regression::FLAVOURS {
            assert!(
                header.of(flavour).is_some(),
                "{}: {flavour}",
                path.display()
            );
        }
        all += 1;
        timed += u32::from(header.order == latefork_harness::replay::regression::Order::Timed);
    }
    assert!(all > 20 && timed * 4 <= all, "{timed} of {all} are timed");
}
