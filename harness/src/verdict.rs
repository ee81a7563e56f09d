//! What an execution amounts to.
//!
//! What the kernel or the machine does counts only if the control run does not
//! do it: the same program with each async call replaced by the plain call in a
//! helper thread. What recurs there is the base kernel's. What an oracle says of
//! a trace needs no control run: it is about `async` alone.
//!
//! A machine that ran out of memory proves little: what its program asked for is
//! no finding, and traces from there are not judged.

mod weigh;

use latefork_vmm::engine::EngineKind;
use latefork_vmm::machine::{MachineError, Outcome};
use latefork_wire::frame::Flavour;
use latefork_wire::program::Program;
use latefork_wire::trace::Outcome as ProgramOutcome;
use latefork_wire::trace::{AgentFault, Detail, Event};

use crate::complaint::{Complaint, complaints};
use crate::executor::{Ending, Execution, Executor, Watching};
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
    /// The program did not end, and consists of what ends.
    Hang,
    /// The machine ran out of memory for a program that asks for little.
    OutOfMemory,
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
            Self::Hang => "P12 hang".to_owned(),
            Self::OutOfMemory => "P12 out-of-memory".to_owned(),
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
            Self::Hang => write!(f, "P12: a program that should end did not"),
            Self::OutOfMemory => {
                write!(f, "P12: out of memory, for a program that asks for little")
            }
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
    /// The same happens without `async` too.
    BaseKernel(Vec<Finding>),
    /// The program asked for more memory than the machine has.
    Resource(&'static str),
    /// This run does not tell; on the software engine it would.
    Inconclusive(&'static str),
    /// The agent could not start the program, or lacked what it asked for.
    NotRun(&'static str),
}

impl Verdict {
    /// The name in reports and records.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Finding(_) => "finding",
            Self::BaseKernel(_) => "base-kernel",
            Self::Resource(_) => "resource",
            Self::Inconclusive(_) => "inconclusive",
            Self::NotRun(_) => "not-run",
        }
    }

    /// What was found, the base kernel's included.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Finding(findings) | Self::BaseKernel(findings) => findings,
            _ => &[],
        }
    }

    /// Why it is no more than this, where something can be said.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Resource(why) | Self::Inconclusive(why) | Self::NotRun(why) => Some(why),
            Self::Clean | Self::Finding(_) | Self::BaseKernel(_) => None,
        }
    }
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
/// where that decides.
///
/// # Errors
///
/// The host failed.
pub fn judge(executor: &mut Executor, program: &Program) -> Result<Judged, MachineError> {
    let engine = executor.machine().engine().kind();
    let mut execution = executor.run(program, Flavour::Async)?;
    if engine == EngineKind::Kvm {
        execution.events.retain(|event| !event.is_lost_register());
    }
    let mut findings = findings(program, &execution);
    if findings.iter().all(is_budget)
        && let Some(why) = inconclusive(engine, &execution.ending)
    {
        let verdict = Verdict::Inconclusive(why);
        return Ok(Judged { execution, verdict });
    }
    if weigh::is_hang(program, &execution) {
        findings.push(Finding::Hang);
    }
    let starved = weigh::ran_out_of_memory(&execution.console);
    if findings.is_empty() && !starved {
        let verdict = not_run(&execution).map_or(Verdict::Clean, Verdict::NotRun);
        return Ok(Judged { execution, verdict });
    }
    if !starved && findings.iter().all(|f| matches!(f, Finding::Violation(_))) {
        let verdict = Verdict::Finding(findings);
        return Ok(Judged { execution, verdict });
    }
    let control = executor.run(program, Flavour::Control)?;
    let verdict = match starved {
        true => weigh::starved(program, findings, &control),
        false => weigh::without_base(program, findings, &control),
    };
    Ok(Judged { execution, verdict })
}

/// As [`judge`], and looks closer at what is clean: compares it with its control
/// run, for what the model alone cannot know. Twice the time.
///
/// # Errors
///
/// The host failed.
pub fn judge_against_twin(
    executor: &mut Executor,
    program: &Program,
) -> Result<Judged, MachineError> {
    look_closer(executor, program, Watching::Nothing)
}

/// As [`judge_against_twin`], and on the software engine watches which cells the
/// kernel reads and writes. Three times the time.
///
/// # Errors
///
/// The host failed.
pub fn judge_with_twin(executor: &mut Executor, program: &Program) -> Result<Judged, MachineError> {
    let watching = match executor.machine().engine().kind() {
        EngineKind::Soft => Watching::Cells,
        EngineKind::Kvm => Watching::Nothing,
    };
    look_closer(executor, program, watching)
}

fn look_closer(
    executor: &mut Executor,
    program: &Program,
    watching: Watching,
) -> Result<Judged, MachineError> {
    let judged = judge(executor, program)?;
    if judged.verdict != Verdict::Clean {
        return Ok(judged);
    }
    let control = executor.run(program, Flavour::Control)?;
    let mut violations = oracle::twin::check(program, &judged.execution.events, &control.events);
    if watching == Watching::Cells {
        let (watched, accesses) = executor.run_watched(program)?;
        violations.extend(oracle::p12::check(program, &watched.events, &accesses));
    }
    if violations.is_empty() {
        return Ok(judged);
    }
    let findings = violations.into_iter().map(Finding::Violation).collect();
    Ok(Judged {
        verdict: Verdict::Finding(findings),
        ..judged
    })
}

fn is_budget(finding: &Finding) -> bool {
    matches!(finding, Finding::Machine(outcome) if is_spent(*outcome))
}

/// Whether a limit of the host's ended the run, not the guest.
fn is_spent(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Budget | Outcome::TimeUp | Outcome::HostSlow
    )
}

/// Why a run that spent its budget says nothing. On the software engine it does:
/// there the budget is counted in the guest's own instructions and time.
fn inconclusive(engine: EngineKind, ending: &Ending) -> Option<&'static str> {
    match (engine, ending) {
        (_, Ending::Machine(Outcome::HostSlow)) => Some("the host's clock ran out"),
        (EngineKind::Kvm, Ending::Machine(outcome)) if is_spent(*outcome) => {
            Some("the budget is spent; only the software engine counts it")
        }
        _ => None,
    }
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
