//! The oracles: which outcomes a program allows (the properties of the call's
//! specification).
//!
//! An oracle reads the program and its trace, and says what no kernel with the
//! call's semantics could have done. Where the trace does not tell enough, it
//! says nothing: a violation must hold without any doubt.

mod cells;
mod journal;
mod p1;
mod p2;
mod p5;

use std::fmt;

use latefork_wire::program::Program;
use latefork_wire::trace::Event;

pub use self::journal::{Issue, Journal};

/// What user space may rely on, by the numbers of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// `async` returns 0, -EINVAL or -EFAULT, exactly by the rules.
    ReturnValue,
    /// On an error, status and result buffer are untouched.
    UntouchedOnError,
    /// Exactly one continuation.
    OneContinuation,
}

impl Property {
    /// The specification's number: `P1` and so on.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReturnValue => "P1",
            Self::UntouchedOnError => "P2",
            Self::OneContinuation => "P5",
        }
    }
}

/// What was violated, and by which call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub property: Property,
    /// The operation's number in the program.
    pub op: u8,
    /// The called function, by its name in the descriptor table; its index
    /// where it has none.
    pub function: String,
    /// What happened.
    pub fault: Fault,
}

/// What a kernel did that it must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A value that `async` never returns.
    StrangeValue {
        /// The value.
        value: i32,
    },
    /// Another value than the rules ask for.
    WrongValue {
        /// The value.
        value: i32,
        /// What the rules ask for.
        wanted: i32,
    },
    /// The status was written though the call was refused.
    StatusWritten {
        /// What it holds.
        status: u32,
    },
    /// The result buffer was written though the call was refused.
    BufferWritten,
    /// Bytes around the status, the arguments or the buffer were written.
    CanaryDamaged {
        /// Which, as in the trace.
        canaries: u32,
    },
    /// More than one task came back from one call.
    Continuations {
        /// How many.
        count: u32,
    },
    /// A call that cannot wait for anything never came back.
    NoContinuation,
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

impl Fault {
    /// A word for signatures.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::StrangeValue { .. } => "strange-value",
            Self::WrongValue { .. } => "wrong-value",
            Self::StatusWritten { .. } => "status-written",
            Self::BufferWritten => "buffer-written",
            Self::CanaryDamaged { .. } => "canary-damaged",
            Self::Continuations { .. } => "second-continuation",
            Self::NoContinuation => "no-continuation",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (property, op, function) = (self.property.name(), self.op, &self.function);
        write!(f, "{property}: operation {op} ({function}) ")?;
        match self.fault {
            Fault::StrangeValue { value } => {
                write!(f, "returned {value}, which async never returns")
            }
            Fault::WrongValue { value, wanted } => {
                write!(f, "returned {value} where the rules ask for {wanted}")
            }
            Fault::StatusWritten { status } => {
                write!(f, "was refused and yet wrote {status:#x} to its status")
            }
            Fault::BufferWritten => write!(f, "was refused and yet wrote to its result buffer"),
            Fault::CanaryDamaged { canaries } => {
                write!(
                    f,
                    "was refused and yet wrote beside its cells (canaries {canaries:#x})"
                )
            }
            Fault::Continuations { count } => write!(f, "came back {count} times"),
            Fault::NoContinuation => write!(f, "never came back, and has nothing to wait for"),
        }
    }
}

/// All violations that the trace shows, in the order of the properties.
pub fn check(program: &Program, events: &[Event]) -> Vec<Violation> {
    let journal = Journal::new(program, events);
    if journal.is_control() {
        return Vec::new();
    }
    let mut violations = p1::check(&journal);
    violations.extend(p2::check(&journal));
    violations.extend(p5::check(&journal));
    violations
}

#[cfg(test)]
mod tests;
