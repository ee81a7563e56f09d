//! P3 by a twin: the status and the result that the same call gives where it is
//! made plainly, on an object of its own in a process of its own.
//!
//! The twin is the control run, which starts from the same moment. Both runs
//! must have come to the call in the same way, and nothing else may have run
//! between the call and its status: then what the function gives is decided.

use latefork_wire::call::Call;
use latefork_wire::op::Op;
use latefork_wire::program::Program;
use latefork_wire::trace::{Detail, Event};
use latefork_wire::value::{Arg, PATHS, Place, Scalar};

use super::cells::{allocations_may_fail, status_is_its_own};
use super::facts::{is_sequential, may_leave};
use super::journal::Journal;
use super::{Fault, Property, Violation};

/// What a call gave, and which other steps had their say before its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    status: u32,
    hash: u32,
}

/// Compares a run with its control run.
pub fn check(program: &Program, events: &[Event], control: &[Event]) -> Vec<Violation> {
    let journal = Journal::new(program, events);
    let twin = Journal::new(program, control);
    let comparable = !journal.is_control()
        && twin.is_control()
        && is_settled(program)
        && [&journal, &twin].iter().all(|run| run.is_whole());
    if !comparable {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for issue in &journal.issues {
        let at = usize::from(issue.op);
        let Some(Op::Async(call)) = program.steps.get(at).map(|step| &step.op) else {
            continue;
        };
        // Once a call's outcome is open, later ones may meet another state.
        let (Some(mine), Some(plain)) = (given(&journal, issue.op), given(&twin, issue.op)) else {
            break;
        };
        let early = [&journal, &twin]
            .iter()
            .any(|run| run.was_seen_early(issue.op));
        let judged = !early && status_is_its_own(program, issue.op) && is_decided(call);
        if judged && mine != plain {
            let fault = Fault::TwinDiffers {
                status: mine.status.cast_signed(),
                plain: plain.status.cast_signed(),
            };
            violations.push(Journal::violation(Property::Status, issue, fault));
            break;
        }
    }
    violations
}

/// Whether nothing in the program acts at a moment of its own, or differently
/// on a helper thread than on a worker.
fn is_settled(program: &Program) -> bool {
    let calm = |op: &Op| match op {
        Op::Send(_)
        | Op::Timer(_)
        | Op::Ptrace(_)
        | Op::Rlimit(_)
        | Op::Privilege(_)
        | Op::Spawn(_)
        | Op::Poke(_)
        | Op::Arm(_)
        | Op::Fuse(_) => false,
        Op::Async(call) | Op::Plain(call) | Op::Prepare(call) => {
            call.times() == 1 && !call.args_in_order().iter().any(|arg| varies(*arg))
        }
        _ => true,
    };
    let steps = program.steps.iter();
    program.setup.nproc == 0
        && is_sequential(program)
        && !may_leave(program)
        && !allocations_may_fail(program)
        && steps.map(|step| &step.op).all(calm)
}

/// Whether an argument names what is not the same in two processes.
fn varies(arg: Arg) -> bool {
    match arg {
        Arg::Scalar(Scalar::Path | Scalar::SlowPath, which) => {
            PATHS[usize::from(which) % PATHS.len()].starts_with("/proc")
        }
        Arg::Scalar(Scalar::Child | Scalar::Tid | Scalar::IndexOf, _) => true,
        _ => false,
    }
}

/// Whether the function and its arguments decide the outcome: a descriptor by
/// number may be anything, a futex or a semaphore is shared with the agent.
fn is_decided(call: &Call) -> bool {
    let by_slot = matches!(call.a0, Arg::Scalar(Scalar::Fd | Scalar::BadFd, _));
    let own_args = call.args.place == Place::Own;
    own_args
        && match call.index.value() {
            // stat64, open, access.
            0 | 3 | 4 => matches!(call.a0, Arg::Scalar(Scalar::Path, _)),
            // read, write, fsync, recvfrom, recv.
            1 | 2 | 5 | 8 | 14 => by_slot,
            // clock_nanosleep.
            6 => true,
            _ => false,
        }
}

/// What operation `op` gave, if only waiting came between it and its status.
fn given(run: &Journal<'_>, op: u8) -> Option<Given> {
    let issued = |event: &Event| event.op == op && matches!(event.detail, Detail::Issued { .. });
    let start = run.events.iter().position(issued)?;
    for event in run.events.get(start + 1..)? {
        match event.detail {
            Detail::Status { new, hash, .. } if event.op == op => {
                return Some(Given { status: new, hash });
            }
            // A refused call has no status: it is P1's.
            Detail::Returned {
                value,
                status,
                hash,
                ..
            } if value != 0 && event.op == op => {
                return Some(Given { status, hash });
            }
            Detail::Issued { .. } | Detail::Handler { .. } => return None,
            Detail::Done { .. } if !only_waits(run.program, event.op) => return None,
            _ => {}
        }
    }
    None
}

fn only_waits(program: &Program, op: u8) -> bool {
    let step = program.steps.get(usize::from(op)).map(|step| &step.op);
    matches!(step, Some(Op::Sleep(_) | Op::Yield(_) | Op::Nop(_)))
}
