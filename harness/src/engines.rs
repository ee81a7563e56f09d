//! One program on two engines: what must be the same, and what is not.
//!
//! Both run the same machine from the same template, so verdict and signatures
//! are the same, and so is the trace but for what [`VARYING`] names (ids, times,
//! addresses) and for the order of different operations: where nothing in the
//! program decides it, the engines' clocks do. What the kernel reads and writes
//! in a call's cells is seen by the software engine alone, and left out here.
//!
//! [`VARYING`]: latefork_wire::trace::VARYING

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use latefork_vmm::machine::MachineError;
use latefork_wire::program::Program;
use latefork_wire::trace::{Event, NO_OP};
use serde::{Deserialize, Serialize};

use crate::executor::Executor;
use crate::replay::artifact::{Artifact, ArtifactError, Record, programs};
use crate::replay::regression::{FLAVOURS, Order};
use crate::replay::signatures;
use crate::verdict::{Judged, judge_against_twin};

/// What a program gave on one engine, as far as another must give it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The verdict's name.
    pub verdict: String,
    /// Signatures of what was found.
    pub signatures: Vec<String>,
    /// The trace, one line an event, without what varies: for each thread (the
    /// agent's number is 255) and operation (255: none) in order.
    pub trace: Vec<Part>,
}

/// What a thread reports of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The thread.
    pub thread: u8,
    /// The operation.
    pub op: u8,
    /// A line an event.
    pub events: Vec<String>,
}

impl Seen {
    /// What `judged` shows.
    pub fn new(judged: &Judged) -> Self {
        Self {
            verdict: judged.verdict.name().to_owned(),
            signatures: signatures(judged.verdict.findings()),
            trace: parts(&judged.execution.events),
        }
    }

    /// Where `other`, of engine `theirs`, differs from this, of engine `ours`:
    /// one line each, nothing where they agree.
    pub fn differences(&self, ours: &str, other: &Self, theirs: &str) -> Vec<String> {
        let mut differences = self.verdict_differences(ours, other, theirs);
        let keys = self.trace.iter().chain(&other.trace);
        let keys: BTreeSet<(u8, u8)> = keys.map(|part| (part.thread, part.op)).collect();
        for (thread, op) in keys {
            let (mine, others) = (self.part(thread, op), other.part(thread, op));
            let longest = mine.len().max(others.len());
            let Some(at) = (0..longest).find(|&at| mine.get(at) != others.get(at)) else {
                continue;
            };
            let show = |lines: &[String]| match lines.get(at) {
                Some(line) => format!("`{line}`"),
                None => "nothing".to_owned(),
            };
            let who = match thread {
                u8::MAX => "of the agent".to_owned(),
                number => format!("of thread {number}"),
            };
            let what = match op {
                NO_OP => String::new(),
                number => format!(", operation {number}"),
            };
            let (mine, others) = (show(mine), show(others));
            differences.push(format!(
                "trace {who}{what}, event {at}: {mine} on {ours}, {others} on {theirs}"
            ));
        }
        differences
    }

    fn part(&self, thread: u8, op: u8) -> &[String] {
        let mut parts = self.trace.iter();
        let found = parts.find(|part| (part.thread, part.op) == (thread, op));
        found.map_or(&[], |part| &part.events)
    }

    /// The differences in verdict and signatures alone.
    pub fn verdict_differences(&self, ours: &str, other: &Self, theirs: &str) -> Vec<String> {
        let mut differences = Vec::new();
        if self.verdict != other.verdict {
            differences.push(format!(
                "verdict {} on {ours}, {} on {theirs}",
                self.verdict, other.verdict
            ));
        }
        let lacks = |mine: &Self, theirs: &Self, name: &str| {
            let lacking = mine
                .signatures
                .iter()
                .filter(|one| !theirs.signatures.contains(one));
            lacking
                .map(|signature| format!("on {name} alone: {signature}"))
                .collect::<Vec<_>>()
        };
        differences.extend(lacks(self, other, ours));
        differences.extend(lacks(other, self, theirs));
        differences
    }
}

fn parts(events: &[Event]) -> Vec<Part> {
    let mut parts: BTreeMap<(u8, u8), Vec<String>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.must_recur()) {
        let key = (event.thread, event.op);
        parts.entry(key).or_default().push(line(event));
    }
    parts
        .into_iter()
        .map(|((thread, op), events)| Part { thread, op, events })
        .collect()
}

/// An event without what may differ between engines.
fn line(event: &Event) -> String {
    let mut line = event.detail.word().to_owned();
    for name in event.detail.fields() {
        if let Some(value) = event.field(name)
            && !event.varies(name)
        {
            line.push_str(&format!(" {name}={value:#x}"));
        }
    }
    line
}

