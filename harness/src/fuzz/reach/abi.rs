//! The rows of the ABI table, and what each descriptor can do.

use latefork_wire::call::{ASYNC_INDEX, DESCRIPTORS, Flags};
use latefork_wire::layout::{KERNEL_START, STATUS_UNWRITTEN};
use latefork_wire::resolve::{Ground, ground};
use latefork_wire::trace::Detail;
use latefork_wire::value::{Arg, Scalar};

use super::{Goal, block, is_nothing, is_slow, is_synchronous, value};

const EINVAL: i32 = -22;
const EFAULT: i32 = -14;
/// `HARNESS_HOW_*`.
const SYNCHRONOUS: usize = 2;
const FORKED: usize = 3;
const FAILED: usize = 4;
const STEPS: usize = 22;

/// Descriptors whose function never ends without a sleep.
const ALWAYS_SLEEPS: &[&str] = &["pause"];

pub(super) fn goals() -> Vec<Goal> {
    let mut goals = refusals();
    goals.extend(blocks());
    goals.extend(stores());
    goals.extend(descriptors());
    goals
}

/// Rules 1, 2 and 4.
fn refusals() -> Vec<Goal> {
    let refused = |name, index: fn(u32) -> bool| {
        Goal::call(name, move |_, issue| {
            index(issue.index) && value(issue) == Some(EINVAL)
        })
    };
    vec![
        refused("rule 1: the index behind the last", |index| index == 21),
        refused("rule 1: an index far out of range", |index| {
            index >= 1 << 16
        }),
        refused("rule 1: an index with the highest bit", |index| {
            index >= 1 << 31
        }),
        refused("rule 1: the empty slot", |index| index == 12),
        refused("rule 2: a descriptor with 7 arguments", |index| index == 13),
        Goal::call("rules 1 and 2: before the block is read", |_, issue| {
            let refused = value(issue) == Some(EINVAL);
            refused && is_nothing(issue.args)
        }),
        Goal::new("rule 4: a call through the call", |run| {
            run.cell(usize::from(ASYNC_INDEX), SYNCHRONOUS) > 0
                && run.journal.issues.iter().any(|issue| {
                    let nested = issue.index == u32::from(ASYNC_INDEX) && is_synchronous(issue);
                    nested && run.final_status(issue.op) == Some(EINVAL.cast_unsigned())
                })
        }),
        Goal::call("rule 4: a call in a worker", |run, issue| {
            let nested = issue.index == u32::from(ASYNC_INDEX) && issue.forked();
            nested && run.final_status(issue.op) == Some(EINVAL.cast_unsigned())
        }),
    ]
}

/// Rule 3.
fn blocks() -> Vec<Goal> {
    vec![
        Goal::call("rule 3: nothing at the block", |_, issue| {
            value(issue) == Some(EFAULT) && is_nothing(issue.args) && issue.args < KERNEL_START
        }),
        Goal::call("rule 3: a fault inside the block", |_, issue| {
            let last = issue.args.wrapping_add(block(issue)).wrapping_sub(1);
            value(issue) == Some(EFAULT) && !is_nothing(issue.args) && is_nothing(last)
        }),
        Goal::call("rule 3: the block ends at a hole", |_, issue| {
            let end = issue.args.wrapping_add(block(issue));
            let whole = block(issue) > 0 && !is_nothing(end.wrapping_sub(1));
            value(issue) == Some(0) && whole && is_nothing(end)
        }),
        Goal::call("rule 3: no arguments, any block", |_, issue| {
            let none = block(issue) == 0 && is_nothing(issue.args);
            none && value(issue) == Some(0)
        }),
        Goal::call("rule 3: unclaimed arguments are zero", |run, issue| {
            let not_zero = |arg: Arg| arg != Arg::Scalar(Scalar::Int, 0);
            let behind = run.call_of(issue.op).is_some_and(|call| {
                let row = call.descriptor().map_or(6, |row| usize::from(row.claims));
                let behind = call.args_in_order().into_iter().skip(row.min(6));
                behind.into_iter().any(not_zero)
            });
            behind && value(issue) == Some(0)
        }),
        Goal::call("rule 3: a fault leaves the status", |run, issue| {
            let plain = ground(issue.status) == Ground::Plain;
            let left = run.final_status(issue.op) == Some(STATUS_UNWRITTEN);
            value(issue) == Some(EFAULT) && plain && left
        }),
    ]
}

/// Rules 5 to 8, and `flags`.
fn stores() -> Vec<Goal> {
    vec![
        Goal::call("rules 5 and 7: a call that does not sleep", |run, issue| {
            let written = run.final_status(issue.op) != Some(STATUS_UNWRITTEN);
            is_synchronous(issue) && ground(issue.status) == Ground::Plain && written
        }),
        Goal::call("rule 6: a slow status forks", |run, issue| {
            let slow = is_slow(issue.status) && issue.forked();
            slow && run.final_status(issue.op) == Some(0)
        }),
        Goal::call("rule 6: a fault in the store is ignored", |_, issue| {
            is_synchronous(issue) && is_nothing(issue.status)
        }),
        Goal::call("rule 6: a fault in a worker's store", |_, issue| {
            value(issue) == Some(0) && issue.forked() && is_nothing(issue.status)
        }),
        Goal::new("rule 7: the clone failed", |run| {
            let failed = (0..DESCRIPTORS.len())
                .any(|operation| (0..STEPS).any(|step| run.cell(operation, FAILED + step) > 0));
            failed && run.journal.issues.iter().any(is_synchronous)
        }),
        Goal::call("rule 8: the worker exits", |run, issue| {
            let gone = |detail| matches!(detail, Detail::WorkerGone { id, .. } if id == issue.tid);
            issue.forked() && run.trace.iter().any(|event| gone(event.detail))
        }),
        Goal::call("flags are ignored", |run, issue| {
            let flags = run.call_of(issue.op).map(|call| call.flags);
            flags.is_some_and(|flags| flags != Flags::Zero) && value(issue) == Some(0)
        }),
    ]
}

fn descriptors() -> Vec<Goal> {
    let mut goals = Vec::new();
    for (operation, row) in DESCRIPTORS.iter().enumerate() {
        if row.plain.is_none() {
            continue;
        }
        if !ALWAYS_SLEEPS.contains(&row.name) {
            let name = format!("descriptor {}: synchronous", row.name);
            goals.push(Goal::new(name, move |run| {
                run.cell(operation, SYNCHRONOUS) > 0
            }));
        }
        let name = format!("descriptor {}: forked", row.name);
        goals.push(Goal::new(name, move |run| run.cell(operation, FORKED) > 0));
    }
    goals
}
