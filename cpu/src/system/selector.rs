//! Selectors, and the exceptions that a bad one raises.

use crate::exception::Exception;
use crate::state::{Core, Raised};

/// A segment selector: index, table indicator, requested privilege level
/// (SDM vol. 3, 3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Selector(pub(crate) u16);

impl Selector {
    /// The low 16 bits of a stack slot or of a TSS field.
    #[allow(clippy::cast_possible_truncation)] // a selector is the low half
    pub(crate) fn from_slot(slot: u32) -> Self {
        Self(slot as u16)
    }

    /// Index 0 of the GDT, whatever the RPL.
    pub(crate) fn is_null(self) -> bool {
        self.0 & 0xfffc == 0
    }

    /// Requested privilege level.
    pub(crate) fn rpl(self) -> u8 {
        (self.0 & 3) as u8
    }

    /// The descriptor is in the LDT.
    pub(crate) fn is_local(self) -> bool {
        self.0 & 4 != 0
    }

    /// Offset of the descriptor in its table.
    pub(crate) fn offset(self) -> u32 {
        u32::from(self.0 & 0xfff8)
    }

    /// The same descriptor with another RPL.
    pub(crate) fn with_rpl(self, rpl: u8) -> Self {
        Self(self.0 & 0xfffc | u16::from(rpl & 3))
    }

    /// The selector as an error code shows it, with the EXT bit.
    pub(crate) fn error_code(self, ext: Ext) -> u16 {
        self.0 & 0xfffc | ext.0
    }
}

/// Bit 0 of an error code: the exception arose while an event outside the
/// program (an interrupt or an earlier exception) was being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ext(pub(crate) u16);

impl Ext {
    /// The program itself is the cause.
    pub(crate) const PROGRAM: Self = Self(0);
    /// An interrupt or an exception is the cause.
    pub(crate) const EVENT: Self = Self(1);
}

/// Which exception a bad selector raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// `#TS`: the selector comes from a TSS.
    InvalidTss,
    /// `#NP`.
    NotPresent,
    /// `#SS`.
    Stack,
    /// `#GP`.
    Protection,
}

impl Core {
    /// Raises `blame` with `selector` as the error code.
    #[cold]
    pub(crate) fn selector_fault(&mut self, blame: Blame, selector: Selector, ext: Ext) -> Raised {
        let code = selector.error_code(ext);
        self.raise(match blame {
            Blame::InvalidTss => Exception::InvalidTss(code),
            Blame::NotPresent => Exception::SegmentNotPresent(code),
            Blame::Stack => Exception::StackFault(code),
            Blame::Protection => Exception::GeneralProtection(code),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_selector() {
        let selector = Selector(0x2f);
        assert_eq!(
            (selector.offset(), selector.is_local(), selector.rpl()),
            (0x28, true, 3)
        );
        assert_eq!(selector.error_code(Ext::EVENT), 0x2d);
        assert_eq!(selector.with_rpl(1), Selector(0x2d));
        assert!(Selector(3).is_null() && !Selector(4).is_null());
    }
}
