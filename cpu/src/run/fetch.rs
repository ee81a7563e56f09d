//! From EIP to a block: through the TLB and the cache, or by decoding.

use crate::Cpu;
use crate::address::PAGE_OFFSET;
use crate::block::Key;
use crate::decode::{Extent, Place, decode};
use crate::memory::Memory;
use crate::paging::Access;
use crate::segment::seg;
use crate::state::{Core, Mode, Raised};
use crate::tlb::Tlb;

/// The page that instructions are fetched from.
#[derive(Clone, Copy)]
pub(super) struct FetchPage {
    page: u32,
    frame: u32,
}

impl FetchPage {
    pub(super) const NONE: Self = Self { page: 1, frame: 0 };

    /// The key of the block at EIP, if the page is this one or the TLB has it.
    #[inline(always)]
    pub(super) fn follow(&mut self, core: &Core) -> Option<Key> {
        let linear = core.linear_eip();
        let page = linear & !PAGE_OFFSET;
        if page != self.page {
            let entry = &core.tlb.code[Tlb::code_index(linear)];
            if entry.read[(core.user & 1) as usize] != page {
                return None;
            }
            *self = Self {
                page,
                frame: entry.frame,
            };
        }
        Some(Key::new(self.frame, linear, core.mode))
    }
}

impl Cpu {
    /// The block at EIP, decoded if need be.
    #[inline(never)]
    pub(super) fn enter(
        &mut self,
        memory: &Memory<'_>,
        fetch: &mut FetchPage,
        extent: Extent,
    ) -> Result<u32, Raised> {
        let core = &mut *self.core;
        let eip = core.eip;
        if eip > core.segments[seg::CS as usize].limit {
            return Err(core.gp(0));
        }
        let linear = core.linear_eip();
        if linear & !PAGE_OFFSET != fetch.page {
            let frame = core.translate(memory, linear, Access::Fetch, core.user)?;
            *fetch = FetchPage {
                page: linear & !PAGE_OFFSET,
                frame,
            };
        }
        let single = if extent == Extent::Single {
            Key::SINGLE
        } else {
            0
        };
        let key = Key::new(fetch.frame, linear, Mode(core.mode.0 | single));
        if let Some(index) = self.cache.recent(key) {
            return Ok(index);
        }
        let crossing = match self.cache.recent(key.crossing()) {
            Some(index) => Some(index),
            None => {
                if let Some(index) = self.cache.find(key) {
                    return Ok(index);
                }
                self.cache.find(key.crossing())
            }
        };
        if let Some(index) = crossing
            && self.still_valid(memory, index, linear)?
        {
            return Ok(index);
        }
        let place = Place {
            eip,
            linear,
            frame: fetch.frame,
        };
        let new = decode(&mut self.core, memory, place, extent)?;
        Ok(self.cache.insert(&mut self.core, new, crossing))
    }

    /// A block that crosses into a second page is right only while that page
    /// is mapped to the same place.
    fn still_valid(
        &mut self,
        memory: &Memory<'_>,
        index: u32,
        linear: u32,
    ) -> Result<bool, Raised> {
        let block = self.cache.block(index);
        let core = &mut *self.core;
        let last = core.eip.wrapping_add(block.len() - 1);
        if last > core.segments[seg::CS as usize].limit || last < core.eip {
            return Err(core.gp(0));
        }
        let next = (linear & !PAGE_OFFSET).wrapping_add(PAGE_OFFSET + 1);
        let second = core.translate(memory, next, Access::Fetch, core.user)?;
        Ok(self.cache.second_frame(index) == Some(second))
    }
}
