//! P3: the status receives one value, from the set that the model allows.
//!
//! Judged only where nothing but the call's own store can write to the cell.
//! The model knows what each function can give for the arguments' classes, not
//! what it gives for the state of the objects: that is a twin run's business.

use latefork_wire::call::Call;
use latefork_wire::layout::STATUS_UNWRITTEN;
use latefork_wire::op::Op;
use latefork_wire::trace::Detail;
use latefork_wire::value::{Arg, BIG_VALUES, LENGTHS, Place, Scalar};

use super::cells::{allocations_may_fail, fuse_may_fail, status_is_its_own};
use super::facts::any;
use super::journal::{Issue, Journal};
use super::{Fault, Property, Violation};

/// The kernel's own codes (include/linux/errno.h): ERESTARTSYS and so on.
const RESTART_CODES: std::ops::RangeInclusive<i32> = -530..=-512;
/// The largest error that user space knows: EHWPOISON.
const LAST_ERROR: i32 = 133;
/// The largest error that a FUSE server can answer with.
const LAST_FUSE_ERROR: i32 = 511;

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let faults = journal.issues.iter().filter_map(|issue| {
        if !status_is_its_own(journal.program, issue.op) || journal.came_back(issue.op) != 1 {
            return None;
        }
        if journal.was_seen_early(issue.op) {
            return None;
        }
        let fault = judge(journal, issue)?;
        Some(Journal::violation(Property::Status, issue, fault))
    });
    faults.collect()
}

fn judge(journal: &Journal<'_>, issue: &Issue) -> Option<Fault> {
    let returned = issue.returned.filter(|returned| returned.value == 0)?;
    let mut changes = 0;
    for event in journal.events.iter().filter(|event| event.op == issue.op) {
        let (status, count) = match event.detail {
            Detail::Status { new, changes, .. } => (new.cast_signed(), changes),
            Detail::Final { changes, .. } => (0, changes),
            _ => continue,
        };
        changes = changes.max(count);
        if RESTART_CODES.contains(&status) {
            return Some(Fault::RestartCode { status });
        }
        let is_status = matches!(event.detail, Detail::Status { .. });
        if is_status && !is_plausible(journal, issue, status) {
            return Some(Fault::StrangeStatus { status });
        }
    }
    if changes > 1 {
        return Some(Fault::SecondStatus { changes });
    }
    let missing = returned.status == STATUS_UNWRITTEN;
    if missing && !issue.forked() && !allocations_may_fail(journal.program) {
        return Some(Fault::StatusMissing);
    }
    (changes == 0 && is_lost(journal, issue)).then_some(Fault::StatusLost)
}

/// Whether the worker was seen to be gone before the status was looked at for
/// the last time. In a child of the program the agent looks in the wrong place.
fn is_lost(journal: &Journal<'_>, issue: &Issue) -> bool {
    let gone = journal
        .events
        .iter()
        .position(|event| matches!(event.detail, Detail::WorkerGone { id, .. } if id == issue.tid));
    let last = journal.events.iter().rposition(
        |event| matches!(event.detail, Detail::Final { status, .. } if event.op == issue.op && status == STATUS_UNWRITTEN),
    );
    let children = any(journal.program, |op| matches!(op, Op::Fork(_)));
    issue.forked()
        && !children
        && !allocations_may_fail(journal.program)
        && gone.zip(last).is_some_and(|(gone, last)| gone < last)
}

fn is_plausible(journal: &Journal<'_>, issue: &Issue, status: i32) -> bool {
    let Some(call) = journal.call(issue.op) else {
        return true;
    };
    if status >= 0 {
        return is_result(call, issue.index, status.cast_unsigned());
    }
    let last = match fuse_may_fail(journal.program) {
        true => LAST_FUSE_ERROR,
        false => LAST_ERROR,
    };
    match issue.index {
        // async in async: rules 1 to 4, and nothing else.
        15 => matches!(status, -22 | -14),
        // pause.
        11 => status == -4,
        // rt_sigsuspend.
        18 => matches!(status, -4 | -14 | -22),
        _ => status >= -last,
    }
}

/// Whether `result` can be a success of the function.
fn is_result(call: &Call, index: u32, result: u32) -> bool {
    let within = |arg| at_most(call, arg).is_none_or(|most| result <= most);
    match index {
        // stat64, access, fsync, clock_nanosleep, semtimedop.
        0 | 4 | 5 | 6 | 17 => result == 0,
        // read, write.
        1 | 2 => within(call.a2),
        // recvfrom, recv: with flags the length may be the datagram's.
        8 | 14 if call.a3 == Arg::Scalar(Scalar::Int, 0) => within(call.a2),
        // poll, ppoll.
        7 | 16 => within(call.a1),
        // pause, async, rt_sigsuspend.
        11 | 15 | 18 => false,
        _ => true,
    }
}

/// The argument's value as a bound, where the kernel surely sees it: nothing
/// else writes to the call's own argument block.
fn at_most(call: &Call, arg: Arg) -> Option<u32> {
    if call.args.place != Place::Own {
        return None;
    }
    let pick = |values: &[u32], which: u8| values.get(usize::from(which) % values.len()).copied();
    match arg {
        Arg::Scalar(Scalar::Int, value) => Some(u32::from(value)),
        Arg::Scalar(Scalar::Minus, value) => Some(!u32::from(value)),
        Arg::Scalar(Scalar::Big, which) => pick(&BIG_VALUES, which),
        Arg::Scalar(Scalar::Len, which) => pick(&LENGTHS, which),
        _ => None,
    }
}
