//! What is recorded of a program, against what a run gave.

use latefork_harness::replay::regression::Expected;
use latefork_harness::replay::{Outcome, Sidecar};

use crate::lab::Station;

/// What a run is compared with.
pub(super) enum Check {
    /// Everything, as recorded on the same image.
    Run(Box<Sidecar>),
    /// Verdict and signatures.
    Header(Expected),
    /// That there is no finding.
    NoFinding,
    /// Nothing is recorded.
    Nothing,
}

impl Check {
    /// Compares; whether there was something to compare with.
    pub(super) fn apply(
        &self,
        station: &Station,
        outcome: &Outcome,
        differences: &mut Vec<String>,
        notes: &mut Vec<String>,
    ) -> bool {
        match self {
            Self::Run(sidecar) => {
                compare_run(sidecar, station, outcome, differences, notes);
                true
            }
            Self::Header(expected) => {
                if !expected.is_met(outcome) {
                    differences.extend(unlike(&expected.verdict, &expected.signatures, outcome));
                }
                true
            }
            Self::NoFinding => {
                if outcome.verdict == "finding" {
                    differences.push("a seed has no finding on hardened".to_owned());
                }
                true
            }
            Self::Nothing => false,
        }
    }
}

fn compare_run(
    sidecar: &Sidecar,
    station: &Station,
    outcome: &Outcome,
    differences: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let recorded = &sidecar.outcome;
    if !recorded.agrees(outcome) {
        differences.extend(unlike(&recorded.verdict, &recorded.signatures, outcome));
    }
    let (then, now) = (&sidecar.setting, &station.setting);
    let not_compared = "so instruction count and memory hash are not compared";
    if then.engine != now.engine {
        notes.push(format!(
            "recorded on {}, run on {}, {not_compared}",
            then.engine, now.engine
        ));
    } else if then.image != now.image {
        notes.push(format!(
            "recorded on image {}, run on {}, {not_compared}",
            then.image, now.image
        ));
    } else {
        if recorded.instructions != outcome.instructions {
            differences.push(format!("recorded {} instructions", recorded.instructions));
        }
        if recorded.memory_hash != outcome.memory_hash {
            differences.push(format!("recorded memory {}", recorded.memory_hash));
        }
    }
}

/// What verdict and signatures have and lack.
fn unlike(verdict: &str, signatures: &[String], outcome: &Outcome) -> Vec<String> {
    let mut differences = Vec::new();
    if verdict != outcome.verdict {
        differences.push(format!("recorded verdict {verdict}"));
    }
    let lacks = |signature: &&String| !outcome.signatures.contains(signature);
    let is_new = |signature: &&String| !signatures.contains(signature);
    let missing = signatures.iter().filter(lacks);
    differences.extend(missing.map(|signature| format!("recorded, not seen: {signature}")));
    let new = outcome.signatures.iter().filter(is_new);
    differences.extend(new.map(|signature| format!("seen, not recorded: {signature}")));
    if differences.is_empty() {
        differences.push("recorded the same signatures in another order".to_owned());
    }
    differences
}
