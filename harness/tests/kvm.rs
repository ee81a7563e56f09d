//! The guest on KVM: `cargo xtask kvm-lane` builds this (feature `kvm-lane`)
//! and runs it where a KVM runs our guest, with the images and corpora of the
//! checkout under `LATEFORK_LANE`. Lines that begin with `kvm:` are its report.

use std::path::PathBuf;
use std::time::Instant;

use latefork_cpu::CpuModel;
use latefork_harness::executor::{Budget, Ending, Executor};
use latefork_harness::fuzz::Place;
use latefork_harness::replay::{Artifact, Outcome, Record, artifact, regression, replay};
use latefork_harness::template::Prepared;
use latefork_harness::{Guest, Template};
use latefork_vmm::engine::select::create;
use latefork_vmm::engine::{EngineKind, HostCalls};
use latefork_vmm::machine::Counters;
use latefork_wire::frame::Flavour;
use latefork_wire::program::Program;

/// Resets in a row, each of which must give the template's memory.
const RESETS: u32 = 1_000;
/// How often each ordered regression must give what is expected of it.
const REPEATS: u32 = 20;
/// Exits that the empty program may cost.
const EXITS: u64 = 40;
/// System calls that a reset may cost.
const CALLS: u64 = 6;

fn place(flavour: &str) -> Place {
    let root = std::env::var_os("LATEFORK_LANE").expect("LATEFORK_LANE names a checkout");
    Place::new(&PathBuf::from(root), Some(flavour)).unwrap()
}

fn guest(flavour: &str) -> Guest {
    let place = place(flavour);
    Guest::read(&place.kernel(), &place.initramfs()).unwrap()
}

fn boot(guest: &Guest, kind: EngineKind) -> Prepared {
    let engine = create(kind, CpuModel::Fuzz).unwrap();
    Template::boot(guest, engine).unwrap()
}

/// An executor on KVM, on a template that `kind` booted.
fn executor(guest: &Guest, kind: EngineKind) -> Executor {
    let prepared = boot(guest, kind);
    if kind == EngineKind::Kvm {
        return Executor::new(prepared, Budget::default());
    }
    let engine = create(EngineKind::Kvm, CpuModel::Fuzz).unwrap();
    let machine = guest.machine(engine).unwrap();
    let prepared = Prepared {
        machine,
        ..prepared
    };
    Executor::new(prepared, Budget::default())
}

fn exits(counters: Counters) -> u64 {
    counters.port + counters.mmio + counters.halted + counters.interrupts
}

fn difference(after: Counters, before: Counters) -> Counters {
    Counters {
        port: after.port - before.port,
        mmio: after.mmio - before.mmio,
        halted: after.halted - before.halted,
        interrupts: after.interrupts - before.interrupts,
        harness_interrupts: after.harness_interrupts - before.harness_interrupts,
    }
}

#[test]
fn boots_until_the_agent_is_ready() {
    for flavour in regression::FLAVOURS {
        let started = Instant::now();
        let prepared = boot(&guest(flavour), EngineKind::Kvm);
        println!(
            "kvm: boot of {flavour}: {} ms, {:?}, {:?}",
            started.elapsed().as_millis(),
            prepared.machine.counters(),
            prepared.machine.engine().host_calls(),
        );
    }
}

