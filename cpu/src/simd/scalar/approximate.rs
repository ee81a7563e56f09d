//! The approximations RCP and RSQRT.

use super::super::mxcsr::Mxcsr;
use super::{Class, Operand, Precision};
use crate::float::exact::{self, Finite, Wide};
use crate::float::round::{Format, Rounding, round};

/// RCPSS and RCPPS: 1 ÷ `a` to 12 bits. The manual allows a relative error of 1.5 × 2^-12 and processors differ; here the quotient is rounded to nearest.
pub(crate) fn reciprocal(a: u32) -> u32 {
    approximation(a, |finite| {
        exact::div(
            Finite {
                negative: false,
                exponent: 0,
                significand: 1 << 63,
            },
            finite,
        )
    })
}

/// RSQRTSS and RSQRTPS: 1 ÷ √`a` to 12 bits, under the same rules.
pub(crate) fn reciprocal_root(a: u32) -> u32 {
    if a >> 31 != 0 && a << 1 != 0 && a << 1 <= 0xFF00_0000 {
        // A denormal counts as zero.
        return if a << 1 < 0x0100_0000 {
            0xFF80_0000
        } else {
            0xFFC0_0000
        };
    }
    approximation(a, |finite| {
        let root = exact::sqrt(finite);
        let root = Finite {
            negative: false,
            exponent: root.exponent,
            significand: (root.significand >> 64) as u64,
        };
        exact::div(
            Finite {
                negative: false,
                exponent: 0,
                significand: 1 << 63,
            },
            root,
        )
    })
}

/// The special operands that the two approximations share; they raise nothing and ignore MXCSR.
fn approximation(a: u32, function: fn(Finite) -> Wide) -> u32 {
    const SINGLE: Precision = Precision::Single;
    // Denormals count as zeros.
    let operand = Operand::new(u64::from(a), SINGLE, Mxcsr(1 << 6));
    let sign = SINGLE.signed(operand.negative);
    let bits = match operand.class {
        Class::Zero => sign | SINGLE.infinity(),
        Class::Infinity => sign,
        Class::QuietNan | Class::SignallingNan => operand.bits | SINGLE.quiet_bit(),
        Class::Normal(finite) | Class::Denormal(finite) => {
            let twelve = round(
                function(finite),
                Rounding::NearestEven,
                Format {
                    precision: 12,
                    ..Format::SINGLE
                },
            );
            if twelve.tiny {
                sign
            } else {
                let biased = u64::from((twelve.bounded.exponent + SINGLE.bias()).unsigned_abs());
                sign | biased << 23 | (twelve.bounded.significand & !(1 << 63)) >> 40
            }
        }
    };
    bits as u32
}
