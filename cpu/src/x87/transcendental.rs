//! F2XM1, FYL2X, FYL2XP1, FPATAN, FPTAN, FSIN, FCOS, FSINCOS (SDM volume 2; volume 1, section 8.3.8).
//!
//! Special operands, exceptions and condition codes follow the manual. Values are those of the `libm` crate in double precision, the same on every host:
//! they agree with a processor's to about 52 bits, not to the last of 64. The argument of the trigonometric instructions is first reduced by the 66-bit π that
//! the processors use. Where double precision would lose a tiny argument, the leading term of the series is computed with 64 bits instead. Except for the
//! cases that the manual calls exact, results raise the precision exception and leave C1 clear.

use super::{
    arith::{Outcome, nan_result, nan_result_unary, rounded_to, with_denormal},
    control::{Control, DENORMAL, PRECISION, UNDERFLOW, ZERO_DIVIDE},
    convert::{from_f64, from_integer, to_f64},
    f80::{Class, F80, Operand},
};
use crate::float::exact::{self, Finite, Wide};
use std::f64::consts::{FRAC_PI_2, LN_2, LOG2_E, PI};

/// ln 2 and log2 e to 64 bits.
const LN2: Finite = Finite {
    negative: false,
    exponent: -1,
    significand: 0xB172_17F7_D1CF_79AC,
};
const LOG2E: Finite = Finite {
    negative: false,
    exponent: 0,
    significand: 0xB8AA_3B29_5C17_F0BC,
};
/// Below 2^-60 the second term of any of the series is less than the last of 64 bits; for sine, tangent and arctangent this holds below 2^-32.
const TINY: i32 = -60;
const TINY_ODD: i32 = -32;

fn denormal_flag(operands: &[Operand]) -> u16 {
    if operands.iter().any(|operand| operand.is_denormal()) {
        DENORMAL
    } else {
        0
    }
}

fn inexact(value: f64) -> Outcome {
    Outcome {
        value: from_f64(value),
        raised: PRECISION,
        up: false,
    }
}

/// Rounds the first term of a series whose rest has the same sign.
fn just_above(value: Wide, control: Control) -> Outcome {
    rounded_to(
        Wide {
            sticky: true,
            ..value
        },
        64,
        control,
    )
}

/// Rounds the first term of a series whose rest has the opposite sign. The term has at most 64 bits.
fn just_below(value: Wide, control: Control) -> Outcome {
    let below =
        Wide::normalised(value.negative, value.exponent, value.significand - 1).unwrap_or(value);
    // To nearest, which for the smallest normal number is that number, as on the processor.
    rounded_to(
        Wide {
            sticky: true,
            ..below
        },
        64,
        Control(control.0 & !0xC00),
    )
}

/// A product that stands for a result known to be inexact.
fn inexact_product(a: Finite, b: Finite, control: Control) -> Outcome {
    just_above(exact::mul(a, b), control)
}

/// A double for a number that may be far below its range.
fn reduced_to_f64(value: Finite) -> f64 {
    if value.exponent < -1000 {
        0.0
    } else {
        to_f64(F80::encode(
            value.negative,
            value.exponent,
            value.significand,
        ))
    }
}

/// A finite double as an exact operand of the multiplier.
fn finite(value: f64) -> Option<Finite> {
    Operand::from(from_f64(value)).finite()
}

/// F2XM1: 2^`a` − 1. Outside −1 to +1, where the manual leaves the result undefined, the operand is returned, as by the processor.
pub(crate) fn exponential(a: Operand, control: Control) -> Outcome {
    if let Some(outcome) = nan_result_unary(a) {
        return outcome;
    }
    let outcome = match a.finite() {
        Some(x) if x.exponent < TINY => inexact_product(x, LN2, control),
        Some(_) if a.value == F80::ONE.negated() => Outcome {
            value: F80::encode(true, -1, 1 << 63),
            raised: PRECISION,
            up: false,
        },
        Some(x) if x.exponent >= 0 => Outcome {
            value: a.value,
            raised: PRECISION,
            up: false,
        },
        Some(_) => inexact(libm::expm1(to_f64(a.value) * LN_2)),
        None if a.class == Class::Zero || !a.negative() => Outcome::exact(a.value),
        None => Outcome::exact(F80::ONE.negated()),
    };
    with_denormal(outcome, denormal_flag(&[a]), control)
}

