//! What runs the machine's CPU.
//!
//! Three things can come out of an engine, on three channels: a guest
//! exception stays inside; an [`Exit`] is the guest's doing and the machine's
//! business; an [`EngineError`] is the host's failure.

mod boot;
#[cfg(target_arch = "x86_64")]
pub mod kvm;
pub mod probe;
pub mod select;
pub mod soft;

use std::fmt::Debug;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use self::boot::descriptor_table;
use latefork_cpu::{CpuModel, CpuState, Instructions, LinearAddr};

use crate::loader::BootEntry;
use crate::memory::{GuestRam, PageNumber};
use crate::time::VirtualTime;

/// Runs one CPU. The machine calls from one thread, and never keeps guest
/// memory lent between two calls.
pub trait Engine: Debug {
    /// Which engine this is.
    fn kind(&self) -> EngineKind;

    /// What kind of CPU it shows to the guest: the signature of CPUID's leaf 1,
    /// which stands for a whole set of features and a format of FPU state.
    fn signature(&self) -> u32;

    /// Time that the CPU has run since power-on; part of its state.
    fn elapsed(&self) -> VirtualTime;

    /// Whether an interrupt could be taken, now or when the CPU wakes (IF is set).
    fn interrupts_enabled(&self) -> bool;

    /// Runs until an exit, for `slice` at the longest.
    ///
    /// # Errors
    ///
    /// The host failed; the CPU's state is not to be relied on any more.
    fn run(&mut self, memory: &GuestRam, slice: Slice) -> Result<Exit, EngineError>;

    /// Answers the last exit, which was [`Exit::PortIn`] or [`Exit::MmioRead`].
    fn complete_read(&mut self, value: u32);

    /// Drives INTR.
    fn set_interrupt_line(&mut self, line: InterruptLine);

    /// Delivers an acknowledged interrupt, after [`Exit::InterruptWindow`].
    ///
    /// # Errors
    ///
    /// The host failed.
    fn deliver_interrupt(&mut self, memory: &GuestRam, vector: u8) -> Result<(), EngineError>;

    /// Puts the CPU where the 32-bit boot protocol wants it.
    ///
    /// # Errors
    ///
    /// The host failed.
    fn enter(&mut self, entry: &BootEntry) -> Result<(), EngineError>;

    /// The CPU's whole state. The TLB is emptied here, in the running CPU too:
    /// a snapshot must not change what comes after it.
    ///
    /// # Errors
    ///
    /// The host failed, or the CPU is in the middle of an access (see
    /// [`Self::at_boundary`]).
    fn save(&mut self) -> Result<CpuState, EngineError>;

    /// Puts the CPU into `state`, with an empty TLB.
    ///
    /// # Errors
    ///
    /// The host failed, or `state` is not this engine's.
    fn restore(&mut self, state: &CpuState) -> Result<(), EngineError>;

    /// Whether the CPU stands between two instructions.
    fn at_boundary(&self) -> bool;

    /// The machine (a device, a restore) wrote to `page`.
    fn page_written(&mut self, memory: &GuestRam, page: PageNumber);

    /// Adds what the CPU wrote to the dirty bitmap, if it keeps a record of its own.
    ///
    /// # Errors
    ///
    /// The host failed.
    fn collect_dirty(&mut self, memory: &GuestRam) -> Result<(), EngineError>;

    /// The machine has cleared the dirty bitmap.
    fn dirty_cleared(&mut self);

    /// What only the software CPU can do: breakpoints and watches.
    fn soft(&mut self) -> Option<&mut latefork_cpu::Cpu>;

    /// How often it called the host's kernel since it was made.
    fn host_calls(&self) -> HostCalls {
        HostCalls::default()
    }
}

