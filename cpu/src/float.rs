//! Correctly rounded binary arithmetic, shared by the x87 and SSE units.
//!
//! An operation has two halves. [`exact`] computes on finite non-zero numbers and yields a [`exact::Wide`]: more bits than any destination holds, plus a
//! sticky bit for what lies below. `rustc_apfloat` does the addition, multiplication and division there (in binary128, rounded toward zero, its
//! `INEXACT` status being the sticky bit). [`round`] then rounds once to the destination.
//!
//! `rustc_apfloat` is not asked for the final rounding because the processor needs answers that it does not give: whether the magnitude was rounded up (C1),
//! tininess judged after rounding with an unbounded exponent, significands of 24 and 53 bits with a 15-bit exponent (precision control), results whose
//! exponent is biased because overflow or underflow is unmasked, and the overflow flag of a result that is rounded to the largest finite number.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // halves of significands and shifts below 128

pub(crate) mod exact;
pub(crate) mod round;