/// FYL2X: `y` × log2(`x`).
pub(crate) fn logarithm(x: Operand, y: Operand, control: Control) -> Outcome {
    if let Some(outcome) = nan_result(x, y) {
        return outcome;
    }
    let zero = |operand: Operand| operand.class == Class::Zero;
    if x.negative() && !zero(x) {
        return Outcome::invalid();
    }
    let above_one = x.is_infinite() || x.finite().is_some_and(|x| x.exponent >= 0);
    let negative = y.negative() == above_one;
    let one = x.value == F80::ONE;
    let outcome = match (x.finite(), y.finite()) {
        _ if zero(y) && (zero(x) || x.is_infinite()) || one && y.is_infinite() => {
            Outcome::invalid()
        }
        _ if zero(x) && !y.is_infinite() => Outcome {
            value: F80::infinity(negative),
            raised: ZERO_DIVIDE,
            up: false,
        },
        _ if one || zero(y) => Outcome::exact(F80::zero(if one { y.negative() } else { negative })),
        (Some(x), Some(y)) => scaled_logarithm(x, y, control),
        _ => Outcome::exact(F80::infinity(negative)),
    };
    with_denormal(outcome, denormal_flag(&[x, y]), control)
}

/// The general case. The processor reports a power of two as inexact like any other.
fn scaled_logarithm(x: Finite, y: Finite, control: Control) -> Outcome {
    // The significand in [√½, √2): its distance from one is exact, so nothing is lost next to one.
    let halve = x.significand >= 0xB504_F333_F9DE_6485;
    let exponent = x.exponent + i32::from(halve);
    let (below, distance) = if halve {
        (true, x.significand.wrapping_neg())
    } else {
        (false, x.significand - (1 << 63))
    };
    let Some(distance) = Finite::normalised(below, if halve { -1 } else { 0 }, distance) else {
        return match from_integer(i64::from(exponent)).class {
            Class::Normal(integer) => inexact_power(integer, y, control),
            _ => Outcome::exact(F80::zero(y.negative)),
        };
    };
    if exponent == 0 && distance.exponent < TINY {
        return scaled_tiny_logarithm(distance, y, control);
    }
    let fraction = to_f64(F80::encode(
        distance.negative,
        distance.exponent,
        distance.significand,
    ));
    match finite(f64::from(exponent) + libm::log1p(fraction) * LOG2_E) {
        Some(log) => inexact_product(log, y, control),
        None => Outcome::exact(F80::zero(y.negative)),
    }
}

fn inexact_power(log: Finite, y: Finite, control: Control) -> Outcome {
    let outcome = rounded_to(exact::mul(log, y), 64, control);
    let tiny = outcome.value.biased_exponent() == 0;
    outcome.also(PRECISION | if tiny { UNDERFLOW } else { 0 })
}

/// `y` × `distance` × log2 e, where the logarithm is its series' first term.
fn scaled_tiny_logarithm(distance: Finite, y: Finite, control: Control) -> Outcome {
    let log = exact::mul(distance, LOG2E);
    let log = Finite {
        negative: log.negative,
        exponent: log.exponent,
        significand: (log.significand >> 64) as u64,
    };
    inexact_product(log, y, control)
}

/// FYL2XP1: `y` × log2(`x` + 1). Outside ±(1 − √½), where the manual leaves the result undefined, the formula holds above −1; from there on
/// `x` is returned, as by the processor.
pub(crate) fn logarithm_plus_one(x: Operand, y: Operand, control: Control) -> Outcome {
    if let Some(outcome) = nan_result(x, y) {
        return outcome;
    }
    let negative = x.negative() != y.negative();
    let zero = |operand: Operand| operand.class == Class::Zero;
    if x.is_infinite() && (x.negative() || zero(y)) || zero(x) && y.is_infinite() {
        return Outcome::invalid();
    }
    let outcome = match (x.finite(), y.finite()) {
        (Some(finite), Some(_)) if finite.negative && finite.exponent >= 0 => Outcome {
            value: x.value,
            raised: PRECISION,
            up: false,
        },
        (Some(x), Some(y)) if x.exponent < TINY => scaled_tiny_logarithm(x, y, control),
        (Some(x), Some(y)) if x.exponent > 64 => scaled_logarithm(x, y, control),
        (Some(x), Some(y)) if x.negative && x.exponent == -1 => {
            scaled_logarithm(one_plus(x), y, control)
        }
        (Some(_), Some(y)) => match finite(libm::log1p(to_f64(x.value)) * LOG2_E) {
            Some(log) => inexact_product(log, y, control),
            None => Outcome::exact(F80::zero(negative)),
        },
        _ if zero(x) || zero(y) => Outcome::exact(F80::zero(negative)),
        _ => Outcome::exact(F80::infinity(negative)),
    };
    with_denormal(outcome, denormal_flag(&[x, y]), control)
}

/// 1 + `x`, exactly, for `x` in (−1, −½].
fn one_plus(x: Finite) -> Finite {
    Finite::normalised(false, -1, x.significand.wrapping_neg()).unwrap_or(x)
}

