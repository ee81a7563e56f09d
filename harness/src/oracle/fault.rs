//! What a kernel can do that it must not, in words.

use std::borrow::Cow;
use std::fmt;

use latefork_wire::op::Row;
use latefork_wire::trace::REGISTERS;

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
    /// A restart code of the kernel's own (-512 to -530) became a status.
    RestartCode {
        /// The status.
        status: i32,
    },
    /// A status that the called function never gives for such arguments.
    StrangeStatus {
        /// The status.
        status: i32,
    },
    /// The same plain call gave another status or another result.
    TwinDiffers {
        /// The status through `async`.
        status: i32,
        /// What the plain call returned.
        plain: i32,
    },
    /// The status was written more than once.
    SecondStatus {
        /// How often it was seen to change.
        changes: u32,
    },
    /// The kernel read a word of the argument block more than once.
    DoubleRead {
        /// Which.
        word: u8,
        /// How often.
        times: u32,
    },
    /// A call that ended in its own task left no status.
    StatusMissing,
    /// The worker is gone, the status never came.
    StatusLost,
    /// The result buffer changed after the status was there.
    ResultAfterStatus,
    /// More than one task came back from one call.
    Continuations {
        /// How many.
        count: u32,
    },
    /// A call that cannot wait for anything never came back.
    NoContinuation,
    /// A register came back with another value.
    Register {
        /// An index into [`REGISTERS`].
        which: u32,
        /// What it held.
        before: u32,
        /// What it holds.
        after: u32,
    },
    /// A row of the per-task table came back with another value.
    RowChanged {
        /// Which.
        row: Row,
        /// What it held.
        before: u32,
        /// What it holds.
        after: u32,
    },
    /// A refused call came back in another thread.
    RefusedAndForked,
    /// The call forked where no clone can succeed.
    ForkedPastLimit,
    /// The call forked after a clone of its had failed.
    ForkedAfterFailure {
        /// The step of `copy_process` at which it failed.
        step: u32,
    },
    /// A clone failed, and the call came back without its status.
    FailedWithoutStatus {
        /// The step of `copy_process` at which it failed.
        step: u32,
    },
    /// After failed clones fewer, or more, ordinary ones fit than before.
    LeftBehind {
        /// How many fitted before.
        before: u32,
        /// How many fit after.
        after: u32,
    },
    /// More tasks live than continuations and unfinished calls explain.
    ExtraTasks {
        /// How many live.
        tasks: u32,
        /// How many may.
        explained: u32,
    },
    /// A thread of the program has no task, though nothing ended it.
    ContinuationGone {
        /// The thread id that it had last.
        tid: u32,
    },
    /// A counter of the machine grows with every repetition.
    Leak {
        /// Which counter, as in the trace.
        what: u32,
        /// By how much in the last repetitions.
        by: u32,
    },
    /// A worker made or ended a call in user space.
    WorkerInUserSpace {
        /// Its thread id.
        tid: u32,
    },
    /// A worker ran a signal handler.
    HandlerInWorker {
        /// The signal.
        sig: u32,
    },
    /// A process was still there when the victim and its children had ended.
    Survivor {
        /// Its process id.
        pid: u32,
        /// Its tasks.
        tasks: u32,
    },
    /// The process went on after a thread of it called exit_group.
    OutlivedExitGroup,
    /// Tasks stayed stopped when their process was continued.
    StayedStopped {
        /// How many.
        stopped: u32,
    },
    /// Other tasks of the process outlived an execve.
    SurvivedExec {
        /// Tasks in the group of the new image.
        tasks: u32,
    },
    /// A signal's handler did not run for every signal sent.
    SignalLost {
        /// Runs that were due.
        due: u32,
        /// Runs that were seen.
        seen: u32,
    },
    /// A signal's handler ran more often than the signal was sent.
    SignalRepeated {
        /// How often it was sent.
        sent: u32,
        /// Runs that were seen.
        seen: u32,
    },
    /// The parent saw another exit status than the continuation's.
    WrongExit {
        /// The wait status.
        status: u32,
        /// The one that the continuation gave.
        wanted: u32,
    },
    /// The process ended though no thread of the program asked for it.
    EndedEarly {
        /// The wait status.
        status: u32,
    },
    /// The process was still there when every thread of the program had exited.
    OutlivedProgram,
}

