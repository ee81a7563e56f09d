//! What a corpus reaches: each row of the call's ABI and each hazard of its
//! specification, judged by what programs did, never by their names.
//!
//! A [`Goal`] is one of those, as a question about a run. A corpus is complete
//! when some run of it answers each.

mod abi;
mod hazards;

use latefork_vmm::layout::COVERAGE_EVENTS_SIZE;
use latefork_wire::call::{Call, DESCRIPTORS};
use latefork_wire::op::Op;
use latefork_wire::program::Program;
use latefork_wire::resolve::{Ground, ground};
use latefork_wire::trace::{Detail, Event};

use crate::oracle::{Issue, Journal};

/// A program's run on hardened, with the guest's event block.
#[derive(Debug)]
pub struct Run<'a> {
    /// The program.
    pub program: &'a Program,
    /// Its trace.
    pub trace: &'a [Event],
    /// The event block as the run left it.
    pub cells: &'a [u8; COVERAGE_EVENTS_SIZE],
    journal: Journal<'a>,
}

type Question = Box<dyn Fn(&Run<'_>) -> bool>;

/// Something that a corpus has to reach.
pub struct Goal {
    /// What it is, by rule or hazard of the specification.
    pub name: String,
    reached: Question,
}

impl std::fmt::Debug for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Goal").field(&self.name).finish()
    }
}

impl Goal {
    /// A goal that `reached` decides.
    fn new(name: impl Into<String>, reached: impl Fn(&Run<'_>) -> bool + 'static) -> Self {
        Self {
            name: name.into(),
            reached: Box::new(reached),
        }
    }

    /// A goal that a single call can reach.
    fn call(name: impl Into<String>, reached: impl Fn(&Run<'_>, &Issue) -> bool + 'static) -> Self {
        Self::new(name, move |run| {
            run.journal.issues.iter().any(|issue| reached(run, issue))
        })
    }

    /// Whether `run` reaches it.
    pub fn is_reached(&self, run: &Run<'_>) -> bool {
        (self.reached)(run)
    }
}

/// All goals: the rows of the ABI table, then the hazards.
pub fn goals() -> Vec<Goal> {
    let mut goals = abi::goals();
    goals.extend(hazards::goals());
    goals
}

impl<'a> Run<'a> {
    /// A run of `program`.
    pub fn new(
        program: &'a Program,
        trace: &'a [Event],
        cells: &'a [u8; COVERAGE_EVENTS_SIZE],
    ) -> Self {
        Self {
            program,
            trace,
            cells,
            journal: Journal::new(program, trace),
        }
    }

    /// Counts of the event cells of `operation` that went this way, over all
    /// outcomes (`HARNESS_HOW_*`).
    fn cell(&self, operation: usize, how: usize) -> u32 {
        let first = operation * 128 + how * 4;
        let cells = self.cells.get(first..first + 4).unwrap_or(&[]);
        cells.iter().map(|cell| u32::from(*cell)).sum()
    }

    /// The call of operation `op`.
    fn call_of(&self, op: u8) -> Option<&Call> {
        self.journal.call(op)
    }

    /// The operation numbered `op`.
    fn op(&self, op: u8) -> Option<&Op> {
        Some(&self.program.steps.get(usize::from(op))?.op)
    }

    /// What operation `op` left in its status.
    fn final_status(&self, op: u8) -> Option<u32> {
        self.trace
            .iter()
            .rev()
            .find_map(|event| match event.detail {
                Detail::Final { status, .. } if event.op == op => Some(status),
                _ => None,
            })
    }

    /// The events between the return of `issue` and the first sight of its
    /// status, or the trace's end: while its worker may be asleep.
    fn while_it_sleeps(&self, issue: &Issue) -> &'a [Event] {
        let returned = self.trace.iter().position(|event| {
            event.op == issue.op && matches!(event.detail, Detail::Returned { .. })
        });
        let rest = returned.map_or(&[][..], |at| &self.trace[at + 1..]);
        let seen = rest.iter().position(|event| {
            event.op == issue.op && matches!(event.detail, Detail::Status { .. })
        });
        &rest[..seen.unwrap_or(rest.len())]
    }

    /// The events between the entry of `issue` and its return.
    fn while_it_runs(&self, issue: &Issue) -> &'a [Event] {
        let issued = self.trace.iter().position(|event| {
            event.op == issue.op && matches!(event.detail, Detail::Issued { .. })
        });
        let rest = issued.map_or(&[][..], |at| &self.trace[at + 1..]);
        let back = rest.iter().position(|event| {
            event.op == issue.op && matches!(event.detail, Detail::Returned { .. })
        });
        &rest[..back.unwrap_or(rest.len())]
    }

    /// Whether an operation that `wanted` likes ended well among `events`.
    fn did(&self, events: &[Event], wanted: impl Fn(&Op) -> bool) -> bool {
        events.iter().any(|event| {
            let well =
                matches!(event.detail, Detail::Done { value, .. } if value.cast_signed() >= 0);
            well && self.op(event.op).is_some_and(&wanted)
        })
    }
}

/// What a call returned, if it did.
fn value(issue: &Issue) -> Option<i32> {
    Some(issue.returned?.value)
}

/// Whether a call returned 0 in its own task.
fn is_synchronous(issue: &Issue) -> bool {
    value(issue) == Some(0) && !issue.forked()
}

/// Bytes of the argument block of a call that the kernel reads.
fn block(issue: &Issue) -> u32 {
    let row = usize::try_from(issue.index)
        .ok()
        .and_then(|at| DESCRIPTORS.get(at));
    row.map_or(0, |row| u32::from(row.claims) * 4)
}

/// Whether nothing is mapped at `address`, or the kernel's own.
fn is_nothing(address: u32) -> bool {
    ground(address) == Ground::Nothing
}

/// Whether `address` lies on a page that faults slowly.
fn is_slow(address: u32) -> bool {
    matches!(ground(address), Ground::Slow { .. })
}
