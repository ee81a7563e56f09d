//! Bad input gets one line on standard error and exit code 2.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with files to give to the command.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn boot(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_latefork"))
            .arg("boot")
            .args(arguments)
            // Another one would say first why it is not KVM.
            .args(["--engine", "soft"])
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Asserts exit code 2 and one line that holds each of `words`, besides the one
/// that names the engine.
fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = said.lines().filter(|line| !line.starts_with("engine "));
    let said: String = lines.map(|line| format!("{line}\n")).collect();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

/// An ELF executable with one segment at 1 MiB.
fn elf(class: u8, machine: u8) -> Vec<u8> {
    let mut image = b"\x7fELF".to_vec();
    image.extend([class, 1, 1]);
    image.resize(16, 0);
    image.extend([2, 0, machine, 0, 1, 0, 0, 0]);
    image.extend(0x10_0000u32.to_le_bytes());
    image.extend(52u32.to_le_bytes());
    image.extend([0; 8]);
    for half in [52u16, 32, 1, 40, 0, 0] {
        image.extend(half.to_le_bytes());
    }
    for word in [1u32, 84, 0x10_0000, 0x10_0000, 1, 1, 7, 0] {
        image.extend(word.to_le_bytes());
    }
    // hlt
    image.push(0xf4);
    image
}

#[test]
fn a_missing_kernel_names_the_command_that_builds_it() {
    let output = Place::new().boot(&["--initramfs", "none"]);
    refused(&output, &["target/guest", "cargo xtask kernel"]);
}

#[test]
fn a_missing_initramfs_names_the_command_that_builds_it() {
    let place = Place::new();
    let kernel = place.file("kernel", &elf(1, 3));
    let output = place.boot(&["--kernel", text(&kernel)]);
    refused(&output, &["initramfs", "cargo xtask initramfs"]);
}

#[test]
fn kernels_that_cannot_run_are_named() {
    let place = Place::new();
    for (name, image, words) in [
        ("text", b"#!/bin/sh\n".to_vec(), "neither a bzImage"),
        ("wide", elf(2, 62), "64-bit"),
        ("arm", elf(1, 40), "machine 40"),
    ] {
        let kernel = place.file(name, &image);
        let output = place.boot(&["--kernel", text(&kernel), "--initramfs", "none"]);
        refused(&output, &[name, words]);
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let place = Place::new();
    let kernel = place.file("kernel", &elf(1, 3));
    let large = place.file("large", &vec![0; 33 << 20]);
    let kernel = text(&kernel);
    let output = place.boot(&["--kernel", kernel, "--initramfs", text(&large)]);
    refused(&output, &["initramfs", "more memory"]);
    let line = "x".repeat(2048);
    let output = place.boot(&[
        "--kernel",
        kernel,
        "--initramfs",
        "none",
        "--cmdline",
        &line,
    ]);
    refused(&output, &["command line", "2047"]);
}

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    let place = Place::new();
    for (mib, word) in [
        ("0", "16 to 512"),
        ("15", "16 to 512"),
        ("513", "16 to 512"),
        ("-1", "no number"),
        ("lots", "no number"),
    ] {
        refused(&place.boot(&[&format!("--memory={mib}")]), &[mib, word]);
    }
    for (date, word) in [("soon", "neither"), ("253402300800", "9999")] {
        refused(&place.boot(&[&format!("--date={date}")]), &[date, word]);
    }
}

/// A bzImage of a 64-bit kernel says so in its header (`xloadflags`).
#[test]
fn a_64_bit_kernel_is_refused_as_bzimage_too() {
    let mut image = vec![0; 8192];
    // One sector of set-up code, "HdrS", version 2.15, XLF_KERNEL_64
    // (Documentation/arch/x86/boot.rst).
    image[0x1f1] = 1;
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&[15, 2]);
    image[0x211] = 1;
    image[0x236] = 1;
    let place = Place::new();
    let kernel = place.file("wide", &image);
    let output = place.boot(&["--kernel", text(&kernel), "--initramfs", "none"]);
    refused(&output, &["wide", "64-bit", "ARCH=i386"]);
}

#[test]
fn a_guest_that_never_gets_ready_has_no_snapshot() {
    let place = Place::new();
    let kernel = place.file("kernel", &elf(1, 3));
    let output = Command::new(env!("CARGO_BIN_EXE_latefork"))
        .args(["snapshot", "--kernel", text(&kernel), "--initramfs", "none"])
        .args(["--engine", "soft", "--output", "ready.snapshot"])
        .current_dir(place.0.path())
        .output()
        .unwrap();
    refused(&output, &["kernel", "did not get ready", "idle-forever"]);
    assert!(!place.0.path().join("ready.snapshot").exists());
}

#[test]
fn a_socket_path_in_use_is_refused() {
    let place = Place::new();
    let kernel = place.file("kernel", &elf(1, 3));
    let socket = place.0.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let arguments = ["--initramfs", "none", "--vsock-uds", text(&socket)];
    let output = place.boot(&[&["--kernel", text(&kernel)], &arguments[..]].concat());
    refused(&output, &["socket", "in use"]);
}

#[test]
fn a_guest_that_only_halts_ends_with_a_named_outcome() {
    let place = Place::new();
    let kernel = place.file("kernel", &elf(1, 3));
    let output = place.boot(&["--kernel", text(&kernel), "--initramfs", "none", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "idle-forever");
    assert_eq!(report["instructions"], 1);
    assert_eq!(report["guest_memory_mib"], 32);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn doctor_speaks_json() {
    let output = Command::new(env!("CARGO_BIN_EXE_latefork"))
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> = findings
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"engine soft") && names.contains(&"engine kvm"));
    let soft = &findings[0];
    assert_eq!(soft["verdict"], "ok");
}
