//! P8: once quiet, live tasks are continuations and unfinished calls; the same
//! program again and again grows by nothing.

use latefork_wire::trace::{Detail, Outcome};

use super::facts::may_leave;
use super::journal::{Journal, of_process};
use super::{Fault, Property, Violation};

/// Repetitions from which on a steady growth is no chance.
const ENOUGH_REPEATS: u32 = 4;
/// Counters of memory, which caches and fragments move too: free, slabs, stacks,
/// page tables.
const MEMORY: [u32; 4] = [1, 12, 13, 14];

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
            _ => return None,
        };
        Some(of_process(Property::NothingLeft, about, fault))
    });
    faults.collect()
}

/// At least one object a repetition, both times.
fn leak(what: u32, seen: [u32; 3], repeats: u32) -> Option<Fault> {
    let [once, twice, thrice] = seen;
    let by = thrice.checked_sub(twice)?;
    let steady = by.min(twice.checked_sub(once)?) >= repeats;
    (!MEMORY.contains(&what) && repeats >= ENOUGH_REPEATS && steady)
        .then_some(Fault::Leak { what, by })
}

/// A worker that has stored its status may still be on its way out: only one
/// that was seen to be gone explains nothing.
fn extra(journal: &Journal<'_>, tasks: u32, pending: u32, continuations: u32) -> Option<Fault> {
    let quiet = journal.outcome == Some(Outcome::Done) && journal.lost == 0;
    if !quiet || may_leave(journal.program) || continuations == 0 {
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