/// FPATAN: the angle of the point (`x`, `y`).
pub(crate) fn arctangent(x: Operand, y: Operand, control: Control) -> Outcome {
    if let Some(outcome) = nan_result(x, y) {
        return outcome;
    }
    let outcome = match (x.finite(), y.finite()) {
        (Some(x), Some(y)) => finite_arctangent(x, y, control),
        _ if y.class == Class::Zero && !x.negative() => Outcome::exact(y.value),
        _ if x.is_infinite() && !x.negative() && !y.is_infinite() => {
            Outcome::exact(F80::zero(y.negative()))
        }
        _ => {
            // Every other special operand is a multiple of a quarter turn, which double precision knows as well as the sign of zero.
            let unit = |operand: Operand| {
                if operand.finite().is_some() {
                    1.0_f64.copysign(to_f64(operand.value))
                } else {
                    to_f64(operand.value)
                }
            };
            inexact(libm::atan2(unit(y), unit(x)))
        }
    };
    with_denormal(outcome, denormal_flag(&[x, y]), control)
}

fn finite_arctangent(x: Finite, y: Finite, control: Control) -> Outcome {
    let distance = y.exponent - x.exponent;
    if distance < TINY_ODD && !x.negative {
        let ratio = exact::div(y, x);
        return if ratio.sticky {
            just_above(ratio, control)
        } else {
            just_below(ratio, control)
        };
    }
    if distance < TINY {
        return inexact(PI.copysign(if y.negative { -1.0 } else { 1.0 }));
    }
    if distance > -TINY {
        return inexact(FRAC_PI_2.copysign(if y.negative { -1.0 } else { 1.0 }));
    }
    let scaled = |operand: Finite, exponent: i32| {
        to_f64(F80::encode(operand.negative, exponent, operand.significand))
    };
    inexact(libm::atan2(scaled(y, distance), scaled(x, 0)))
}

/// An argument of a trigonometric instruction after reduction: quadrant and rest.
struct Reduced {
    quadrant: u128,
    rest: Option<Finite>,
}

/// π/2 in units of 2^-65: the first 66 bits.
const HALF_PI: u128 = 0x000C_90FD_AA22_168C_234C >> 2;

/// Reduces to ±π/4; `None` if the magnitude is 2^63 or more.
fn reduce(x: Finite) -> Option<Reduced> {
    if x.exponent >= 63 {
        return None;
    }
    if x.exponent < -1 {
        return Some(Reduced {
            quadrant: 0,
            rest: Some(x),
        });
    }
    let units = u128::from(x.significand) << (x.exponent + 2);
    let (mut quadrant, mut rest) = (units / HALF_PI, units % HALF_PI);
    let past = rest > HALF_PI / 2;
    if past {
        quadrant += 1;
        rest = HALF_PI - rest;
    }
    let negative = x.negative != past;
    let rest = Wide::normalised(negative, 127 - 65, rest).map(|w| Finite {
        negative,
        exponent: w.exponent,
        significand: (w.significand >> 64) as u64,
    });
    Some(Reduced {
        quadrant: if x.negative {
            quadrant.wrapping_neg() & 3
        } else {
            quadrant & 3
        },
        rest,
    })
}

/// Sine and cosine of an argument, and its tangent; `None` if it is out of range (C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigonometric {
    Sine,
    Cosine,
    Tangent,
}

/// FSIN, FCOS and the first result of FPTAN and FSINCOS; `None` if the operand is out of range (C2).
pub(crate) fn trigonometric(
    function: Trigonometric,
    a: Operand,
    control: Control,
) -> Option<Outcome> {
    if let Some(outcome) = nan_result_unary(a) {
        return Some(outcome);
    }
    let outcome = match a.finite() {
        None if a.is_infinite() => Outcome::invalid(),
        None if function == Trigonometric::Cosine => Outcome::exact(F80::ONE),
        None => Outcome::exact(a.value),
        Some(x) => {
            let reduced = reduce(x)?;
            match (function, reduced.rest) {
                (Trigonometric::Sine, Some(rest))
                    if reduced.quadrant == 0 && rest.exponent < TINY_ODD =>
                {
                    just_below(rest.widen(), control)
                }
                (Trigonometric::Tangent, Some(rest))
                    if reduced.quadrant == 0 && rest.exponent < TINY_ODD =>
                {
                    just_above(rest.widen(), control)
                }
                _ => inexact(of_reduced(function, &reduced)),
            }
        }
    };
    Some(with_denormal(outcome, denormal_flag(&[a]), control))
}

fn of_reduced(function: Trigonometric, reduced: &Reduced) -> f64 {
    let rest = reduced.rest.map_or(0.0, reduced_to_f64);
    let sine = |quadrant: u128| match quadrant & 3 {
        0 => libm::sin(rest),
        1 => libm::cos(rest),
        2 => -libm::sin(rest),
        _ => -libm::cos(rest),
    };
    match function {
        Trigonometric::Sine => sine(reduced.quadrant),
        Trigonometric::Cosine => sine(reduced.quadrant + 1),
        Trigonometric::Tangent if reduced.quadrant & 1 == 0 => libm::tan(rest),
        Trigonometric::Tangent => -1.0 / libm::tan(rest),
    }
}
