//! Exact results of arithmetic on finite non-zero numbers.

use rustc_apfloat::{Float, Round, Status, StatusAnd, ieee::Quad};

/// A finite non-zero number: ±`significand` × 2^(`exponent` − 63), with bit 63 of the significand set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finite {
    pub(crate) negative: bool,
    pub(crate) exponent: i32,
    pub(crate) significand: u64,
}

impl Finite {
    /// Normalises ±`significand` × 2^(`exponent` − 63); `None` for zero.
    pub(crate) fn normalised(negative: bool, exponent: i32, significand: u64) -> Option<Finite> {
        let shift = significand.leading_zeros();
        (significand != 0).then(|| Finite {
            negative,
            exponent: exponent - shift as i32,
            significand: significand << shift,
        })
    }

    /// Same number as a [`Wide`].
    pub(crate) fn widen(self) -> Wide {
        Wide {
            negative: self.negative,
            exponent: self.exponent,
            significand: u128::from(self.significand) << 64,
            sticky: false,
        }
    }

    /// The significand as a binary128 value with the exponent `exponent`, which is within ±200.
    fn quad(self, negative: bool, exponent: i32) -> Quad {
        let fraction = u128::from(self.significand << 1) << (QUAD_FRACTION_BITS - 64);
        let biased = (QUAD_BIAS + exponent).unsigned_abs();
        Quad::from_bits(
            u128::from(negative) << 127 | u128::from(biased) << QUAD_FRACTION_BITS | fraction,
        )
    }
}

/// A result before rounding: ±`significand` × 2^(`exponent` − 127), with bit 127 of the significand set; at least 111 bits of it are right, and `sticky`
/// says that the exact magnitude is larger by less than one unit of the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wide {
    pub(crate) negative: bool,
    pub(crate) exponent: i32,
    pub(crate) significand: u128,
    pub(crate) sticky: bool,
}

impl Wide {
    /// Normalises ±`significand` × 2^(`exponent` − 127) exactly; `None` for zero.
    pub(crate) fn normalised(negative: bool, exponent: i32, significand: u128) -> Option<Wide> {
        let shift = significand.leading_zeros();
        (significand != 0).then(|| Wide {
            negative,
            exponent: exponent - shift as i32,
            significand: significand << shift,
            sticky: false,
        })
    }
}

const QUAD_BIAS: i32 = 16383;
const QUAD_FRACTION_BITS: u32 = 112;
/// Operands further apart than this do not overlap in 113 bits whatever their significands: the smaller one is only a sticky bit.
const MAX_ALIGNMENT: i32 = 180;

/// `a + b`; `None` if the sum is exactly zero (its sign depends on the rounding mode).
pub(crate) fn add(a: Finite, b: Finite) -> Option<Wide> {
    let (large, small) = if a.exponent >= b.exponent {
        (a, b)
    } else {
        (b, a)
    };
    let distance = (large.exponent - small.exponent).min(MAX_ALIGNMENT);
    let sum = large
        .quad(large.negative, 0)
        .add_r(small.quad(small.negative, -distance), Round::TowardZero);
    if sum.value.is_zero() {
        None
    } else {
        Some(wide(sum, large.exponent))
    }
}

/// `a × b`.
pub(crate) fn mul(a: Finite, b: Finite) -> Wide {
    wide(
        a.quad(a.negative, 0)
            .mul_r(b.quad(b.negative, 0), Round::TowardZero),
        a.exponent + b.exponent,
    )
}

/// `a ÷ b`.
pub(crate) fn div(a: Finite, b: Finite) -> Wide {
    wide(
        a.quad(a.negative, 0)
            .div_r(b.quad(b.negative, 0), Round::TowardZero),
        a.exponent - b.exponent,
    )
}

/// The square root of a positive number.
pub(crate) fn sqrt(a: Finite) -> Wide {
    // With an even exponent the root's exponent is half of it, and the radicand lies in [2^126, 2^128): its integer root has exactly 64 bits.
    let odd = a.exponent & 1;
    let radicand = u128::from(a.significand) << (63 + odd);
    let root = radicand.isqrt();
    let remainder = radicand - root * root;
    // The root's fraction is at least one half exactly if the remainder exceeds the root; it is never one half itself.
    let half = u128::from(remainder > root) << 63;
    Wide {
        negative: false,
        exponent: (a.exponent - odd) / 2,
        significand: root << 64 | half,
        sticky: remainder != 0,
    }
}

/// Scales a non-zero truncated binary128 result by 2^`exponent`.
fn wide(result: StatusAnd<Quad>, exponent: i32) -> Wide {
    let bits = result.value.to_bits();
    let biased = (bits >> QUAD_FRACTION_BITS) & 0x7FFF;
    let fraction = bits & ((1 << QUAD_FRACTION_BITS) - 1);
    Wide {
        negative: bits >> 127 != 0,
        exponent: exponent + biased as i32 - QUAD_BIAS,
        significand: (1 << 127) | fraction << (127 - QUAD_FRACTION_BITS),
        sticky: result.status.contains(Status::INEXACT),
    }
}
