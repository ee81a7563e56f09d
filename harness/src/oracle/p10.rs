//! P10: what ends the process, or replaces its image, ends every worker.
//!
//! A process that does not end though killed is the verdict's `Stuck`. Here: the
//! new image of an execve runs alone; a process that called exit_group ends by
//! itself; and nothing of the program is there when it and its children have
//! ended. The agent looks for that only after it has answered or aborted every
//! FUSE request.

use latefork_wire::op::{FuseAction, Observation, Op, Sig};
use latefork_wire::program::Program;
use latefork_wire::trace::{Detail, Outcome};

use super::facts::any;
use super::journal::{Journal, of_process};
use super::{Fault, Property, Violation};

/// Ways of `leaving` events.
const EXIT_GROUP: u32 = 1;
/// States of tasks that have ended: the letters of `/proc/pid/stat`.
const ENDED: [u32; 2] = [b'Z' as u32, b'X' as u32];

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let faults = journal.events.iter().filter_map(|event| {
        let (about, fault) = match event.detail {
            Detail::Executed { tasks, .. } if tasks > 1 => {
                ("execve", Fault::SurvivedExec { tasks })
            }
            Detail::Survivor {
                id, state, tasks, ..
            } if !ENDED.contains(&state) && !may_stay(journal.program) => {
                ("process", Fault::Survivor { pid: id, tasks })
            }
            Detail::Leaving {
                how: EXIT_GROUP, ..
            } if outlived(journal) => ("victim", Fault::OutlivedExitGroup),
            _ => return None,
        };
        Some(of_process(Property::EndsAll, about, fault))
    });
    faults.collect()
}

/// Whether a process of the program may live on by the program's own doing: a
/// tracer keeps it, or it is a child of a child, or one of the plain children
/// that a victim counts, which only that victim ends.
fn may_stay(program: &Program) -> bool {
    let forks = program.steps.iter();
    let forks = forks.filter(|step| matches!(step.op, Op::Fork(_)));
    let keeps = |op: &Op| match op {
        Op::Ptrace(_) => true,
        Op::Observe(observe) => observe.what == Observation::Clones,
        _ => false,
    };
    forks.count() > 1 || any(program, keeps)
}

/// Whether the watchdog had to end a process that had called exit_group.
fn outlived(journal: &Journal<'_>) -> bool {
    let keeps = |op: &Op| match op {
        // A child's exit_group is not the victim's; a tracer may hold a task; a
        // plain call that waits for FUSE cannot be killed.
        Op::Fork(_) | Op::Ptrace(_) => true,
        Op::Fuse(fuse) => matches!(fuse.action, FuseAction::Hold | FuseAction::Delay),
        Op::Send(send) => matches!(send.sig, Sig::Stop | Sig::Tstp),
        _ => false,
    };
    journal.outcome == Some(Outcome::Hung) && !any(journal.program, keeps)
}
