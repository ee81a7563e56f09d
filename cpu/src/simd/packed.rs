//! Packed integer operations on registers of 64 bits (MMX) or 128 bits (XMM), both held in a `u128` (SDM volume 2).
//!
//! Operations on separate elements treat an MMX register as the lower half of an XMM register whose upper half is zero; the caller drops what they leave there.

/// Elements of a register as an array, lowest first.
trait Elements: Sized {
    fn split(value: u128) -> Self;
    fn join(self) -> u128;
}

macro_rules! elements {
    ($($element:ty, $count:literal);*) => {$(
        impl Elements for [$element; $count] {
            #[inline(always)]
            fn split(value: u128) -> Self {
                let bytes = value.to_le_bytes();
                let (elements, _) = bytes.as_chunks::<{ 16 / $count }>();
                std::array::from_fn(|n| <$element>::from_le_bytes(elements[n]))
            }
            #[inline(always)]
            fn join(self) -> u128 {
                let mut bytes = [0; 16];
                let (elements, _) = bytes.as_chunks_mut::<{ 16 / $count }>();
                for (bytes, element) in elements.iter_mut().zip(self) {
                    *bytes = element.to_le_bytes();
                }
                u128::from_le_bytes(bytes)
            }
        }
    )*};
}

elements!(u8, 16; i8, 16; u16, 8; i16, 8; u32, 4; i32, 4; u64, 2);

/// Combines elements in pairs.
#[inline(always)]
fn zip<E: Copy, const N: usize>(a: u128, b: u128, f: impl Fn(E, E) -> E) -> u128
where
    [E; N]: Elements,
{
    let (a, b) = (<[E; N]>::split(a), <[E; N]>::split(b));
    <[E; N]>::join(std::array::from_fn(|n| f(a[n], b[n])))
}

/// Bits of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Mmx,
    Xmm,
}

impl Width {
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Width::Mmx => 64,
            Width::Xmm => 128,
        }
    }
}

/// What a packed instruction computes from destination, source and immediate.
pub(crate) trait Packed {
    /// The new destination.
    fn apply(width: Width, a: u128, b: u128, immediate: u8) -> u128;
}

macro_rules! packed {
    ($($(#[$doc:meta])* $name:ident = |$width:pat_param, $a:ident, $b:ident, $imm:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Packed for $name {
            #[inline(always)]
            fn apply($width: Width, $a: u128, $b: u128, $imm: u8) -> u128 {
                $body
            }
        }
    )*};
}

