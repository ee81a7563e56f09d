//! Comparison, examination and classification: FCOM, FUCOM, FTST, FXAM (SDM volume 2).

use std::cmp::Ordering;

use super::{
    control::{C0, C1, C2, C3, DENORMAL, INVALID},
    f80::{Class, Operand},
};

/// Whether a quiet NaN makes a comparison invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuietNans {
    /// FCOM, FCOMI, FICOM, FTST.
    Invalid,
    /// FUCOM, FUCOMI.
    Unordered,
}

/// A comparison's answer; `None` is unordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) order: Option<Ordering>,
    pub(crate) raised: u16,
}

impl Compared {
    /// The answer where an operand is missing or invalid.
    pub(crate) const INVALID: Compared = Compared {
        order: None,
        raised: INVALID,
    };

    /// C3, C2 and C0 of the status word. FCOMI puts the same three bits into ZF, PF and CF.
    pub(crate) fn condition_codes(self) -> u16 {
        match self.order {
            Some(Ordering::Greater) => 0,
            Some(Ordering::Less) => C0,
            Some(Ordering::Equal) => C3,
            None => C0 | C2 | C3,
        }
    }
}

/// Compares `a` with `b`.
pub(crate) fn compare(a: Operand, b: Operand, quiet: QuietNans) -> Compared {
    let classes = [a.class, b.class];
    if classes.contains(&Class::Unsupported) || classes.contains(&Class::SignallingNan) {
        return Compared::INVALID;
    }
    if classes.contains(&Class::QuietNan) {
        return match quiet {
            QuietNans::Invalid => Compared::INVALID,
            QuietNans::Unordered => Compared {
                order: None,
                raised: 0,
            },
        };
    }
    let raised = if a.is_denormal() || b.is_denormal() {
        DENORMAL
    } else {
        0
    };
    Compared {
        order: Some(rank(a).cmp(&rank(b))),
        raised,
    }
}

/// A key that orders all numbers: sign class, then exponent, then significand, both inverted for negative numbers.
fn rank(a: Operand) -> (i8, i32, i128) {
    let sign = if a.negative() { -1 } else { 1 };
    let (exponent, significand) = match a.class {
        Class::Zero => return (0, 0, 0),
        Class::Normal(finite) | Class::Denormal(finite) => {
            (finite.exponent, i128::from(finite.significand))
        }
        _ => (i32::MAX, 0),
    };
    (
        sign,
        exponent * i32::from(sign),
        significand * i128::from(sign),
    )
}

/// The condition codes of FXAM for a register that is not empty: C1 is the sign.
pub(crate) fn examine(a: Operand) -> u16 {
    let class = match a.class {
        Class::Unsupported => 0,
        Class::QuietNan | Class::SignallingNan => C0,
        Class::Normal(_) => C2,
        Class::Infinity => C2 | C0,
        Class::Zero => C3,
        Class::Denormal(_) => C3 | C2,
    };
    class | if a.negative() { C1 } else { 0 }
}

/// The condition codes of FXAM for an empty register.
pub(crate) const EXAMINED_EMPTY: u16 = C3 | C0;
