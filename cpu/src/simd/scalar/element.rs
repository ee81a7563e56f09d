//! One element: its precision, its result, and what it is as an operand.

use super::super::mxcsr::{DENORMAL, INVALID, Mxcsr};
use crate::float::{exact::Finite, round::Format};

/// Single or double precision; bits are in the low part of a `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    Single,
    Double,
}

impl Precision {
    pub(super) const fn fraction_bits(self) -> u32 {
        match self {
            Precision::Single => 23,
            Precision::Double => 52,
        }
    }

    pub(super) const fn exponent_ones(self) -> u64 {
        match self {
            Precision::Single => 0xFF,
            Precision::Double => 0x7FF,
        }
    }

    pub(super) const fn bias(self) -> i32 {
        self.format().max_exponent
    }

    pub(super) const fn format(self) -> Format {
        match self {
            Precision::Single => Format::SINGLE,
            Precision::Double => Format::DOUBLE,
        }
    }

    pub(super) const fn sign_bit(self) -> u64 {
        match self {
            Precision::Single => 1 << 31,
            Precision::Double => 1 << 63,
        }
    }

    pub(super) const fn quiet_bit(self) -> u64 {
        1 << (self.fraction_bits() - 1)
    }

    pub(super) const fn infinity(self) -> u64 {
        self.exponent_ones() << self.fraction_bits()
    }

    pub(super) const fn signed(self, negative: bool) -> u64 {
        if negative { self.sign_bit() } else { 0 }
    }

    /// The default NaN.
    pub(super) const fn indefinite(self) -> u64 {
        self.sign_bit() | self.infinity() | self.quiet_bit()
    }

    pub(super) const fn largest(self) -> u64 {
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
    pub(super) fn exact(bits: u64) -> Element {
        Element { bits, raised: 0 }
    }

    pub(super) fn also(self, raised: u32) -> Element {
        Element {
            raised: self.raised | raised,
            ..self
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Zero,
    Normal(Finite),
    Denormal(Finite),
    Infinity,
    QuietNan,
    SignallingNan,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    /// With a denormal replaced by zero if DAZ says so.
    pub(super) bits: u64,
    pub(super) negative: bool,
    pub(super) class: Class,
}

impl Operand {
    pub(super) fn new(bits: u64, precision: Precision, mxcsr: Mxcsr) -> Operand {
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

    pub(super) fn finite(self) -> Option<Finite> {
        match self.class {
            Class::Normal(finite) | Class::Denormal(finite) => Some(finite),
            _ => None,
        }
    }

    pub(super) fn is_nan(self) -> bool {
        matches!(self.class, Class::QuietNan | Class::SignallingNan)
    }

    pub(super) fn denormal(self) -> u32 {
        if matches!(self.class, Class::Denormal(_)) {
            DENORMAL
        } else {
            0
        }
    }

    pub(super) fn negated(self, precision: Precision) -> Operand {
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

pub(super) fn invalid(precision: Precision) -> Element {
    Element {
        bits: precision.indefinite(),
        raised: INVALID,
    }
}

/// The NaN result: the first operand if it is a NaN, else the second; made quiet.
pub(super) fn nan_result(a: Operand, b: Operand, precision: Precision) -> Option<Element> {
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
