//! MXCSR (SDM volume 1, section 10.2.3).

use crate::float::round::Rounding;

/// Exception flags; the masks are the same bits, shifted by [`MASK_SHIFT`].
pub(crate) const INVALID: u32 = 1;
pub(crate) const DENORMAL: u32 = 1 << 1;
pub(crate) const ZERO_DIVIDE: u32 = 1 << 2;
pub(crate) const OVERFLOW: u32 = 1 << 3;
pub(crate) const UNDERFLOW: u32 = 1 << 4;
pub(crate) const PRECISION: u32 = 1 << 5;
/// The exceptions that are found before the result is computed.
pub(crate) const BEFORE_RESULT: u32 = INVALID | DENORMAL | ZERO_DIVIDE;
const DENORMALS_ARE_ZERO: u32 = 1 << 6;
const MASK_SHIFT: u32 = 7;
const ROUNDING_SHIFT: u32 = 13;
const FLUSH_TO_ZERO: u32 = 1 << 15;

/// MXCSR after power-up and reset.
pub(crate) const INITIAL: u32 = 0x1F80;
/// The bits that may be set; FXSAVE shows them as MXCSR_MASK.
pub(crate) const WRITABLE: u32 = 0xFFFF;

/// The register, as the arithmetic sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mxcsr(pub(crate) u32);

impl Mxcsr {
    pub(crate) fn rounding(self) -> Rounding {
        Rounding::from_bits(self.0 >> ROUNDING_SHIFT)
    }

    /// DAZ: denormal operands count as zeros.
    pub(crate) fn denormals_are_zero(self) -> bool {
        self.0 & DENORMALS_ARE_ZERO != 0
    }

    /// FTZ: tiny results are replaced by zeros; it counts only while underflow is masked.
    pub(crate) fn flush_to_zero(self) -> bool {
        self.0 & FLUSH_TO_ZERO != 0 && self.unmasked(UNDERFLOW) == 0
    }

    /// The exceptions among `raised` that are not masked.
    pub(crate) fn unmasked(self, raised: u32) -> u32 {
        raised & !(self.0 >> MASK_SHIFT) & 0x3F
    }

    /// Rounding to nearest, everything masked, and the inexact flag set already: an inexact result changes nothing here.
    #[inline(always)]
    pub(crate) fn only_inexact_matters(self) -> bool {
        self.0 & (3 << ROUNDING_SHIFT | 0x3F << MASK_SHIFT | PRECISION)
            == 0x3F << MASK_SHIFT | PRECISION
    }

    /// The same with another rounding control: the truncating conversions ignore it.
    pub(crate) fn truncating(self) -> Mxcsr {
        Mxcsr(self.0 | 3 << ROUNDING_SHIFT)
    }
}
