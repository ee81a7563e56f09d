//! The programs that speed is measured with (`bench/programs/`) are what the
//! measure says: enough calls, half of them asleep for a while, a third of the
//! programs with threads, and clean on hardened.
//!
//! Needs `target/guest`, as `guest.rs` does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use latefork_cpu::CpuModel;
use latefork_harness::executor::Budget;
use latefork_harness::verdict::judge_with_twin;
use latefork_harness::{Ending, Executor, Guest, Template, Verdict};
use latefork_vmm::engine::soft::SoftVcpu;
use latefork_wire::op::Op;
use latefork_wire::program::Program;
use latefork_wire::text;
use latefork_wire::trace::{Detail, Event};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn programs() -> Vec<(String, Program)> {
    let folder = Path::new(ROOT).join("bench/programs");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let program = text::parse(&text);
        let program = program.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, program)
    };
    paths.iter().map(read).collect()
}

/// How often the program makes a call through `async`.
fn calls(program: &Program) -> u32 {
    let times = |op: &Op| match op {
        Op::Async(call) => call.times(),
        _ => 0,
    };
    program.steps.iter().map(|step| times(&step.op)).sum()
}

fn threads(program: &Program) -> usize {
    let threads: BTreeSet<_> = program.steps.iter().map(|step| step.thread).collect();
    threads.len()
}

/// How many calls went on in another task than the one that made them: only a
/// call that sleeps forks.
fn forked(events: &[Event]) -> u32 {
    let forked = |event: &&Event| match event.detail {
        Detail::Returned { from, .. } => event.tid != from,
        _ => false,
    };
    u32::try_from(events.iter().filter(forked).count()).unwrap()
}

#[test]
fn there_are_thirty_programs_of_eight_calls_and_a_third_has_three_threads() {
    let programs = programs();
    assert!(programs.len() >= 30, "{}", programs.len());
    for (name, program) in &programs {
        assert!(calls(program) >= 8, "{name}: {} calls", calls(program));
    }
    let many = programs.iter().filter(|(_, program)| threads(program) >= 3);
    let many = many.count();
    assert!(3 * many >= programs.len(), "only {many} with three threads");
}

#[test]
fn half_of_the_calls_fork_and_hardened_is_clean() {
    let images = Path::new(ROOT).join("target/guest");
    let guest = Guest::read(
        &images.join("hardened-fuzz/vmlinux"),
        &images.join("agent/initramfs.cpio"),
    );
    let guest = guest.unwrap_or_else(|error| panic!("{error}"));
    let prepared = Template::boot(&guest, Box::new(SoftVcpu::new(CpuModel::Fuzz))).unwrap();
    let mut executor = Executor::new(prepared, Budget::default());
    for (name, program) in programs() {
        let judged = judge_with_twin(&mut executor, &program).unwrap();
        assert_eq!(judged.verdict, Verdict::Clean, "{name}");
        assert_eq!(judged.execution.ending, Ending::Traced, "{name}");
        let (calls, forked) = (calls(&program), forked(&judged.execution.events));
        assert!(2 * forked >= calls, "{name}: {forked} of {calls} fork");
        // Each wait was for something that came: none ended by its limit.
        let waits = judged.execution.events.iter();
        let in_vain = waits.filter(|event| matches!(event.detail, Detail::Waited { came: 0, .. }));
        assert_eq!(in_vain.count(), 0, "{name}");
    }
}
