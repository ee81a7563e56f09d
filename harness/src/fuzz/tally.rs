//! What a fuzz target has seen: verdicts, findings with the time to each, and
//! the exits of `copy_process()` that its failed clones took.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use latefork_vmm::layout::COVERAGE_EVENTS_SIZE;

use super::{CloneExits, Place};
use crate::verdict::Judged;

/// Whether a finding was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is in the flavour's list.
    Known,
    /// It is not, and this is the first of its kind.
    First,
    /// It is not, and there was one like it.
    Again,
}

/// When a finding came up first, and how often it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    count: u64,
    after: Duration,
    programs: u64,
}

/// What was seen so far.
#[derive(Debug)]
pub struct Tally {
    known: BTreeSet<String>,
    started: Instant,
    programs: u64,
    verdicts: BTreeMap<&'static str, u64>,
    findings: BTreeMap<String, Seen>,
    exits: CloneExits,
}

impl Tally {
    pub(super) fn new(known: BTreeSet<String>) -> Self {
        Self {
            known,
            started: Instant::now(),
            programs: 0,
            verdicts: BTreeMap::new(),
            findings: BTreeMap::new(),
            exits: CloneExits::default(),
        }
    }

    /// Programs that ran.
    pub fn programs(&self) -> u64 {
        self.programs
    }

    /// Since the target began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How the clones of all calls went.
    pub fn exits(&self) -> &CloneExits {
        &self.exits
    }

    pub(super) fn count(&mut self, judged: &Judged, events: &[u8; COVERAGE_EVENTS_SIZE]) {
        self.programs += 1;
        *self.verdicts.entry(judged.verdict.name()).or_default() += 1;
        self.exits.count(events);
    }

    pub(super) fn note(&mut self, signature: &str) -> News {
        let first = !self.findings.contains_key(signature);
        let seen = self.findings.entry(signature.to_owned()).or_insert(Seen {
            count: 0,
            after: self.started.elapsed(),
            programs: self.programs,
        });
        seen.count += 1;
        match (self.known.contains(signature), first) {
            (true, _) => News::Known,
            (false, true) => News::First,
            (false, false) => News::Again,
        }
    }

    /// One line about the finding of this signature.
    pub(super) fn line(&self, signature: &str) -> String {
        let Some(seen) = self.findings.get(signature) else {
            return format!("latefork: not seen: {signature}");
        };
        let known = match self.known.contains(signature) {
            true => "known finding",
            false => "finding",
        };
        format!(
            "latefork: {known}, first after {:.1} s and {} programs, {} in all: {signature}",
            seen.after.as_secs_f64(),
            seen.programs,
            seen.count,
        )
    }

    /// Some lines for the end of a run; none where nothing ran.
    pub(super) fn summary(&self, target: &str, place: &Place) -> String {
        let mut text = String::new();
        if self.programs == 0 {
            return text;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let _ = write!(
            text,
            "latefork: {target} on {}: {} programs in {seconds:.0} s",
            place.name(),
            self.programs
        );
        for (verdict, count) in &self.verdicts {
            let _ = write!(text, ", {count} {verdict}");
        }
        text.push('\n');
        for signature in self.findings.keys() {
            let _ = writeln!(text, "{}", self.line(signature));
        }
        if target == "clone_failure" {
            let _ = write!(text, "{}", self.exits);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_findings_are_counted_and_others_are_new_once() {
        let mut tally = Tally::new(BTreeSet::from(["P5 second-continuation async".to_owned()]));
        assert_eq!(tally.note("P5 second-continuation async"), News::Known);
        assert_eq!(tally.note("P5 second-continuation"), News::First);
        assert_eq!(tally.note("P5 second-continuation"), News::Again);
        assert_eq!(tally.note("P5 second-continuation async"), News::Known);
        let line = tally.line("P5 second-continuation async");
        assert!(line.starts_with("latefork: known finding, first after "));
        assert!(line.ends_with(" 0 programs, 2 in all: P5 second-continuation async"));
    }
}
