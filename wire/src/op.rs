//! Operations: everything that a thread of a program can do.

mod memory;
mod objects;
mod process;
mod signal;
mod surroundings;

pub use memory::{Discard, Map, MapKind, Poke, PokeTarget, Protect, Protection, Touch, Unmap};
pub use objects::{
    AwaitHeld, Close, Create, Drain, Feed, Fuse, FuseAction, FuseOps, NonBlock, ObjectKind,
};
pub use process::{
    Arm, Await, AwaitStatus, AwaitWorker, Exec, ExecKind, Exit, Fork, ForkKind, Observation,
    Observe, Ptrace, PtraceAction, Raise, Row, Sleep, Spawn, Wait, Yield,
};
pub use signal::{
    AltStack, AltStackKind, Handle, Handling, Mask, MaskHow, Send, Sender, Sig, SigSet, SigWait,
    Target, Timer, TimerKind,
};
pub use surroundings::{
    Fault, FaultKind, KernelLimit, KernelLimitKind, Privilege, PrivilegeCase, Resource, Rlimit,
};

use core::fmt;

use crate::call::Call;
use crate::field::small_number;
use crate::record::{Record, SetError, record};

small_number! {
    /// Number of a program's thread.
    pub struct Thread(u8) below 4;
}

small_number! {
    /// Number of an object slot (a pair of descriptors).
    pub struct ObjectSlot(u8) below 8;
}

small_number! {
    /// Number of a map slot (a range of up to 4 pages).
    pub struct MapSlot(u8) below 8;
}

small_number! {
    /// Number of a FUSE file.
    pub struct FuseFile(u8) below 4;
}

small_number! {
    /// First or second descriptor of an object slot.
    pub struct End(u8) below 2;
}

small_number! {
    /// Number of an operation.
    pub struct OpIndex(u8) below 64;
}

record! {
    /// An operation without fields.
    pub struct Nothing {}
}

/// Payload bytes of a step: its record without operation code and thread.
pub const PAYLOAD: usize = 22;

macro_rules! ops {
    ($($(#[$meta:meta])* $word:literal => $variant:ident($record:ty),)+) => {
        /// One operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            $($(#[$meta])* $variant($record),)+
        }

        /// The operations by code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum OpCode {
            $($(#[$meta])* $variant,)+
        }

        impl OpCode {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the text form.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The operation with every field at its default.
            #[must_use]
            pub fn with_defaults(self) -> Op {
                match self {
                    $(Self::$variant => Op::$variant(<$record>::default()),)+
                }
            }
        }

        impl Op {
            /// The operation's code.
            #[must_use]
            pub const fn code(&self) -> OpCode {
                match self {
                    $(Self::$variant(_) => OpCode::$variant,)+
                }
            }

            /// Decodes the operation with `code` modulo the number of
            /// operations and these payload bytes.
            #[must_use]
            pub fn decode(code: u8, payload: &[u8]) -> Self {
                match OpCode::ALL[usize::from(code) % OpCode::ALL.len()] {
                    $(OpCode::$variant => Self::$variant(<$record>::get(payload)),)+
                }
            }

            /// Writes the payload's bytes.
            pub fn encode(&self, payload: &mut [u8]) {
                match self {
                    $(Self::$variant(record) => record.put(payload),)+
                }
            }

            /// Writes ` name=value` for each field that is not at its default.
            ///
            /// # Errors
            /// Only what `out` itself reports.
            pub fn write_fields(&self, out: &mut dyn fmt::Write) -> fmt::Result {
                match self {
                    $(Self::$variant(record) => record.write_fields(out),)+
                }
            }

            /// Sets the field `name` from its text form.
            ///
            /// # Errors
            /// The operation has no such field, or `value` is none of its
            /// values.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), SetError> {
                match self {
                    $(Self::$variant(record) => record.set(name, value),)+
                }
            }
        }

        const _: () = {
            $(assert!(<$record as Record>::SIZE <= PAYLOAD, "a record fits a step");)+
        };
    };
}

ops! {
    /// Does nothing.
    "nop" => Nop(Nothing),
    /// Makes the call through `async` (in the control run: the plain call, in
    /// a helper thread).
    "async" => Async(Call),
    /// Makes the plain call, in this thread, in every flavour.
    "plain" => Plain(Call),
    /// Fills the cells of a call without making it: the inner call of a
    /// nested one, or what a signal handler calls.
    "prepare" => Prepare(Call),
    /// Changes user and capabilities of this thread.
    "privilege" => Privilege(Privilege),
    /// Sets a resource limit of the victim.
    "rlimit" => Rlimit(Rlimit),
    /// Sets a limit of the whole kernel; undone after the program.
    "kernel-limit" => KernelLimit(KernelLimit),
    /// Arms fault injection for allocations; undone after the program.
    "fault" => Fault(Fault),
    /// Makes an object of two descriptors.
    "create" => Create(Create),
    /// Closes one end of an object.
    "close" => Close(Close),
    /// Writes known bytes to an end: lets a blocked reader go on.
    "feed" => Feed(Feed),
    /// Reads and drops bytes from an end: lets a blocked writer go on.
    "drain" => Drain(Drain),
    /// Switches O_NONBLOCK of an end on or off.
    "nonblock" => NonBlock(NonBlock),
    /// Tells the FUSE server what to do with requests on a file.
    "fuse" => Fuse(Fuse),
    /// Waits until the FUSE server holds so many requests on a file.
    "await-held" => AwaitHeld(AwaitHeld),
    /// Maps pages at a map slot, over what was there.
    "map" => Map(Map),
    /// Changes the protection of a map slot.
    "protect" => Protect(Protect),
    /// Unmaps a map slot.
    "unmap" => Unmap(Unmap),
    /// Drops the pages of a map slot (MADV_DONTNEED).
    "discard" => Discard(Discard),
    /// Writes a word into a cell of some call.
    "poke" => Poke(Poke),
    /// Reads a byte through a pointer, guarded: makes a page present.
    "touch" => Touch(Touch),
    /// Sets what a signal does.
    "handle" => Handle(Handle),
    /// Changes this thread's signal mask.
    "mask" => Mask(Mask),
    /// Sends signals.
    "send" => Send(Send),
    /// Sets or drops this thread's alternate signal stack.
    "altstack" => AltStack(AltStack),
    /// Arms or disarms a timer.
    "timer" => Timer(Timer),
    /// Takes a signal synchronously, with a time limit.
    "sigwait" => SigWait(SigWait),
    /// Starts a thread that the setup left out.
    "spawn" => Spawn(Spawn),
    /// Makes a child that runs the operations that follow.
    "fork" => Fork(Fork),
    /// Waits for a child.
    "wait" => Wait(Wait),
    /// Replaces the victim's image.
    "exec" => Exec(Exec),
    /// Ends this thread.
    "exit" => Exit(Exit),
    /// Ends the victim.
    "exit-group" => ExitGroup(Exit),
    /// Lets the helper process trace a thread.
    "ptrace" => Ptrace(Ptrace),
    /// Raises a flag that others await.
    "raise" => Raise(Raise),
    /// Waits for a flag.
    "await" => Await(Await),
    /// Waits until the status of a call arrived.
    "await-status" => AwaitStatus(AwaitStatus),
    /// Waits until the worker of a call is gone.
    "await-worker" => AwaitWorker(AwaitWorker),
    /// Sleeps.
    "sleep" => Sleep(Sleep),
    /// Yields the CPU.
    "yield" => Yield(Yield),
    /// Gives a piece of per-task state a value that is not its default.
    "arm" => Arm(Arm),
    /// Puts an observation into the trace.
    "observe" => Observe(Observe),
}
