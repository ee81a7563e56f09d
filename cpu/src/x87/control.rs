//! The control and status words (SDM volume 1, sections 8.1.3 and 8.1.5).

use crate::float::round::Rounding;

/// Exception bits: flags in the status word, masks in the control word, and the same six bits of MXCSR.
pub(crate) const INVALID: u16 = 1;
pub(crate) const DENORMAL: u16 = 1 << 1;
pub(crate) const ZERO_DIVIDE: u16 = 1 << 2;
pub(crate) const OVERFLOW: u16 = 1 << 3;
pub(crate) const UNDERFLOW: u16 = 1 << 4;
pub(crate) const PRECISION: u16 = 1 << 5;
/// All six exceptions.
pub(crate) const EXCEPTIONS: u16 = 0x3F;
/// Those found before anything is computed: unmasked, they leave operands and stack alone.
pub(crate) const BEFORE_RESULT: u16 = INVALID | DENORMAL | ZERO_DIVIDE;

/// Status word: an invalid operation that was a stack fault.
pub(crate) const STACK_FAULT: u16 = 1 << 6;
/// Status word: error summary, set while an unmasked exception is pending.
pub(crate) const ERROR_SUMMARY: u16 = 1 << 7;
pub(crate) const C0: u16 = 1 << 8;
pub(crate) const C1: u16 = 1 << 9;
pub(crate) const C2: u16 = 1 << 10;
pub(crate) const C3: u16 = 1 << 14;
pub(crate) const CONDITION_CODES: u16 = C0 | C1 | C2 | C3;
/// Status word: follows the error summary since the 387.
pub(crate) const BUSY: u16 = 1 << 15;
pub(crate) const TOP_SHIFT: u32 = 11;
pub(crate) const TOP_MASK: u16 = 7 << TOP_SHIFT;

/// The control word after FNINIT.
pub(crate) const INITIAL_CONTROL: u16 = 0x037F;
/// Bit 6 always reads as one; bits 7 and 13 to 15 as zero. Bit 12 (infinity control) is kept and means nothing.
const CONTROL_WRITABLE: u16 = 0x1F3F;
const CONTROL_FIXED: u16 = 0x0040;

/// The control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Control(pub(crate) u16);

impl Control {
    /// The value that a load of `bits` leaves in the register.
    pub(crate) fn loaded(bits: u16) -> Control {
        Control(bits & CONTROL_WRITABLE | CONTROL_FIXED)
    }

    pub(crate) fn rounding(self) -> Rounding {
        Rounding::from_bits(u32::from(self.0) >> 10)
    }

    /// Significand bits of add, subtract, multiply, divide and square root. The reserved encoding 01 acts as 64 bits.
    pub(crate) fn precision(self) -> u32 {
        match (self.0 >> 8) & 3 {
            0 => 24,
            2 => 53,
            _ => 64,
        }
    }

    /// The exceptions among `raised` that are not masked.
    pub(crate) fn unmasked(self, raised: u16) -> u16 {
        raised & !self.0 & EXCEPTIONS
    }
}
