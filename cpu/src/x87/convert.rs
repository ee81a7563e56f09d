//! Conversions between registers and the memory formats: single, double and integers (SDM volume 1, section 4.8 and volume 2, FLD, FST, FILD, FIST).

use super::{
    arith::{Outcome, nan_result_unary, rounded_to},
    control::{Control, DENORMAL, INVALID, OVERFLOW, PRECISION, UNDERFLOW},
    f80::{BIAS, Class, F80, INTEGER_BIT, Operand},
};
use crate::float::{
    exact::{Finite, Wide},
    round::{Format, round, to_integer},
};

/// What a store to memory computed. `bits` go to memory unless an unmasked exception forbids it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored<T> {
    pub(crate) bits: T,
    pub(crate) raised: u16,
    pub(crate) up: bool,
    /// An unmasked exception: neither the store nor the pop happens.
    pub(crate) suppressed: bool,
}

/// A narrow format's layout: fraction bits, exponent field and bias.
struct Narrow {
    fraction_bits: u32,
    exponent_mask: u64,
    bias: i32,
    format: Format,
}

const SINGLE: Narrow = Narrow {
    fraction_bits: 23,
    exponent_mask: 0xFF,
    bias: 127,
    format: Format::SINGLE,
};
const DOUBLE: Narrow = Narrow {
    fraction_bits: 52,
    exponent_mask: 0x7FF,
    bias: 1023,
    format: Format::DOUBLE,
};

/// A single-precision operand.
pub(crate) fn from_single(bits: u32) -> Operand {
    from_narrow(u64::from(bits), &SINGLE)
}

/// A double-precision operand.
pub(crate) fn from_double(bits: u64) -> Operand {
    from_narrow(bits, &DOUBLE)
}

fn from_narrow(bits: u64, narrow: &Narrow) -> Operand {
    let exponent_bits = 64 - narrow.exponent_mask.leading_zeros();
    let negative = bits >> (narrow.fraction_bits + exponent_bits) & 1 != 0;
    let biased = bits >> narrow.fraction_bits & narrow.exponent_mask;
    let fraction = bits << (63 - narrow.fraction_bits) & !INTEGER_BIT;
    if biased == narrow.exponent_mask {
        let value = F80 {
            significand: INTEGER_BIT | fraction,
            ..F80::infinity(negative)
        };
        return value.into();
    }
    let integer = if biased == 0 { 0 } else { INTEGER_BIT };
    let exponent = (biased as i32).max(1) - narrow.bias;
    match Finite::normalised(negative, exponent, integer | fraction) {
        None => F80::zero(negative).into(),
        Some(finite) => {
            let value = F80::encode(negative, finite.exponent, finite.significand);
            Operand {
                value,
                class: if biased == 0 {
                    Class::Denormal(finite)
                } else {
                    Class::Normal(finite)
                },
            }
        }
    }
}

/// An integer operand; every 64-bit integer is exact.
pub(crate) fn from_integer(integer: i64) -> Operand {
    match Finite::normalised(integer < 0, 63, integer.unsigned_abs()) {
        None => F80::zero(false).into(),
        Some(finite) => F80::encode(finite.negative, finite.exponent, finite.significand).into(),
    }
}

/// FLD from a narrow format: only signalling NaNs and denormals raise anything.
pub(crate) fn load(operand: Operand) -> Outcome {
    match operand.class {
        Class::SignallingNan => Outcome {
            value: operand.value.quieted(),
            raised: INVALID,
            up: false,
        },
        Class::Denormal(_) => Outcome {
            value: operand.value,
            raised: DENORMAL,
            up: false,
        },
        _ => Outcome::exact(operand.value),
    }
}

/// FST to single precision.
pub(crate) fn to_single(value: F80, control: Control) -> Stored<u32> {
    let stored = to_narrow(value, control, &SINGLE);
    Stored {
        bits: stored.bits as u32,
        raised: stored.raised,
        up: stored.up,
        suppressed: stored.suppressed,
    }
}

/// FST to double precision.
pub(crate) fn to_double(value: F80, control: Control) -> Stored<u64> {
    to_narrow(value, control, &DOUBLE)
}

