//! Packed and scalar floating-point operations on whole registers.

use super::mxcsr::Mxcsr;
use super::scalar::approximate::{reciprocal, reciprocal_root};
use super::scalar::convert::{convert, from_integer, to_int32};
use super::scalar::{Binary, Element, Precision, binary, compare_mask, square_root};

/// A register's new value and the exceptions of all elements together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Computed {
    pub(crate) value: u128,
    pub(crate) raised: u32,
}

/// What a floating-point instruction computes from destination, source and immediate.
pub(crate) trait Float {
    /// The new destination.
    fn apply(a: u128, b: u128, immediate: u8, mxcsr: Mxcsr) -> Computed;
}

const fn bits(precision: Precision) -> u32 {
    match precision {
        Precision::Single => 32,
        Precision::Double => 64,
    }
}

/// Element `n` of `size` bits.
fn element(value: u128, n: u32, size: u32) -> u64 {
    (value >> (n * size)) as u64 & (u64::MAX >> (64 - size))
}

/// Replaces the lowest `count` elements of `size` bits of `base`.
fn gather(base: u128, count: u32, size: u32, f: impl Fn(u32) -> Element) -> Computed {
    let mask = u128::MAX >> (128 - size);
    (0..count).fold(
        Computed {
            value: base,
            raised: 0,
        },
        |computed, n| {
            let element = f(n);
            let value = computed.value & !(mask << (n * size))
                | (u128::from(element.bits) & mask) << (n * size);
            Computed {
                value,
                raised: computed.raised | element.raised,
            }
        },
    )
}

/// Element-wise with two operands, in the lowest `count` elements.
fn pairs(
    a: u128,
    b: u128,
    precision: Precision,
    count: u32,
    f: impl Fn(u64, u64) -> Element,
) -> Computed {
    let size = bits(precision);
    gather(a, count, size, |n| {
        f(element(a, n, size), element(b, n, size))
    })
}

/// From `count` elements of `from` bits to as many of `to` bits; the rest of the result is that of `base`.
fn conversion(
    base: u128,
    b: u128,
    count: u32,
    [from, to]: [u32; 2],
    f: impl Fn(u64) -> Element,
) -> Computed {
    gather(base, count, to, |n| f(element(b, n, from)))
}

const S: Precision = Precision::Single;
const D: Precision = Precision::Double;

macro_rules! float {
    ($($name:ident = |$a:pat_param, $b:ident, $imm:pat_param, $mxcsr:pat_param| $body:expr;)*) => {$(
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Float for $name {
            fn apply($a: u128, $b: u128, $imm: u8, $mxcsr: Mxcsr) -> Computed {
                $body
            }
        }
    )*};
}

macro_rules! arithmetic {
    ($($operation:ident: $ps:ident $ss:ident $pd:ident $sd:ident;)*) => {
        float! {$(
            $ps = |a, b, _, m| pairs(a, b, S, 4, |a, b| binary(Binary::$operation, S, a, b, m));
            $ss = |a, b, _, m| pairs(a, b, S, 1, |a, b| binary(Binary::$operation, S, a, b, m));
            $pd = |a, b, _, m| pairs(a, b, D, 2, |a, b| binary(Binary::$operation, D, a, b, m));
            $sd = |a, b, _, m| pairs(a, b, D, 1, |a, b| binary(Binary::$operation, D, a, b, m));
        )*}
    };
}

arithmetic! {
    Add: Addps Addss Addpd Addsd;
    Sub: Subps Subss Subpd Subsd;
    Mul: Mulps Mulss Mulpd Mulsd;
    Div: Divps Divss Divpd Divsd;
    Min: Minps Minss Minpd Minsd;
    Max: Maxps Maxss Maxpd Maxsd;
}

fn exact(bits: u32) -> Element {
    Element {
        bits: bits.into(),
        raised: 0,
    }
}

