//! Findings against the control run, and against what the program asked for.

use latefork_wire::op::{FuseAction, Op, PrivilegeCase, Sig};
use latefork_wire::program::Program;
use latefork_wire::trace::Outcome as ProgramOutcome;

use super::{Finding, Verdict, outcome};
use crate::complaint::{Complaint, complaints};
use crate::executor::{Ending, Execution};

/// What mm/oom_kill.c says when memory is gone.
const OUT_OF_MEMORY: [&str; 2] = ["invoked oom-killer:", "Out of memory"];
/// The panic that follows where nothing can be killed.
const DEADLOCKED: &str = "Kernel panic - not syncing: System is deadlocked on memory";
/// Calls from which on a program asks for a flood of workers. A worker takes
/// some 12 KiB of kernel memory: fewer do not fill a machine of 32 MiB.
const FLOOD: u32 = 256;
/// Calls that fork for certain: nowhere near the machine's limit of tasks.
const FEW: u32 = 32;
/// Ticks of waiting that fit well into the watchdog's 500.
const SHORT_TICKS: u32 = 250;

/// Whether the kernel ran out of memory.
pub(super) fn ran_out_of_memory(console: &str) -> bool {
    OUT_OF_MEMORY.iter().any(|mark| console.contains(mark))
}

/// What is left of `findings` when the control run's are taken away.
pub(super) fn without_base(
    program: &Program,
    findings: Vec<Finding>,
    control: &Execution,
) -> Verdict {
    let base = complaints(&control.console);
    let is_base = |finding: &Finding| match finding {
        Finding::Complaint(complaint) => {
            let recurs = base.iter().any(|known| known.title == complaint.title);
            recurs || is_withheld(program, complaint)
        }
        Finding::Machine(ended) => control.ending == Ending::Machine(*ended),
        Finding::Agent(error) => control.ending == Ending::AgentLost(error.clone()),
        Finding::Stuck => outcome(&control.events) == Some(ProgramOutcome::Stuck),
        Finding::Hang => !matches!(
            outcome(&control.events),
            Some(ProgramOutcome::Done | ProgramOutcome::LeftRunning)
        ),
        Finding::Violation(_) | Finding::OutOfMemory => false,
    };
    let (known, new): (Vec<_>, Vec<_>) = findings.into_iter().partition(is_base);
    match new.is_empty() {
        true => Verdict::BaseKernel(known),
        false => Verdict::Finding(new),
    }
}

/// Whether a task hangs in FUSE, or behind a lock or a locked page, while the program itself
/// withholds replies. Linux waits for those without an end, and whether the call
/// at that point is a worker's or (after a failed clone) the thread's own may
/// differ from the control run.
fn is_withheld(program: &Program, complaint: &Complaint) -> bool {
    let holds = |op: &Op| matches!(op, Op::Fuse(fuse) if fuse.action == FuseAction::Hold);
    let waits = |frame: &String| {
        let lock = ["rwsem_down", "__mutex_lock", "folio_wait", "__folio_lock"];
        frame.contains("fuse") || lock.iter().any(|name| frame.starts_with(name))
    };
    complaint.title.starts_with("INFO: task ")
        && complaint.frames.iter().any(waits)
        && program.steps.iter().any(|step| holds(&step.op))
}

/// A run that ran out of memory: complaints count, for a kernel must bear that;
/// what the agent saw or became does not.
pub(super) fn starved(program: &Program, findings: Vec<Finding>, control: &Execution) -> Verdict {
    let counts = |finding: &Finding| match finding {
        Finding::Complaint(complaint) => !DEADLOCKED.starts_with(&complaint.title),
        _ => false,
    };
    let complaints: Vec<Finding> = findings.into_iter().filter(counts).collect();
    if !complaints.is_empty() {
        return without_base(program, complaints, control);
    }
    if ran_out_of_memory(&control.console) {
        return Verdict::Resource("the control run runs out of memory too");
    }
    if calls(program) >= FLOOD {
        return Verdict::Resource("the program asks for a flood of workers");
    }
    Verdict::Finding(vec![Finding::OutOfMemory])
}

fn calls(program: &Program) -> u32 {
    let times = program.steps.iter().map(|step| match &step.op {
        Op::Async(call) => call.times(),
        _ => 0,
    });
    times.sum()
}

/// Whether the watchdog ended a program of which every step ends by itself, far
/// earlier: then a call kept its thread. The control run has the last word.
pub(super) fn is_hang(program: &Program, execution: &Execution) -> bool {
    outcome(&execution.events) == Some(ProgramOutcome::Hung)
        && program.setup.nproc == 0
        && program.setup.privilege == PrivilegeCase::Root
        && calls(program) <= FEW
        && program
            .steps
            .iter()
            .map(|step| ticks(&step.op))
            .sum::<u32>()
            <= SHORT_TICKS
}

/// Ticks that a step takes at most; more than fit where there is no such limit,
/// or where the step may keep others.
fn ticks(op: &Op) -> u32 {
    let ticks = match op {
        Op::Await(wait) => wait.ticks,
        Op::AwaitStatus(wait) => wait.ticks,
        Op::AwaitWorker(wait) => wait.ticks,
        Op::AwaitHeld(wait) => wait.ticks,
        Op::SigWait(wait) => wait.ticks,
        Op::Sleep(sleep) => sleep.ticks,
        Op::Wait(wait) => wait.ticks,
        Op::Send(send) if matches!(send.sig, Sig::Stop | Sig::Tstp) => return u32::MAX / 64,
        Op::Async(call) | Op::Prepare(call) if call.fail_nth != 0 => return u32::MAX / 64,
        // What blocks, withholds, limits or injects is no step that surely ends.
        Op::Plain(_)
        | Op::Create(_)
        | Op::Drain(_)
        | Op::Feed(_)
        | Op::Fuse(_)
        | Op::Fork(_)
        | Op::Exec(_)
        | Op::Ptrace(_)
        | Op::Privilege(_)
        | Op::Rlimit(_)
        | Op::KernelLimit(_)
        | Op::Fault(_) => return unsure(op),
        _ => 0,
    };
    u32::from(ticks) + 1
}

/// Objects that never wait, and steps on them, take no time.
fn unsure(op: &Op) -> u32 {
    use latefork_wire::op::ObjectKind::{Fuse0, Fuse1, Fuse2, Fuse3};
    match op {
        Op::Create(create) if !matches!(create.kind, Fuse0 | Fuse1 | Fuse2 | Fuse3) => 1,
        _ => u32::MAX / 64,
    }
}
