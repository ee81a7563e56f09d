//! Loads and stores of handlers: segmentation, then the fast path through the
//! TLB, then everything else.

use crate::address::{PAGE_OFFSET, PhysAddr};
use crate::code_map::CodeMap;
use crate::exception::Exception;
use crate::flags;
use crate::hooks::Direction;
use crate::memory::{Memory, RegionKind, Word};
use crate::paging::Access;
use crate::registers::{cr0, dr, gpr};
use crate::segment::seg;
use crate::state::{Core, Raised};
use crate::tlb::{TagRules, Tlb};

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
        value.put(memory.ram, linear.wrapping_add(entry.addend) as usize)
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
        W::cut(new).put(memory.ram, at)
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
        Ok(W::truncate(self.load_slow(
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
                return Ok(());
            }
        }
        self.store_slow(memory, linear, W::BYTES, user, value.widen())
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
                return Ok(());
            }
        }
        let old = self.load_for_write(memory, linear, W::BYTES)?;
        let flags = self.flags;
        #[allow(clippy::cast_possible_truncation)] // at most 32 bits
        let new = change(self, old as u32);
        let stored = self.store_slow(memory, linear, W::BYTES, self.user, W::cut(new).widen());
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

    #[cold]
    #[inline(never)]
    fn load_for_write(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        size: u32,
    ) -> Result<u64, Raised> {
        self.check_alignment(linear, size, self.user)?;
        self.probe_write(memory, linear, size, self.user)?;
        self.load_slow(memory, linear, size, self.user)
    }

    // ---- the slow path -------------------------------------------------

    /// A load of 1, 2, 4 or 8 bytes that the fast path does not take.
    #[cold]
    #[inline(never)]
    pub(crate) fn load_slow(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        size: u32,
        user: u8,
    ) -> Result<u64, Raised> {
        self.check_alignment(linear, size, user)?;
        let in_first = (PAGE_OFFSET + 1 - (linear & PAGE_OFFSET)).min(size);
        let first = self.physical(memory, linear, Access::Read, user)?;
        let second = if in_first < size {
            Some(self.physical(memory, linear.wrapping_add(in_first), Access::Read, user)?)
        } else {
            None
        };
        self.watch(linear, first, size, Direction::Read)?;
        self.refresh_tag(memory, linear);
        let Some(second) = second else {
            return self.read_physical(memory, first, size);
        };
        self.refresh_tag(memory, linear.wrapping_add(in_first));
        let mut value = 0;
        for i in 0..size {
            let at = if i < in_first {
                first + u64::from(i)
            } else {
                second + u64::from(i - in_first)
            };
            value |= self.read_physical(memory, at, 1)? << (8 * i);
        }
        Ok(value)
    }

    /// A store of 1, 2, 4 or 8 bytes that the fast path does not take.
    #[cold]
    #[inline(never)]
    pub(crate) fn store_slow(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        size: u32,
        user: u8,
        value: u64,
    ) -> Result<(), Raised> {
        self.check_alignment(linear, size, user)?;
        let in_first = (PAGE_OFFSET + 1 - (linear & PAGE_OFFSET)).min(size);
        let first = self.physical(memory, linear, Access::Write, user)?;
        let second = if in_first < size {
            Some(self.physical(memory, linear.wrapping_add(in_first), Access::Write, user)?)
        } else {
            None
        };
        self.watch(linear, first, size, Direction::Write)?;
        let Some(second) = second else {
            self.write_physical(memory, first, size, value)?;
            self.refresh_tag(memory, linear);
            return Ok(());
        };
        for i in 0..size {
            let at = if i < in_first {
                first + u64::from(i)
            } else {
                second + u64::from(i - in_first)
            };
            self.write_physical(memory, at, 1, value >> (8 * i))?;
        }
        self.refresh_tag(memory, linear);
        self.refresh_tag(memory, linear.wrapping_add(in_first));
        Ok(())
    }

    fn physical(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        access: Access,
        user: u8,
    ) -> Result<u64, Raised> {
        let frame = self.translate(memory, linear, access, user)?;
        Ok(u64::from(frame) << 12 | u64::from(linear & PAGE_OFFSET))
    }

    /// CR0.AM and EFLAGS.AC are set.
    pub(crate) fn alignment_checked(&self) -> bool {
        self.cr0 & cr0::AM != 0 && self.system_flags & flags::AC != 0
    }

    /// Before the page tables are looked at, as processors do it.
    pub(crate) fn check_alignment(
        &mut self,
        linear: u32,
        size: u32,
        user: u8,
    ) -> Result<(), Raised> {
        if user != 0 && self.alignment_checked() && linear & (size - 1) != 0 {
            return Err(self.raise(Exception::AlignmentCheck));
        }
        Ok(())
    }

    /// Notes hits of host watches and of the guest's data breakpoints.
    fn watch(
        &mut self,
        linear: u32,
        physical: u64,
        size: u32,
        direction: Direction,
    ) -> Result<(), Raised> {
        if self.dr[7] & dr::ENABLES != 0 {
            let hits = self.data_breakpoints(linear, size, direction);
            if hits != 0 {
                self.need_stepping()?;
                self.debug_hits |= hits;
            }
        }
        if self.hooks.watching()
            && let Some(hit) = self.hooks.find(linear, physical, size, direction)
        {
            self.need_stepping()?;
            self.hooks.hit.get_or_insert(hit);
        }
        Ok(())
    }

    /// DR6 bits of the enabled data breakpoints that an access hits (SDM vol.
    /// 3, 17.2.4 and 17.2.5).
    fn data_breakpoints(&self, linear: u32, size: u32, direction: Direction) -> u32 {
        (0..4usize).fold(0, |hits, n| {
            let enabled = self.dr[7] >> (2 * n) & 3 != 0;
            let kind = self.dr[7] >> (16 + 4 * n) & 3;
            let wanted = kind == 3 || kind == 1 && direction == Direction::Write;
            let length = [1, 2, 8, 4][(self.dr[7] >> (18 + 4 * n) & 3) as usize];
            let start = self.dr[n] & !(length - 1);
            let distance = linear.wrapping_sub(start);
            let inside = distance < length || start.wrapping_sub(linear) < size;
            hits | u32::from(enabled && wanted && inside) << n
        })
    }

    /// Gives the entry of `linear` its tags for the next time.
    fn refresh_tag(&mut self, memory: &Memory<'_>, linear: u32) {
        let mut debug_pages = [1; 4];
        if self.dr[7] & dr::ENABLES != 0 {
            for (n, page) in debug_pages.iter_mut().enumerate() {
                if self.dr[7] >> (2 * n) & 3 != 0 {
                    *page = self.dr[n] & !PAGE_OFFSET;
                }
            }
        }
        let rules = TagRules {
            memory,
            code: &self.code,
            hooks: &self.hooks,
            debug_pages,
            write_all: self.cr0 & cr0::WP == 0,
            check_alignment: self.alignment_checked(),
        };
        if self.tlb.lookup(crate::tlb::Side::Data, linear).is_some() {
            self.tlb.tag(linear, &rules);
        }
    }

    /// Something that the fast paths rely on has changed.
    pub(crate) fn refresh_fast_paths(&mut self) {
        self.tlb.clear_all_tags();
    }

    // ---- physical memory -----------------------------------------------

    /// Reads 1, 2, 4 or 8 bytes that lie in one page.
    #[allow(clippy::cast_possible_truncation)] // frames and sizes are small
    pub(crate) fn read_physical(
        &mut self,
        memory: &Memory<'_>,
        address: u64,
        size: u32,
    ) -> Result<u64, Raised> {
        let offset = address as usize & PAGE_OFFSET as usize;
        if let Some((page, _)) = memory.page((address >> 12) as u32) {
            let bytes = page.get(offset..offset + size as usize).unwrap_or(&[]);
            return Ok(bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(byte.get())));
        }
        if size == 8 {
            let low = self.mmio_read(PhysAddr(address), 4)?;
            let high = self.mmio_read(PhysAddr(address + 4), 4)?;
            return Ok(u64::from(high) << 32 | u64::from(low));
        }
        Ok(u64::from(self.mmio_read(PhysAddr(address), size as u8)?))
    }

    /// Writes 1, 2, 4 or 8 bytes that lie in one page; marks it dirty.
    #[allow(clippy::cast_possible_truncation)] // frames and sizes are small
    pub(crate) fn write_physical(
        &mut self,
        memory: &Memory<'_>,
        address: u64,
        size: u32,
        value: u64,
    ) -> Result<(), Raised> {
        let offset = address as u32 & PAGE_OFFSET;
        let frame = (address >> 12) as u32;
        match memory.page(frame) {
            Some((_, RegionKind::Rom)) => Ok(()),
            Some((page, RegionKind::Ram)) => {
                if self.code.granules(frame) & CodeMap::mask(offset, size) != 0 {
                    self.need_stepping()?;
                    self.code.written.push((PhysAddr(address), size));
                }
                for (cell, byte) in page[offset as usize..]
                    .iter()
                    .zip(value.to_le_bytes())
                    .take(size as usize)
                {
                    cell.set(byte);
                }
                memory.mark_dirty(frame);
                Ok(())
            }
            None if size == 8 => {
                self.mmio_write(PhysAddr(address), 4, value as u32)?;
                self.mmio_write(PhysAddr(address + 4), 4, (value >> 32) as u32)
            }
            None => self.mmio_write(PhysAddr(address), size as u8, value as u32),
        }
    }
}
