//! P6: the continuation is its caller, but for the thread id and documented
//! losses.
//!
//! The table is the one of the guest kernel's README, "What becomes of per-task
//! state", in its hardened column: what another flavour loses is its finding.

use latefork_wire::op::{Op, Row, Sig, Target};
use latefork_wire::program::Program;
use latefork_wire::trace::Detail;

use super::facts::{any, is_sequential};
use super::journal::{Issue, Journal};
use super::{Fault, Property, Violation};

/// Index of semtimedop, which changes what the row of semaphores shows.
const SEMTIMEDOP: u32 = 17;

/// Index of wait4.
const WAIT4: u32 = 10;

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The same in the continuation, whether the worker keeps it or not.
    Kept,
    /// Kept, but shared with other tasks of the process, which may change it.
    Shared,
    /// Kept, but for children that end or are waited for meanwhile.
    Counted,
    /// Lost by the book, or changed by time alone.
    Loose,
}

const fn fate(row: Row) -> Fate {
    match row {
        Row::Pid
        | Row::ParentPid
        | Row::Ids
        | Row::Capabilities
        | Row::SignalMask
        | Row::AltStack
        | Row::ClearChildTid
        | Row::RobustList
        | Row::ParentDeathSignal
        | Row::Comm
        | Row::SchedClass
        | Row::Nice
        | Row::IoPriority
        | Row::Seccomp
        | Row::NoNewPrivs
        | Row::ThreadKeyring
        | Row::Rseq
        | Row::TimerSlack
        | Row::Tls
        | Row::Personality
        | Row::Affinity
        | Row::TemporaryMask
        | Row::Vfork
        | Row::Ldt => Fate::Kept,
        Row::Cwd | Row::Umask | Row::Descriptors | Row::SemUndo => Fate::Shared,
        Row::Children => Fate::Counted,
        Row::Tid | Row::Pending | Row::IoAccounting | Row::ThreadTimers => Fate::Loose,
    }
}

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for issue in &journal.issues {
        let Some(returned) = issue.returned else {
            continue;
        };
        if returned.value < 0 && issue.forked() {
            let fault = Fault::RefusedAndForked;
            violations.push(Journal::violation(Property::SameTask, issue, fault));
        }
    }
    for event in journal.events {
        let Some(issue) = journal.issues.iter().find(|issue| issue.op == event.op) else {
            continue;
        };
        // Two continuations write over each other's registers.
        let is_call = journal.call(event.op).is_some() && journal.came_back(event.op) == 1;
        let fault = is_call.then(|| judge(journal, issue, &event.detail));
        if let Some(fault) = fault.flatten() {
            let violation = Journal::violation(Property::SameTask, issue, fault);
            let same = |known: &Violation| known.signature() == violation.signature();
            if !violations.iter().any(same) {
                violations.push(violation);
            }
        }
    }
    violations
}

fn judge(journal: &Journal<'_>, issue: &Issue, detail: &Detail) -> Option<Fault> {
    match *detail {
        Detail::Register {
            which,
            before,
            after,
        } => Some(Fault::Register {
            which,
            before,
            after,
        }),
        Detail::RowSeen {
            row, before, after, ..
        } if before != after => {
            let row = *Row::ALL.get(usize::try_from(row).ok()?)?;
            let must_stay = match fate(row) {
                Fate::Kept => is_sequential(journal.program) || row == Row::Pid,
                Fate::Shared => is_alone(journal, issue) && can_be_read(journal.program, row),
                Fate::Counted => is_sequential(journal.program) && !reaps(journal.program),
                Fate::Loose => false,
            };
            must_stay.then_some(Fault::RowChanged { row, before, after })
        }
        _ => None,
    }
}

/// Whether reading the row cannot fail by an allocation that the program lets
/// fail: for the directory's name the kernel takes memory (fs/d_path.c).
fn can_be_read(program: &Program, row: Row) -> bool {
    row != Row::Cwd || !any(program, |op| matches!(op, Op::Fault(_)))
}

/// Whether no other task of the process can change what it shares: one thread,
/// and no call that takes or gives a semaphore.
fn is_alone(journal: &Journal<'_>, issue: &Issue) -> bool {
    let semaphores = |op: &Op| matches!(op, Op::Async(call) if call.index.value() == SEMTIMEDOP);
    is_sequential(journal.program) && issue.index != SEMTIMEDOP && !any(journal.program, semaphores)
}

/// Whether a child may go while a call runs. The one that `arm row=children`
/// makes stays until it is killed.
fn reaps(program: &Program) -> bool {
    any(program, |op| match op {
        Op::Wait(_) | Op::Exec(_) => true,
        Op::Async(call) | Op::Plain(call) | Op::Prepare(call) => call.index.value() == WAIT4,
        Op::Send(send) => send.to == Target::Child,
        Op::Handle(handle) => handle.sig == Sig::Chld,
        _ => false,
    })
}
