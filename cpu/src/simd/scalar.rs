//! Single- and double-precision arithmetic on one element (SDM volume 1, sections 4.8.3.5, 4.9 and 11.5).

pub(crate) mod approximate;
mod compare;
pub(crate) mod convert;
mod element;

use compare::select;
pub(crate) use compare::{QuietNans, compare, compare_mask};
use element::{Class, Operand, invalid, nan_result};
pub(crate) use element::{Element, Precision};

use super::mxcsr::{INVALID, Mxcsr, OVERFLOW, PRECISION, UNDERFLOW, ZERO_DIVIDE};
use crate::float::{
    exact::{self, Wide},
    round::{Rounding, round},
};

/// Operations with two operands, the first of which is the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
}

/// The host's own arithmetic, where it cannot differ from ours: rounding to nearest with everything masked, operands that are normal or zero, and a result
/// well inside the normal numbers. IEEE 754 then defines every bit of add, subtract, multiply, divide and square root. The only exception that can be raised
/// is inexact, and its flag is set already. (x87 hosts would round twice.)
macro_rules! on_the_host {
    ($float:ty, $bits:ty, $a:expr, $b:expr, $mxcsr:expr, $compute:expr) => {{
        let (a, b) = (
            <$float>::from_bits($a as $bits),
            <$float>::from_bits($b as $bits),
        );
        let result: $float = $compute(a, b);
        let usual = |value: $float| value.is_normal() || value == 0.0;
        let safe = !cfg!(all(target_arch = "x86", not(target_feature = "sse2")));
        (safe
            && $mxcsr.only_inexact_matters()
            && usual(a)
            && usual(b)
            && result.is_normal()
            && result.abs() > <$float>::MIN_POSITIVE)
            .then(|| Element::exact(result.to_bits().into()))
    }};
}

#[inline(always)]
fn binary_on_the_host(
    operation: Binary,
    precision: Precision,
    a: u64,
    b: u64,
    mxcsr: Mxcsr,
) -> Option<Element> {
    macro_rules! compute {
        ($float:ty, $bits:ty) => {
            match operation {
                Binary::Add => on_the_host!($float, $bits, a, b, mxcsr, |a, b| a + b),
                Binary::Sub => on_the_host!($float, $bits, a, b, mxcsr, |a, b| a - b),
                Binary::Mul => on_the_host!($float, $bits, a, b, mxcsr, |a, b| a * b),
                Binary::Div => on_the_host!($float, $bits, a, b, mxcsr, |a, b| a / b),
                Binary::Min | Binary::Max => None,
            }
        };
    }
    match precision {
        Precision::Single => compute!(f32, u32),
        Precision::Double => compute!(f64, u64),
    }
}

/// `a` op `b`.
#[inline(always)]
pub(crate) fn binary(
    operation: Binary,
    precision: Precision,
    a: u64,
    b: u64,
    mxcsr: Mxcsr,
) -> Element {
    binary_on_the_host(operation, precision, a, b, mxcsr)
        .unwrap_or_else(|| binary_exactly(operation, precision, a, b, mxcsr))
}

fn binary_exactly(
    operation: Binary,
    precision: Precision,
    a: u64,
    b: u64,
    mxcsr: Mxcsr,
) -> Element {
    let (a, b) = (
        Operand::new(a, precision, mxcsr),
        Operand::new(b, precision, mxcsr),
    );
    if let Binary::Min | Binary::Max = operation {
        return select(operation, a, b);
    }
    if let Some(nan) = nan_result(a, b, precision) {
        return nan;
    }
    let result = match operation {
        Binary::Add => add(a, b, precision, mxcsr),
        Binary::Sub => add(a, b.negated(precision), precision, mxcsr),
        Binary::Mul => mul(a, b, precision, mxcsr),
        _ => div(a, b, precision, mxcsr),
    };
    // An invalid operation or a division by zero comes before a denormal operand.
    if result.raised & (INVALID | ZERO_DIVIDE) != 0 {
        result
    } else {
        result.also(a.denormal() | b.denormal())
    }
}

