//! The oracles: which outcomes a program allows (the properties of the call's
//! specification).
//!
//! An oracle reads the program and its trace, and says what no kernel with the
//! call's semantics could have done. Where the trace does not tell enough, it
//! says nothing: a violation must hold without any doubt.

mod cells;
mod facts;
mod fault;
mod journal;
mod p1;
mod p10;
mod p11;
pub mod p12;
mod p13;
mod p2;
mod p3;
mod p4;
mod p5;
mod p6;
mod p7;
mod p8;
mod p9;
pub mod twin;

use std::fmt;

use latefork_wire::program::Program;
use latefork_wire::trace::{Event, NO_OP};

pub use self::fault::Fault;
pub use self::journal::{Issue, Journal};

/// What user space may rely on, by the numbers of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// `async` returns 0, -EINVAL or -EFAULT, exactly by the rules.
    ReturnValue,
    /// On an error, status and result buffer are untouched.
    UntouchedOnError,
    /// One final status, from the set that the model allows.
    Status,
    /// The whole result is there before the status.
    ResultFirst,
    /// Exactly one continuation.
    OneContinuation,
    /// The continuation is the same as its caller, but for documented losses.
    SameTask,
    /// A failed clone leaves a synchronous call and nothing else.
    FailedClone,
    /// Live tasks are continuations and unfinished calls; nothing leaks.
    NothingLeft,
    /// A worker never runs user code.
    WorkerStaysInKernel,
    /// What ends the process ends every worker.
    EndsAll,
    /// Signals reach a thread that can handle them, each as often as due.
    Signals,
    /// The kernel reads user memory once where once was meant. What it says of
    /// itself is the complaints' business.
    KernelHealth,
    /// The parent sees the continuation's exit status.
    ExitStatus,
}

impl Property {
    /// The specification's number: `P1` and so on.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReturnValue => "P1",
            Self::UntouchedOnError => "P2",
            Self::Status => "P3",
            Self::ResultFirst => "P4",
            Self::OneContinuation => "P5",
            Self::SameTask => "P6",
            Self::FailedClone => "P7",
            Self::NothingLeft => "P8",
            Self::WorkerStaysInKernel => "P9",
            Self::EndsAll => "P10",
            Self::Signals => "P11",
            Self::KernelHealth => "P12",
            Self::ExitStatus => "P13",
        }
    }
}

/// What was violated, and by which call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub property: Property,
    /// The operation's number in the program; [`NO_OP`] where it is about the
    /// whole process.
    pub op: u8,
    /// The called function, by its name in the descriptor table (its index
    /// where it has none); for what is no call's doing, what it is about.
    pub function: String,
    /// What happened.
    pub fault: Fault,
}

impl Violation {
    /// What tells this violation from others.
    pub fn signature(&self) -> String {
        format!(
            "{} {} {}",
            self.property.name(),
            self.fault.name(),
            self.function
        )
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (property, function, fault) = (self.property.name(), &self.function, &self.fault);
        match self.op {
            NO_OP => write!(f, "{property}: {function}: {fault}"),
            op => write!(f, "{property}: operation {op} ({function}) {fault}"),
        }
    }
}

/// All violations that the trace shows, in the order of the properties.
pub fn check(program: &Program, events: &[Event]) -> Vec<Violation> {
    let journal = Journal::new(program, events);
    if journal.is_control() {
        return Vec::new();
    }
    let checks: [fn(&Journal<'_>) -> Vec<Violation>; 12] = [
        p1::check,
        p2::check,
        p3::check,
        p4::check,
        p5::check,
        p6::check,
        p7::check,
        p8::check,
        p9::check,
        p10::check,
        p11::check,
        p13::check,
    ];
    checks.iter().flat_map(|check| check(&journal)).collect()
}

#[cfg(test)]
mod tests;