/// How often an engine called the host's kernel, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCalls {
    /// Entries into the guest (KVM_RUN).
    pub run: u64,
    /// Interrupts queued (KVM_INTERRUPT).
    pub interrupt: u64,
    /// Everything that a restore needs.
    pub restore: u64,
    /// Reading and clearing of the dirty log.
    pub dirty: u64,
    /// Reading of state for a snapshot.
    pub save: u64,
    /// Runs that were ended by a kick.
    pub kicked: u64,
    /// Exits because the guest can take an interrupt now.
    pub window: u64,
}

/// The two engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EngineKind {
    /// The deterministic software CPU.
    Soft,
    /// The host's KVM.
    Kvm,
}

impl EngineKind {
    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Kvm => "kvm",
        }
    }
}

/// How long an engine may run.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Instructions to retire. An engine that cannot count them runs for as
    /// many nanoseconds.
    pub budget: Instructions,
    /// The host's clock as a backstop, for an engine that runs by it.
    pub deadline: Deadline,
}

/// A moment of the host's clock, after which a run is given up as "host slow".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline(pub Option<Instant>);

/// The level of the CPU's INTR input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptLine {
    /// An interrupt waits.
    Asserted,
    /// None does.
    Idle,
}

/// Why the CPU stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The slice's budget is spent.
    Budget,
    /// The slice's deadline has passed.
    Deadline,
    /// HLT.
    Halted,
    /// INTR is asserted and an interrupt can be delivered now.
    InterruptWindow,
    /// IN or INS; wants [`Engine::complete_read`].
    PortIn {
        /// The port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
    },
    /// OUT or OUTS.
    PortOut {
        /// The port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// The value, in its low bytes.
        value: u32,
    },
    /// A read where there is no RAM; wants [`Engine::complete_read`].
    MmioRead {
        /// Guest-physical address.
        address: u64,
        /// Bytes: 1, 2 or 4.
        size: u8,
    },
    /// A write where there is no RAM.
    MmioWrite {
        /// Guest-physical address.
        address: u64,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// The value, in its low bytes.
        value: u32,
    },
    /// An exception during the delivery of a double fault.
    TripleFault,
    /// An execution breakpoint of the host, before its instruction.
    Breakpoint {
        /// The instruction.
        address: LinearAddr,
    },
    /// A memory watch of the host, after the instruction.
    Watch {
        /// The watch.
        watch: u32,
        /// First byte of the access.
        address: LinearAddr,
        /// What the access did.
        access: Access,
    },
    /// The guest did what the engine leaves out, by name.
    Unsupported {
        /// What it is.
        what: &'static str,
    },
}

/// What a watched access did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It read.
    Read,
    /// It wrote.
    Write,
}

/// The host failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A state was wanted while an access of the CPU waits for its end.
    #[error("the CPU's state was asked for in the middle of an instruction")]
    NotAtBoundary,
    /// A state was wanted while the processor delivers an exception.
    #[error("the CPU's state was asked for while an exception is being delivered")]
    EventInFlight,
    /// The state of a CPU of another model.
    #[error("the state is of a CPU of model {theirs:?}, this one is of model {ours:?}")]
    OtherModel {
        /// Of the state.
        theirs: CpuModel,
        /// Of this engine.
        ours: CpuModel,
    },
    /// Another machine's RAM.
    #[error("the engine was lent the RAM of two machines")]
    OtherMemory,
    /// The device cannot be opened.
    #[error("cannot open {}: {source}", device.display())]
    NoKvm {
        /// The device.
        device: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The host's KVM lacks something.
    #[error("the host's KVM is too old: {what}")]
    KvmTooOld {
        /// What.
        what: String,
    },
    /// KVM was asked for by name.
    #[error("KVM cannot be used: {why}")]
    Unusable {
        /// Why not.
        why: String,
    },
    /// A call to KVM failed.
    #[error("KVM refused: {what}: {source}")]
    Kvm {
        /// Which call.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A model-specific register cannot be set.
    #[error("KVM refused to set MSR {index:#x}")]
    Msr {
        /// Which one.
        index: u32,
    },
}
