//! Random values of every kind that an instruction may read: integers near
//! borders, floating-point numbers of all classes, whole FXSAVE images.

use super::layout::{DATA_BYTES, MAPPINGS, PAGE};
use super::rng::Rng;
use super::wire::FX_BYTES;

const EDGES: [u32; 22] = [
    0,
    1,
    2,
    7,
    8,
    0x1F,
    0x20,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0x8000_0001,
    0xFFFF_8000,
    0xFFFF_FF80,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
];

/// A 32-bit integer: a border, a small one, or any.
pub(crate) fn integer(rng: &mut Rng) -> u32 {
    match rng.below(8) {
        0..=2 => rng.pick(&EDGES),
        3 => rng.below(64),
        4 => {
            let byte = u32::from(rng.u8());
            byte.wrapping_mul(0x0101_0101)
        }
        _ => rng.u32(),
    }
}

/// A general register's start value: an integer or the address of data.
pub(crate) fn register(rng: &mut Rng) -> u32 {
    if rng.percent(30) {
        let mapping = rng.pick(&MAPPINGS[..2]);
        mapping.base + rng.below(mapping.pages * PAGE)
    } else {
        integer(rng)
    }
}

/// The data pages at the start of a batch: words, with runs of zero bytes.
pub(crate) fn arena(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DATA_BYTES);
    while bytes.len() < DATA_BYTES {
        match rng.below(6) {
            0 => bytes.extend_from_slice(&extended(rng)),
            1 => bytes.extend_from_slice(&double(rng).to_le_bytes()),
            2 => bytes.extend_from_slice(&single(rng).to_le_bytes()),
            3 => bytes.extend_from_slice(&packed_decimal(rng)),
            _ => bytes.extend_from_slice(&integer(rng).to_le_bytes()),
        }
    }
    bytes.truncate(DATA_BYTES);
    bytes
}

/// The bits of a single-precision number of a random class.
pub(crate) fn single(rng: &mut Rng) -> u32 {
    let sign = rng.u32() & 0x8000_0000;
    let fraction = fraction(23, rng) as u32;
    let exponent = match rng.below(12) {
        0 => return sign,
        1 => 0,
        2 => 255,
        3 => return sign | 0x7F80_0000,
        4 => 254,
        5 => 1,
        6..=9 => 120 + rng.below(40),
        _ => u32::from(rng.u8()),
    };
    sign | (exponent << 23) | fraction
}

/// The bits of a double-precision number of a random class.
pub(crate) fn double(rng: &mut Rng) -> u64 {
    let sign = rng.next() & (1 << 63);
    let fraction = fraction(52, rng);
    let exponent = match rng.below(12) {
        0 => return sign,
        1 => 0,
        2 => 2047,
        3 => return sign | (2047 << 52),
        4 => 2046,
        5 => 1,
        6..=9 => 1000 + u64::from(rng.below(90)),
        10 => 880 + u64::from(rng.below(300)),
        _ => rng.next() & 2047,
    };
    sign | (exponent << 52) | fraction
}

/// The bytes of an 80-bit number of a random class, unsupported ones too.
pub(crate) fn extended(rng: &mut Rng) -> [u8; 10] {
    let sign = (rng.u32() & 0x8000) as u16;
    let fraction = fraction(63, rng);
    let integer_bit = 1u64 << 63;
    let (exponent, significand) = match rng.below(18) {
        0 | 1 => (0, 0),
        2 => (0, fraction),
        3 => (0, integer_bit | fraction),
        4 => (0x7FFF, integer_bit),
        5 => (0x7FFF, integer_bit | fraction),
        6 => (0x7FFF, integer_bit | (1 << 62) | fraction),
        // Unnormals, pseudo-infinities and pseudo-NaNs.
        7 => (0x7FFF, fraction),
        8 => ((rng.u32() & 0x7FFF) as u16, fraction),
        9 => (0x7FFE, integer_bit | fraction),
        10 => (1, integer_bit | fraction),
        11 => ((rng.u32() & 0x7FFF) as u16, integer_bit | fraction),
        // Near the borders of double and of single precision.
        12 => (
            0x3FFF - 1022 - 20 + rng.below(40) as u16,
            integer_bit | fraction,
        ),
        13 => (
            0x3FFF + 127 - 3 + rng.below(6) as u16,
            integer_bit | fraction,
        ),
        _ => (0x3FFF - 8 + rng.below(76) as u16, integer_bit | fraction),
    };
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&significand.to_le_bytes());
    bytes[8..].copy_from_slice(&(sign | exponent).to_le_bytes());
    bytes
}

