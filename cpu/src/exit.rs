//! Why `run` returned.

use crate::{LinearAddr, PhysAddr};

/// Why [`crate::Cpu::run`] returned. The CPU is at an instruction boundary,
/// except for the reads and writes, whose instruction goes on in the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The budget is spent.
    Budget,
    /// HLT was retired; only an interrupt (with IF set) goes on from here.
    Halted,
    /// The interrupt line is asserted and an interrupt can be taken now: ask
    /// the interrupt controller for a vector and call
    /// [`crate::Cpu::deliver_interrupt`].
    InterruptWindow,
    /// IN or INS reads a port; answer with [`crate::Cpu::complete_read`].
    PortIn {
        /// Port number.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
    },
    /// OUT or OUTS writes a port.
    PortOut {
        /// Port number.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// The value in the low `size` bytes.
        value: u32,
    },
    /// A read of guest-physical memory that no region backs; answer with
    /// [`crate::Cpu::complete_read`].
    MmioRead {
        /// First byte.
        address: PhysAddr,
        /// Bytes: 1, 2 or 4.
        size: u8,
    },
    /// A write to guest-physical memory that no region backs.
    MmioWrite {
        /// First byte.
        address: PhysAddr,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// The value in the low `size` bytes.
        value: u32,
    },
    /// An exception during the delivery of a double fault: shutdown.
    TripleFault,
    /// An execution breakpoint set by the host: the instruction there has not
    /// been executed; the next run executes it.
    Breakpoint {
        /// The linear address of the instruction.
        address: LinearAddr,
    },
    /// A watched range was accessed by the instruction that was just retired.
    Watch {
        /// The number of the watch, as `add_watch` returned it.
        watch: u32,
        /// The first accessed byte.
        address: LinearAddr,
        /// Whether the access that hit was a write.
        write: bool,
    },
    /// The guest asked for something that is left out by name.
    Unsupported {
        /// What it is, in a few words.
        what: &'static str,
    },
}
