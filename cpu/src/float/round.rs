//! Rounding of a [`Wide`] to a destination format, with the exception conditions of the SDM's volume 1, section 4.9.1.

use super::exact::Wide;

/// Rounding control, encoded as in the RC fields of the x87 control word and MXCSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    NearestEven,
    Down,
    Up,
    TowardZero,
}

impl Rounding {
    /// From the two bits of an RC field; higher bits are ignored.
    pub(crate) fn from_bits(bits: u32) -> Rounding {
        match bits & 3 {
            0 => Rounding::NearestEven,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::TowardZero,
        }
    }

    /// Whether a magnitude is rounded away from zero, given its sign, its lowest kept bit, and what was cut off.
    fn away(self, negative: bool, odd: bool, cut: Cut) -> bool {
        match self {
            Rounding::NearestEven => cut == Cut::AboveHalf || (cut == Cut::Half && odd),
            Rounding::Down => negative && cut != Cut::Nothing,
            Rounding::Up => !negative && cut != Cut::Nothing,
            Rounding::TowardZero => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Nothing,
    BelowHalf,
    Half,
    AboveHalf,
}

/// A destination: significand bits (at most 64) and the exponents of its normal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) precision: u32,
    pub(crate) min_exponent: i32,
    pub(crate) max_exponent: i32,
}

impl Format {
    pub(crate) const SINGLE: Format = Format {
        precision: 24,
        min_exponent: -126,
        max_exponent: 127,
    };
    pub(crate) const DOUBLE: Format = Format {
        precision: 53,
        min_exponent: -1022,
        max_exponent: 1023,
    };
    pub(crate) const EXTENDED: Format = Format {
        precision: 64,
        min_exponent: -16382,
        max_exponent: 16383,
    };
}

/// The two ways in which a number was rounded. Significands are left-aligned: bit 63 is the integer bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rounded {
    pub(crate) negative: bool,
    /// Rounded to the precision as if the exponent had no bounds: what an unmasked overflow or underflow handler is given, before the bias.
    pub(crate) unbounded: Part,
    /// Rounded to the destination: an infinity is `overflow` with significand 0; a denormal has bit 63 clear and the minimum exponent.
    pub(crate) bounded: Part,
    /// The unbounded result exceeds the largest finite number.
    pub(crate) overflow: bool,
    /// The unbounded result is below the smallest normal number.
    pub(crate) tiny: bool,
}

/// One significand and exponent, and how they came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) exponent: i32,
    pub(crate) significand: u64,
    pub(crate) inexact: bool,
    /// The magnitude was rounded up (C1).
    pub(crate) up: bool,
}

/// Rounds `value` to `format`.
pub(crate) fn round(value: Wide, rounding: Rounding, format: Format) -> Rounded {
    let unbounded = keep(value, rounding, format.precision);
    let overflow = unbounded.exponent > format.max_exponent;
    let tiny = unbounded.exponent < format.min_exponent;
    let bounded = if overflow {
        overflowed(value.negative, rounding, format)
    } else if tiny {
        denormalised(value, rounding, format)
    } else {
        unbounded
    };
    Rounded {
        negative: value.negative,
        unbounded,
        bounded,
        overflow,
        tiny,
    }
}

/// Rounds to an integer: ±`significand`, which is `None` if it needs more than 64 bits. The flags are those of the rounding alone.
pub(crate) fn to_integer(value: Wide, rounding: Rounding) -> (Option<u64>, Part) {
    let kept = value.exponent + 1;
    if kept > 64 {
        return (
            None,
            Part {
                exponent: 0,
                significand: 0,
                inexact: false,
                up: false,
            },
        );
    }
    let (integer, inexact, up) = cut(value, rounding, kept);
    (
        u64::try_from(integer).ok(),
        Part {
            exponent: 0,
            significand: 0,
            inexact,
            up,
        },
    )
}

/// Keeps the top `bits` (possibly none or fewer) of the significand: the kept integer, inexactness, and whether it was rounded up.
fn cut(value: Wide, rounding: Rounding, bits: i32) -> (u128, bool, bool) {
    let (kept, lost) = match bits {
        1..=127 => (value.significand >> (128 - bits), value.significand << bits),
        128.. => (value.significand, 0),
        0 => (0, value.significand),
        // Less than a quarter of the last place: all that matters is that it is not zero.
        _ => (0, 1),
    };
    let cut = match (lost, value.sticky) {
        (0, false) => Cut::Nothing,
        (HALF, false) => Cut::Half,
        (HALF.., _) => Cut::AboveHalf,
        _ => Cut::BelowHalf,
    };
    let up = rounding.away(value.negative, kept & 1 != 0, cut);
    (kept + u128::from(up), cut != Cut::Nothing, up)
}

const HALF: u128 = 1 << 127;

/// Rounds to `precision` bits without bounds of the exponent.
fn keep(value: Wide, rounding: Rounding, precision: u32) -> Part {
    let (kept, inexact, up) = cut(value, rounding, precision as i32);
    let aligned = kept << (64 - precision);
    // A carry out of the significand leaves a power of two.
    match u64::try_from(aligned) {
        Ok(significand) => Part {
            exponent: value.exponent,
            significand,
            inexact,
            up,
        },
        Err(_) => Part {
            exponent: value.exponent + 1,
            significand: 1 << 63,
            inexact,
            up,
        },
    }
}

/// Rounds a tiny number to the spacing of the denormals.
fn denormalised(value: Wide, rounding: Rounding, format: Format) -> Part {
    let bits = format.precision as i32 - (format.min_exponent - value.exponent);
    let (kept, inexact, up) = cut(value, rounding, bits);
    // At most 2^precision-1 before the shift, or the smallest normal number: it fits 64 bits.
    let significand = (kept as u64) << (64 - format.precision);
    Part {
        exponent: format.min_exponent,
        significand,
        inexact,
        up,
    }
}

/// Infinity, or the largest finite number where rounding goes toward zero.
fn overflowed(negative: bool, rounding: Rounding, format: Format) -> Part {
    let infinite =
        rounding == Rounding::NearestEven || rounding.away(negative, false, Cut::AboveHalf);
    let significand = if infinite {
        0
    } else {
        u64::MAX << (64 - format.precision)
    };
    let exponent = if infinite {
        format.max_exponent + 1
    } else {
        format.max_exponent
    };
    Part {
        exponent,
        significand,
        inexact: true,
        up: infinite,
    }
}
