//! Schedules, memory watches and hashes of executions in the real guest.
//!
//! Needs `target/guest` (`cargo xtask kernel --flavour hardened`, `cargo xtask
//! initramfs`); without it the tests fail and say so.

use std::path::Path;

use latefork_cpu::CpuModel;
use latefork_harness::executor::{Budget, Cell, CellAccess, teardown};
use latefork_harness::profile::{Part, Profile};
use latefork_harness::symbols::Symbols;
use latefork_harness::verdict::judge;
use latefork_harness::{Ending, Execution, Executor, Guest, Template, Verdict};
use latefork_vmm::engine::soft::SoftVcpu;
use latefork_wire::frame::{Flavour, Teardown};
use latefork_wire::program::Program;
use latefork_wire::text;
use latefork_wire::trace::Detail;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn executor(flavour: &str) -> Executor {
    let images = Path::new(ROOT).join("target/guest");
    let kernel = images.join(format!("{flavour}-fuzz/vmlinux"));
    let guest = Guest::read(&kernel, &images.join("agent/initramfs.cpio"));
    let guest = guest.unwrap_or_else(|error| panic!("{error}"));
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    Executor::new(Template::boot(&guest, engine).unwrap(), Budget::default())
}

fn program(text: &str) -> Program {
    text::parse(text).unwrap()
}

fn run(executor: &mut Executor, text: &str) -> Execution {
    let execution = executor.run(&program(text), Flavour::Async).unwrap();
    assert_eq!(execution.ending, Ending::Traced);
    execution
}

/// Whether the call of thread 1 began before that of thread 0 came back.
fn is_interleaved(execution: &Execution) -> bool {
    let place = |op: u8, wanted: fn(&Detail) -> bool| {
        let mut events = execution.events.iter();
        events.position(|event| event.op == op && wanted(&event.detail))
    };
    let other = place(1, |detail| matches!(detail, Detail::Issued { .. }));
    let mine = place(0, |detail| matches!(detail, Detail::Returned { .. }));
    other.unwrap() < mine.unwrap()
}

/// Neither call sleeps, so that without a schedule the threads run one after the
/// other.
const TWO_CALLS: &str = "t0 async index=access a0=path:1\nt1 async index=access a0=path:1\n";

#[test]
fn a_point_of_the_schedule_switches_inside_a_call_and_does_so_again() {
    let mut executor = executor("hardened");
    let plain = run(&mut executor, TWO_CALLS);
    assert!(!is_interleaved(&plain));
    let with = |after: u32| format!("schedule 0+{after}\n{TWO_CALLS}");
    let first = run(&mut executor, &with(1500));
    let hash = executor.hash().unwrap();
    assert!(is_interleaved(&first), "{:#?}", first.events);
    let counters = executor.machine().counters();
    assert!(counters.harness_interrupts > 0);

    assert_eq!(run(&mut executor, TWO_CALLS), plain);
    assert_eq!(run(&mut executor, &with(1500)), first);
    assert_eq!(executor.hash().unwrap(), hash);
    // Far behind the call's end, and of an operation that makes no call.
    let late = run(&mut executor, &with(16_000_000));
    assert_eq!(late.events, plain.events);
    let other = run(&mut executor, &format!("schedule 9+10\n{TWO_CALLS}"));
    assert_eq!(other.events, plain.events);
}

#[test]
fn each_round_of_points_belongs_to_its_own_call() {
    let mut executor = executor("hardened");
    let raised = |executor: &mut Executor, schedule: &str| {
        let before = executor.machine().counters().harness_interrupts;
        run(executor, &format!("schedule {schedule}\n{TWO_CALLS}"));
        executor.machine().counters().harness_interrupts - before
    };
    assert_eq!(raised(&mut executor, "0+100 0+200 1+100"), 3);
    assert_eq!(raised(&mut executor, "1+300"), 1);
}

