//! Who wants to know of an access, and so keeps it off the fast path: host
//! watches, the guest's data breakpoints, the tags of the TLB.

use crate::address::PAGE_OFFSET;
use crate::hooks::Direction;
use crate::memory::Memory;
use crate::registers::{cr0, dr};
use crate::state::{Core, Raised};
use crate::tlb::TagRules;

impl Core {
    /// Notes hits of host watches and of the guest's data breakpoints.
    pub(super) fn watch(
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
    pub(super) fn refresh_tag(&mut self, memory: &Memory<'_>, linear: u32) {
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
}
