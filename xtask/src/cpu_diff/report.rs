//! Counts of a comparison and the cases that differ.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use iced_x86::Code;
use serde::Serialize;

use super::codes;
use super::compare::Verdict;
use super::encode::Encoding;
use super::wire::Case;
use super::x87;

/// What a case is counted under.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Subject {
    /// An instruction of the allow-list.
    Code(Code),
    /// Random bytes: mostly invalid instructions.
    RandomBytes,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => f.write_str(&super::name_of(*code)),
            Self::RandomBytes => f.write_str("random"),
        }
    }
}

/// The counts of one subject.
#[derive(Debug, Default, Serialize)]
struct Counts {
    cases: u64,
    same: u64,
    explained: u64,
    different: u64,
    examples: Vec<Example>,
}

/// A case that differs without an explanation.
#[derive(Debug, Serialize)]
struct Example {
    instruction: String,
    bytes: String,
    state: String,
    differences: Vec<String>,
}

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seed: u64,
    cases: u64,
    fewest: u64,
    different: u64,
    explanations: BTreeMap<&'static str, u64>,
    left_out: BTreeMap<String, &'static str>,
    subjects: BTreeMap<String, Counts>,
}

impl Report {
    /// An empty report over `subjects`.
    pub(crate) fn new(seed: u64, subjects: &[Subject]) -> Self {
        Self {
            seed,
            cases: 0,
            fewest: 0,
            different: 0,
            explanations: BTreeMap::new(),
            left_out: codes::excluded_codes()
                .into_iter()
                .map(|(code, reason)| (super::name_of(code), reason))
                .collect(),
            subjects: subjects
                .iter()
                .map(|subject| (subject.to_string(), Counts::default()))
                .collect(),
        }
    }

    /// Counts a case.
    pub(crate) fn count(&mut self, subject: Subject, verdict: &Verdict) {
        self.cases += 1;
        let counts = self.subjects.entry(subject.to_string()).or_default();
        counts.cases += 1;
        match verdict {
            Verdict::Same => counts.same += 1,
            Verdict::Explained(names) => {
                counts.explained += 1;
                for name in names {
                    *self.explanations.entry(name).or_default() += 1;
                }
            }
            Verdict::Different => {
                counts.different += 1;
                self.different += 1;
            }
        }
    }

    /// How many examples of `subject` are kept already.
    pub(crate) fn examples(&self, subject: Subject) -> usize {
        let counts = self.subjects.get(&subject.to_string());
        counts.map_or(0, |counts| counts.examples.len())
    }

    /// Keeps a differing case.
    pub(crate) fn add_example(
        &mut self,
        subject: Subject,
        case: &Case,
        encoding: &Encoding,
        differences: Vec<String>,
    ) {
        let counts = self.subjects.entry(subject.to_string()).or_default();
        counts.examples.push(Example {
            instruction: encoding.instruction.to_string(),
            bytes: x87::hex_in_order(&case.code),
            state: state(case),
            differences,
        });
    }

    /// Cases that differ without an explanation.
    pub(crate) fn differences(&self) -> u64 {
        self.different
    }

    /// Subjects without any case.
    pub(crate) fn never_ran(&self) -> Vec<&str> {
        let empty = self.subjects.iter().filter(|(_, counts)| counts.cases == 0);
        empty.map(|(name, _)| name.as_str()).collect()
    }

    /// Prints the report to standard output.
    pub(crate) fn print(&mut self, json: bool) -> Result<()> {
        let counts = self.subjects.values().map(|counts| counts.cases);
        self.fewest = counts.min().unwrap_or(0);
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        for (name, counts) in &self.subjects {
            if counts.different > 0 {
                println!("{name}: {} of {} differ", counts.different, counts.cases);
            }
            for example in &counts.examples {
                println!("  {} ({})", example.instruction, example.bytes);
                println!("    from {}", example.state);
                for difference in &example.differences {
                    println!("    {difference}");
                }
            }
        }
        for (name, reason) in &self.left_out {
            println!("left out: {name}: {reason}");
        }
        for (name, count) in &self.explanations {
            println!("explained: {count} times: {name}");
        }
        let differing = self.subjects.values().filter(|counts| counts.different > 0);
        println!(
            "{} cases of {} instructions, at least {} of each (seed {}): {} differ, in {} instructions",
            self.cases,
            self.subjects.len(),
            self.fewest,
            self.seed,
            self.different,
            differing.count(),
        );
        Ok(())
    }
}

fn state(case: &Case) -> String {
    let r = &case.registers;
    let names = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
    let mut text: Vec<String> = names
        .iter()
        .zip(r.gpr)
        .map(|(name, value)| format!("{name}={value:x}"))
        .collect();
    text.push(format!("eip={:x} eflags={:x}", r.eip, r.eflags));
    text.push(format!("segments={:x?}", r.segments));
    if case.single_step {
        text.push("single-stepped".to_owned());
    }
    for (name, range) in x87::fields() {
        let bytes = &case.fx[range];
        if bytes.iter().any(|&byte| byte != 0) {
            text.push(format!("{name}={}", x87::hex(bytes)));
        }
    }
    text.join(" ")
}
