//! Conversions of one element between the two precisions and 32-bit integers.

use super::super::mxcsr::{INVALID, Mxcsr, PRECISION};
use super::{Class, Element, Operand, Precision, rounded};
use crate::float::exact::Finite;
use crate::float::round::to_integer;

/// Converts between the two precisions.
pub(crate) fn convert(from: Precision, to: Precision, a: u64, mxcsr: Mxcsr) -> Element {
    let a = Operand::new(a, from, mxcsr);
    let sign = to.signed(a.negative);
    match a.class {
        Class::Zero => Element::exact(sign),
        Class::Infinity => Element::exact(sign | to.infinity()),
        Class::Normal(finite) | Class::Denormal(finite) => {
            rounded(finite.widen(), to, mxcsr).also(a.denormal())
        }
        Class::QuietNan | Class::SignallingNan => {
            let fraction = a.bits & ((1 << from.fraction_bits()) - 1);
            let aligned = fraction << (63 - from.fraction_bits()) >> (63 - to.fraction_bits());
            let raised = if a.class == Class::SignallingNan {
                INVALID
            } else {
                0
            };
            Element {
                bits: sign | to.infinity() | aligned | to.quiet_bit(),
                raised,
            }
        }
    }
}

/// Converts a 32-bit integer.
pub(crate) fn from_integer(to: Precision, integer: i32, mxcsr: Mxcsr) -> Element {
    match Finite::normalised(integer < 0, 63, u64::from(integer.unsigned_abs())) {
        Some(finite) => rounded(finite.widen(), to, mxcsr),
        None => Element::exact(0),
    }
}

/// Converts to a 32-bit integer under the rounding control; what does not fit is invalid and gives the most negative integer.
pub(crate) fn to_int32(from: Precision, a: u64, mxcsr: Mxcsr) -> Element {
    let invalid = Element {
        bits: 0x8000_0000,
        raised: INVALID,
    };
    let a = Operand::new(a, from, mxcsr);
    let finite = match a.class {
        Class::Zero => return Element::exact(0),
        Class::Normal(finite) | Class::Denormal(finite) => finite,
        _ => return invalid,
    };
    let (magnitude, part) = to_integer(finite.widen(), mxcsr.rounding());
    let limit = 0x8000_0000 - u64::from(!finite.negative);
    match magnitude {
        Some(magnitude) if magnitude <= limit => {
            let value = if finite.negative {
                magnitude.wrapping_neg()
            } else {
                magnitude
            };
            Element {
                bits: value & 0xFFFF_FFFF,
                raised: if part.inexact { PRECISION } else { 0 },
            }
        }
        _ => invalid,
    }
}