fn add(a: Operand, b: Operand, precision: Precision, mxcsr: Mxcsr) -> Element {
    let cancelled = || Element::exact(precision.signed(mxcsr.rounding() == Rounding::Down));
    match (a.finite(), b.finite()) {
        (Some(x), Some(y)) => {
            exact::add(x, y).map_or_else(cancelled, |sum| rounded(sum, precision, mxcsr))
        }
        _ if a.class == Class::Infinity
            && b.class == Class::Infinity
            && a.negative != b.negative =>
        {
            invalid(precision)
        }
        _ if a.class == Class::Infinity => Element::exact(a.bits),
        _ if b.class == Class::Infinity => Element::exact(b.bits),
        (Some(x), None) => rounded(x.widen(), precision, mxcsr),
        (None, Some(y)) => rounded(y.widen(), precision, mxcsr),
        (None, None) if a.negative == b.negative => Element::exact(a.bits),
        (None, None) => cancelled(),
    }
}

fn mul(a: Operand, b: Operand, precision: Precision, mxcsr: Mxcsr) -> Element {
    let sign = precision.signed(a.negative != b.negative);
    match (a.finite(), b.finite()) {
        (Some(x), Some(y)) => rounded(exact::mul(x, y), precision, mxcsr),
        _ if a.class == Class::Infinity || b.class == Class::Infinity => {
            if a.class == Class::Zero || b.class == Class::Zero {
                invalid(precision)
            } else {
                Element::exact(sign | precision.infinity())
            }
        }
        _ => Element::exact(sign),
    }
}

fn div(a: Operand, b: Operand, precision: Precision, mxcsr: Mxcsr) -> Element {
    let sign = precision.signed(a.negative != b.negative);
    match (a.finite(), b.finite()) {
        (Some(x), Some(y)) => rounded(exact::div(x, y), precision, mxcsr),
        _ if a.class == b.class => invalid(precision),
        _ if a.class == Class::Infinity => Element::exact(sign | precision.infinity()),
        _ if b.class == Class::Zero => Element {
            bits: sign | precision.infinity(),
            raised: ZERO_DIVIDE,
        },
        _ => Element::exact(sign),
    }
}

/// The square root.
pub(crate) fn square_root(precision: Precision, a: u64, mxcsr: Mxcsr) -> Element {
    let on_the_host = match precision {
        Precision::Single => on_the_host!(f32, u32, a, a, mxcsr, |a: f32, _| a.sqrt()),
        Precision::Double => on_the_host!(f64, u64, a, a, mxcsr, |a: f64, _| a.sqrt()),
    };
    if let Some(element) = on_the_host {
        return element;
    }
    let a = Operand::new(a, precision, mxcsr);
    if let Some(nan) = nan_result(a, a, precision) {
        return nan;
    }
    match a.finite() {
        _ if a.class == Class::Zero => Element::exact(a.bits),
        _ if a.negative => invalid(precision),
        None => Element::exact(a.bits),
        Some(finite) => rounded(exact::sqrt(finite), precision, mxcsr).also(a.denormal()),
    }
}

/// Rounds to the format under MXCSR.
fn rounded(value: Wide, precision: Precision, mxcsr: Mxcsr) -> Element {
    let result = round(value, mxcsr.rounding(), precision.format());
    let sign = precision.signed(result.negative);
    if result.tiny && mxcsr.flush_to_zero() {
        return Element {
            bits: sign,
            raised: UNDERFLOW | PRECISION,
        };
    }
    let part = result.bounded;
    let mut raised = if part.inexact { PRECISION } else { 0 };
    if result.overflow {
        raised |= OVERFLOW;
    }
    if result.tiny && mxcsr.unmasked(UNDERFLOW) != 0 {
        // No result is written: what counts is whether the rounding to the precision alone was inexact.
        raised = UNDERFLOW
            | if result.unbounded.inexact {
                PRECISION
            } else {
                0
            };
    } else if result.tiny && part.inexact {
        raised |= UNDERFLOW;
    }
    if result.overflow && mxcsr.unmasked(OVERFLOW) != 0 {
        raised = OVERFLOW
            | if result.unbounded.inexact {
                PRECISION
            } else {
                0
            };
    }
    let magnitude = match (result.overflow, part.significand) {
        (true, 0) => precision.infinity(),
        (true, _) => precision.largest(),
        (false, significand) => {
            let fraction = (significand & !(1 << 63)) >> (63 - precision.fraction_bits());
            let normal = significand >> 63 != 0;
            let biased = if normal {
                u64::from((part.exponent + precision.bias()).unsigned_abs())
            } else {
                0
            };
            biased << precision.fraction_bits() | fraction
        }
    };
    Element {
        bits: sign | magnitude,
        raised,
    }
}
