//! What users do, on KVM: a fuzz target's session, and the commands.

use std::path::Path;
use std::process::{Command, Output};

use latefork_harness::fuzz::{Session, Settings};
use latefork_harness::replay::Sidecar;
use latefork_vmm::engine::EngineKind;
use latefork_vmm::engine::select::EngineChoice;

use crate::corpora::samples;
use crate::place::{place, root};

/// A regression whose finding hangs on nothing but the program.
const FOUND: &str = "corpora/regressions/altstack-lost.txt";

#[test]
fn a_fuzz_target_finds_on_kvm_what_the_software_engine_confirms() {
    let mut settings = Settings::new(place("faithful"));
    settings.engine = EngineChoice::Only(EngineKind::Kvm);
    settings.known = false;
    let folder = settings.place.findings();
    let mut session = Session::open("everything", settings).unwrap();
    let mut samples = samples("faithful").into_iter();
    let sample = samples.find(|sample| sample.name == FOUND).unwrap();
    let report = session.run(&sample.program).unwrap().expect("a finding");
    assert!(
        sample.seen.signatures.contains(&report.signature),
        "{report}"
    );
    let mut kept = std::fs::read_dir(folder).unwrap();
    let program = kept.find_map(|entry| {
        let path = entry.unwrap().path();
        path.extension().is_none().then_some(path)
    });
    let sidecar = Sidecar::read(&program.unwrap()).unwrap().unwrap();
    assert_eq!(sidecar.setting.engine, "soft");
    assert!(sidecar.outcome.signatures.contains(&report.signature));
}

/// Runs `latefork` in the checkout.
fn latefork(arguments: &[&str]) -> (Option<i32>, String) {
    let output: Output = Command::new(root().join("latefork"))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn repro_compares_both_engines() {
    let (code, text) = latefork(&["repro", "--engine", "both", FOUND]);
    assert_eq!(code, Some(0), "{text}");
    for flavour in ["faithful", "hardened"] {
        let line = format!("{FOUND} on {flavour}: the same on soft and kvm");
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn repro_and_run_take_kvm_and_say_what_the_software_engine_says() {
    assert!(Path::new("/dev/kvm").exists());
    let (code, text) = latefork(&["repro", "--quiet", "--engine", "kvm", FOUND]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 replays, 0 not as recorded"), "{text}");
    let template = "target/guest/faithful.snapshot";
    let (code, text) = latefork(&["run", "--engine", "auto", "--template", template, FOUND]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("{FOUND}: finding")), "{text}");
    assert!(!text.contains("engine soft"), "{text}");
}

#[test]
fn doctor_finds_that_kvm_works() {
    let (_, text) = latefork(&["doctor"]);
    let line = text.lines().find(|line| line.contains("engine kvm"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(line.starts_with("ok"), "{line}");
    assert!(line.contains("passes the probe guest"), "{line}");
}
