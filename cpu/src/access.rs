//! Loads and stores of handlers: segmentation, then the fast path through the
//! TLB, then everything else.

mod slow;
mod tags;

use crate::address::PAGE_OFFSET;
use crate::exception::Exception;
use crate::memory::{Memory, Word};
use crate::paging::Access;
use crate::registers::gpr;
use crate::segment::seg;
use crate::state::{Core, Raised};
use crate::tlb::Tlb;

/// Rights of an access to a descriptor table, a TSS or an inner stack.
pub(crate) const SUPERVISOR: u8 = 0;

impl Core {
    // ---- with segmentation ---------------------------------------------

    /// Loads a value from `offset` in segment `which`, with the checks of the
    /// segment and of the pages, at the current privilege level.
    #[inline(always)]
    pub(crate) fn load<W: Word>(
        &mut self,
        memory: &Memory<'_>,
        which: u8,
        offset: u32,
    ) -> Result<W, Raised> {
        let linear = self.readable(which, offset, W::BYTES)?;
        self.load_linear(memory, linear, self.user)
    }

    /// Stores a value at `offset` in segment `which`.
    #[inline(always)]
    pub(crate) fn store<W: Word>(
        &mut self,
        memory: &Memory<'_>,
        which: u8,
        offset: u32,
        value: W,
    ) -> Result<(), Raised> {
        let linear = self.writable(which, offset, W::BYTES)?;
        self.store_linear(memory, linear, self.user, value)
    }

    /// Checks that `size` bytes at `offset` may be read and returns their
    /// linear address.
    #[inline(always)]
    pub(crate) fn readable(&mut self, which: u8, offset: u32, size: u32) -> Result<u32, Raised> {
        let window = &self.windows[(which & 7) as usize];
        let last = offset.wrapping_add(size - 1);
        if offset >= window.read.0 && last <= window.read.1 && last >= offset {
            return Ok(window.base.wrapping_add(offset));
        }
        Err(self.segment_violation(which))
    }

    /// As [`Self::readable`], for a write.
    #[inline(always)]
    pub(crate) fn writable(&mut self, which: u8, offset: u32, size: u32) -> Result<u32, Raised> {
        let window = &self.windows[(which & 7) as usize];
        let last = offset.wrapping_add(size - 1);
        if offset >= window.write.0 && last <= window.write.1 && last >= offset {
            return Ok(window.base.wrapping_add(offset));
        }
        Err(self.segment_violation(which))
    }

    /// `#SS(0)` for the stack segment, else `#GP(0)`.
    #[cold]
    #[inline(never)]
    pub(crate) fn segment_violation(&mut self, which: u8) -> Raised {
        self.raise(if which == seg::SS {
            Exception::StackFault(0)
        } else {
            Exception::GeneralProtection(0)
        })
    }

    // ---- the stack -----------------------------------------------------

    /// The stack pointer plus `delta`, cut to the size of the stack.
    #[inline(always)]
    pub(crate) fn stack_offset(&self, delta: u32) -> u32 {
        self.regs[gpr::ESP].wrapping_add(delta) & self.stack_mask()
    }

    /// Sets ESP, or only SP on a 16-bit stack.
    #[inline(always)]
    pub(crate) fn set_stack(&mut self, offset: u32) {
        let mask = self.stack_mask();
        self.regs[gpr::ESP] = self.regs[gpr::ESP] & !mask | offset & mask;
    }

    /// Pushes a value; the stack pointer moves only if that succeeds.
    #[inline(always)]
    pub(crate) fn push<W: Word>(&mut self, memory: &Memory<'_>, value: W) -> Result<(), Raised> {
        let offset = self.stack_offset(W::BYTES.wrapping_neg());
        self.store(memory, seg::SS, offset, value)?;
        self.set_stack(offset);
        Ok(())
    }

    // ---- by linear address ---------------------------------------------

    /// Loads from a linear address if the fast path takes it.
    #[inline(always)]
    pub(crate) fn load_fast<W: Word>(&self, memory: &Memory<'_>, linear: u32) -> Option<W> {
        let entry = &self.tlb.data[Tlb::data_index(linear)];
        let page = linear.wrapping_add(W::BYTES - 1) & !PAGE_OFFSET;
        if entry.read[(self.user & 1) as usize] != page {
            return None;
        }
        W::get(memory.ram, linear.wrapping_add(entry.addend) as usize)
    }

