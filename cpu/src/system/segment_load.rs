//! Loads of segment registers: MOV, POP, LDS and their kin, and the checks
//! they share with far transfers and task switches (SDM vol. 3, 5.6 and 5.7).

use crate::flags;
use crate::memory::Memory;
use crate::segment::{Segment, attr, seg};
use crate::state::{Core, Raised};
use crate::system::descriptor::Descriptor;
use crate::system::selector::{Blame, Ext, Selector};

impl Core {
    /// EFLAGS.VM.
    pub(crate) fn virtual_8086(&self) -> bool {
        self.system_flags & flags::VM != 0
    }

    /// Segment registers are loaded without descriptors: real mode, V86 mode.
    pub(crate) fn real_segments(&self) -> bool {
        !self.protected() || self.virtual_8086()
    }

    /// What a load gives in real mode or V86 mode. Real mode changes selector
    /// and base and keeps the limit that protected mode may have left behind.
    pub(crate) fn real_segment(&self, which: u8, selector: Selector) -> Segment {
        let fresh = Segment::real(selector.0);
        if self.virtual_8086() {
            return Segment {
                attributes: fresh.attributes | attr::DPL,
                ..fresh
            };
        }
        let old = &self.segments[which as usize % 6];
        if !old.has(attr::PRESENT) {
            return fresh;
        }
        let sizes = old.attributes & (attr::BIG | attr::GRANULARITY | attr::AVL);
        Segment {
            attributes: fresh.attributes | sizes,
            limit: old.limit,
            ..fresh
        }
    }

    /// Loads DS, ES, FS, GS or SS from `selector` with all checks.
    pub(crate) fn load_segment(
        &mut self,
        memory: &Memory<'_>,
        which: u8,
        selector: Selector,
    ) -> Result<(), Raised> {
        let segment = if self.real_segments() {
            self.real_segment(which, selector)
        } else if which == seg::SS {
            self.stack_segment(memory, selector, self.cpl, Blame::Protection, Ext::PROGRAM)?
        } else {
            self.data_segment(memory, selector, self.cpl, Blame::Protection, Ext::PROGRAM)?
        };
        self.set_segment(which, segment);
        Ok(())
    }

    /// Checks a selector for DS, ES, FS or GS at privilege level `cpl`.
    pub(crate) fn data_segment(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
        cpl: u8,
        blame: Blame,
        ext: Ext,
    ) -> Result<Segment, Raised> {
        if selector.is_null() {
            return Ok(Segment::null(selector.0));
        }
        let mut descriptor = self.read_descriptor(memory, selector, blame, ext)?;
        let visible = descriptor.is_conforming() || selector.rpl().max(cpl) <= descriptor.dpl();
        if !descriptor.is_readable() || !visible {
            return Err(self.selector_fault(blame, selector, ext));
        }
        if !descriptor.is_present() {
            return Err(self.selector_fault(Blame::NotPresent, selector, ext));
        }
        self.mark_accessed(memory, &mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// Checks a selector for SS at privilege level `cpl`.
    pub(crate) fn stack_segment(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
        cpl: u8,
        blame: Blame,
        ext: Ext,
    ) -> Result<Segment, Raised> {
        if selector.is_null() {
            return Err(self.selector_fault(blame, Selector(0), ext));
        }
        let mut descriptor = self.read_descriptor(memory, selector, blame, ext)?;
        let levels = selector.rpl() == cpl && descriptor.dpl() == cpl;
        if !levels || !descriptor.is_writable() {
            return Err(self.selector_fault(blame, selector, ext));
        }
        if !descriptor.is_present() {
            return Err(self.selector_fault(Blame::Stack, selector, ext));
        }
        self.mark_accessed(memory, &mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// Makes a checked code segment ready to be loaded at `cpl`: present,
    /// `offset` inside its limit, accessed bit set.
    pub(crate) fn code_segment(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
        mut descriptor: Descriptor,
        cpl: u8,
        ext: Ext,
    ) -> Result<Segment, Raised> {
        if !descriptor.is_present() {
            return Err(self.selector_fault(Blame::NotPresent, selector, ext));
        }
        self.mark_accessed(memory, &mut descriptor)?;
        Ok(descriptor.segment(selector.with_rpl(cpl)))
    }

    /// `#GP` with nothing but EXT if `offset` is beyond the limit of `segment`.
    pub(crate) fn check_entry(
        &mut self,
        segment: &Segment,
        offset: u32,
        ext: Ext,
    ) -> Result<(), Raised> {
        if offset > segment.limit {
            Err(self.gp(ext.0))
        } else {
            Ok(())
        }
    }

    /// After a return to an outer ring: data segments that the new ring may
    /// not use become null (SDM vol. 3, 5.8.6).
    pub(crate) fn drop_inner_segments(&mut self) {
        for which in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let segment = self.segments[which as usize];
            let conforming = segment.has(attr::CODE | attr::EXPAND_DOWN_OR_CONFORMING);
            if segment.has(attr::S) && !conforming && segment.dpl() < self.cpl {
                self.set_segment(which, Segment::null(0));
            }
        }
    }
}
