//! What executions amount to.

use latefork_wire::frame::Refusal;
use latefork_wire::text;

use super::*;

fn execution(ending: Ending, console: &str) -> Execution {
    Execution {
        ending,
        events: Vec::new(),
        console: console.to_owned(),
        instructions: 1,
    }
}

fn signatures(ending: Ending, console: &str) -> Vec<String> {
    let program = text::parse("t0 nop").unwrap();
    let found = findings(&program, &execution(ending, console));
    found.iter().map(Finding::signature).collect()
}

const WARNING: &str = "WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n";

#[test]
fn a_trace_without_complaints_is_no_finding() {
    assert!(signatures(Ending::Traced, "random: crng init done\n").is_empty());
    assert!(signatures(Ending::Refused(Refusal::Kind), "").is_empty());
}

#[test]
fn every_bad_ending_is_a_finding_with_a_name_of_its_own() {
    let panic = Ending::Machine(Outcome::Panic { event: 1 });
    let cases = [
        (Ending::Traced, WARNING, "P12 WARNING: at a.c f | f"),
        (panic.clone(), WARNING, "P12 WARNING: at a.c f | f"),
        (panic, "", "P12 machine panic"),
        (Ending::Machine(Outcome::Budget), "", "P12 machine budget"),
        (
            Ending::Machine(Outcome::TripleFault),
            "",
            "P12 machine triple-fault",
        ),
        (Ending::AgentLost(LinkError::Ended), "", "agent gone"),
    ];
    for (ending, console, expected) in cases {
        assert_eq!(signatures(ending, console), [expected]);
    }
}

#[test]
fn what_the_control_run_does_too_is_the_base_kernels() {
    let ours = complaints(WARNING);
    let finding = || vec![Finding::Complaint(ours[0].clone())];
    let loud = execution(Ending::Traced, WARNING);
    let silent = execution(Ending::Traced, "");
    let program = text::parse("t0 nop").unwrap();
    let weigh = |findings, control: &_| weigh::without_base(&program, findings, control);
    assert_eq!(weigh(finding(), &loud), Verdict::BaseKernel(finding()));
    assert_eq!(weigh(finding(), &silent), Verdict::Finding(finding()));
    let both = [finding(), vec![Finding::Stuck]].concat();
    assert_eq!(weigh(both, &loud), Verdict::Finding(vec![Finding::Stuck]));

    let machine = || vec![Finding::Machine(Outcome::IdleForever)];
    let idle = execution(Ending::Machine(Outcome::IdleForever), "");
    assert_eq!(weigh(machine(), &idle), Verdict::BaseKernel(machine()));
    assert_eq!(weigh(machine(), &silent), Verdict::Finding(machine()));
}

fn violation() -> Finding {
    let program = text::parse("t0 nop").unwrap();
    let event = Event {
        detail: Detail::Executed {
            pid: 9,
            tasks: 2,
            descriptors: 0,
        },
        ..Event::default()
    };
    Finding::Violation(oracle::check(&program, &[event]).remove(0))
}

#[test]
fn a_violation_stays_beside_complaints_of_the_base_kernel() {
    let program = text::parse("t0 nop").unwrap();
    let loud = execution(Ending::Traced, WARNING);
    let ours = Finding::Complaint(complaints(WARNING)[0].clone());
    assert_eq!(
        weigh::without_base(&program, vec![ours, violation()], &loud),
        Verdict::Finding(vec![violation()])
    );
}

/// Lines as mm/oom_kill.c of Linux 6.12 prints them.
const STARVED: &str = "init invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\n\
    Out of memory: Killed process 310 (init) total-vm:800kB\n";
const DEADLOCKED: &str = "init invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\n\
    Kernel panic - not syncing: System is deadlocked on memory\n";

#[test]
fn memory_that_the_program_asked_for_is_no_finding() {
    let few = text::parse("t0 async index=pause").unwrap();
    let many = text::parse(&"t0 async index=pause repeat=63\n".repeat(4)).unwrap();
    let silent = execution(Ending::Traced, "");
    let hungry = execution(Ending::Traced, STARVED);
    let found = || {
        let ended = execution(Ending::Machine(Outcome::Panic { event: 1 }), DEADLOCKED);
        [findings(&few, &ended), vec![violation(), Finding::Stuck]].concat()
    };
    let is_resource = |verdict| matches!(verdict, Verdict::Resource(_));
    assert!(weigh::ran_out_of_memory(STARVED) && weigh::ran_out_of_memory(DEADLOCKED));
    assert!(!weigh::ran_out_of_memory(WARNING));
    assert!(is_resource(weigh::starved(&few, found(), &hungry)));
    assert!(is_resource(weigh::starved(&many, found(), &silent)));
    let leaks = Verdict::Finding(vec![Finding::OutOfMemory]);
    assert_eq!(weigh::starved(&few, found(), &silent), leaks);
    // A kernel that warns on its way is still wrong.
    let warned = vec![Finding::Complaint(complaints(WARNING)[0].clone())];
    let verdict = weigh::starved(&many, warned.clone(), &silent);
    assert_eq!(verdict, Verdict::Finding(warned));
}