    /// Stores at a linear address if the fast path takes it.
    #[inline(always)]
    pub(crate) fn store_fast<W: Word>(
        &self,
        memory: &Memory<'_>,
        linear: u32,
        value: W,
    ) -> Option<()> {
        let entry = &self.tlb.data[Tlb::data_index(linear)];
        let page = linear.wrapping_add(W::BYTES - 1) & !PAGE_OFFSET;
        if entry.write[(self.user & 1) as usize] != page {
            return None;
        }
        let at = linear.wrapping_add(entry.addend) as usize;
        value.put(memory.ram, at)?;
        memory.mark_line(at + W::BYTES as usize - 1);
        Some(())
    }

    /// Reads, changes and writes back if the fast path takes it.
    #[inline(always)]
    pub(crate) fn modify_fast<W: Word>(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        change: impl FnOnce(&mut Self, u32) -> u32,
    ) -> Option<()> {
        let entry = &self.tlb.data[Tlb::data_index(linear)];
        let page = linear.wrapping_add(W::BYTES - 1) & !PAGE_OFFSET;
        if entry.write[(self.user & 1) as usize] != page {
            return None;
        }
        let at = linear.wrapping_add(entry.addend) as usize;
        let old = W::get(memory.ram, at)?;
        let new = change(self, old.zext());
        W::cut(new).put(memory.ram, at)?;
        memory.mark_line(at + W::BYTES as usize - 1);
        Some(())
    }

    /// Loads from a linear address; `user` is [`SUPERVISOR`] or `Core::user`.
    #[inline(always)]
    pub(crate) fn load_linear<W: Word>(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        user: u8,
    ) -> Result<W, Raised> {
        let entry = &self.tlb.data[Tlb::data_index(linear)];
        if entry.read[(user & 1) as usize] == linear.wrapping_add(W::BYTES - 1) & !PAGE_OFFSET {
            let at = linear.wrapping_add(entry.addend) as usize;
            if let Some(value) = W::get(memory.ram, at) {
                return Ok(value);
            }
        }
        Ok(W::low_bits(self.load_slow(
            memory,
            linear,
            W::BYTES,
            user,
        )?))
    }

    /// Stores at a linear address.
    #[inline(always)]
    pub(crate) fn store_linear<W: Word>(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        user: u8,
        value: W,
    ) -> Result<(), Raised> {
        let entry = &self.tlb.data[Tlb::data_index(linear)];
        if entry.write[(user & 1) as usize] == linear.wrapping_add(W::BYTES - 1) & !PAGE_OFFSET {
            let at = linear.wrapping_add(entry.addend) as usize;
            if value.put(memory.ram, at).is_some() {
                memory.mark_line(at + W::BYTES as usize - 1);
                return Ok(());
            }
        }
        self.store_slow(memory, linear, W::BYTES, user, value.to_u64())
    }

    /// Reads, computes and writes back. Page permissions are those of a write
    /// from the start. `change` gets the old value and returns the new one;
    /// it is called when nothing but I/O can fail any more, and may change only
    /// the arithmetic flags, which are put back if the write is not done.
    #[inline(always)]
    pub(crate) fn modify_linear<W: Word>(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        change: impl FnOnce(&mut Self, u32) -> u32,
    ) -> Result<(), Raised> {
        let entry = &self.tlb.data[Tlb::data_index(linear)];
        if entry.write[(self.user & 1) as usize] == linear.wrapping_add(W::BYTES - 1) & !PAGE_OFFSET
        {
            let at = linear.wrapping_add(entry.addend) as usize;
            if let Some(old) = W::get(memory.ram, at) {
                let new = change(self, old.zext());
                W::cut(new).put(memory.ram, at);
                memory.mark_line(at + W::BYTES as usize - 1);
                return Ok(());
            }
        }
        let old = self.load_for_write(memory, linear, W::BYTES)?;
        let flags = self.flags;
        #[allow(clippy::cast_possible_truncation)] // at most 32 bits
        let new = change(self, old as u32);
        let stored = self.store_slow(memory, linear, W::BYTES, self.user, W::cut(new).to_u64());
        if stored.is_err() {
            self.flags = flags;
        }
        stored
    }

    /// Checks that `size` bytes (1 to 4096) may be written, without writing:
    /// for instructions that store several values and must not stop half way.
    pub(crate) fn probe_write(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        size: u32,
        user: u8,
    ) -> Result<(), Raised> {
        self.translate(memory, linear, Access::Write, user)?;
        let last = linear.wrapping_add(size - 1);
        if (linear ^ last) & !PAGE_OFFSET != 0 {
            self.translate(memory, last & !PAGE_OFFSET, Access::Write, user)?;
        }
        Ok(())
    }
}