fn to_narrow(value: F80, control: Control, narrow: &Narrow) -> Stored<u64> {
    let operand = Operand::from(value);
    if let Some(nan) = nan_result_unary(operand) {
        let bits = pack(
            nan.value.negative(),
            narrow.exponent_mask,
            nan.value.significand,
            narrow,
        );
        return Stored {
            bits,
            raised: nan.raised,
            up: false,
            suppressed: control.unmasked(nan.raised) != 0,
        };
    }
    let Some(finite) = operand.finite() else {
        let biased = if operand.is_infinite() {
            narrow.exponent_mask
        } else {
            0
        };
        return Stored {
            bits: pack(operand.negative(), biased, 0, narrow),
            raised: 0,
            up: false,
            suppressed: false,
        };
    };
    let result = round(finite.widen(), control.rounding(), narrow.format);
    let mut raised = if result.overflow { OVERFLOW } else { 0 };
    if result.tiny && (result.bounded.inexact || control.unmasked(UNDERFLOW) != 0) {
        raised |= UNDERFLOW;
    }
    if control.unmasked(raised) != 0 {
        return Stored {
            bits: 0,
            raised,
            up: false,
            suppressed: true,
        };
    }
    let part = result.bounded;
    let normal = part.significand & INTEGER_BIT != 0 || result.overflow;
    let biased = if normal {
        u64::from((part.exponent + narrow.bias).unsigned_abs())
    } else {
        0
    };
    let raised = raised | if part.inexact { PRECISION } else { 0 };
    Stored {
        bits: pack(result.negative, biased, part.significand, narrow),
        raised,
        up: part.up,
        suppressed: false,
    }
}

/// Puts together a narrow encoding from a left-aligned significand, whose integer bit is dropped.
fn pack(negative: bool, biased: u64, significand: u64, narrow: &Narrow) -> u64 {
    let exponent_bits = 64 - narrow.exponent_mask.leading_zeros();
    let fraction = (significand & !INTEGER_BIT) >> (63 - narrow.fraction_bits);
    u64::from(negative) << (narrow.fraction_bits + exponent_bits)
        | biased << narrow.fraction_bits
        | fraction
}

/// FIST to an integer of `bits` bits (16, 32 or 64), sign-extended; the masked answer to an invalid operand is the most negative integer.
pub(crate) fn to_signed(value: F80, bits: u32, control: Control) -> Stored<i64> {
    let invalid = Stored {
        bits: i64::MIN >> (64 - bits),
        raised: INVALID,
        up: false,
        suppressed: control.unmasked(INVALID) != 0,
    };
    let operand = Operand::from(value);
    let finite = match operand.class {
        Class::Zero => {
            return Stored {
                bits: 0,
                raised: 0,
                up: false,
                suppressed: false,
            };
        }
        Class::Normal(finite) | Class::Denormal(finite) => finite,
        _ => return invalid,
    };
    let (magnitude, part) = to_integer(finite.widen(), control.rounding());
    let limit = (1_u64 << (bits - 1)) - u64::from(!finite.negative);
    match magnitude {
        Some(magnitude) if magnitude <= limit => {
            let signed = if finite.negative {
                (magnitude as i64).wrapping_neg()
            } else {
                magnitude as i64
            };
            Stored {
                bits: signed,
                raised: if part.inexact { PRECISION } else { 0 },
                up: part.up,
                suppressed: false,
            }
        }
        _ => invalid,
    }
}

/// FRNDINT.
pub(crate) fn round_to_integer(a: Operand, control: Control) -> Outcome {
    if let Some(outcome) = nan_result_unary(a) {
        return outcome;
    }
    let Some(finite) = a.finite() else {
        return Outcome::exact(a.value);
    };
    if finite.exponent >= 63 {
        return Outcome::exact(a.value);
    }
    let (magnitude, part) = to_integer(finite.widen(), control.rounding());
    let rounded = Finite::normalised(finite.negative, 63, magnitude.unwrap_or(0));
    let value = rounded.map_or(F80::zero(finite.negative), |r| {
        F80::encode(r.negative, r.exponent, r.significand)
    });
    let raised = if part.inexact { PRECISION } else { 0 };
    super::arith::with_denormal(
        Outcome {
            value,
            raised,
            up: part.up,
        },
        if a.is_denormal() { DENORMAL } else { 0 },
        control,
    )
}

/// The nearest double, rounded to nearest even: what the transcendental instructions compute with.
pub(crate) fn to_f64(value: F80) -> f64 {
    f64::from_bits(to_double(value, Control(super::control::INITIAL_CONTROL)).bits)
}

/// A double as a register value, exactly.
pub(crate) fn from_f64(value: f64) -> F80 {
    from_double(value.to_bits()).value
}

/// `value` × 2^`scale`, rounded to 64 bits under the rounding control, as FSCALE does.
pub(crate) fn scaled(value: Finite, scale: i32, control: Control) -> Outcome {
    let wide = value.widen();
    rounded_to(
        Wide {
            exponent: wide.exponent + scale,
            ..wide
        },
        64,
        control,
    )
}

/// The exponent of a finite number as a register value.
pub(crate) fn exponent_of(finite: Finite) -> F80 {
    from_integer(i64::from(finite.exponent)).value
}

/// The significand of a finite number in [1, 2), with its sign.
pub(crate) fn significand_of(finite: Finite) -> F80 {
    F80 {
        significand: finite.significand,
        sign_exponent: BIAS as u16 | u16::from(finite.negative) << 15,
    }
}