packed! {
    Paddb = |_, a, b, _| zip::<u8, 16>(a, b, u8::wrapping_add);
    Paddw = |_, a, b, _| zip::<u16, 8>(a, b, u16::wrapping_add);
    Paddd = |_, a, b, _| zip::<u32, 4>(a, b, u32::wrapping_add);
    Paddq = |_, a, b, _| zip::<u64, 2>(a, b, u64::wrapping_add);
    Paddsb = |_, a, b, _| zip::<i8, 16>(a, b, i8::saturating_add);
    Paddsw = |_, a, b, _| zip::<i16, 8>(a, b, i16::saturating_add);
    Paddusb = |_, a, b, _| zip::<u8, 16>(a, b, u8::saturating_add);
    Paddusw = |_, a, b, _| zip::<u16, 8>(a, b, u16::saturating_add);
    Psubb = |_, a, b, _| zip::<u8, 16>(a, b, u8::wrapping_sub);
    Psubw = |_, a, b, _| zip::<u16, 8>(a, b, u16::wrapping_sub);
    Psubd = |_, a, b, _| zip::<u32, 4>(a, b, u32::wrapping_sub);
    Psubq = |_, a, b, _| zip::<u64, 2>(a, b, u64::wrapping_sub);
    Psubsb = |_, a, b, _| zip::<i8, 16>(a, b, i8::saturating_sub);
    Psubsw = |_, a, b, _| zip::<i16, 8>(a, b, i16::saturating_sub);
    Psubusb = |_, a, b, _| zip::<u8, 16>(a, b, u8::saturating_sub);
    Psubusw = |_, a, b, _| zip::<u16, 8>(a, b, u16::saturating_sub);
    Pminub = |_, a, b, _| zip::<u8, 16>(a, b, u8::min);
    Pmaxub = |_, a, b, _| zip::<u8, 16>(a, b, u8::max);
    Pminsw = |_, a, b, _| zip::<i16, 8>(a, b, i16::min);
    Pmaxsw = |_, a, b, _| zip::<i16, 8>(a, b, i16::max);
    Pavgb = |_, a, b, _| zip::<u8, 16>(a, b, |a, b| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8);
    Pavgw = |_, a, b, _| zip::<u16, 8>(a, b, |a, b| ((u32::from(a) + u32::from(b) + 1) >> 1) as u16);
    Pmullw = |_, a, b, _| zip::<u16, 8>(a, b, u16::wrapping_mul);
    Pmulhw = |_, a, b, _| zip::<i16, 8>(a, b, |a, b| ((i32::from(a) * i32::from(b)) >> 16) as i16);
    Pmulhuw = |_, a, b, _| zip::<u16, 8>(a, b, |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16);
    Pmuludq = |_, a, b, _| zip::<u64, 2>(a, b, |a, b| (a & 0xFFFF_FFFF) * (b & 0xFFFF_FFFF));
    Pmaddwd = |_, a, b, _| zip::<u32, 4>(a, b, multiply_add);
    Psadbw = |_, a, b, _| zip::<u64, 2>(a, b, |a, b| {
        a.to_le_bytes().iter().zip(b.to_le_bytes()).map(|(&a, b)| u64::from(a.abs_diff(b))).sum()
    });
    Pcmpeqb = |_, a, b, _| zip::<u8, 16>(a, b, |a, b| if a == b { u8::MAX } else { 0 });
    Pcmpeqw = |_, a, b, _| zip::<u16, 8>(a, b, |a, b| if a == b { u16::MAX } else { 0 });
    Pcmpeqd = |_, a, b, _| zip::<u32, 4>(a, b, |a, b| if a == b { u32::MAX } else { 0 });
    Pcmpgtb = |_, a, b, _| zip::<i8, 16>(a, b, |a, b| if a > b { -1 } else { 0 });
    Pcmpgtw = |_, a, b, _| zip::<i16, 8>(a, b, |a, b| if a > b { -1 } else { 0 });
    Pcmpgtd = |_, a, b, _| zip::<i32, 4>(a, b, |a, b| if a > b { -1 } else { 0 });
    And = |_, a, b, _| a & b;
    AndNot = |_, a, b, _| !a & b;
    Or = |_, a, b, _| a | b;
    Xor = |_, a, b, _| a ^ b;
    Psllw = |_, a, b, _| zip::<u16, 8>(a, 0, |a, _| if b as u64 > 15 { 0 } else { a << b as u32 });
    Pslld = |_, a, b, _| zip::<u32, 4>(a, 0, |a, _| if b as u64 > 31 { 0 } else { a << b as u32 });
    Psllq = |_, a, b, _| zip::<u64, 2>(a, 0, |a, _| if b as u64 > 63 { 0 } else { a << b as u32 });
    Psrlw = |_, a, b, _| zip::<u16, 8>(a, 0, |a, _| if b as u64 > 15 { 0 } else { a >> b as u32 });
    Psrld = |_, a, b, _| zip::<u32, 4>(a, 0, |a, _| if b as u64 > 31 { 0 } else { a >> b as u32 });
    Psrlq = |_, a, b, _| zip::<u64, 2>(a, 0, |a, _| if b as u64 > 63 { 0 } else { a >> b as u32 });
    Psraw = |_, a, b, _| zip::<i16, 8>(a, 0, |a, _| a >> (b as u64).min(15));
    Psrad = |_, a, b, _| zip::<i32, 4>(a, 0, |a, _| a >> (b as u64).min(31));
    /// The shift by whole bytes; the count is an immediate.
    Pslldq = |_, a, b, _| if b > 15 { 0 } else { a << (8 * b as u32) };
    Psrldq = |_, a, b, _| if b > 15 { 0 } else { a >> (8 * b as u32) };
    Packsswb = |width, a, b, _| pack::<i16, 8, 1>(width, a, b, |word| (word.clamp(-128, 127) as i8).to_le_bytes());
    Packuswb = |width, a, b, _| pack::<i16, 8, 1>(width, a, b, |word| [word.clamp(0, 255) as u8]);
    Packssdw = |width, a, b, _| pack::<i32, 4, 2>(width, a, b, |dword| (dword.clamp(-32768, 32767) as i16).to_le_bytes());
    Punpcklbw = |_, a, b, _| interleave::<1>(a, b);
    Punpcklwd = |_, a, b, _| interleave::<2>(a, b);
    Punpckldq = |_, a, b, _| interleave::<4>(a, b);
    Punpcklqdq = |_, a, b, _| interleave::<8>(a, b);
    Punpckhbw = |width, a, b, _| interleave::<1>(upper(width, a), upper(width, b));
    Punpckhwd = |width, a, b, _| interleave::<2>(upper(width, a), upper(width, b));
    Punpckhdq = |width, a, b, _| interleave::<4>(upper(width, a), upper(width, b));
    Punpckhqdq = |width, a, b, _| interleave::<8>(upper(width, a), upper(width, b));
    Pshufw = |_, _a, b, order| shuffle(b as u64, order).into();
    Pshuflw = |_, _a, b, order| b & !LOW_HALF | u128::from(shuffle(b as u64, order));
    Pshufhw = |_, _a, b, order| b & LOW_HALF | u128::from(shuffle((b >> 64) as u64, order)) << 64;
    Pshufd = |_, _a, b, order| gather(b, b, order);
    Shufps = |_, a, b, order| gather(a, b, order);
    Shufpd = |_, a, b, order| {
        let pick = |value: u128, bit: u8| value >> (64 * u32::from(order >> bit & 1)) & LOW_HALF;
        pick(a, 0) | pick(b, 1) << 64
    };
    /// PINSRW with the word in the source.
    Pinsrw = |width, a, b, index| {
        let shift = 16 * (u32::from(index) & (width.bits() / 16 - 1));
        a & !(0xFFFF << shift) | (b & 0xFFFF) << shift
    };
    /// Moves that only choose parts of the two operands.
    Source = |_, _a, b, _| b;
    LowSingle = |_, a, b, _| a & !0xFFFF_FFFF | b & 0xFFFF_FFFF;
    LowDouble = |_, a, b, _| a & !LOW_HALF | b & LOW_HALF;
    /// MOVHPS from memory and MOVLHPS.
    HighFromLow = |_, a, b, _| a & LOW_HALF | b << 64;
    /// MOVHLPS.
    LowFromHigh = |_, a, b, _| a & !LOW_HALF | b >> 64;
}

