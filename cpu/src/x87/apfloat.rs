//! Comparison with `rustc_apfloat`'s own x87, single and double precision: an oracle that exists on every host.

use proptest::prelude::*;
use rustc_apfloat::ieee::{Double, Single, X87DoubleExtended};
use rustc_apfloat::{Float, Round, Status, StatusAnd};

use super::arith::{Arithmetic, arithmetic};
use super::control::{Control, DENORMAL, INVALID, OVERFLOW, PRECISION, UNDERFLOW, ZERO_DIVIDE};
use super::f80::{Class, F80};
use crate::simd::mxcsr::Mxcsr;
use crate::simd::scalar::{Binary, Precision, binary};

const ROUNDINGS: [Round; 4] = [
    Round::NearestTiesToEven,
    Round::TowardNegative,
    Round::TowardPositive,
    Round::TowardZero,
];
const ALL_MASKED: u16 = 0x37F;

fn flags(status: Status) -> u16 {
    [
        (Status::INVALID_OP, INVALID),
        (Status::DIV_BY_ZERO, ZERO_DIVIDE),
        (Status::OVERFLOW, OVERFLOW),
        (Status::UNDERFLOW, UNDERFLOW),
        (Status::INEXACT, PRECISION),
    ]
    .into_iter()
    .fold(0, |flags, (bit, flag)| {
        if status.contains(bit) {
            flags | flag
        } else {
            flags
        }
    })
}

/// Exponents near each other, near the ends of the range, and anywhere.
fn exponent(largest: u16) -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0),
        Just(1),
        0..130_u16,
        largest / 2 - 70..largest / 2 + 70,
        largest - 130..=largest,
        0..=largest
    ]
}

/// Significands of random bits, of few bits, and next to a power of two.
fn fraction() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (any::<u64>(), 0..64_u32).prop_map(|(bits, n)| bits << n),
        (0..64_u32).prop_map(|n| u64::MAX << n),
        Just(0),
        Just(1)
    ]
}

fn extended() -> impl Strategy<Value = F80> {
    (any::<bool>(), exponent(0x7FFE), fraction()).prop_map(|(negative, exponent, fraction)| F80 {
        significand: if exponent == 0 {
            fraction & !(1 << 63)
        } else {
            fraction | 1 << 63
        },
        sign_exponent: exponent | u16::from(negative) << 15,
    })
}

fn narrow(exponent_bits: u32, fraction_bits: u32) -> impl Strategy<Value = u64> {
    let largest = (1 << exponent_bits) - 2;
    (any::<bool>(), exponent(largest), fraction()).prop_map(
        move |(negative, exponent, fraction)| {
            u64::from(negative) << (exponent_bits + fraction_bits)
                | u64::from(exponent) << fraction_bits
                | fraction >> (64 - fraction_bits)
        },
    )
}

fn oracle<F: Float>(operation: Binary, a: u128, b: u128, round: Round) -> StatusAnd<F> {
    let (a, b) = (F::from_bits(a), F::from_bits(b));
    match operation {
        Binary::Add => a.add_r(b, round),
        Binary::Sub => a.sub_r(b, round),
        Binary::Mul => a.mul_r(b, round),
        _ => a.div_r(b, round),
    }
}

/// Where the crate's flags are known to differ from the processor's: it judges tininess by the rounded result, not by one without bounds of the exponent
/// (which matters if the result is the smallest normal number), and it reports no overflow if that is rounded to the largest finite number.
fn same_flags<F: Float>(ours: u16, theirs: StatusAnd<F>) -> bool {
    let magnitude = theirs.value.abs();
    let mut ignored = DENORMAL;
    if magnitude.is_smallest_normalized() {
        ignored |= UNDERFLOW;
    }
    if magnitude.bitwise_eq(F::largest()) {
        ignored |= OVERFLOW;
    }
    (ours ^ flags(theirs.status)) & !ignored == 0
}

fn operations() -> impl Strategy<Value = (Binary, Arithmetic)> {
    prop_oneof![
        Just((Binary::Add, Arithmetic::Add)),
        Just((Binary::Sub, Arithmetic::Sub)),
        Just((Binary::Mul, Arithmetic::Mul)),
        Just((Binary::Div, Arithmetic::Div)),
    ]
}

fn check_narrow<F: Float>(
    operation: Binary,
    precision: Precision,
    [a, b]: [u64; 2],
    rounding: usize,
) -> Result<(), TestCaseError> {
    let expect = oracle::<F>(operation, a.into(), b.into(), ROUNDINGS[rounding]);
    let got = binary(
        operation,
        precision,
        a,
        b,
        Mxcsr(0x1F80 | (rounding as u32) << 13),
    );
    if expect.value.is_nan() {
        prop_assert_eq!(got.raised, u32::from(INVALID));
        return Ok(());
    }
    prop_assert_eq!(u128::from(got.bits), expect.value.to_bits());
    prop_assert!(
        same_flags(got.raised as u16, expect),
        "{got:x?} {:?}",
        expect.status
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn extended_arithmetic_agrees(a in extended(), b in extended(), (operation, ours) in operations(), rounding in 0..4_usize) {
        let bits = |value: F80| u128::from(value.sign_exponent) << 64 | u128::from(value.significand);
        let expect = oracle::<X87DoubleExtended>(operation, bits(a), bits(b), ROUNDINGS[rounding]);
        let got = arithmetic(ours, a.into(), b.into(), Control(ALL_MASKED | (rounding as u16) << 10));
        if expect.value.is_nan() {
            prop_assert_eq!(got.value, F80::INDEFINITE);
            prop_assert_eq!(got.raised, INVALID);
        } else {
            prop_assert_eq!(bits(got.value), expect.value.to_bits());
            prop_assert!(same_flags(got.raised, expect), "{:x?} {:?}", got, expect.status);
        }
        let denormal = matches!(a.class(), Class::Denormal(_)) || matches!(b.class(), Class::Denormal(_));
        prop_assert!(got.raised & DENORMAL == 0 || denormal);
    }

    #[test]
    fn single_arithmetic_agrees(a in narrow(8, 23), b in narrow(8, 23), (operation, _) in operations(), rounding in 0..4_usize) {
        check_narrow::<Single>(operation, Precision::Single, [a, b], rounding)?;
    }

    #[test]
    fn double_arithmetic_agrees(a in narrow(11, 52), b in narrow(11, 52), (operation, _) in operations(), rounding in 0..4_usize) {
        check_narrow::<Double>(operation, Precision::Double, [a, b], rounding)?;
    }
}