float! {
    Cmpps = |a, b, predicate, m| pairs(a, b, S, 4, |a, b| compare_mask(predicate, S, a, b, m));
    Cmpss = |a, b, predicate, m| pairs(a, b, S, 1, |a, b| compare_mask(predicate, S, a, b, m));
    Cmppd = |a, b, predicate, m| pairs(a, b, D, 2, |a, b| compare_mask(predicate, D, a, b, m));
    Cmpsd = |a, b, predicate, m| pairs(a, b, D, 1, |a, b| compare_mask(predicate, D, a, b, m));
    Sqrtps = |a, b, _, m| pairs(a, b, S, 4, |_, b| square_root(S, b, m));
    Sqrtss = |a, b, _, m| pairs(a, b, S, 1, |_, b| square_root(S, b, m));
    Sqrtpd = |a, b, _, m| pairs(a, b, D, 2, |_, b| square_root(D, b, m));
    Sqrtsd = |a, b, _, m| pairs(a, b, D, 1, |_, b| square_root(D, b, m));
    Rcpps = |a, b, _, _| pairs(a, b, S, 4, |_, b| exact(reciprocal(b as u32)));
    Rcpss = |a, b, _, _| pairs(a, b, S, 1, |_, b| exact(reciprocal(b as u32)));
    Rsqrtps = |a, b, _, _| pairs(a, b, S, 4, |_, b| exact(reciprocal_root(b as u32)));
    Rsqrtss = |a, b, _, _| pairs(a, b, S, 1, |_, b| exact(reciprocal_root(b as u32)));

    Cvtps2pd = |_, b, _, m| conversion(0, b, 2, [32, 64], |b| convert(S, D, b, m));
    Cvtss2sd = |a, b, _, m| conversion(a, b, 1, [32, 64], |b| convert(S, D, b, m));
    Cvtpd2ps = |_, b, _, m| conversion(0, b, 2, [64, 32], |b| convert(D, S, b, m));
    Cvtsd2ss = |a, b, _, m| conversion(a, b, 1, [64, 32], |b| convert(D, S, b, m));

    Cvtdq2ps = |_, b, _, m| conversion(0, b, 4, [32, 32], |b| from_integer(S, b as i32, m));
    Cvtdq2pd = |_, b, _, m| conversion(0, b, 2, [32, 64], |b| from_integer(D, b as i32, m));
    Cvtpi2ps = |a, b, _, m| conversion(a, b, 2, [32, 32], |b| from_integer(S, b as i32, m));
    Cvtsi2ss = |a, b, _, m| conversion(a, b, 1, [32, 32], |b| from_integer(S, b as i32, m));
    Cvtsi2sd = |a, b, _, m| conversion(a, b, 1, [32, 64], |b| from_integer(D, b as i32, m));

    Cvtps2dq = |_, b, _, m| conversion(0, b, 4, [32, 32], |b| to_int32(S, b, m));
    Cvttps2dq = |_, b, _, m| conversion(0, b, 4, [32, 32], |b| to_int32(S, b, m.truncating()));
    Cvtpd2dq = |_, b, _, m| conversion(0, b, 2, [64, 32], |b| to_int32(D, b, m));
    Cvttpd2dq = |_, b, _, m| conversion(0, b, 2, [64, 32], |b| to_int32(D, b, m.truncating()));
    Cvtps2pi = |_, b, _, m| conversion(0, b, 2, [32, 32], |b| to_int32(S, b, m));
    Cvttps2pi = |_, b, _, m| conversion(0, b, 2, [32, 32], |b| to_int32(S, b, m.truncating()));
    Cvtss2si = |_, b, _, m| conversion(0, b, 1, [32, 32], |b| to_int32(S, b, m));
    Cvttss2si = |_, b, _, m| conversion(0, b, 1, [32, 32], |b| to_int32(S, b, m.truncating()));
    Cvtsd2si = |_, b, _, m| conversion(0, b, 1, [64, 32], |b| to_int32(D, b, m));
    Cvttsd2si = |_, b, _, m| conversion(0, b, 1, [64, 32], |b| to_int32(D, b, m.truncating()));
}
