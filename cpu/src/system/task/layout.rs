//! Where the fields of a TSS stand (SDM vol. 3, figures 7-2 and 7-10).

use crate::segment::Segment;
use crate::system::descriptor::kind;
use crate::system::stack::Width;

/// Offsets in a TSS, and the size of its fields.
#[derive(Clone, Copy, Debug)]
pub(in crate::system) struct Layout {
    pub(in crate::system) width: Width,
    /// The smallest limit.
    pub(super) limit: u32,
    /// SP0 or ESP0; SS0 follows, then rings 1 and 2.
    pub(super) stacks: u32,
    pub(super) cr3: Option<u32>,
    pub(super) eip: u32,
    pub(super) eflags: u32,
    /// EAX to EDI.
    pub(super) regs: u32,
    /// ES, CS, SS, DS, and FS, GS if there are `segments` of them.
    pub(super) selectors: u32,
    pub(super) segments: u8,
    pub(super) ldt: u32,
    /// The word with the T bit.
    pub(super) trap: Option<u32>,
}

const WIDE: Layout = Layout {
    width: Width::Dword,
    limit: 0x67,
    stacks: 0x04,
    cr3: Some(0x1c),
    eip: 0x20,
    eflags: 0x24,
    regs: 0x28,
    selectors: 0x48,
    segments: 6,
    ldt: 0x60,
    trap: Some(0x64),
};

const NARROW: Layout = Layout {
    width: Width::Word,
    limit: 0x2b,
    stacks: 0x02,
    cr3: None,
    eip: 0x0e,
    eflags: 0x10,
    regs: 0x12,
    selectors: 0x22,
    segments: 4,
    ldt: 0x2a,
    trap: None,
};

impl Layout {
    pub(super) fn of(wide: bool) -> Self {
        if wide { WIDE } else { NARROW }
    }

    pub(super) fn of_register(tr: &Segment) -> Self {
        Self::of(u32::from(tr.attributes) & kind::WIDE != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::gpr;
    use crate::segment::seg;

    #[test]
    fn fields_stand_where_figures_7_2_and_7_10_put_them() {
        let esp = WIDE.regs + 4 * u32::try_from(gpr::ESP).unwrap();
        assert_eq!((esp, WIDE.selectors + 4 * u32::from(seg::GS)), (0x38, 0x5c));
        let sp = NARROW.regs + 2 * u32::try_from(gpr::ESP).unwrap();
        assert_eq!(
            (sp, NARROW.selectors + 2 * u32::from(seg::DS)),
            (0x1a, 0x28)
        );
    }
}
