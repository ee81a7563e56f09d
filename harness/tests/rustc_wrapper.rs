//! The rustc wrapper of fuzz builds: whose edges are libFuzzer's features.

use std::path::Path;
use std::process::Command;

/// What cargo and cargo-fuzz pass, both in one word and in two.
const FLAGS: [&str; 11] = [
    "--edition=2024",
    "-C",
    "opt-level=3",
    "-C",
    "debug-assertions=on",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Zsanitizer=address",
    "-C",
    "metadata=a b",
    "-Coverflow-checks=on",
];

/// The arguments that rustc gets for crate `name` of `package`.
fn passed(package: &str, name: &str, cfg: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(root.join("fuzz/rustc-wrapper"))
        .args(["printf", r"%s\n", "--crate-name", name, "--cfg", cfg])
        .args(FLAGS)
        .env("CARGO_PKG_NAME", package)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().skip(4).map(str::to_owned).collect()
}

#[test]
fn what_runs_the_guest_loses_instrumentation_and_nothing_else() {
    let crates = [
        ("latefork-cpu", "latefork_cpu"),
        ("latefork-vmm", "latefork_vmm"),
        ("latefork-wire", "latefork_wire"),
        ("latefork-harness", "latefork_harness"),
        ("latefork-fuzz", "hostile_args"),
        ("iced-x86", "iced_x86"),
    ];
    for (package, name) in crates {
        let kept = passed(package, name, "fuzzing");
        assert_eq!(
            kept,
            ["--edition=2024", "-Copt-level=3", "-Cmetadata=a b"],
            "{package}"
        );
    }
}

#[test]
fn host_side_targets_and_other_builds_pass_as_they_are() {
    let crates = [
        ("latefork-cpu-instrumented", "latefork_cpu", "fuzzing"),
        ("latefork-vmm-instrumented", "latefork_vmm", "fuzzing"),
        ("latefork-fuzz", "vsock_device", "fuzzing"),
        ("latefork-fuzz", "cpu_any_bytes", "fuzzing"),
        ("latefork-cpu", "latefork_cpu", "test"),
    ];
    for (package, name, cfg) in crates {
        assert_eq!(passed(package, name, cfg), FLAGS, "{package}");
    }
}

#[test]
fn parsers_of_files_keep_all_but_the_sanitizer() {
    let kept = passed("linux-loader", "linux_loader", "fuzzing");
    assert!(kept.contains(&"-Cpasses=sancov-module".to_owned()));
    assert!(kept.contains(&"-Cdebug-assertions=on".to_owned()));
    assert!(!kept.iter().any(|word| word.contains("sanitizer=")));
}
