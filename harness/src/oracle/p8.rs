//! P8: once quiet, live tasks are continuations and unfinished calls, no more
//! and no fewer; the same program again and again grows by nothing, neither in
//! tasks and objects nor in kernel memory.

use latefork_wire::op::Op;
use latefork_wire::trace::Detail;

use super::facts::{any, may_leave};
use super::journal::{Journal, of_process};
use super::{Fault, Property, Violation};

/// Repetitions from which on a steady growth is no chance.
const ENOUGH_REPEATS: u32 = 4;
/// Counters of memory that caches and fragments move too: free, slabs.
const CACHED: [u32; 2] = [1, 12];

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let faults = journal.events.iter().filter_map(|event| {
        let (about, fault) = match event.detail {
            Detail::Leak {
                what,
                once,
                twice,
                thrice,
                repeats,
                ..
            } => ("repetitions", leak(what, [once, twice, thrice], repeats)?),
            Detail::End {
                tasks,
                pending,
                continuations,
                ..
            } => ("tasks", extra(journal, tasks, pending, continuations)?),
            Detail::Continuation { id, lives: 0, .. } => ("thread", gone(journal, id)?),
            _ => return None,
        };
        Some(of_process(Property::NothingLeft, about, fault))
    });
    faults.collect()
}

/// The least that a repetition leaks: one object; in KiB a kernel stack, a page
/// of page tables.
const fn least(what: u32) -> u32 {
    match what {
        13 => 8,
        14 => 4,
        _ => 1,
    }
}

/// At least that much a repetition, both times.
fn leak(what: u32, seen: [u32; 3], repeats: u32) -> Option<Fault> {
    let [once, twice, thrice] = seen;
    let by = thrice.checked_sub(twice)?;
    let steady = by.min(twice.checked_sub(once)?) >= repeats.saturating_mul(least(what));
    (!CACHED.contains(&what) && repeats >= ENOUGH_REPEATS && steady)
        .then_some(Fault::Leak { what, by })
}

/// A thread that has not ended must be a task, unless the program does what
/// ends threads, or lets another task do it.
fn gone(journal: &Journal<'_>, tid: u32) -> Option<Fault> {
    let ends = any(journal.program, |op| {
        matches!(
            op,
            Op::Exit(_)
                | Op::ExitGroup(_)
                | Op::Exec(_)
                | Op::Send(_)
                | Op::Timer(_)
                | Op::Ptrace(_)
                | Op::Fork(_)
                | Op::Arm(_)
        )
    });
    (journal.is_whole() && !ends).then_some(Fault::ContinuationGone { tid })
}

/// A worker that has stored its status may still be on its way out: only one
/// that was seen to be gone explains nothing.
fn extra(journal: &Journal<'_>, tasks: u32, pending: u32, continuations: u32) -> Option<Fault> {
    if !journal.is_whole() || may_leave(journal.program) || continuations == 0 {
        return None;
    }
    let is_gone = |tid: u32| {
        let gone = |detail: &Detail| matches!(detail, Detail::WorkerGone { id, .. } if *id == tid);
        journal.events.iter().any(|event| gone(&event.detail))
    };
    let issues = journal.issues.iter();
    let workers = issues.filter(|issue| issue.returned.is_none() || issue.forked());
    let alive = workers.filter(|issue| !is_gone(issue.tid)).count();
    let alive = u32::try_from(alive).unwrap_or(u32::MAX);
    let explained = continuations.saturating_add(alive.max(pending));
    (tasks > explained).then_some(Fault::ExtraTasks { tasks, explained })
}
