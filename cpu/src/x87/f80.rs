//! The 80-bit double extended-precision format and what its encodings mean (SDM volume 1, sections 4.2.2 and 8.2.2).

use crate::float::exact::Finite;

/// A register's 80 bits, as they are in memory: significand with an explicit integer bit, then sign and biased exponent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct F80 {
    /// Bit 63 is the integer bit.
    pub significand: u64,
    /// Bit 15 is the sign; the exponent is biased by 16383.
    pub sign_exponent: u16,
}

/// The exponent bias of the format.
pub(crate) const BIAS: i32 = 16383;
/// The integer bit of the significand.
pub(crate) const INTEGER_BIT: u64 = 1 << 63;
/// The bit that makes a NaN quiet.
pub(crate) const QUIET_BIT: u64 = 1 << 62;

/// What an encoding means to an arithmetic instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Zero,
    Normal(Finite),
    /// A denormal or a pseudo-denormal: it raises the denormal-operand exception.
    Denormal(Finite),
    Infinity,
    QuietNan,
    SignallingNan,
    /// Pseudo-NaN, pseudo-infinity or unnormal: an invalid operand since the 387.
    Unsupported,
}

/// A value together with its class; the class of a narrow denormal in memory is not that of its extended encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    pub(crate) value: F80,
    pub(crate) class: Class,
}

impl From<F80> for Operand {
    fn from(value: F80) -> Operand {
        Operand {
            value,
            class: value.class(),
        }
    }
}

impl Operand {
    pub(crate) fn negative(self) -> bool {
        self.value.negative()
    }

    pub(crate) fn is_nan(self) -> bool {
        matches!(self.class, Class::QuietNan | Class::SignallingNan)
    }

    pub(crate) fn is_denormal(self) -> bool {
        matches!(self.class, Class::Denormal(_))
    }

    pub(crate) fn is_infinite(self) -> bool {
        self.class == Class::Infinity
    }

    /// The number, if it is finite and not zero.
    pub(crate) fn finite(self) -> Option<Finite> {
        match self.class {
            Class::Normal(finite) | Class::Denormal(finite) => Some(finite),
            _ => None,
        }
    }
}

impl F80 {
    /// The default NaN ("real indefinite"): the answer to a masked invalid operation.
    pub const INDEFINITE: F80 = F80 {
        significand: INTEGER_BIT | QUIET_BIT,
        sign_exponent: 0xFFFF,
    };
    /// +1.0.
    pub const ONE: F80 = F80 {
        significand: INTEGER_BIT,
        sign_exponent: 0x3FFF,
    };

    /// A signed zero.
    pub(crate) fn zero(negative: bool) -> F80 {
        F80 {
            significand: 0,
            sign_exponent: u16::from(negative) << 15,
        }
    }

    /// A signed infinity.
    pub(crate) fn infinity(negative: bool) -> F80 {
        F80 {
            significand: INTEGER_BIT,
            sign_exponent: 0x7FFF | u16::from(negative) << 15,
        }
    }

    /// Encodes a left-aligned significand; with the integer bit clear it is a denormal, and the exponent counts for nothing.
    pub(crate) fn encode(negative: bool, exponent: i32, significand: u64) -> F80 {
        let biased = if significand & INTEGER_BIT == 0 {
            0
        } else {
            (exponent + BIAS) as u16 & 0x7FFF
        };
        F80 {
            significand,
            sign_exponent: biased | u16::from(negative) << 15,
        }
    }

    /// Ten bytes in memory order.
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.significand.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sign_exponent.to_le_bytes());
        bytes
    }

    /// From ten bytes in memory order.
    pub fn from_bytes(bytes: [u8; 10]) -> F80 {
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        F80 {
            significand: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            sign_exponent: u16::from_le_bytes([i, j]),
        }
    }

    pub(crate) fn negative(self) -> bool {
        self.sign_exponent & 0x8000 != 0
    }

    pub(crate) fn biased_exponent(self) -> u16 {
        self.sign_exponent & 0x7FFF
    }

    /// The same encoding with the sign inverted.
    pub(crate) fn negated(self) -> F80 {
        F80 {
            sign_exponent: self.sign_exponent ^ 0x8000,
            ..self
        }
    }

    /// The same encoding with a positive sign.
    pub(crate) fn magnitude(self) -> F80 {
        F80 {
            sign_exponent: self.sign_exponent & 0x7FFF,
            ..self
        }
    }

    /// The NaN with its quiet bit set.
    pub(crate) fn quieted(self) -> F80 {
        F80 {
            significand: self.significand | QUIET_BIT,
            ..self
        }
    }

    pub(crate) fn class(self) -> Class {
        let integer = self.significand & INTEGER_BIT != 0;
        let exponent = self.biased_exponent();
        let finite = |biased: u16| {
            Finite::normalised(self.negative(), i32::from(biased) - BIAS, self.significand)
        };
        match (exponent, integer) {
            (0, _) => finite(1).map_or(Class::Zero, Class::Denormal),
            (_, false) => Class::Unsupported,
            (0x7FFF, true) if self.significand == INTEGER_BIT => Class::Infinity,
            (0x7FFF, true) if self.significand & QUIET_BIT != 0 => Class::QuietNan,
            (0x7FFF, true) => Class::SignallingNan,
            (biased, true) => finite(biased).map_or(Class::Zero, Class::Normal),
        }
    }
}