#[test]
fn a_watched_call_reads_its_arguments_once_and_stores_one_status() {
    let mut executor = executor("hardened");
    let text = "t0 create slot=0 kind=pipe\nt0 async index=read a0=fd:0 a1=own a2=len:7\n\
        t0 async index=access a0=path:1\nt0 feed slot=0 end=1 bytes=15\n\
        t0 await-status op=1 ticks=20\n";
    let plain = run(&mut executor, text);
    let (watched, accesses) = executor.run_watched(&program(text)).unwrap();
    assert_eq!(watched, plain, "watching changes nothing");
    let access = |op, cell| CellAccess { op, cell };
    // The read sleeps, and its worker stores the status after the other call.
    let expected = [
        access(1, Cell::Argument(0)),
        access(1, Cell::Argument(4)),
        access(1, Cell::Argument(8)),
        access(2, Cell::Argument(0)),
        access(2, Cell::Argument(4)),
        access(2, Cell::Status),
        access(1, Cell::Status),
    ];
    assert_eq!(accesses, expected);
}

#[test]
fn the_hash_is_the_programs_also_after_a_control_run() {
    let mut executor = executor("faithful");
    let path = Path::new(ROOT).join("corpora/regressions/nested-with-slow-args.txt");
    let nested = program(&std::fs::read_to_string(path).unwrap());
    let judged = judge(&mut executor, &nested).unwrap();
    assert!(matches!(judged.verdict, Verdict::Finding(_)));
    let after_judge = executor.hash().unwrap();
    let again = executor.run(&nested, Flavour::Async).unwrap();
    assert_eq!(again, judged.execution);
    assert_eq!(executor.hash().unwrap(), after_judge);
    executor.run(&nested, Flavour::Control).unwrap();
    assert_eq!(executor.hash().unwrap(), after_judge);
}

#[test]
fn an_end_is_played_where_the_program_speaks_of_it() {
    for (text, expected) in [
        ("t0 async index=read", Teardown::Leave),
        ("t0 async index=pause", Teardown::Full),
        ("t0 send sig=usr1", Teardown::Leave),
        ("setup nproc=3\nt0 nop", Teardown::Leave),
        ("setup code=3\nt0 nop", Teardown::Full),
        ("setup ending=kill\nt0 nop", Teardown::Full),
        ("t0 exit code=1", Teardown::Full),
        ("t0 nop\nt1 exit-group", Teardown::Full),
        ("t0 send sig=stop", Teardown::Full),
    ] {
        assert_eq!(teardown(&program(text)), expected, "{text}");
    }
    let mut executor = executor("hardened");
    let ended = |executor: &mut Executor, text: &str| {
        let execution = run(executor, text);
        let victim = |detail: &Detail| matches!(detail, Detail::Victim { .. });
        execution.events.iter().any(|event| victim(&event.detail))
    };
    assert!(!ended(&mut executor, "t0 async index=access a0=path:1"));
    assert!(ended(&mut executor, "t0 async index=pause"));
}

#[test]
fn a_profile_accounts_for_every_instruction_the_same_each_time() {
    let mut executor = executor("hardened");
    let kernel = Path::new(ROOT).join("target/guest/hardened-fuzz/vmlinux");
    let symbols = Symbols::read(&std::fs::read(kernel).unwrap());
    let programs = [program(TWO_CALLS), program("t0 async index=pause")];
    let mut measure = || Profile::measure(&mut executor, &symbols, &programs).unwrap();
    let profile = measure();
    let parts: u64 = Part::ALL.iter().map(|part| profile.mean(*part)).sum();
    assert!(profile.mean_of_all() - parts < Part::ALL.len() as u64);
    assert!(profile.mean(Part::Fork) > 1000, "pause forks: {profile:?}");
    assert!(profile.mean(Part::Agent) > 1000 && profile.mean(Part::Vsock) > 1000);
    assert_eq!(measure(), profile);
}
