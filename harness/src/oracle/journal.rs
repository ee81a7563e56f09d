//! A trace put in order by calls.

use latefork_wire::call::{Call, DESCRIPTORS};
use latefork_wire::layout::STATUS_UNWRITTEN;
use latefork_wire::op::Op;
use latefork_wire::program::Program;
use latefork_wire::trace::{Detail, Event, NO_OP, Outcome};

use super::{Fault, Property, Violation};

/// A program's run: its calls, and how it ended.
#[derive(Clone, Debug)]
pub struct Journal<'a> {
    /// The program.
    pub program: &'a Program,
    /// The whole trace, in order.
    pub events: &'a [Event],
    /// The calls, in the order in which they were issued.
    pub issues: Vec<Issue>,
    /// Continuations of each operation at the end, where the agent wrote it.
    pub continuations: [Option<u32>; 64],
    /// How it ended, if the agent said so.
    pub outcome: Option<Outcome>,
    /// Events that did not fit into the trace.
    pub lost: u32,
    control: bool,
    touched: [bool; 64],
    early: Vec<u8>,
}

/// One issue of a call: `async` entered, and what it returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The operation's number.
    pub op: u8,
    /// The operation's thread.
    pub thread: u8,
    /// The thread id of the task that issued it.
    pub tid: u32,
    /// The descriptor index.
    pub index: u32,
    /// The status pointer.
    pub status: u32,
    /// The argument pointer.
    pub args: u32,
    /// The result buffer, 0 for none.
    pub buffer: u32,
    /// Which repetition this is.
    pub round: u32,
    /// Hash of the result buffer before.
    pub hash: u32,
    /// What came back, if anything did.
    pub returned: Option<Returned>,
}

/// What was seen at a call's return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The value.
    pub value: i32,
    /// The thread id of the task that came back.
    pub tid: u32,
    /// How often the call has come back so far.
    pub continuations: u32,
    /// The status cell, as far as it can be read.
    pub status: u32,
    /// Hash of the result buffer.
    pub hash: u32,
    /// Damaged canaries.
    pub canaries: u32,
}

impl Issue {
    /// Whether the call came back in another task.
    pub fn forked(&self) -> bool {
        self.returned
            .is_some_and(|returned| returned.tid != self.tid)
    }
}

impl<'a> Journal<'a> {
    /// Reads a trace. Events that make no sense are passed over: a broken
    /// kernel may have left anything in the agent's memory.
    pub fn new(program: &'a Program, events: &'a [Event]) -> Self {
        let mut journal = Self {
            program,
            events,
            issues: Vec::new(),
            continuations: [None; 64],
            outcome: None,
            lost: 0,
            control: false,
            touched: [false; 64],
            early: Vec::new(),
        };
        for event in events {
            journal.read(event);
        }
        journal
    }

    fn read(&mut self, event: &Event) {
        let op = event.op;
        match event.detail {
            Detail::Begin { flavour, .. } => self.control = flavour == 1,
            Detail::Issued {
                status,
                args,
                index,
                buffer,
                round,
                hash,
            } => self.issues.push(Issue {
                op,
                thread: event.thread,
                tid: event.tid,
                index,
                status,
                args,
                buffer,
                round,
                hash,
                returned: None,
            }),
            Detail::Returned {
                value,
                continuations,
                status,
                hash,
                canaries,
                ..
            } => {
                let open = |issue: &&mut Issue| issue.op == op && issue.returned.is_none();
                if let Some(issue) = self.issues.iter_mut().rev().find(open) {
                    issue.returned = Some(Returned {
                        value: value.cast_signed(),
                        tid: event.tid,
                        continuations,
                        status,
                        hash,
                        canaries,
                    });
                }
            }
            Detail::Final { continuations, .. } | Detail::Second { continuations, .. } => {
                self.note_continuations(op, continuations);
            }
            Detail::Status { new, .. } => {
                let issued = self.issues.iter().any(|issue| issue.op == op);
                if !issued || new == STATUS_UNWRITTEN {
                    self.early.extend(Some(op));
                } else if let Some(touched) = self.touched.get_mut(usize::from(op)) {
                    *touched = true;
                }
            }
            Detail::End { outcome, lost, .. } => {
                self.outcome = Outcome::ALL.get(outcome as usize).copied();
                self.lost = lost;
            }
            _ => {}
        }
    }

    fn note_continuations(&mut self, op: u8, count: u32) {
        if op != NO_OP
            && let Some(known) = self.continuations.get_mut(usize::from(op))
        {
            *known = (*known).max(Some(count));
        }
    }

    /// How often operation `op` came back, as far as is known.
    pub fn came_back(&self, op: u8) -> u32 {
        let returned = |issue: &&Issue| issue.op == op;
        let issues = self.issues.iter().filter(returned);
        let seen = issues.filter_map(|issue| Some(issue.returned?.continuations));
        let at_end = self.continuations.get(usize::from(op)).copied().flatten();
        seen.max().max(at_end).unwrap_or(0)
    }

    /// Whether the program came to its end, and the trace has all of it. What
    /// comes after that, the victim's end, may be left out.
    pub fn is_whole(&self) -> bool {
        let ended = matches!(self.outcome, Some(Outcome::Done | Outcome::LeftRunning));
        ended && self.lost == 0
    }

    /// Whether this is a control run, in which `async` is not called.
    pub fn is_control(&self) -> bool {
        self.control
    }

    /// Whether another thread looked at the status of operation `op` before its
    /// cells were ready: what was seen then, and counted, is no status.
    pub fn was_seen_early(&self, op: u8) -> bool {
        self.early.contains(&op)
    }

    /// Whether the status of operation `op` was ever seen to change.
    pub fn status_changed(&self, op: u8) -> bool {
        self.touched.get(usize::from(op)).copied().unwrap_or(true)
    }

    /// The call of operation `op`, if it is one that can be issued.
    pub fn call(&self, op: u8) -> Option<&Call> {
        match &self.program.steps.get(usize::from(op))?.op {
            Op::Async(call) | Op::Prepare(call) => Some(call),
            _ => None,
        }
    }

    /// A violation by `issue`.
    pub(super) fn violation(property: Property, issue: &Issue, fault: Fault) -> Violation {
        Violation {
            property,
            op: issue.op,
            function: function_name(issue.index),
            fault,
        }
    }
}

/// A violation that is no single call's doing; `about` says whose.
pub(super) fn of_process(property: Property, about: &str, fault: Fault) -> Violation {
    Violation {
        property,
        op: NO_OP,
        function: about.to_owned(),
        fault,
    }
}

fn function_name(index: u32) -> String {
    let row = DESCRIPTORS.get(usize::try_from(index).unwrap_or(usize::MAX));
    row.map_or_else(|| index.to_string(), |row| row.name.to_owned())
}
