//! Ports and memory-mapped I/O inside an instruction.
//!
//! The first access leaves `run`; its answer is kept here and the instruction
//! is executed again from its start with the answers replayed, until it has
//! all of them. The log is dropped when the instruction (or one iteration of a
//! REP instruction) retires.

use crate::PhysAddr;
use crate::exit::Exit;
use crate::state::{Core, Raised};

/// The accesses that the current instruction has made so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IoLog {
    /// Values read; a write is kept as 0.
    pub(crate) answers: Vec<u32>,
    /// How many of them this execution of the instruction has used.
    pub(crate) used: usize,
    /// What the last exit waits for.
    pub(crate) waiting: Waiting,
}

/// What the last exit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waiting {
    #[default]
    Nothing,
    /// A value for a read, cut to this many bytes.
    Value(u8),
    /// The host has carried out the write by the time `run` is called again.
    Written,
}

impl IoLog {
    /// The instruction is done.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.answers.clear();
        self.used = 0;
    }

    /// The next answer, when the instruction is executed again.
    fn replay(&mut self) -> Option<u32> {
        let answer = self.answers.get(self.used).copied()?;
        self.used += 1;
        Some(answer)
    }

    /// Enters the host's answer to a read.
    pub(crate) fn complete(&mut self, value: u32) {
        if let Waiting::Value(size) = self.waiting {
            let value = if size >= 4 {
                value
            } else {
                value & ((1 << (8 * size)) - 1)
            };
            self.answers.push(value);
            self.waiting = Waiting::Nothing;
        }
    }

    /// At the start of `run`: a write counts as done; a read that nobody
    /// answered reads as all ones, like a bus that nobody drives.
    pub(crate) fn resume(&mut self) {
        match self.waiting {
            Waiting::Nothing => {}
            Waiting::Value(_) => self.complete(u32::MAX),
            Waiting::Written => {
                self.answers.push(0);
                self.waiting = Waiting::Nothing;
            }
        }
    }

    /// Whether an instruction is in the middle of its accesses.
    pub(crate) fn in_progress(&self) -> bool {
        !self.answers.is_empty() || self.waiting != Waiting::Nothing
    }
}

impl Core {
    fn io_read(&mut self, size: u8, exit: Exit) -> Result<u32, Raised> {
        self.need_stepping()?;
        if let Some(value) = self.io.replay() {
            return Ok(value);
        }
        self.io.waiting = Waiting::Value(size);
        Err(self.exit(exit))
    }

    fn io_write(&mut self, exit: Exit) -> Result<(), Raised> {
        self.need_stepping()?;
        if self.io.replay().is_some() {
            return Ok(());
        }
        self.io.waiting = Waiting::Written;
        Err(self.exit(exit))
    }

    /// Reads `size` bytes (1, 2 or 4) from a port. Permission is the caller's
    /// business.
    pub(crate) fn port_in(&mut self, port: u16, size: u8) -> Result<u32, Raised> {
        self.io_read(size, Exit::PortIn { port, size })
    }

    /// Writes the low `size` bytes (1, 2 or 4) of `value` to a port.
    pub(crate) fn port_out(&mut self, port: u16, size: u8, value: u32) -> Result<(), Raised> {
        let value = if size >= 4 {
            value
        } else {
            value & ((1 << (8 * size)) - 1)
        };
        self.io_write(Exit::PortOut { port, size, value })
    }

    /// Reads `size` bytes (1, 2 or 4) of memory-mapped I/O.
    pub(crate) fn mmio_read(&mut self, address: PhysAddr, size: u8) -> Result<u32, Raised> {
        self.io_read(size, Exit::MmioRead { address, size })
    }

    /// Writes the low `size` bytes (1, 2 or 4) of `value` to memory-mapped I/O.
    pub(crate) fn mmio_write(
        &mut self,
        address: PhysAddr,
        size: u8,
        value: u32,
    ) -> Result<(), Raised> {
        let value = if size >= 4 {
            value
        } else {
            value & ((1 << (8 * size)) - 1)
        };
        self.io_write(Exit::MmioWrite {
            address,
            size,
            value,
        })
    }
}
