//! P7: a clone that failed leaves a synchronous call, and nothing behind.
//!
//! A clone that cannot succeed did not; one that failed, says the kernel's own
//! account of the call, was not tried again, and the status is there on return;
//! and as many ordinary clones fit after failed ones as before.

use latefork_wire::call::ASYNC_INDEX;
use latefork_wire::layout::STATUS_UNWRITTEN;
use latefork_wire::op::{Observation, Op, PrivilegeCase, Resource};
use latefork_wire::program::Program;
use latefork_wire::trace::Detail;

use super::cells::{allocations_may_fail, status_is_its_own};
use super::facts::{any, is_sequential};
use super::journal::{Issue, Journal, of_process};
use super::{Fault, Property, Violation};

/// The value of a limit that means none.
const NO_LIMIT: u8 = 255;

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if no_clone_fits(journal.program) {
        let forked = journal.issues.iter().filter(|issue| issue.forked());
        let property = Property::FailedClone;
        let fault = Fault::ForkedPastLimit;
        violations.extend(forked.map(|issue| Journal::violation(property, issue, fault)));
    }
    if is_sequential(journal.program) {
        violations.extend(journal.issues.iter().filter_map(|issue| {
            let fault = after_failure(journal, issue)?;
            Some(Journal::violation(Property::FailedClone, issue, fault))
        }));
    }
    if is_sequential(journal.program) && !changes_more_than_nproc(journal.program) {
        violations.extend(left_behind(journal));
    }
    violations
}

/// The first value of `how` that means a failed clone (HARNESS_HOW_FAILED of the
/// guest kernel's uapi/linux/harness.h); steps of `copy_process` follow.
const CLONE_FAILED: u32 = 4;

/// What a call did after its clone had failed. The account is kept by
/// descriptor: it is this call's where no other of that descriptor is made.
fn after_failure(journal: &Journal<'_>, issue: &Issue) -> Option<Fault> {
    let same = journal
        .issues
        .iter()
        .filter(|other| other.index == issue.index);
    let inner = any(
        journal.program,
        |op| matches!(op, Op::Async(call) | Op::Prepare(call) if call.index.value() == u32::from(ASYNC_INDEX)),
    );
    if same.count() != 1 || inner || journal.came_back(issue.op) != 1 {
        return None;
    }
    let step = journal.events.iter().find_map(|event| match event.detail {
        Detail::Kernel { how, .. } if event.op == issue.op => how.checked_sub(CLONE_FAILED),
        _ => None,
    })?;
    if issue.forked() {
        return Some(Fault::ForkedAfterFailure { step });
    }
    let returned = issue.returned.filter(|returned| returned.value == 0)?;
    let missing = returned.status == STATUS_UNWRITTEN && !journal.status_changed(issue.op);
    (missing && status_is_its_own(journal.program, issue.op))
        .then_some(Fault::FailedWithoutStatus { step })
}

/// An ordinary user at a limit of one task, from the start to the end.
fn no_clone_fits(program: &Program) -> bool {
    program.setup.privilege == PrivilegeCase::User
        && program.setup.nproc == 1
        && !any(program, |op| matches!(op, Op::Privilege(_) | Op::Rlimit(_)))
}

fn changes_more_than_nproc(program: &Program) -> bool {
    let changes = any(program, |op| match op {
        Op::Rlimit(limit) => limit.which != Resource::Nproc,
        Op::Privilege(_) => true,
        _ => false,
    });
    changes || allocations_may_fail(program)
}

/// Compares two counts of clones that fit, under the same limit, with only
/// synchronous calls between.
fn left_behind(journal: &Journal<'_>) -> Option<Violation> {
    let mut limit = match journal.program.setup.nproc {
        0 => NO_LIMIT,
        limit => limit,
    };
    let mut known: Option<(u8, u32)> = None;
    for (at, step) in journal.program.steps.iter().enumerate() {
        let op = u8::try_from(at).ok()?;
        match &step.op {
            Op::Rlimit(new) => limit = new.value,
            Op::Async(_) => {
                let mut issues = journal.issues.iter().filter(|issue| issue.op == op);
                if issues.any(|issue| issue.forked() || issue.returned.is_none()) {
                    return None;
                }
            }
            Op::Observe(observe) if observe.what == Observation::Clones => {
                let fit = clones_at(journal, op)?;
                let before = known.filter(|(at, _)| *at == limit).map(|(_, fit)| fit);
                if let Some(before) = before.filter(|before| *before != fit) {
                    let fault = Fault::LeftBehind { before, after: fit };
                    return Some(of_process(Property::FailedClone, "clones", fault));
                }
                known = Some((limit, fit));
            }
            _ => {}
        }
    }
    None
}

fn clones_at(journal: &Journal<'_>, op: u8) -> Option<u32> {
    journal.events.iter().find_map(|event| match event.detail {
        Detail::Observed { a, .. } if event.op == op => Some(a),
        _ => None,
    })
}
