//! P5: exactly one continuation, neither none nor two.
//!
//! Two show in a counter that the return path itself increments. None shows
//! only as a program that does not end; that is this property's fault where the
//! call had nothing to wait for.

use latefork_wire::call::DESCRIPTORS;
use latefork_wire::op::Op;
use latefork_wire::trace::Outcome;

use super::journal::{Issue, Journal};
use super::{Fault, Property, Violation};

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    for issue in &journal.issues {
        let Some(fault) = judge(journal, issue) else {
            continue;
        };
        let known = violations.iter().any(|known| known.op == issue.op);
        if !known {
            let property = Property::OneContinuation;
            violations.push(Journal::violation(property, issue, fault));
        }
    }
    violations
}

fn judge(journal: &Journal<'_>, issue: &Issue) -> Option<Fault> {
    let at_return = issue.returned.map_or(0, |returned| returned.continuations);
    let at_end = journal.continuations.get(usize::from(issue.op));
    let count = at_return.max(at_end.copied().flatten().unwrap_or(0));
    if count > 1 {
        return Some(Fault::Continuations { count });
    }
    let never = issue.returned.is_none() && count == 0;
    (never
        && journal.outcome == Some(Outcome::Hung)
        && journal.lost == 0
        && !may_wait(journal, issue))
    .then_some(Fault::NoContinuation)
}

/// Whether anything could keep the call from coming back: what it calls may
/// sleep, its memory may be slow, or its thread may be stopped or gone.
fn may_wait(journal: &Journal<'_>, issue: &Issue) -> bool {
    let row = usize::try_from(issue.index)
        .ok()
        .and_then(|index| DESCRIPTORS.get(index));
    let sleeps = row.is_some_and(|row| row.blocks);
    sleeps
        || journal.program.steps.iter().any(|step| {
            matches!(
                step.op,
                Op::Fuse(_)
                    | Op::Send(_)
                    | Op::Timer(_)
                    | Op::Ptrace(_)
                    | Op::Exec(_)
                    | Op::Exit(_)
                    | Op::ExitGroup(_)
                    | Op::Fork(_)
                    | Op::Rlimit(_)
                    | Op::Fault(_)
            )
        })
}
