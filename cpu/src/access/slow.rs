//! Loads and stores that the fast path does not take: translation, pages that
//! are crossed, alignment, watches, physical memory.

use crate::address::{PAGE_OFFSET, PhysAddr};
use crate::code_map::CodeMap;
use crate::exception::Exception;
use crate::flags;
use crate::hooks::Direction;
use crate::memory::{Memory, RegionKind};
use crate::paging::Access;
use crate::registers::cr0;
use crate::state::{Core, Raised};

impl Core {
    #[cold]
    #[inline(never)]
    pub(super) fn load_for_write(
        &mut self,
        memory: &Memory<'_>,
        linear: u32,
        size: u32,
    ) -> Result<u64, Raised> {
        self.check_alignment(linear, size, self.user)?;
        self.probe_write(memory, linear, size, self.user)?;
        self.load_slow(memory, linear, size, self.user)
    }

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
        if let Some(second) = second {
            self.store_crossing(memory, [first, second], [in_first, size - in_first], value)?;
            self.refresh_tag(memory, linear.wrapping_add(in_first));
        } else {
            self.write_physical(memory, first, size, value)?;
        }
        self.refresh_tag(memory, linear);
        Ok(())
    }

    /// Stores to the end of one page and the start of another. The instruction
    /// may have to be executed again, alone or with the answer of a device, and
    /// may then read what it is about to change: RAM is written last.
    #[allow(clippy::cast_possible_truncation)] // frames are small
    fn store_crossing(
        &mut self,
        memory: &Memory<'_>,
        places: [u64; 2],
        sizes: [u32; 2],
        value: u64,
    ) -> Result<(), Raised> {
        let parts = [
            (places[0], sizes[0], value),
            (places[1], sizes[1], value >> (8 * sizes[0])),
        ];
        let backed = |address: u64| memory.page((address >> 12) as u32).is_some();
        for (address, size, _) in parts {
            if backed(address) {
                self.written_code(address, size)?;
            }
        }
        for in_ram in [false, true] {
            for (address, size, value) in parts {
                if backed(address) == in_ram {
                    for i in 0..size {
                        self.write_physical(memory, address + u64::from(i), 1, value >> (8 * i))?;
                    }
                }
            }
        }
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

    /// Whether a write in one page hits decoded code, so that blocks have to go
    /// before the next instruction: this one must be the last of its run.
    #[allow(clippy::cast_possible_truncation)] // frames and offsets are small
    fn written_code(&mut self, address: u64, size: u32) -> Result<bool, Raised> {
        let frame = (address >> 12) as u32;
        let offset = address as u32 & PAGE_OFFSET;
        let hit = self.code.granules(frame) & CodeMap::mask(offset, size) != 0;
        if hit && !self.code.in_delivery {
            self.need_stepping()?;
        }
        Ok(hit)
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
                if self.written_code(address, size)? {
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
                memory.mark_line((frame as usize) << 12 | (offset + size - 1) as usize);
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
