//! Segment descriptors and gates in the GDT and LDT (SDM vol. 3, 3.4.5, 3.5,
//! 5.8.3).

use crate::access::SUPERVISOR;
use crate::memory::Memory;
use crate::segment::{DescriptorTable, Segment, attr};
use crate::state::{Core, Raised};
use crate::system::selector::{Blame, Ext, Selector};

/// Types of system descriptors.
pub(crate) mod kind {
    /// 16-bit TSS, not busy.
    pub(crate) const TSS16: u32 = 1;
    /// Local descriptor table.
    pub(crate) const LDT: u32 = 2;
    /// 16-bit TSS, busy.
    pub(crate) const TSS16_BUSY: u32 = 3;
    /// 16-bit call gate.
    pub(crate) const CALL16: u32 = 4;
    /// Task gate.
    pub(crate) const TASK: u32 = 5;
    /// 16-bit interrupt gate.
    pub(crate) const INTERRUPT16: u32 = 6;
    /// 16-bit trap gate.
    pub(crate) const TRAP16: u32 = 7;
    /// 32-bit TSS, not busy.
    pub(crate) const TSS32: u32 = 9;
    /// 32-bit TSS, busy.
    pub(crate) const TSS32_BUSY: u32 = 11;
    /// 32-bit call gate.
    pub(crate) const CALL32: u32 = 12;
    /// 32-bit interrupt gate.
    pub(crate) const INTERRUPT32: u32 = 14;
    /// 32-bit trap gate.
    pub(crate) const TRAP32: u32 = 15;
    /// The bit that tells 32-bit gates and TSSs from 16-bit ones.
    pub(crate) const WIDE: u32 = 8;
    /// The bit that makes a TSS busy.
    pub(crate) const BUSY: u32 = 2;
}

/// A descriptor as read from its table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    /// First doubleword.
    pub(crate) low: u32,
    /// Second doubleword.
    pub(crate) high: u32,
    /// Linear address it was read from.
    pub(crate) address: u32,
}

impl Descriptor {
    fn bit(self, attribute: u16) -> bool {
        self.high >> 8 & u32::from(attribute) != 0
    }

    /// Code or data, not a system descriptor.
    pub(crate) fn is_segment(self) -> bool {
        self.bit(attr::S)
    }

    /// A code segment.
    pub(crate) fn is_code(self) -> bool {
        self.is_segment() && self.bit(attr::CODE)
    }

    /// A data segment.
    pub(crate) fn is_data(self) -> bool {
        self.is_segment() && !self.bit(attr::CODE)
    }

    /// A conforming code segment.
    pub(crate) fn is_conforming(self) -> bool {
        self.is_code() && self.bit(attr::EXPAND_DOWN_OR_CONFORMING)
    }

    /// Data, or readable code.
    pub(crate) fn is_readable(self) -> bool {
        self.is_data() || self.is_code() && self.bit(attr::WRITABLE_OR_READABLE)
    }

    /// Writable data.
    pub(crate) fn is_writable(self) -> bool {
        self.is_data() && self.bit(attr::WRITABLE_OR_READABLE)
    }

    /// The type of a system descriptor, see [`kind`]; `None` for segments.
    pub(crate) fn system_kind(self) -> Option<u32> {
        (!self.is_segment()).then_some(self.high >> 8 & 15)
    }

    /// Present.
    pub(crate) fn is_present(self) -> bool {
        self.bit(attr::PRESENT)
    }

    /// Descriptor privilege level.
    pub(crate) fn dpl(self) -> u8 {
        (self.high >> 13 & 3) as u8
    }

    /// The segment register that this descriptor gives.
    pub(crate) fn segment(self, selector: Selector) -> Segment {
        Segment::from_descriptor(selector.0, self.low, self.high)
    }

    /// Gate: the selector of its target.
    pub(crate) fn gate_selector(self) -> Selector {
        Selector::from_slot(self.low >> 16)
    }

    /// Gate: the offset in its target; 16 bits for 16-bit gates.
    pub(crate) fn gate_offset(self) -> u32 {
        let low = self.low & 0xffff;
        if self.is_wide() {
            low | self.high & 0xffff_0000
        } else {
            low
        }
    }

    /// Call gate: parameters to copy, in units of the gate's size.
    pub(crate) fn gate_count(self) -> u32 {
        self.high & 31
    }

    /// Gate or TSS of 32 bits.
    pub(crate) fn is_wide(self) -> bool {
        self.high >> 8 & kind::WIDE != 0
    }
}

impl Core {
    /// The GDT, or the LDT as a table; an unusable LDT holds nothing.
    fn table(&self, selector: Selector) -> Option<DescriptorTable32> {
        if !selector.is_local() {
            return Some(self.gdtr.into());
        }
        let usable = self.ldtr.has(attr::PRESENT);
        usable.then_some(DescriptorTable32 {
            base: self.ldtr.base,
            limit: self.ldtr.limit,
        })
    }

    /// Reads the descriptor of `selector`; `None` beyond the table's limit.
    /// A null selector is the caller's business.
    pub(crate) fn find_descriptor(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
    ) -> Result<Option<Descriptor>, Raised> {
        let Some(table) = self.table(selector) else {
            return Ok(None);
        };
        if selector.offset() + 7 > table.limit {
            return Ok(None);
        }
        let address = table.base.wrapping_add(selector.offset());
        let low = self.load_linear::<u32>(memory, address, SUPERVISOR)?;
        let high = self.load_linear::<u32>(memory, address.wrapping_add(4), SUPERVISOR)?;
        Ok(Some(Descriptor { low, high, address }))
    }

    /// Reads the descriptor of `selector`; raises `blame` beyond the limit.
    pub(crate) fn read_descriptor(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
        blame: Blame,
        ext: Ext,
    ) -> Result<Descriptor, Raised> {
        match self.find_descriptor(memory, selector)? {
            Some(descriptor) => Ok(descriptor),
            None => Err(self.selector_fault(blame, selector, ext)),
        }
    }

    /// Sets the accessed bit of a segment that is about to be loaded, in
    /// memory and in `descriptor`.
    pub(crate) fn mark_accessed(
        &mut self,
        memory: &Memory<'_>,
        descriptor: &mut Descriptor,
    ) -> Result<(), Raised> {
        if descriptor.bit(attr::ACCESSED) {
            return Ok(());
        }
        descriptor.high |= u32::from(attr::ACCESSED) << 8;
        self.write_access_byte(memory, *descriptor)
    }

    /// Writes byte 5 of a descriptor back to its table.
    pub(crate) fn write_access_byte(
        &mut self,
        memory: &Memory<'_>,
        descriptor: Descriptor,
    ) -> Result<(), Raised> {
        let [_, access, ..] = descriptor.high.to_le_bytes();
        self.store_linear::<u8>(
            memory,
            descriptor.address.wrapping_add(5),
            SUPERVISOR,
            access,
        )
    }
}

/// A table of which only base and limit matter here.
struct DescriptorTable32 {
    base: u32,
    limit: u32,
}

impl From<DescriptorTable> for DescriptorTable32 {
    fn from(table: DescriptorTable) -> Self {
        Self {
            base: table.base,
            limit: u32::from(table.limit),
        }
    }
}
