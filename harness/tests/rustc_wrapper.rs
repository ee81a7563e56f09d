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

/// A crate of its own whose wrapper is the one of fuzz builds.
fn small_crate(folder: &Path) {
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/rustc-wrapper");
    std::fs::copy(wrapper, folder.join("wrapper")).unwrap();
    std::fs::create_dir(folder.join("src")).unwrap();
    let manifest = "[package]\nname = \"small\"\nedition = \"2024\"\n[workspace]\n";
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "").unwrap();
}

/// Whether cargo compiles the crate in `folder`, or finds it built already.
fn compiles(folder: &Path, flags: &str) -> bool {
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--message-format=json"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("RUSTC_WRAPPER", folder.join("wrapper"))
        .env("RUSTFLAGS", flags)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("compiler-artifact"), "{text}");
    text.contains("\"fresh\":false")
}

#[test]
fn a_change_of_the_wrapper_builds_fuzz_targets_anew_and_nothing_else() {
    for (flags, anew) in [("--cfg fuzzing", true), ("--cfg other", false)] {
        let folder = tempfile::tempdir().unwrap();
        small_crate(folder.path());
        assert!(compiles(folder.path(), flags));
        assert!(!compiles(folder.path(), flags));
        let wrapper = folder.path().join("wrapper");
        let text = std::fs::read_to_string(&wrapper).unwrap();
        std::fs::write(&wrapper, format!("{text}\n# changed\n")).unwrap();
        assert_eq!(compiles(folder.path(), flags), anew, "{flags}");
        assert!(!compiles(folder.path(), flags));
    }
}