#[test]
fn a_spent_budget_tells_only_on_the_software_engine() {
    let spent = Ending::Machine(Outcome::Budget);
    assert_eq!(inconclusive(EngineKind::Soft, &spent), None);
    assert!(inconclusive(EngineKind::Kvm, &spent).is_some());
    let slow = Ending::Machine(Outcome::HostSlow);
    assert!(inconclusive(EngineKind::Soft, &slow).is_some());
    let fault = Ending::Machine(Outcome::TripleFault);
    assert_eq!(inconclusive(EngineKind::Kvm, &fault), None);
    assert_eq!(inconclusive(EngineKind::Kvm, &Ending::Traced), None);
}

#[test]
fn a_program_of_steps_that_end_must_end() {
    let hung = |program: &str| {
        let program = text::parse(program).unwrap();
        let event = Event {
            detail: Detail::End {
                outcome: ProgramOutcome::Hung as u32,
                tasks: 1,
                pending: 0,
                continuations: 1,
                lost: 0,
                ms: 0,
            },
            ..Event::default()
        };
        let mut execution = execution(Ending::Traced, "");
        assert!(!weigh::is_hang(&program, &execution));
        execution.events.push(event);
        weigh::is_hang(&program, &execution)
    };
    assert!(hung("t0 async index=pause\nt0 await-status op=0 ticks=200"));
    assert!(!hung(
        "t0 async index=pause\nt0 await-status op=0 ticks=255"
    ));
    assert!(!hung("t0 async index=pause repeat=32"));
    assert!(!hung("t0 plain index=pause"));
    assert!(!hung("t0 async index=pause\nt1 send sig=stop"));
    assert!(!hung("setup privilege=user nproc=1\nt0 async index=pause"));
    assert!(hung("t0 create kind=pipe\nt0 async index=read a0=fd:0"));
    assert!(!hung("t0 create kind=fuse0\nt0 async index=read a0=fd:0"));
}

/// Recorded on hardened, where a call at RLIMIT_NPROC met a withheld lookup.
const WITHHELD: &str = "INFO: task init:312 blocked for more than 2 seconds.
Call Trace:
 __schedule+0x23c/0x5a0
 ? prepare_to_wait_event+0x112/0x1b0
 schedule+0x28/0xd0
 __fuse_simple_request+0x312/0x6c0
 fuse_dentry_revalidate+0x1bc/0x500
";

/// The same of a second open of a file that is being read.
const LOCKED: &str = "INFO: task init:311 blocked for more than 2 seconds.
Call Trace:
 __schedule+0x23c/0x5a0
 schedule+0x28/0xd0
 io_schedule+0x3f/0x60
 folio_wait_bit_common+0x127/0x2f0
 __folio_lock+0x1d/0x30
 invalidate_inode_pages2_range+0x3e4/0x560
";

#[test]
fn a_task_that_waits_for_what_the_program_withholds_is_no_finding() {
    let silent = execution(Ending::Traced, "");
    let weigh = |program: &str, console: &str| {
        let program = text::parse(program).unwrap();
        let found = vec![Finding::Complaint(complaints(console)[0].clone())];
        weigh::without_base(&program, found, &silent)
    };
    let holds = "t0 fuse file=0 action=hold on=lookup";
    let is_base = |verdict| matches!(verdict, Verdict::BaseKernel(_));
    assert!(is_base(weigh(holds, WITHHELD)));
    assert!(is_base(weigh(holds, LOCKED)));
    assert!(!is_base(weigh("t0 nop", LOCKED)));
    assert!(!is_base(weigh("t0 nop", WITHHELD)));
    let elsewhere = WITHHELD.replace("__fuse_simple_request", "pipe_read");
    let elsewhere = elsewhere.replace("fuse_dentry_revalidate", "vfs_read");
    assert!(!is_base(weigh(holds, &elsewhere)));
    assert!(!is_base(weigh(holds, WARNING)));
}
