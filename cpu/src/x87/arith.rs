//! Add, subtract, multiply, divide and square root: special operands, exceptions and the masked and unmasked responses
//! (SDM volume 1, sections 4.8.3.5, 4.9, 8.4 and 8.5).

use super::{
    control::{
        BEFORE_RESULT, Control, DENORMAL, INVALID, OVERFLOW, PRECISION, UNDERFLOW, ZERO_DIVIDE,
    },
    f80::{Class, F80, Operand},
};
use crate::float::{
    exact::{self, Wide},
    round::{Format, Rounding, round},
};

/// What an instruction computed: the result, the exceptions raised, and whether the magnitude was rounded up (C1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) value: F80,
    pub(crate) raised: u16,
    pub(crate) up: bool,
}

impl Outcome {
    /// A result without rounding or exceptions.
    pub(crate) fn exact(value: F80) -> Outcome {
        Outcome {
            value,
            raised: 0,
            up: false,
        }
    }

    /// The masked response to an invalid operation.
    pub(crate) fn invalid() -> Outcome {
        Outcome {
            value: F80::INDEFINITE,
            raised: INVALID,
            up: false,
        }
    }

    /// Adds exceptions found beforehand.
    pub(crate) fn also(self, raised: u16) -> Outcome {
        Outcome {
            raised: self.raised | raised,
            ..self
        }
    }

    /// Whether the destination is left alone because an exception found before the computation is unmasked.
    pub(crate) fn suppressed(self, control: Control) -> bool {
        control.unmasked(self.raised & BEFORE_RESULT) != 0
    }
}

/// The arithmetic operations with two operands, as destination and source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Mul,
    Sub,
    SubReversed,
    Div,
    DivReversed,
}

/// By how much an unmasked overflow or underflow moves the exponent: 3 × 2^13.
const UNMASKED_BIAS: i32 = 24576;

/// The NaN that an operation with NaN or unsupported operands returns; `None` if there is none among them.
pub(crate) fn nan_result(a: Operand, b: Operand) -> Option<Outcome> {
    if a.class == Class::Unsupported || b.class == Class::Unsupported {
        return Some(Outcome::invalid());
    }
    if !a.is_nan() && !b.is_nan() {
        return None;
    }
    let signalling = a.class == Class::SignallingNan || b.class == Class::SignallingNan;
    let chosen = match (a.class, b.class) {
        (Class::SignallingNan, Class::QuietNan) => b,
        (Class::QuietNan, Class::SignallingNan) => a,
        _ if !b.is_nan() => a,
        _ if !a.is_nan() => b,
        _ => larger_nan(a, b),
    };
    Some(Outcome {
        value: chosen.value.quieted(),
        raised: if signalling { INVALID } else { 0 },
        up: false,
    })
}

/// Two NaNs of one kind: the larger significand, and the positive one of two that are equal.
fn larger_nan(a: Operand, b: Operand) -> Operand {
    let key = |operand: Operand| (operand.value.significand, !operand.negative());
    if key(a) >= key(b) { a } else { b }
}

/// The NaN result of an instruction with one operand.
pub(crate) fn nan_result_unary(a: Operand) -> Option<Outcome> {
    match a.class {
        Class::Unsupported => Some(Outcome::invalid()),
        Class::SignallingNan => Some(Outcome {
            value: a.value.quieted(),
            raised: INVALID,
            up: false,
        }),
        Class::QuietNan => Some(Outcome::exact(a.value)),
        _ => None,
    }
}

/// `destination` op `source`.
pub(crate) fn arithmetic(
    operation: Arithmetic,
    destination: Operand,
    source: Operand,
    control: Control,
) -> Outcome {
    if let Some(outcome) = nan_result(destination, source) {
        return outcome;
    }
    let denormal = if destination.is_denormal() || source.is_denormal() {
        DENORMAL
    } else {
        0
    };
    let outcome = match operation {
        Arithmetic::Add => add(destination, source, control),
        Arithmetic::Sub => add(destination, negated(source), control),
        Arithmetic::SubReversed => add(source, negated(destination), control),
        Arithmetic::Mul => mul(destination, source, control),
        Arithmetic::Div => div(destination, source, control),
        Arithmetic::DivReversed => div(source, destination, control),
    };
    with_denormal(outcome, denormal, control)
}

/// An unmasked denormal operand stops the instruction before it computes: nothing else is reported then. A division
/// by zero comes before it.
pub(crate) fn with_denormal(outcome: Outcome, denormal: u16, control: Control) -> Outcome {
    if outcome.raised & ZERO_DIVIDE != 0 {
        return outcome;
    }
    if control.unmasked(denormal) != 0 {
        return Outcome {
            raised: denormal,
            up: false,
            ..outcome
        };
    }
    outcome.also(denormal)
}

