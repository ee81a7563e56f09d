//! Single- and double-precision arithmetic on one element (SDM volume 1, sections 4.8.3.5, 4.9 and 11.5).

pub(crate) mod approximate;
pub(crate) mod convert;

use std::cmp::Ordering;

use super::mxcsr::{DENORMAL, INVALID, Mxcsr, OVERFLOW, PRECISION, UNDERFLOW, ZERO_DIVIDE};
use crate::float::{
    exact::{self, Finite, Wide},
    round::{Format, Rounding, round},
};

/// Single or double precision; bits are in the low part of a `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    Single,
    Double,
}

impl Precision {
    const fn fraction_bits(self) -> u32 {
        match self {
            Precision::Single => 23,
            Precision::Double => 52,
        }
    }

    const fn exponent_ones(self) -> u64 {
        match self {
            Precision::Single => 0xFF,
            Precision::Double => 0x7FF,
        }
    }

    const fn bias(self) -> i32 {
        self.format().max_exponent
    }

    const fn format(self) -> Format {
        match self {
            Precision::Single => Format::SINGLE,
            Precision::Double => Format::DOUBLE,
        }
    }

    const fn sign_bit(self) -> u64 {
        match self {
            Precision::Single => 1 << 31,
            Precision::Double => 1 << 63,
        }
    }

    const fn quiet_bit(self) -> u64 {
        1 << (self.fraction_bits() - 1)
    }

    const fn infinity(self) -> u64 {
        self.exponent_ones() << self.fraction_bits()
    }

    const fn signed(self, negative: bool) -> u64 {
        if negative { self.sign_bit() } else { 0 }
    }

    /// The default NaN.
    const fn indefinite(self) -> u64 {
        self.sign_bit() | self.infinity() | self.quiet_bit()
    }

    const fn largest(self) -> u64 {
        self.infinity() - 1
    }
}

/// One element's result and the exceptions that it raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) bits: u64,
    pub(crate) raised: u32,
}

impl Element {
    fn exact(bits: u64) -> Element {
        Element { bits, raised: 0 }
    }

    fn also(self, raised: u32) -> Element {
        Element {
            raised: self.raised | raised,
            ..self
        }
    }
}

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Zero,
    Normal(Finite),
    Denormal(Finite),
    Infinity,
    QuietNan,
    SignallingNan,
}

#[derive(Clone, Copy, Debug)]
struct Operand {
    /// With a denormal replaced by zero if DAZ says so.
    bits: u64,
    negative: bool,
    class: Class,
}

impl Operand {
    fn new(bits: u64, precision: Precision, mxcsr: Mxcsr) -> Operand {
        let fraction_bits = precision.fraction_bits();
        let negative = bits & precision.sign_bit() != 0;
        let biased = bits >> fraction_bits & precision.exponent_ones();
        let fraction = bits & ((1 << fraction_bits) - 1);
        let aligned = fraction << (63 - fraction_bits);
        let exponent = (biased as i32).max(1) - precision.bias();
        let class = match biased {
            0 => match Finite::normalised(negative, exponent, aligned) {
                Some(_) if mxcsr.denormals_are_zero() => {
                    return Operand {
                        bits: precision.signed(negative),
                        negative,
                        class: Class::Zero,
                    };
                }
                Some(finite) => Class::Denormal(finite),
                None => Class::Zero,
            },
            ones if ones == precision.exponent_ones() => match fraction {
                0 => Class::Infinity,
                _ if fraction & precision.quiet_bit() != 0 => Class::QuietNan,
                _ => Class::SignallingNan,
            },
            _ => Class::Normal(Finite {
                negative,
                exponent,
                significand: aligned | 1 << 63,
            }),
        };
        Operand {
            bits,
            negative,
            class,
        }
    }

    fn finite(self) -> Option<Finite> {
        match self.class {
            Class::Normal(finite) | Class::Denormal(finite) => Some(finite),
            _ => None,
        }
    }

    fn is_nan(self) -> bool {
        matches!(self.class, Class::QuietNan | Class::SignallingNan)
    }

    fn denormal(self) -> u32 {
        if matches!(self.class, Class::Denormal(_)) {
            DENORMAL
        } else {
            0
        }
    }

    fn negated(self, precision: Precision) -> Operand {
        let flip = |finite: Finite| Finite {
            negative: !finite.negative,
            ..finite
        };
        let class = match self.class {
            Class::Normal(finite) => Class::Normal(flip(finite)),
            Class::Denormal(finite) => Class::Denormal(flip(finite)),
            other => other,
        };
        Operand {
            bits: self.bits ^ precision.sign_bit(),
            negative: !self.negative,
            class,
        }
    }
}

fn invalid(precision: Precision) -> Element {
    Element {
        bits: precision.indefinite(),
        raised: INVALID,
    }
}

/// The NaN result: the first operand if it is a NaN, else the second; made quiet.
fn nan_result(a: Operand, b: Operand, precision: Precision) -> Option<Element> {
    let chosen = if a.is_nan() {
        a
    } else if b.is_nan() {
        b
    } else {
        return None;
    };
    let signalling = a.class == Class::SignallingNan || b.class == Class::SignallingNan;
    Some(Element {
        bits: chosen.bits | precision.quiet_bit(),
        raised: if signalling { INVALID } else { 0 },
    })
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

/// MIN and MAX: the second operand wherever the operands are not ordered, or are both zero.
fn select(operation: Binary, a: Operand, b: Operand) -> Element {
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
