//! Comparisons, MIN and MAX of one element.

use std::cmp::Ordering;

use super::super::mxcsr::{INVALID, Mxcsr};
use super::Binary;
use super::element::{Class, Element, Operand, Precision};

/// Whether a quiet NaN makes a comparison invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuietNans {
    Invalid,
    Unordered,
}

/// Compares; `None` is unordered.
pub(crate) fn compare(
    precision: Precision,
    a: u64,
    b: u64,
    quiet: QuietNans,
    mxcsr: Mxcsr,
) -> (Option<Ordering>, u32) {
    let (a, b) = (
        Operand::new(a, precision, mxcsr),
        Operand::new(b, precision, mxcsr),
    );
    if a.class == Class::SignallingNan || b.class == Class::SignallingNan {
        return (None, INVALID);
    }
    if a.is_nan() || b.is_nan() {
        return (
            None,
            if quiet == QuietNans::Invalid {
                INVALID
            } else {
                0
            },
        );
    }
    (Some(rank(a).cmp(&rank(b))), a.denormal() | b.denormal())
}

/// CMPPS and its relatives: all ones or all zeros. Bits 3 to 7 of the predicate do not count.
pub(crate) fn compare_mask(
    predicate: u8,
    precision: Precision,
    a: u64,
    b: u64,
    mxcsr: Mxcsr,
) -> Element {
    let quiet = if matches!(predicate & 3, 1 | 2) {
        QuietNans::Invalid
    } else {
        QuietNans::Unordered
    };
    let (order, raised) = compare(precision, a, b, quiet, mxcsr);
    let holds = match predicate & 3 {
        0 => order == Some(Ordering::Equal),
        1 => order == Some(Ordering::Less),
        2 => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        _ => order.is_none(),
    };
    let holds = holds != (predicate & 4 != 0);
    Element {
        bits: if holds { u64::MAX } else { 0 },
        raised,
    }
}

/// MIN and MAX: the second operand wherever the operands are not ordered, or are both zero.
pub(super) fn select(operation: Binary, a: Operand, b: Operand) -> Element {
    if a.is_nan() || b.is_nan() {
        return Element {
            bits: b.bits,
            raised: INVALID,
        };
    }
    let wanted = if operation == Binary::Min {
        Ordering::Less
    } else {
        Ordering::Greater
    };
    let first = rank(a).cmp(&rank(b)) == wanted;
    Element {
        bits: if first { a.bits } else { b.bits },
        raised: a.denormal() | b.denormal(),
    }
}

/// A key that orders all numbers; zeros are equal.
fn rank(a: Operand) -> (i8, i32, i128) {
    let sign = if a.negative { -1 } else { 1 };
    match a.class {
        Class::Zero => (0, 0, 0),
        Class::Normal(finite) | Class::Denormal(finite) => (
            sign,
            finite.exponent * i32::from(sign),
            i128::from(finite.significand) * i128::from(sign),
        ),
        _ => (sign, i32::MAX * i32::from(sign), 0),
    }
}
