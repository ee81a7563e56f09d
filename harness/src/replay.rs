//! Running a program again: what is recorded of a run, and whether another run
//! gives the same.
//!
//! On the software engine a program gives the same verdict, the same
//! signatures, the same number of instructions and the same machine, bit for
//! bit, whenever and wherever it runs on the same image. A [`Sidecar`] beside a
//! kept program records that; the header of a [`regression`] says what any
//! image of a flavour must give.

pub mod artifact;
pub mod regression;
pub mod sidecar;

use latefork_vmm::machine::MachineError;
use latefork_wire::frame::Flavour;
use latefork_wire::program::Program;
use serde::{Deserialize, Serialize};

use crate::executor::{Execution, Executor};
use crate::verdict::{Finding, Verdict, judge_with_twin};

pub use self::artifact::{Artifact, ArtifactError, Record};
pub use self::sidecar::{Setting, Sidecar};

/// What came of a program, as far as it must come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The verdict's name.
    pub verdict: String,
    /// Signatures of what was found, each once, in order.
    pub signatures: Vec<String>,
    /// Instructions retired by the run through `async`.
    pub instructions: u64,
    /// Hash of the whole machine after that run: 16 hexadecimal digits.
    pub memory_hash: String,
}

impl Outcome {
    /// Whether verdict and signatures are the same: all that another image or
    /// engine can be held to.
    pub fn agrees(&self, other: &Self) -> bool {
        self.verdict == other.verdict && self.signatures == other.signatures
    }
}

/// A run with all that can be said of it.
#[derive(Clone, Debug)]
pub struct Replay {
    /// What must come again.
    pub outcome: Outcome,
    /// The verdict.
    pub verdict: Verdict,
    /// The run through `async`.
    pub execution: Execution,
}

/// Runs and judges `program`, with its control run wherever that can tell more.
///
/// # Errors
///
/// The host failed.
pub fn replay(executor: &mut Executor, program: &Program) -> Result<Replay, MachineError> {
    let judged = judge_with_twin(executor, program)?;
    // The judge may have left the machine behind a control run.
    let execution = executor.run(program, Flavour::Async)?;
    let hash = executor.hash()?;
    Ok(Replay {
        outcome: Outcome {
            verdict: judged.verdict.name().to_owned(),
            signatures: signatures(judged.verdict.findings()),
            instructions: execution.instructions,
            memory_hash: format!("{hash:016x}"),
        },
        verdict: judged.verdict,
        execution,
    })
}

/// The signatures of `findings`, each once, in order.
pub fn signatures(findings: &[Finding]) -> Vec<String> {
    let mut signatures: Vec<String> = Vec::new();
    for finding in findings {
        let signature = finding.signature();
        if !signatures.contains(&signature) {
            signatures.push(signature);
        }
    }
    signatures
}