#[test]
fn a_thousand_resets_each_give_the_templates_memory() {
    // The smallest machine: its memory is hashed a thousand times.
    let guest = guest("hardened").with_memory(16);
    let mut executor = executor(&guest, EngineKind::Soft);
    let program = Program::default();
    executor.run(&program, Flavour::Async).unwrap();
    let snapshot = executor.template().snapshot().clone();
    executor.machine().restore(&snapshot).unwrap();
    let expected = executor.machine().hash().unwrap();
    let mut pages = Vec::new();
    let mut calls = HostCalls::default();
    let mut spent = Counters::default();
    for reset in 0..RESETS {
        let before = executor.machine().counters();
        let execution = executor.run(&program, Flavour::Async).unwrap();
        assert_eq!(execution.ending, Ending::Traced, "reset {reset}");
        spent = difference(executor.machine().counters(), before);
        let ran = executor.machine().engine().host_calls();
        pages.push(executor.machine().restore(&snapshot).unwrap().pages);
        assert_eq!(
            executor.machine().hash().unwrap(),
            expected,
            "reset {reset}"
        );
        // The rest of a reset's calls come with the next run.
        executor.run(&program, Flavour::Async).unwrap();
        let after = executor.machine().engine().host_calls();
        calls.restore = after.restore - ran.restore;
        calls.dirty = after.dirty - ran.dirty;
        calls.run = after.run - ran.run;
    }
    pages.sort_unstable();
    let median = pages[pages.len() / 2];
    println!("kvm: empty program: {spent:?}; exits {}", exits(spent));
    println!(
        "kvm: reset: {median} pages (median of {RESETS}), {} calls to restore, {} for the dirty log",
        calls.restore, calls.dirty
    );
    assert!(exits(spent) <= EXITS, "{spent:?}");
    assert!(calls.restore + calls.dirty <= CALLS, "{calls:?}");
}

#[test]
fn templates_of_either_engine_run_programs() {
    for kind in [EngineKind::Kvm, EngineKind::Soft] {
        let mut executor = executor(&guest("hardened"), kind);
        let execution = executor.run(&Program::default(), Flavour::Async).unwrap();
        assert_eq!(execution.ending, Ending::Traced, "booted by {kind:?}");
    }
}

#[test]
fn the_software_engine_takes_no_template_that_kvm_made() {
    let guest = guest("hardened");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template");
    let cached = |kind| {
        let mut engine = || create(kind, CpuModel::Fuzz).unwrap();
        Template::cached(&guest, &path, &mut engine)
            .unwrap()
            .made_because
    };
    assert_eq!(cached(EngineKind::Kvm).as_deref(), Some("there was none"));
    assert_eq!(cached(EngineKind::Kvm), None);
    let why = cached(EngineKind::Soft).expect("it is made anew");
    assert!(why.contains("booted on KVM"), "{why}");
    assert_eq!(cached(EngineKind::Soft), None);
    assert_eq!(cached(EngineKind::Kvm), None);
}

/// What is expected of a program on `flavour`; nothing if it is not for here.
fn expected(record: &Record, flavour: &str) -> Option<(String, Vec<String>, u32)> {
    match record {
        Record::Seed => (flavour == "hardened").then(|| ("clean".to_owned(), Vec::new(), 1)),
        Record::Regression(expectations) if expectations.order == regression::Order::Ordered => {
            let expected = expectations
                .expected
                .iter()
                .find(|expected| expected.flavour == flavour)?;
            Some((
                expected.verdict.clone(),
                expected.signatures.clone(),
                REPEATS,
            ))
        }
        Record::Regression(_) | Record::Run(_) | Record::None => None,
    }
}

#[test]
fn the_corpora_give_what_they_give_on_the_software_engine() {
    let root = PathBuf::from(std::env::var_os("LATEFORK_LANE").unwrap()).join("corpora");
    let programs = artifact::programs(&root).unwrap();
    let mut wrong = Vec::new();
    for flavour in regression::FLAVOURS {
        let mut executor = executor(&guest(flavour), EngineKind::Kvm);
        let (mut files, mut runs) = (0, 0);
        for path in &programs {
            let artifact = Artifact::read(path).unwrap();
            let Some((verdict, signatures, repeats)) = expected(&artifact.record, flavour) else {
                continue;
            };
            files += 1;
            for _ in 0..repeats {
                runs += 1;
                let Outcome {
                    verdict: found,
                    signatures: seen,
                    ..
                } = replay(&mut executor, &artifact.program).unwrap().outcome;
                if (found.as_str(), &seen) != (verdict.as_str(), &signatures) {
                    let name = path.display();
                    wrong.push(format!(
                        "{name} on {flavour}: {found} {seen:?}, not {verdict} {signatures:?}"
                    ));
                    break;
                }
            }
        }
        println!("kvm: corpora on {flavour}: {files} programs, {runs} runs");
        assert!(files > 0, "no program for {flavour} in {}", root.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
