//! Segment registers with their hidden parts.

/// Numbers of the segment registers in instructions, in `Core::segments` and
/// in `Op::seg`.
pub mod seg {
    /// Extra segment.
    pub const ES: u8 = 0;
    /// Code segment.
    pub const CS: u8 = 1;
    /// Stack segment.
    pub const SS: u8 = 2;
    /// Data segment.
    pub const DS: u8 = 3;
    /// Second extra segment.
    pub const FS: u8 = 4;
    /// Third extra segment.
    pub const GS: u8 = 5;
}

/// Bits of [`Segment::attributes`]: bits 8 to 23 of the descriptor's second
/// doubleword, shifted down by 8 (SDM vol. 3, figure 3-8).
pub mod attr {
    /// The type field; its meaning depends on [`S`].
    pub const TYPE: u16 = 0xf;
    /// A code or data segment was accessed.
    pub const ACCESSED: u16 = 1;
    /// Data: writable. Code: readable.
    pub const WRITABLE_OR_READABLE: u16 = 2;
    /// Data: expand-down. Code: conforming.
    pub const EXPAND_DOWN_OR_CONFORMING: u16 = 4;
    /// Code (1) or data (0).
    pub const CODE: u16 = 8;
    /// Code or data (1) or system (0).
    pub const S: u16 = 1 << 4;
    /// Descriptor privilege level, two bits.
    pub const DPL: u16 = 3 << 5;
    /// Present. The hidden part of an unusable register has it clear.
    pub const PRESENT: u16 = 1 << 7;
    /// Available to software.
    pub const AVL: u16 = 1 << 12;
    /// 32-bit code, or stack pointer ESP, or upper bound 4 GiB.
    pub const BIG: u16 = 1 << 14;
    /// The limit counts pages.
    pub const GRANULARITY: u16 = 1 << 15;
}

/// A segment register: selector and hidden part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The visible part.
    pub selector: u16,
    /// Attributes as in the descriptor, see [`attr`].
    pub attributes: u16,
    /// Linear address of offset 0.
    pub base: u32,
    /// The last offset in bytes (granularity already applied).
    pub limit: u32,
}

impl Segment {
    /// A register that holds a null selector: every access faults.
    #[must_use]
    pub fn null(selector: u16) -> Self {
        Self {
            selector,
            attributes: 0,
            base: 0,
            limit: 0,
        }
    }

    /// What real mode loads: base from the selector, 64 KiB, all accesses.
    #[must_use]
    pub fn real(selector: u16) -> Self {
        Self {
            selector,
            attributes: attr::PRESENT | attr::S | attr::WRITABLE_OR_READABLE | attr::ACCESSED,
            base: u32::from(selector) << 4,
            limit: 0xffff,
        }
    }

    /// From the two doublewords of a descriptor.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // fields are masked
    pub fn from_descriptor(selector: u16, low: u32, high: u32) -> Self {
        let attributes = (high >> 8) as u16 & 0xf0ff;
        let pages = (high & 0xf_0000) | (low & 0xffff);
        let limit = if attributes & attr::GRANULARITY != 0 {
            pages << 12 | 0xfff
        } else {
            pages
        };
        let base = low >> 16 | (high & 0xff) << 16 | high & 0xff00_0000;
        Self {
            selector,
            attributes,
            base,
            limit,
        }
    }

    /// Descriptor privilege level.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // two bits
    pub fn dpl(&self) -> u8 {
        (self.attributes >> 5) as u8 & 3
    }

    /// Requested privilege level of the selector.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // two bits
    pub fn rpl(&self) -> u8 {
        self.selector as u8 & 3
    }

    /// Whether all of `bits` are set in the attributes.
    #[must_use]
    pub fn has(&self, bits: u16) -> bool {
        self.attributes & bits == bits
    }

    fn is_code(&self) -> bool {
        self.has(attr::S | attr::CODE)
    }

    /// First and last valid offset (an empty range has first > last).
    fn range(&self) -> (u32, u32) {
        if !self.is_code() && self.has(attr::EXPAND_DOWN_OR_CONFORMING) {
            let last = if self.has(attr::BIG) {
                u32::MAX
            } else {
                0xffff
            };
            return match self.limit.checked_add(1) {
                Some(first) if first <= last => (first, last),
                _ => EMPTY,
            };
        }
        (0, self.limit)
    }
}

const EMPTY: (u32, u32) = (u32::MAX, 0);

/// Valid offsets of a segment register for reads and for writes, derived from
/// its hidden part so that an access costs two comparisons.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentWindow {
    pub(crate) base: u32,
    pub(crate) read: (u32, u32),
    pub(crate) write: (u32, u32),
}

impl SegmentWindow {
    pub(crate) fn new(segment: &Segment) -> Self {
        let usable = segment.has(attr::PRESENT | attr::S);
        let readable = usable && (!segment.is_code() || segment.has(attr::WRITABLE_OR_READABLE));
        let writable = usable && !segment.is_code() && segment.has(attr::WRITABLE_OR_READABLE);
        Self {
            base: segment.base,
            read: if readable { segment.range() } else { EMPTY },
            write: if writable { segment.range() } else { EMPTY },
        }
    }

    /// Whether every offset is valid, at base 0, for reads and writes.
    pub(crate) fn is_flat(&self) -> bool {
        self.base == 0 && self.read == (0, u32::MAX) && self.write == (0, u32::MAX)
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DescriptorTable {
    /// Linear address of the first descriptor.
    pub base: u32,
    /// Offset of the last byte.
    pub limit: u16,
}