fn negated(operand: Operand) -> Operand {
    let flip = |finite: exact::Finite| exact::Finite {
        negative: !finite.negative,
        ..finite
    };
    let class = match operand.class {
        Class::Normal(finite) => Class::Normal(flip(finite)),
        Class::Denormal(finite) => Class::Denormal(flip(finite)),
        other => other,
    };
    Operand {
        value: operand.value.negated(),
        class,
    }
}

fn add(a: Operand, b: Operand, control: Control) -> Outcome {
    match (a.finite(), b.finite()) {
        (Some(x), Some(y)) => match exact::add(x, y) {
            Some(sum) => rounded(sum, control),
            None => Outcome::exact(F80::zero(control.rounding() == Rounding::Down)),
        },
        _ if a.is_infinite() && b.is_infinite() && a.negative() != b.negative() => {
            Outcome::invalid()
        }
        _ if a.is_infinite() => Outcome::exact(a.value),
        _ if b.is_infinite() => Outcome::exact(b.value),
        // A zero changes nothing, but the other operand is still rounded to the precision in force.
        (Some(x), None) => rounded(x.widen(), control),
        (None, Some(y)) => rounded(y.widen(), control),
        (None, None) if a.negative() == b.negative() => Outcome::exact(a.value),
        (None, None) => Outcome::exact(F80::zero(control.rounding() == Rounding::Down)),
    }
}

fn mul(a: Operand, b: Operand, control: Control) -> Outcome {
    let negative = a.negative() != b.negative();
    match (a.finite(), b.finite()) {
        (Some(x), Some(y)) => rounded(exact::mul(x, y), control),
        _ if a.is_infinite() || b.is_infinite() => {
            if a.class == Class::Zero || b.class == Class::Zero {
                Outcome::invalid()
            } else {
                Outcome::exact(F80::infinity(negative))
            }
        }
        _ => Outcome::exact(F80::zero(negative)),
    }
}

fn div(a: Operand, b: Operand, control: Control) -> Outcome {
    let negative = a.negative() != b.negative();
    match (a.finite(), b.finite()) {
        (Some(x), Some(y)) => rounded(exact::div(x, y), control),
        _ if a.class == b.class => Outcome::invalid(),
        _ if a.is_infinite() => Outcome::exact(F80::infinity(negative)),
        _ if b.class == Class::Zero => Outcome {
            value: F80::infinity(negative),
            raised: ZERO_DIVIDE,
            up: false,
        },
        _ => Outcome::exact(F80::zero(negative)),
    }
}

/// The square root of `a`.
pub(crate) fn square_root(a: Operand, control: Control) -> Outcome {
    if let Some(outcome) = nan_result_unary(a) {
        return outcome;
    }
    match a.finite() {
        _ if a.class == Class::Zero => Outcome::exact(a.value),
        _ if a.negative() => Outcome::invalid(),
        None => Outcome::exact(a.value),
        Some(finite) => {
            let denormal = if a.is_denormal() { DENORMAL } else { 0 };
            with_denormal(rounded(exact::sqrt(finite), control), denormal, control)
        }
    }
}

/// Rounds to a register under the rounding and precision controls.
pub(crate) fn rounded(value: Wide, control: Control) -> Outcome {
    rounded_to(value, control.precision(), control)
}

/// Rounds to `precision` bits in a register: denormals, infinities and the biased exponents of unmasked overflow and underflow.
pub(crate) fn rounded_to(value: Wide, precision: u32, control: Control) -> Outcome {
    let format = Format {
        precision,
        ..Format::EXTENDED
    };
    let result = round(value, control.rounding(), format);
    let (part, bias, raised) = if result.overflow {
        if control.unmasked(OVERFLOW) != 0 {
            (result.unbounded, -UNMASKED_BIAS, OVERFLOW)
        } else {
            (result.bounded, 0, OVERFLOW)
        }
    } else if result.tiny {
        if control.unmasked(UNDERFLOW) != 0 {
            (result.unbounded, UNMASKED_BIAS, UNDERFLOW)
        } else {
            (
                result.bounded,
                0,
                if result.bounded.inexact { UNDERFLOW } else { 0 },
            )
        }
    } else {
        (result.bounded, 0, 0)
    };
    let exponent = part.exponent + bias;
    if bias != 0 && (exponent > format.max_exponent || exponent < format.min_exponent) {
        // Only FSCALE can leave the range so far behind.
        let value = if bias < 0 {
            F80::infinity(result.negative)
        } else {
            F80::zero(result.negative)
        };
        return Outcome {
            value,
            raised: raised | PRECISION,
            up: bias < 0,
        };
    }
    let value = if exponent > format.max_exponent {
        F80::infinity(result.negative)
    } else {
        F80::encode(result.negative, exponent, part.significand)
    };
    Outcome {
        value,
        raised: raised | if part.inexact { PRECISION } else { 0 },
        up: part.up,
    }
}
