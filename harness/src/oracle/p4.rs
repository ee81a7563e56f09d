//! P4: the result is whole before the status is there.
//!
//! The agent takes the buffer's hash after it has seen the status, and again at
//! the end: a difference was written in between. The own buffer's hash stands in
//! the events of the status and of the end; where the buffer lies elsewhere (on a
//! slow page, at an edge), in the event behind them, as far as it could be read
//! without waiting. Nothing else may write there.

use latefork_wire::trace::{Detail, Outcome};

use super::cells::{buffer_is_alone, status_is_its_own};
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
        let later = changed_later(journal, issue)
            || (buffer_is_alone(journal.program, issue.op) && changed_elsewhere(journal, issue));
        (judged && later)
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
            // A child may see the status when the end was written already.
            Detail::Final { hash, .. } if at_status.is_some() => at_end = Some(hash),
            _ => {}
        }
    }
    at_status
        .zip(at_end)
        .is_some_and(|(first, last)| first != last)
}

/// Numbers of `result` events: seen with the status, and at the end.
const WITH_STATUS: u32 = 2;
const AT_END: u32 = 3;

/// Process id of init, which has mappings of its own.
const INIT: u32 = 1;

/// As [`changed_later`], for a buffer that is not the own one: private to a
/// process, so only what the same process saw both times is compared. A victim
/// that died took its pages along.
fn changed_elsewhere(journal: &Journal<'_>, issue: &Issue) -> bool {
    if journal.outcome == Some(Outcome::Died) {
        return false;
    }
    let seen = |wanted: u32| {
        journal.events.iter().find_map(|event| match event.detail {
            Detail::ResultSeen {
                when, bytes, hash, ..
            } if event.op == issue.op && when == wanted => Some((bytes, hash, event.tid == INIT)),
            _ => None,
        })
    };
    let pair = seen(WITH_STATUS).zip(seen(AT_END));
    pair.is_some_and(|(first, last)| (first.0, first.2) == (last.0, last.2) && first.1 != last.1)
}
