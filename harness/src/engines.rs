//! One program on two engines: what must be the same, and what is not.
//!
//! Both run the same machine from the same template, so verdict and signatures
//! are the same, and so is the trace but for what [`VARYING`] names (ids, times,
//! addresses) and for its order between threads: where nothing in the program
//! decides it, the engines' clocks do. What the kernel reads and writes in a
//! call's cells is seen by the software engine alone, and left out here.
//!
//! [`VARYING`]: latefork_wire::trace::VARYING

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use latefork_vmm::machine::MachineError;
use latefork_wire::program::Program;
use latefork_wire::trace::Event;
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
    /// The trace, one line an event, without what varies: by the thread that
    /// reports, 255 for the agent.
    pub trace: BTreeMap<u8, Vec<String>>,
}

impl Seen {
    /// What `judged` shows.
    pub fn new(judged: &Judged) -> Self {
        Self {
            verdict: judged.verdict.name().to_owned(),
            signatures: signatures(judged.verdict.findings()),
            trace: by_thread(&judged.execution.events),
        }
    }

    /// Where `other`, of engine `theirs`, differs from this, of engine `ours`:
    /// one line each, nothing where they agree.
    pub fn differences(&self, ours: &str, other: &Self, theirs: &str) -> Vec<String> {
        let mut differences = self.verdict_differences(ours, other, theirs);
        let threads = self.trace.keys().chain(other.trace.keys());
        let threads: BTreeSet<u8> = threads.copied().collect();
        let none = Vec::new();
        for thread in threads {
            let of = |seen: &Self| seen.trace.get(&thread).unwrap_or(&none).clone();
            let (mine, others) = (of(self), of(other));
            let longest = mine.len().max(others.len());
            let first = (0..longest).find(|&at| mine.get(at) != others.get(at));
            if let Some(at) = first {
                let show = |lines: &[String]| {
                    lines
                        .get(at)
                        .map_or_else(|| "nothing".to_owned(), |line| format!("`{line}`"))
                };
                let who = match thread {
                    u8::MAX => "the agent".to_owned(),
                    number => format!("thread {number}"),
                };
                differences.push(format!(
                    "trace of {who}, event {at}: {} on {ours}, {} on {theirs}",
                    show(&mine),
                    show(&others)
                ));
            }
        }
        differences
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

fn by_thread(events: &[Event]) -> BTreeMap<u8, Vec<String>> {
    let mut trace: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for event in events {
        trace.entry(event.thread).or_default().push(line(event));
    }
    trace
}

/// An event without what may differ between engines.
fn line(event: &Event) -> String {
    let mut line = event.detail.word().to_owned();
    for name in ["op"].iter().chain(event.detail.fields()) {
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
    use latefork_wire::trace::Detail;

    use super::*;

    fn event(thread: u8, tid: u32, detail: Detail) -> Event {
        Event {
            thread,
            tid,
            detail,
            ..Event::default()
        }
    }

    fn seen(verdict: &str, signatures: &[&str], events: &[Event]) -> Seen {
        Seen {
            verdict: verdict.to_owned(),
            signatures: signatures.iter().map(ToString::to_string).collect(),
            trace: by_thread(events),
        }
    }

    #[test]
    fn ids_and_the_order_between_threads_may_differ() {
        let job = |thread, tid, status| {
            let detail = Detail::Job {
                pid: tid,
                status,
                tasks: 2,
                stopped: 0,
            };
            event(thread, tid, detail)
        };
        let one = seen("clean", &[], &[job(0, 10, 1), job(1, 11, 2), job(0, 12, 3)]);
        let other = seen("clean", &[], &[job(0, 30, 1), job(0, 32, 3), job(1, 31, 2)]);
        assert_eq!(one.differences("soft", &other, "kvm"), [""; 0]);
        let other = seen("clean", &[], &[job(0, 10, 3), job(1, 11, 2), job(0, 12, 1)]);
        let found = one.differences("soft", &other, "kvm");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("trace of thread 0, event 0: `job "),
            "{found:?}"
        );
        let shorter = seen("clean", &[], &[job(0, 10, 1), job(0, 12, 3)]);
        let found = one.differences("soft", &shorter, "kvm");
        assert!(found[0].ends_with("nothing on kvm"), "{found:?}");
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