/// `bits` fraction bits: often with few bits set, at the ends, so that
/// rounding has ties and results are exact.
fn fraction(bits: u32, rng: &mut Rng) -> u64 {
    let mask = (1u64 << bits) - 1;
    let value = match rng.below(8) {
        0 => 0,
        1 => mask,
        2 => 1 << rng.below(bits),
        3 => mask & !(1 << rng.below(bits)),
        4 => rng.next() << rng.below(bits),
        5 => u64::from(rng.u8()),
        _ => rng.next(),
    };
    value & mask
}

/// An 18-digit packed decimal, sometimes with digits that are none.
pub(crate) fn packed_decimal(rng: &mut Rng) -> [u8; 10] {
    let mut bytes = [0; 10];
    for byte in &mut bytes[..9] {
        *byte = (rng.below(10) | (rng.below(10) << 4)) as u8;
    }
    if rng.percent(10) {
        bytes[rng.below(9) as usize] = rng.u8();
    }
    bytes[9] = rng.pick(&[0, 0, 0x80, 0x80, 0x7F, 0x33]);
    bytes
}

/// How the x87 and SSE parts of a start state are chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FxProfile {
    /// The chance of a full x87 register stack, in percent.
    pub(crate) full_stack: u32,
    /// The chance that all x87 and SSE exceptions are masked, in percent.
    pub(crate) masked: u32,
}

/// An FXSAVE image that FXRSTOR takes: x87 state, MXCSR, XMM0 to XMM7.
pub(crate) fn fx_image(profile: FxProfile, rng: &mut Rng) -> [u8; FX_BYTES] {
    let mut fx = [0; FX_BYTES];
    let masks = if rng.percent(profile.masked) {
        0x3F
    } else {
        (rng.u32() & 0x3F) as u16
    };
    let control = masks | 0x40 | (rng.below(4) << 8) as u16 | (rng.below(4) << 10) as u16;
    let mut status = (rng.below(8) << 11) as u16 | (rng.u32() as u16 & 0x4700);
    if rng.percent(20) {
        // Sticky flags, which must not raise anything as long as they are
        // masked; one case in twenty has an exception pending.
        status |= rng.u32() as u16 & 0x7F;
        if rng.percent(75) {
            status &= !0x7F | masks;
        }
    }
    if status & !control & 0x3F != 0 {
        status |= 0x8080;
    }
    let tags = if rng.percent(profile.full_stack) {
        0xFF
    } else {
        rng.u8()
    };
    fx[0..2].copy_from_slice(&control.to_le_bytes());
    fx[2..4].copy_from_slice(&status.to_le_bytes());
    fx[4] = tags;
    fx[6..8].copy_from_slice(&(rng.u32() as u16 & 0x7FF).to_le_bytes());
    fx[8..12].copy_from_slice(&rng.u32().to_le_bytes());
    fx[16..20].copy_from_slice(&rng.u32().to_le_bytes());
    fx[24..28].copy_from_slice(&mxcsr(profile, rng).to_le_bytes());
    for register in 0..8 {
        let at = 32 + 16 * register;
        fx[at..at + 10].copy_from_slice(&extended(rng));
    }
    for register in 0..8 {
        let at = 160 + 16 * register;
        fx[at..at + 16].copy_from_slice(&xmm(rng));
    }
    fx
}

fn mxcsr(profile: FxProfile, rng: &mut Rng) -> u32 {
    let masks = if rng.percent(profile.masked) {
        0x1F80
    } else {
        rng.u32() & 0x1F80
    };
    let flags = if rng.percent(20) { rng.u32() & 0x3F } else { 0 };
    let zeros = if rng.percent(20) {
        rng.u32() & 0x8040
    } else {
        0
    };
    masks | flags | zeros | (rng.below(4) << 13)
}

/// Sixteen bytes: singles, doubles or integers.
pub(crate) fn xmm(rng: &mut Rng) -> [u8; 16] {
    let mut bytes = [0; 16];
    match rng.below(4) {
        0 => {
            for lane in bytes.chunks_exact_mut(8) {
                lane.copy_from_slice(&double(rng).to_le_bytes());
            }
        }
        1 => {
            for lane in bytes.chunks_exact_mut(4) {
                lane.copy_from_slice(&integer(rng).to_le_bytes());
            }
        }
        _ => {
            for lane in bytes.chunks_exact_mut(4) {
                lane.copy_from_slice(&single(rng).to_le_bytes());
            }
        }
    }
    bytes
}