impl Fault {
    /// A word for signatures.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::StrangeValue { .. } => "strange-value",
            Self::WrongValue { .. } => "wrong-value",
            Self::StatusWritten { .. } => "status-written",
            Self::BufferWritten => "buffer-written",
            Self::CanaryDamaged { .. } => "canary-damaged",
            Self::RestartCode { .. } => "restart-code",
            Self::StrangeStatus { .. } => "strange-status",
            Self::TwinDiffers { .. } => "twin-differs",
            Self::SecondStatus { .. } => "second-status",
            Self::DoubleRead { .. } => "double-read",
            Self::StatusMissing => "status-missing",
            Self::StatusLost => "status-lost",
            Self::ResultAfterStatus => "result-after-status",
            Self::Continuations { .. } => "second-continuation",
            Self::NoContinuation => "no-continuation",
            Self::Register { which, .. } => {
                return Cow::Owned(format!("register-{}", register(*which)));
            }
            Self::RowChanged { row, .. } => return Cow::Owned(format!("row-{}", row.word())),
            Self::RefusedAndForked => "refused-and-forked",
            Self::ForkedPastLimit => "forked-past-limit",
            Self::ForkedAfterFailure { .. } => "forked-after-failure",
            Self::FailedWithoutStatus { .. } => "failed-without-status",
            Self::LeftBehind { .. } => "left-behind",
            Self::ExtraTasks { .. } => "extra-tasks",
            Self::ContinuationGone { .. } => "continuation-gone",
            Self::Leak { what, .. } => return Cow::Owned(format!("leak-{}", counter(*what))),
            Self::WorkerInUserSpace { .. } => "worker-in-user-space",
            Self::HandlerInWorker { .. } => "handler-in-worker",
            Self::Survivor { .. } => "survivor",
            Self::OutlivedExitGroup => "outlived-exit-group",
            Self::StayedStopped { .. } => "stayed-stopped",
            Self::SurvivedExec { .. } => "survived-exec",
            Self::SignalLost { .. } => "signal-lost",
            Self::SignalRepeated { .. } => "signal-repeated",
            Self::WrongExit { .. } => "wrong-exit",
            Self::EndedEarly { .. } => "ended-early",
            Self::OutlivedProgram => "outlived-program",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::StrangeValue { value } => {
                write!(f, "returned {value}, which async never returns")
            }
            Self::WrongValue { value, wanted } => {
                write!(f, "returned {value} where the rules ask for {wanted}")
            }
            Self::StatusWritten { status } => {
                write!(f, "was refused and yet wrote {status:#x} to its status")
            }
            Self::BufferWritten => write!(f, "was refused and yet wrote to its result buffer"),
            Self::CanaryDamaged { canaries } => write!(
                f,
                "was refused and yet wrote beside its cells (canaries {canaries:#x})"
            ),
            Self::RestartCode { status } => {
                write!(f, "stored {status}, a code that never leaves the kernel")
            }
            Self::StrangeStatus { status } => {
                write!(f, "stored {status}, which the function does not give here")
            }
            Self::TwinDiffers { status, plain } if status == plain => {
                write!(f, "gave another result than the plain call ({plain})")
            }
            Self::TwinDiffers { status, plain } => {
                write!(f, "stored {status} where the plain call gave {plain}")
            }
            Self::SecondStatus { changes } => write!(f, "changed its status {changes} times"),
            Self::DoubleRead { word, times } => {
                write!(f, "let the kernel read its argument {word} {times} times")
            }
            Self::StatusMissing => write!(f, "came back in its own task without a status"),
            Self::StatusLost => write!(f, "lost its worker before the status was stored"),
            Self::ResultAfterStatus => write!(f, "changed its result after the status was there"),
            Self::Continuations { count } => write!(f, "came back {count} times"),
            Self::NoContinuation => write!(f, "never came back, and has nothing to wait for"),
            Self::RefusedAndForked => write!(f, "was refused and came back in another thread"),
            Self::ForkedPastLimit => write!(f, "forked past RLIMIT_NPROC"),
            Self::ForkedAfterFailure { step } => {
                write!(f, "forked after a clone had failed at step {step}")
            }
            Self::FailedWithoutStatus { step } => {
                write!(f, "left no status though its clone failed (at step {step})")
            }
            Self::WorkerInUserSpace { tid } => write!(f, "was seen in worker {tid}"),
            _ => self.write_state(f),
        }
    }
}

impl Fault {
    /// The faults that are about state around a call, or about the process.
    fn write_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Register {
                which,
                before,
                after,
            } => {
                let name = register(which);
                write!(f, "changed {name} from {before:#x} to {after:#x}")
            }
            Self::RowChanged { row, before, after } => {
                write!(f, "changed {} from {before:#x} to {after:#x}", row.word())
            }
            Self::LeftBehind { before, after } => {
                write!(
                    f,
                    "{before} clones fitted before failed ones, {after} after"
                )
            }
            Self::ExtraTasks { tasks, explained } => {
                write!(f, "{tasks} tasks live where {explained} may")
            }
            Self::ContinuationGone { tid } => {
                write!(f, "thread {tid} of the program is no task any more")
            }
            Self::Survivor { pid, tasks } => {
                write!(f, "process {pid} with {tasks} tasks outlived the program")
            }
            Self::OutlivedExitGroup => write!(f, "went on after exit_group"),
            Self::StayedStopped { stopped } => {
                write!(f, "{stopped} tasks stayed stopped after SIGCONT")
            }
            Self::Leak { what, by } => {
                write!(f, "{} grew by {by} in the last repetitions", counter(what))
            }
            Self::HandlerInWorker { sig } => write!(f, "the handler of {sig} ran in a worker"),
            Self::SurvivedExec { tasks } => write!(f, "{tasks} tasks live after execve"),
            Self::SignalLost { due, seen } => {
                write!(f, "{due} runs of the handler were due, {seen} were seen")
            }
            Self::SignalRepeated { sent, seen } => {
                write!(f, "sent {sent} times, its handler ran {seen} times")
            }
            Self::WrongExit { status, wanted } => {
                write!(f, "ended with {status:#x}, its program with {wanted:#x}")
            }
            Self::EndedEarly { status } => {
                write!(f, "ended with {status:#x} though nobody asked for it")
            }
            Self::OutlivedProgram => write!(f, "had to be killed after its program had exited"),
            _ => f.write_str(&self.name()),
        }
    }
}

fn register(which: u32) -> &'static str {
    let name = usize::try_from(which).ok().and_then(|at| REGISTERS.get(at));
    name.copied().unwrap_or("unknown")
}

/// The leak counters, in the order in which the agent's `leak.rs` reports them.
const COUNTERS: [&str; 15] = [
    "tasks",
    "free-kib",
    "task_struct",
    "signal_cache",
    "sighand_cache",
    "files_cache",
    "fs_cache",
    "mm_struct",
    "vm_area_struct",
    "cred_jar",
    "pid",
    "filp",
    "slabs-kib",
    "stacks-kib",
    "page-tables-kib",
];

fn counter(what: u32) -> &'static str {
    let name = usize::try_from(what).ok().and_then(|at| COUNTERS.get(at));
    name.copied().unwrap_or("unknown")
}