const LOW_HALF: u128 = u64::MAX as u128;

fn multiply_add(a: u32, b: u32) -> u32 {
    let product = |a: u32, b: u32| i32::from(a as i16).wrapping_mul(i32::from(b as i16));
    product(a, b).wrapping_add(product(a >> 16, b >> 16)) as u32
}

/// Narrows the elements of both registers, the destination's first, to half their size; `narrow` gives the bytes of one.
#[inline(always)]
fn pack<E: Copy, const N: usize, const HALF: usize>(
    width: Width,
    a: u128,
    b: u128,
    narrow: impl Fn(E) -> [u8; HALF],
) -> u128
where
    [E; N]: Elements,
{
    let count = width.bits() as usize / (16 * HALF);
    let (a, b) = (<[E; N]>::split(a), <[E; N]>::split(b));
    let mut bytes = [0; 16];
    let (narrowed, _) = bytes.as_chunks_mut::<HALF>();
    for (place, element) in narrowed
        .iter_mut()
        .zip(a[..count].iter().chain(&b[..count]))
    {
        *place = narrow(*element);
    }
    u128::from_le_bytes(bytes)
}

/// Interleaves the elements (of `SIZE` bytes) of the lower halves: destination, source, destination, and so on.
#[inline(always)]
fn interleave<const SIZE: usize>(a: u128, b: u128) -> u128 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    u128::from_le_bytes(std::array::from_fn(|n| {
        let from = if (n / SIZE).is_multiple_of(2) { &a } else { &b };
        from[n / (2 * SIZE) * SIZE + n % SIZE]
    }))
}

/// The upper half of a register, moved down.
fn upper(width: Width, value: u128) -> u128 {
    value >> (width.bits() / 2)
}

/// Four words in the order that four fields of two bits give.
fn shuffle(words: u64, order: u8) -> u64 {
    (0..4).rev().fold(0, |out, n| {
        out << 16 | words >> (16 * u32::from(order >> (2 * n) & 3)) & 0xFFFF
    })
}

/// Four doublewords, the lower two from `a` and the upper two from `b`.
fn gather(a: u128, b: u128, order: u8) -> u128 {
    (0..4).rev().fold(0, |out, n| {
        let from = if n < 2 { a } else { b };
        out << 32 | from >> (32 * u32::from(order >> (2 * n) & 3)) & 0xFFFF_FFFF
    })
}

/// The sign bits of the bytes (PMOVMSKB), doublewords (MOVMSKPS) or quadwords (MOVMSKPD).
pub(crate) fn sign_mask(width: Width, value: u128, bits: u32) -> u32 {
    (0..width.bits() / bits).fold(0, |mask, n| {
        mask | ((value >> (n * bits + bits - 1) & 1) as u32) << n
    })
}
