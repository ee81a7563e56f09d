//! FPREM, FPREM1, FSCALE and FXTRACT (SDM volume 2).

use super::{
    arith::{Outcome, nan_result, nan_result_unary, with_denormal},
    control::{C0, C1, C2, C3, Control, DENORMAL, UNDERFLOW, ZERO_DIVIDE},
    convert::{exponent_of, scaled, significand_of},
    f80::{F80, Operand},
};
use crate::float::exact::{Finite, Wide};

/// How the quotient of a partial remainder is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quotient {
    /// FPREM.
    Truncated,
    /// FPREM1, the IEEE remainder.
    Nearest,
}

/// The remainder and the condition codes: C2 if the reduction is incomplete, else the low three quotient bits in C0, C3 and C1;
/// `None` (C0 and C3 unchanged) if the operands are invalid or NaNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remainder {
    pub(crate) outcome: Outcome,
    pub(crate) codes: Option<u16>,
}

/// `a` reduced by `b`.
pub(crate) fn remainder(quotient: Quotient, a: Operand, b: Operand, control: Control) -> Remainder {
    let plain = |outcome| Remainder {
        outcome,
        codes: Some(0),
    };
    if let Some(outcome) = nan_result(a, b) {
        return Remainder {
            outcome,
            codes: None,
        };
    }
    if a.is_infinite() || b.finite().is_none() && !b.is_infinite() {
        return Remainder {
            outcome: Outcome::invalid(),
            codes: None,
        };
    }
    let denormal = if a.is_denormal() || b.is_denormal() {
        DENORMAL
    } else {
        0
    };
    let result = match (a.finite(), b.finite()) {
        (Some(x), Some(y)) => reduce(quotient, x, y, control),
        // By infinity: unchanged, and no underflow even if that is unmasked.
        (Some(x), None) => plain(scaled(x, 0, Control(control.0 | UNDERFLOW))),
        (None, _) => plain(Outcome::exact(a.value)),
    };
    Remainder {
        outcome: with_denormal(result.outcome, denormal, control),
        ..result
    }
}

fn reduce(quotient: Quotient, a: Finite, b: Finite, control: Control) -> Remainder {
    let distance = a.exponent - b.exponent;
    if distance < -1 || (distance < 0 && quotient == Quotient::Truncated) {
        return Remainder {
            outcome: scaled(a, 0, control),
            codes: Some(0),
        };
    }
    if distance >= 64 {
        // Partial: between 32 and 63 exponent steps at once; the processor takes a multiple of 32 that leaves the rest below 64.
        let steps = 32 + (distance & 31);
        let dividend = u128::from(a.significand) << steps;
        let rest = dividend % u128::from(b.significand);
        return Remainder {
            outcome: exact(a.negative, rest, a.exponent - steps, control),
            codes: Some(C2),
        };
    }
    let divisor = u128::from(b.significand) << 1;
    let dividend = u128::from(a.significand) << (distance + 1);
    let (mut whole, rest) = (dividend / divisor, dividend % divisor);
    let mut negative = a.negative;
    let mut rest = rest;
    if quotient == Quotient::Nearest
        && (rest * 2 > divisor || rest * 2 == divisor && whole & 1 != 0)
    {
        whole += 1;
        rest = divisor - rest;
        negative = !negative;
    }
    let bit = |mask: u128, code: u16| if whole & mask != 0 { code } else { 0 };
    let codes = Some(bit(4, C0) | bit(2, C3) | bit(1, C1));
    let outcome = if rest == 0 {
        Outcome::exact(F80::zero(a.negative))
    } else {
        exact(negative, rest, b.exponent - 1, control)
    };
    Remainder { outcome, codes }
}

/// ±`rest` × 2^(`exponent` − 63) in a register: remainders are never rounded, but may be denormal.
fn exact(negative: bool, rest: u128, exponent: i32, control: Control) -> Outcome {
    match Wide::normalised(negative, exponent + 64, rest) {
        None => Outcome::exact(F80::zero(negative)),
        Some(wide) => super::arith::rounded_to(wide, 64, control),
    }
}

/// FSCALE: `a` × 2^trunc(`b`).
pub(crate) fn scale(a: Operand, b: Operand, control: Control) -> Outcome {
    if let Some(outcome) = nan_result(a, b) {
        return outcome;
    }
    let denormal = if a.is_denormal() || b.is_denormal() {
        DENORMAL
    } else {
        0
    };
    let a_is_zero = a.finite().is_none() && !a.is_infinite();
    let outcome = match (b.is_infinite(), b.negative()) {
        (true, false) if a_is_zero => Outcome::invalid(),
        (true, false) => Outcome::exact(F80::infinity(a.negative())),
        (true, true) if a.is_infinite() => Outcome::invalid(),
        (true, true) => Outcome::exact(F80::zero(a.negative())),
        _ => match (a.finite(), b.finite()) {
            // A scale of zero returns the same number: no underflow, even if
            // that is unmasked.
            (Some(finite), None) => scaled(finite, 0, Control(control.0 | UNDERFLOW)),
            (Some(finite), Some(_)) => scaled(finite, truncated(b), control),
            (None, _) => Outcome::exact(a.value),
        },
    };
    with_denormal(outcome, denormal, control)
}

/// The integer part, limited to what moves any number out of range.
fn truncated(b: Operand) -> i32 {
    const LIMIT: u32 = 0x1_0000;
    let Some(finite) = b.finite() else { return 0 };
    let magnitude = match finite.exponent {
        ..0 => 0,
        exponent @ 0..=16 => (finite.significand >> (63 - exponent)) as u32,
        _ => LIMIT,
    };
    let magnitude = magnitude.min(LIMIT) as i32;
    if finite.negative {
        -magnitude
    } else {
        magnitude
    }
}

/// FXTRACT: the exponent (for ST(1) after the push) and the significand.
pub(crate) fn extract(a: Operand, control: Control) -> (Outcome, F80) {
    if let Some(outcome) = nan_result_unary(a) {
        return (outcome, outcome.value);
    }
    match a.finite() {
        Some(finite) => {
            let denormal = if a.is_denormal() { DENORMAL } else { 0 };
            (
                with_denormal(Outcome::exact(exponent_of(finite)), denormal, control),
                significand_of(finite),
            )
        }
        None if a.is_infinite() => (Outcome::exact(F80::infinity(false)), a.value),
        None => (
            Outcome {
                value: F80::infinity(true),
                raised: ZERO_DIVIDE,
                up: false,
            },
            a.value,
        ),
    }
}
