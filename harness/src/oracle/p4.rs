//! P4: the result is whole before the status is there.
//!
//! The agent takes the buffer's hash after it has seen the status, and again at
//! the end: a difference was written in between. Only the call's own buffer has
//! a hash, and nothing else may write there.

use latefork_wire::trace::Detail;

use super::cells::status_is_its_own;
use super::journal::{Issue, Journal};
use super::{Fault, Property, Violation};

/// A futex word in the buffer can be written when its holder exits.
const FUTEX: u32 = 9;

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let faults = journal.issues.iter().filter_map(|issue| {
        let judged = issue.buffer != 0
            && issue.index != FUTEX
            && !journal.was_seen_early(issue.op)
            && journal.came_back(issue.op) == 1
            && status_is_its_own(journal.program, issue.op);
        (judged && changed_later(journal, issue))
            .then(|| Journal::violation(Property::ResultFirst, issue, Fault::ResultAfterStatus))
    });
    faults.collect()
}

fn changed_later(journal: &Journal<'_>, issue: &Issue) -> bool {
    let mut at_status = None;
    let mut at_end = None;
    for event in journal.events.iter().filter(|event| event.op == issue.op) {
        match event.detail {
            Detail::Status { hash, .. } => at_status = at_status.or(Some(hash)),
            Detail::Final { hash, .. } => at_end = Some(hash),
            _ => {}
        }
    }
    at_status
        .zip(at_end)
        .is_some_and(|(first, last)| first != last)
}
