//! What an execution amounts to.
//!
//! A kernel complaint counts only if the control run is silent: the same
//! program with each async call replaced by the plain call in a helper thread.
//! What recurs there is the base kernel's.

use latefork_vmm::machine::{MachineError, Outcome};
use latefork_wire::frame::Flavour;
use latefork_wire::program::Program;
use latefork_wire::trace::Outcome as ProgramOutcome;
use latefork_wire::trace::{AgentFault, Detail, Event};

use crate::complaint::{Complaint, complaints};
use crate::executor::{Ending, Execution, Executor};
use crate::link::LinkError;
use crate::oracle::{self, Violation};

/// What was found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The kernel complained (P12).
    Complaint(Complaint),
    /// The trace shows what must not be.
    Violation(Violation),
    /// The machine ended without a word of the kernel.
    Machine(Outcome),
    /// The agent, which no program may harm, is gone or talks nonsense.
    Agent(LinkError),
    /// The program did not end, even when killed.
    Stuck,
}

impl Finding {
    /// What tells this finding from others.
    pub fn signature(&self) -> String {
        match self {
            Self::Complaint(complaint) => format!("P12 {}", complaint.signature()),
            Self::Violation(violation) => violation.signature(),
            Self::Machine(outcome) => format!("P12 machine {}", outcome.name()),
            Self::Agent(LinkError::Ended | LinkError::Host(_)) => "agent gone".to_owned(),
            Self::Agent(_) => "agent garbled".to_owned(),
            Self::Stuck => "P10 stuck".to_owned(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complaint(complaint) => write!(f, "P12: the kernel says {:?}", complaint.title),
            Self::Violation(violation) => violation.fmt(f),
            Self::Machine(outcome) => write!(f, "P12: the machine ended by {outcome:?}"),
            Self::Agent(error) => write!(f, "{error}"),
            Self::Stuck => write!(f, "P10: the program did not end when it was killed"),
        }
    }
}

/// What an execution amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Clean,
    /// Something is, and it is the call's doing.
    Finding(Vec<Finding>),
    /// The kernel complains without `async` too.
    BaseKernel(Vec<Complaint>),
    /// The agent could not start the program, or lacked what it asked for.
    NotRun(&'static str),
}

/// An execution with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The execution through `async`.
    pub execution: Execution,
    /// What it amounts to.
    pub verdict: Verdict,
}

/// Runs `program` and judges what came of it; runs it again as the control run
/// if the kernel complained.
///
/// # Errors
///
/// The host failed.
pub fn judge(executor: &mut Executor, program: &Program) -> Result<Judged, MachineError> {
    let execution = executor.run(program, Flavour::Async)?;
    let findings = findings(program, &execution);
    if findings.is_empty() {
        let verdict = not_run(&execution).map_or(Verdict::Clean, Verdict::NotRun);
        return Ok(Judged { execution, verdict });
    }
    if findings.iter().any(|f| matches!(f, Finding::Violation(_))) {
        let verdict = Verdict::Finding(findings);
        return Ok(Judged { execution, verdict });
    }
    let control = executor.run(program, Flavour::Control)?;
    let verdict = without_base(findings, &complaints(&control.console));
    Ok(Judged { execution, verdict })
}

/// What is left of `findings` when the control run's complaints are taken away.
fn without_base(findings: Vec<Finding>, base: &[Complaint]) -> Verdict {
    let is_base = |finding: &Finding| match finding {
        Finding::Complaint(complaint) => base.iter().any(|known| known.title == complaint.title),
        // A machine that ended says no more than the complaint before it.
        _ => false,
    };
    let (known, new): (Vec<_>, Vec<_>) = findings.into_iter().partition(is_base);
    if !new.is_empty() {
        return Verdict::Finding(new);
    }
    let complaints = known.into_iter().filter_map(|finding| match finding {
        Finding::Complaint(complaint) => Some(complaint),
        _ => None,
    });
    Verdict::BaseKernel(complaints.collect())
}

/// Everything that is wrong with an execution, before the control run.
pub fn findings(program: &Program, execution: &Execution) -> Vec<Finding> {
    let mut findings: Vec<Finding> = complaints(&execution.console)
        .into_iter()
        .map(Finding::Complaint)
        .collect();
    match &execution.ending {
        Ending::Traced => {
            let violations = oracle::check(program, &execution.events);
            findings.extend(violations.into_iter().map(Finding::Violation));
            if outcome(&execution.events) == Some(ProgramOutcome::Stuck) {
                findings.push(Finding::Stuck);
            }
        }
        // A panic has said why on the console.
        Ending::Machine(Outcome::Panic { .. } | Outcome::Reset { .. }) if !findings.is_empty() => {}
        Ending::Machine(outcome) => findings.push(Finding::Machine(*outcome)),
        Ending::AgentLost(error) => findings.push(Finding::Agent(error.clone())),
        Ending::Refused(_) => {}
    }
    findings
}

fn outcome(events: &[Event]) -> Option<ProgramOutcome> {
    events.iter().rev().find_map(|event| match event.detail {
        Detail::End { outcome, .. } => ProgramOutcome::ALL.get(outcome as usize).copied(),
        _ => None,
    })
}

fn not_run(execution: &Execution) -> Option<&'static str> {
    if let Ending::Refused(_) = execution.ending {
        return Some("the agent refused the program");
    }
    if outcome(&execution.events) == Some(ProgramOutcome::NotStarted) {
        return Some("the agent could not start the program");
    }
    execution
        .events
        .iter()
        .find_map(|event| match event.detail {
            Detail::AgentError { code, .. } if code == AgentFault::Unsupported as u32 => {
                Some("the kernel lacks what the program asks for")
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests;
