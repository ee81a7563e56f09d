//! P2: on an error, the status and every result buffer are untouched.
//!
//! Judged only where nothing else in the program can write to these cells.

use super::cells::are_private;
use super::journal::{Issue, Journal, Returned};
use super::{Fault, Property, Violation};
use latefork_wire::layout::STATUS_UNWRITTEN;

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let faults = journal.issues.iter().filter_map(|issue| {
        let returned = issue.returned?;
        if returned.value >= 0 || !are_private(journal.program, issue.op) {
            return None;
        }
        let fault = judge(journal, issue, &returned)?;
        Some(Journal::violation(Property::UntouchedOnError, issue, fault))
    });
    faults.collect()
}

fn judge(journal: &Journal<'_>, issue: &Issue, returned: &Returned) -> Option<Fault> {
    if returned.status != STATUS_UNWRITTEN || journal.status_changed(issue.op) {
        let status = returned.status;
        return Some(Fault::StatusWritten { status });
    }
    if issue.buffer != 0 && returned.hash != issue.hash {
        return Some(Fault::BufferWritten);
    }
    let canaries = returned.canaries;
    (canaries != 0).then_some(Fault::CanaryDamaged { canaries })
}