/// Runs and judges `program`, with its control run wherever that can tell more.
///
/// # Errors
///
/// The host failed.
pub fn see(executor: &mut Executor, program: &Program) -> Result<Seen, MachineError> {
    Ok(Seen::new(&judge_against_twin(executor, program)?))
}

/// A program, and what it gave on the software engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Where it comes from.
    pub name: String,
    /// Flavour of the guest kernel.
    pub flavour: String,
    /// Whether something in the guest decides its order, so that the whole trace
    /// must be the same.
    pub ordered: bool,
    /// Its wire form.
    pub program: Vec<u8>,
    /// What it gave.
    pub seen: Seen,
}

/// The programs of a checkout's corpora that hold on any engine, each with the
/// flavours that it is meant for, and whether it is ordered: seeds on hardened,
/// ordered regressions on both.
///
/// # Errors
///
/// A file cannot be read.
pub fn corpora(root: &Path) -> Result<Vec<(Artifact, &'static str, bool)>, ArtifactError> {
    let mut found = Vec::new();
    for path in programs(&root.join("corpora"))? {
        let artifact = Artifact::read(&path)?;
        match &artifact.record {
            Record::Seed => found.push((artifact, "hardened", false)),
            Record::Regression(header) if header.order == Order::Ordered => {
                found.extend(FLAVOURS.map(|flavour| (artifact.clone(), flavour, true)));
            }
            Record::Regression(_) | Record::Run(_) | Record::None => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use latefork_wire::trace::{Detail, REGISTERS};

    use super::*;

    fn job(thread: u8, op: u8, tid: u32, status: u32) -> Event {
        let detail = Detail::Job {
            pid: tid,
            status,
            tasks: 2,
            stopped: 0,
        };
        Event {
            thread,
            op,
            tid,
            detail,
        }
    }

    fn seen(verdict: &str, signatures: &[&str], events: &[Event]) -> Seen {
        Seen {
            verdict: verdict.to_owned(),
            signatures: signatures.iter().map(ToString::to_string).collect(),
            trace: parts(events),
        }
    }

    #[test]
    fn ids_and_the_order_of_operations_may_differ() {
        let events = [job(0, 1, 10, 1), job(0, 2, 11, 2), job(0, 1, 12, 3)];
        let one = seen("clean", &[], &events);
        let check = |events: &[Event]| one.differences("soft", &seen("clean", &[], events), "kvm");
        let moved = [job(0, 1, 30, 1), job(0, 1, 32, 3), job(0, 2, 31, 2)];
        assert_eq!(check(&moved), [""; 0]);
        let swapped = check(&[job(0, 1, 10, 3), job(0, 2, 11, 2), job(0, 1, 12, 1)]);
        assert_eq!(swapped.len(), 1);
        let start = "trace of thread 0, operation 1, event 0: `job status=0x1 ";
        assert!(swapped[0].starts_with(start), "{swapped:?}");
        let shorter = check(&events[..2]);
        assert!(shorter[0].ends_with("nothing on kvm"), "{shorter:?}");
        let other_thread = check(&[events[0], job(1, 2, 11, 2), events[2]]);
        assert_eq!(other_thread.len(), 2);
    }

    #[test]
    fn requests_of_fuse_and_lost_registers_are_left_out() {
        let fuse = Detail::FuseRequest {
            file: 0,
            opcode: 1,
            action: 2,
            held: 0,
        };
        let which = REGISTERS.iter().position(|name| *name == "x87-operand");
        let register = |which: Option<usize>| Detail::Register {
            which: u32::try_from(which.unwrap()).unwrap(),
            before: 0,
            after: 1,
        };
        let of = |detail| Event {
            detail,
            ..Event::default()
        };
        let nothing = seen("clean", &[], &[]);
        for left_out in [fuse, register(which)] {
            let other = seen("clean", &[], &[of(left_out)]);
            assert_eq!(nothing.differences("soft", &other, "kvm"), [""; 0]);
        }
        let other = seen("clean", &[], &[of(register(Some(0)))]);
        assert_eq!(nothing.differences("soft", &other, "kvm").len(), 1);
    }

    #[test]
    fn verdicts_and_signatures_must_agree() {
        let one = seen("finding", &["P5 x", "P1 y"], &[]);
        assert_eq!(one.differences("soft", &one, "kvm"), [""; 0]);
        let other = seen("clean", &["P1 y", "P2 z"], &[]);
        assert_eq!(
            one.differences("soft", &other, "kvm"),
            [
                "verdict finding on soft, clean on kvm",
                "on soft alone: P5 x",
                "on kvm alone: P2 z"
            ]
        );
    }
}
