//! The agent's scenarios on our own machine, and their verdicts.
//!
//! Needs `target/guest` (`cargo xtask kernel --flavour faithful`, the same with
//! `hardened`, `cargo xtask initramfs`); without it the tests fail and say so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use latefork_cpu::CpuModel;
use latefork_harness::executor::Budget;
use latefork_harness::verdict::{findings, judge, judge_with_twin};
use latefork_harness::{Ending, Executor, Finding, Guest, Template, Verdict};
use latefork_vmm::engine::soft::SoftVcpu;
use latefork_vmm::layout::{COVERAGE_MAP, COVERAGE_SIZE};
use latefork_wire::frame::Flavour;
use latefork_wire::text;
use latefork_wire::text::scenario::scenarios;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn guest(flavour: &str) -> Guest {
    let images = Path::new(ROOT).join("target/guest");
    let kernel = images.join(format!("{flavour}-fuzz/vmlinux"));
    let guest = Guest::read(&kernel, &images.join("agent/initramfs.cpio"));
    guest.unwrap_or_else(|error| panic!("{error}"))
}

fn executor(flavour: &str) -> Executor {
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    let prepared = Template::boot(&guest(flavour), engine).unwrap();
    assert_eq!(prepared.template.hello().fuse, 1);
    Executor::new(prepared, Budget::default())
}

fn scenario_files() -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join("guest-agent/scenarios");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn hardened_meets_every_scenario_and_no_oracle_objects() {
    let mut executor = executor("hardened");
    let mut run = 0;
    for path in scenario_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        for scenario in scenarios(&text) {
            let name = scenario.name;
            let program = scenario.program().unwrap();
            let execution = executor.run_with(&program, &scenario.options()).unwrap();
            assert_eq!(execution.ending, Ending::Traced, "{name}");
            if let Err(failure) = scenario.check(|| execution.events.iter().copied()) {
                panic!("{name}: {}: {failure}", path.display());
            }
            assert_eq!(findings(&program, &execution), [], "{name}");
            run += 1;
        }
    }
    assert!(run > 50, "only {run} scenarios");
}

/// The verdict as users get it: with the control run where that decides, and
/// with the twin.
#[test]
fn hardened_gives_what_the_plain_calls_give() {
    let mut executor = executor("hardened");
    let mut run = 0;
    for path in scenario_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        for scenario in scenarios(&text) {
            let program = scenario.program().unwrap();
            let judged = judge_with_twin(&mut executor, &program).unwrap();
            let found = matches!(judged.verdict, Verdict::Finding(_));
            assert!(!found, "{}: {:?}", scenario.name, judged.verdict);
            run += 1;
        }
    }
    assert!(run > 50, "only {run} scenarios");
}

/// The seed's own shortcuts, each by the property that it breaks: the oracles see
/// in faithful what hardened mends.
#[test]
fn faithful_breaks_what_hardened_mends() {
    let mut executor = executor("faithful");
    let mut seen = BTreeSet::new();
    for path in scenario_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        for scenario in scenarios(&text) {
            let program = scenario.program().unwrap();
            let execution = executor.run_with(&program, &scenario.options()).unwrap();
            let found = findings(&program, &execution);
            seen.extend(found.iter().map(Finding::signature));
        }
    }
    for expected in [
        "P3 restart-code pause",
        "P3 restart-code read",
        "P5 second-continuation async",
        "P6 row-altstack read",
        "P6 row-capabilities access",
        "P6 row-keyring read",
        "P6 row-pdeathsig read",
        "P6 row-robust-list read",
        "P6 row-rseq read",
        "P6 row-temporary-mask ppoll",
        "P11 signal-lost rt",
        "P11 signal-lost usr1",
        "P13 outlived-program victim",
    ] {
        assert!(seen.contains(expected), "{expected} is not in {seen:#?}");
    }
}

#[test]
fn faithful_comes_back_twice_from_a_nested_call_in_any_order() {
    let path = Path::new(ROOT).join("corpora/regressions/nested-with-slow-args.txt");
    let nested = std::fs::read_to_string(path).unwrap();
    let nested = text::parse(&nested).unwrap();
    let other = text::parse("t0 async index=stat64 a0=path a1=own\n").unwrap();
    let mut one = executor("faithful");
    let first = judge(&mut one, &nested).unwrap();
    let first_hash = one.hash().unwrap();
    let Verdict::Finding(found) = &first.verdict else {
        panic!("{:?}", first.verdict);
    };
    let signatures: Vec<String> = found.iter().map(Finding::signature).collect();
    assert!(signatures.contains(&"P5 second-continuation async".to_owned()));

    assert_eq!(judge(&mut one, &other).unwrap().verdict, Verdict::Clean);
    assert_eq!(judge(&mut one, &nested).unwrap(), first);
    assert_eq!(one.hash().unwrap(), first_hash);
    let mut another = executor("faithful");
    assert_eq!(judge(&mut another, &other).unwrap().verdict, Verdict::Clean);
    assert_eq!(judge(&mut another, &nested).unwrap(), first);
    assert_eq!(another.hash().unwrap(), first_hash);
}

#[test]
fn a_template_from_a_file_is_the_one_that_was_written() {
    let guest = guest("hardened");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template");
    let program = text::parse("t0 async index=access a0=path:1\n").unwrap();
    let mut runs = Vec::new();
    for made in [true, false] {
        let prepared = Template::cached(&guest, &path, &mut || {
            Box::new(SoftVcpu::new(CpuModel::Fuzz))
        });
        let prepared = prepared.unwrap();
        assert_eq!(prepared.made_because.is_some(), made);
        let mut executor = Executor::new(prepared, Budget::default());
        let execution = judge(&mut executor, &program).unwrap().execution;
        runs.push((execution, executor.hash().unwrap()));
    }
    assert_eq!(runs[0], runs[1]);
}

/// The guest's coverage blocks as the last execution left them.
fn coverage(executor: &mut Executor) -> Vec<u8> {
    let mut bytes = vec![0; COVERAGE_SIZE];
    let ram = executor.machine().ram();
    ram.read(COVERAGE_MAP, &mut bytes).unwrap();
    bytes
}

#[test]
fn coverage_starts_at_zero_and_is_the_programs_alone() {
    let mut executor = executor("hardened");
    assert!(coverage(&mut executor).iter().all(|byte| *byte == 0));
    let mut run = |text: &str| {
        let program = text::parse(text).unwrap();
        executor.run(&program, Flavour::Async).unwrap();
        coverage(&mut executor)
    };
    let read = "t0 create slot=0 kind=pipe\nt0 async index=read a0=fd:0 a1=own a2=len:7\n";
    let access = "t0 async index=access a0=path:1\n";
    let first = run(read);
    let edges = first.iter().filter(|byte| **byte != 0).count();
    assert!(edges > 200, "only {edges} edges");
    assert_ne!(run(access), first);
    assert_eq!(run(read), first);
}
