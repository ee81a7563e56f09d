//! What a boot, an execution and a reset cost in exits and system calls. The
//! counts hold on any host; times in the lane mean nothing.

use std::collections::BTreeMap;

use latefork_cpu::CpuModel;
use latefork_harness::replay::regression;
use latefork_harness::{Executor, Template};
use latefork_vmm::engine::select::create;
use latefork_vmm::engine::{EngineKind, HostCalls};
use latefork_vmm::machine::{Counters, Machine};
use latefork_wire::frame::Flavour;
use latefork_wire::program::Program;

use crate::place::{guest, on_kvm, programs};

/// Exits that the empty program may cost.
const EXITS: u64 = 40;
/// System calls that a reset may cost.
const CALLS: u64 = 6;
/// Executions of each program until pages that it always writes are known, and
/// executions that are counted.
const WARM: u32 = 12;
const COUNTED: u32 = 8;

/// Where the kernel counts what KVM does (Linux
/// Documentation/virt/kvm/api.rst, "KVM_GET_STATS_FD", names the same).
const STATISTICS: &str = "/sys/kernel/debug/kvm";

/// Counts since the machine was made.
#[derive(Clone, Debug, Default)]
struct Count {
    counters: Counters,
    calls: HostCalls,
    kernel: BTreeMap<String, u64>,
    pages: u64,
}

impl Count {
    fn of(machine: &Machine) -> Self {
        let entries = std::fs::read_dir(STATISTICS).expect("the lane mounts debugfs");
        let kernel = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let value = std::fs::read_to_string(&path).ok()?.trim().parse().ok()?;
            Some((path.file_name()?.to_string_lossy().into_owned(), value))
        });
        Self {
            counters: machine.counters(),
            calls: machine.engine().host_calls(),
            kernel: kernel.collect(),
            pages: 0,
        }
    }

    fn kernel(&self, name: &str) -> u64 {
        *self
            .kernel
            .get(name)
            .unwrap_or_else(|| panic!("{STATISTICS}/{name} is missing"))
    }
}

/// The table's lines: name, and the count since `before`.
fn lines(before: &Count, after: &Count) -> Vec<(&'static str, u64)> {
    let kernel = |name| after.kernel(name) - before.kernel(name);
    let (was, is) = (&before.counters, &after.counters);
    let (called, calls) = (&before.calls, &after.calls);
    vec![
        ("port accesses", is.port - was.port),
        ("device memory", is.mmio - was.mmio),
        ("HLT", is.halted - was.halted),
        ("interrupt windows", calls.window - called.window),
        ("kicks", calls.kicked - called.kicked),
        ("first writes to watched pages", kernel("pf_taken")),
        ("all exits that KVM counts", kernel("exits")),
        ("entries (KVM_RUN)", calls.run - called.run),
        (
            "interrupts (KVM_INTERRUPT)",
            calls.interrupt - called.interrupt,
        ),
        ("calls to restore", calls.restore - called.restore),
        ("calls for the dirty log", calls.dirty - called.dirty),
        ("pages put back", after.pages - before.pages),
    ]
}

/// Exits that come out of the kernel: what the machine has to serve.
fn served(counts: &[(&'static str, u64)]) -> u64 {
    counts.iter().take(5).map(|(_, count)| count).sum()
}

fn print(title: &str, counts: &[(&'static str, u64)], executions: u32) {
    println!("kvm: {title}:");
    let per = f64::from(executions);
    for (name, count) in counts {
        // Counts are far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let mean = *count as f64 / per;
        println!("kvm:   {mean:>9.1}  {name}");
    }
}

#[test]
fn boots_until_the_agent_is_ready() {
    for flavour in regression::FLAVOURS {
        let guest = guest(flavour);
        let engine = create(EngineKind::Kvm, CpuModel::Fuzz).unwrap();
        let before = Count::of(&guest.machine(engine).unwrap());
        let engine = create(EngineKind::Kvm, CpuModel::Fuzz).unwrap();
        let prepared = Template::boot(&guest, engine).unwrap();
        let counts = lines(&before, &Count::of(&prepared.machine));
        print(&format!("boot of {flavour} to READY"), &counts, 1);
    }
}

/// What `COUNTED` resets and executions of `program` cost.
fn count(executor: &mut Executor, program: &Program) -> Vec<(&'static str, u64)> {
    let snapshot = executor.template().snapshot().clone();
    for _ in 0..WARM {
        executor.run(program, Flavour::Async).unwrap();
    }
    let before = Count::of(executor.machine());
    for _ in 0..COUNTED {
        // Each begins with a reset.
        executor.run(program, Flavour::Async).unwrap();
    }
    let mut after = Count::of(executor.machine());
    let pages = executor.machine().restore(&snapshot).unwrap().pages;
    after.pages = pages as u64 * u64::from(COUNTED);
    lines(&before, &after)
}

#[test]
fn an_execution_costs_few_exits_and_a_reset_few_calls() {
    let mut executor = on_kvm("hardened");
    let mut sum: Vec<(&'static str, u64)> = Vec::new();
    let programs = programs();
    for (name, program) in &programs {
        let counts = count(&mut executor, program);
        let of = |wanted: &str| {
            let found = counts.iter().find(|(name, _)| *name == wanted);
            found.map_or(0, |(_, count)| *count)
        };
        let calls = of("calls to restore") + of("calls for the dirty log");
        let most = CALLS * u64::from(COUNTED);
        assert!(calls <= most, "{name}: {calls} of at most {most} calls");
        if program.steps.is_empty() {
            print("reset and run of the empty program", &counts, COUNTED);
            let most = EXITS * u64::from(COUNTED);
            let exits = served(&counts);
            assert!(exits <= most, "{exits} of at most {most} exits");
            continue;
        }
        match sum.is_empty() {
            true => sum = counts,
            false => sum
                .iter_mut()
                .zip(&counts)
                .for_each(|(sum, (_, count))| sum.1 += count),
        }
    }
    let measured = u32::try_from(programs.len() - 1).unwrap();
    let title = format!("reset and run, mean of {measured} programs of bench/programs");
    print(&title, &sum, measured * COUNTED);
}
