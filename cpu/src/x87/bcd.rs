//! Packed decimal: FBLD and FBSTP (SDM volume 1, section 4.7).

use super::{
    control::{Control, INVALID, PRECISION},
    convert::{Stored, from_integer},
    f80::{Class, F80, Operand},
};
use crate::float::round::to_integer;

/// The largest magnitude of 18 decimal digits.
const MAX_MAGNITUDE: u64 = 999_999_999_999_999_999;
/// The masked answer to an invalid operand.
const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xC0, 0xFF, 0xFF];

/// Reads 18 digits and a sign. Digits above nine, which the manual leaves undefined, count with their binary value, as on the processor.
pub(crate) fn load(bytes: [u8; 10]) -> F80 {
    let [digits @ .., sign] = bytes;
    let magnitude = digits.iter().rev().fold(0_u64, |sum, byte| {
        sum.wrapping_mul(100)
            .wrapping_add(u64::from(byte >> 4) * 10 + u64::from(byte & 15))
    });
    let value = from_integer(magnitude as i64).value;
    if sign & 0x80 != 0 {
        value.negated()
    } else {
        value
    }
}

/// Rounds to an integer under the rounding control and writes its digits.
pub(crate) fn store(value: F80, control: Control) -> Stored<[u8; 10]> {
    let invalid = Stored {
        bits: INDEFINITE,
        raised: INVALID,
        up: false,
        suppressed: control.unmasked(INVALID) != 0,
    };
    let operand = Operand::from(value);
    let (magnitude, raised, up) = match operand.class {
        Class::Zero => (0, 0, false),
        Class::Normal(finite) | Class::Denormal(finite) => {
            match to_integer(finite.widen(), control.rounding()) {
                (Some(magnitude), part) if magnitude <= MAX_MAGNITUDE => {
                    (magnitude, if part.inexact { PRECISION } else { 0 }, part.up)
                }
                _ => return invalid,
            }
        }
        _ => return invalid,
    };
    let mut bits = [0; 10];
    let mut rest = magnitude;
    for byte in &mut bits[..9] {
        let pair = (rest % 100) as u8;
        *byte = ((pair / 10) << 4) | (pair % 10);
        rest /= 100;
    }
    bits[9] = u8::from(operand.negative()) << 7;
    Stored {
        bits,
        raised,
        up,
        suppressed: false,
    }
}
