//! The FXSAVE image in comparisons: its fields, what the processor model
//! chooses, and how near a transcendental result must be.

use std::ops::Range;

use iced_x86::Mnemonic;

use super::compare::Context;
use super::wire::{FX_BYTES, Outcome};

const STATUS: Range<usize> = 2..4;
const C1: u8 = 0x02;
const PRECISION: u8 = 0x20;

/// Names and places of the fields of an FXSAVE image.
pub(crate) fn fields() -> Vec<(String, Range<usize>)> {
    let mut fields: Vec<(String, Range<usize>)> = [
        ("fcw", 0..2),
        ("fsw", 2..4),
        ("ftw", 4..5),
        ("fop", 6..8),
        ("fip", 8..12),
        ("fcs", 12..14),
        ("fdp", 16..20),
        ("fds", 20..22),
        ("mxcsr", 24..28),
    ]
    .into_iter()
    .map(|(name, range)| (name.to_owned(), range))
    .collect();
    for i in 0..8 {
        fields.push((format!("st{i}"), 32 + 16 * i..42 + 16 * i));
    }
    for i in 0..8 {
        fields.push((format!("xmm{i}"), 160 + 16 * i..176 + 16 * i));
    }
    fields
}

/// Most significant byte first.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .rev()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// In the order of addresses, as instructions are written.
pub(crate) fn hex_in_order(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Clears what is reserved, and FCS and FDS, which current processors do not
/// save (CPUID leaf 7, EBX bit 13).
pub(crate) fn normalize(fx: &mut [u8; FX_BYTES]) {
    fx[5] = 0;
    fx[12..16].fill(0);
    fx[20..24].fill(0);
    fx[28..32].fill(0);
    for i in 0..8 {
        fx[42 + 16 * i..48 + 16 * i].fill(0);
    }
}

/// Takes our FOP and FDP on both sides.
pub(crate) fn mask_pointers(host: &mut Outcome, ours: &Outcome) {
    if let (Some(host), Some(ours)) = (&mut host.fx, &ours.fx) {
        host[6..8].copy_from_slice(&ours[6..8]);
        host[16..20].copy_from_slice(&ours[16..20]);
    }
}

/// Functions that are computed in double precision.
fn is_transcendental(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::F2xm1 | M::Fyl2x | M::Fyl2xp1 | M::Fptan | M::Fpatan | M::Fsin | M::Fcos | M::Fsincos
    )
}

/// Whether the results of a transcendental function differ only in the last
/// bits: both finite, and apart by no more than 2^-50 of the larger one.
pub(crate) fn is_near(context: Context<'_>, host: &Outcome, ours: &Outcome) -> bool {
    if !is_transcendental(context.instruction.mnemonic()) {
        return false;
    }
    let (Some(host), Some(ours)) = (&host.fx, &ours.fx) else {
        return false;
    };
    (0..2).all(|register| {
        let range = 32 + 16 * register..42 + 16 * register;
        near(&host[range.clone()], &ours[range])
    })
}

fn near(host: &[u8], ours: &[u8]) -> bool {
    if host == ours {
        return true;
    }
    let (Some(a), Some(b)) = (Number::new(host), Number::new(ours)) else {
        return false;
    };
    let (large, small) = if a.exponent >= b.exponent {
        (a, b)
    } else {
        (b, a)
    };
    let shift = large.exponent - small.exponent;
    if a.negative != b.negative || shift > 1 {
        return false;
    }
    let difference = large.significand.abs_diff(small.significand >> shift);
    // The smallest denormals have fewer than 50 bits.
    difference <= (large.significand >> 50).max(1)
}

/// A finite number of 80 bits.
#[derive(Clone, Copy)]
struct Number {
    negative: bool,
    exponent: u16,
    significand: u64,
}

impl Number {
    fn new(bytes: &[u8]) -> Option<Self> {
        let significand = u64::from_le_bytes(bytes[..8].try_into().ok()?);
        let head = u16::from_le_bytes(bytes[8..10].try_into().ok()?);
        let exponent = head & 0x7FFF;
        (exponent != 0x7FFF).then_some(Self {
            negative: head & 0x8000 != 0,
            // A denormal has the scale of the smallest normal numbers.
            exponent: exponent.max(1),
            significand,
        })
    }
}

/// Takes our ST0 and ST1, C1 and PE on both sides.
pub(crate) fn mask_transcendental(host: &mut Outcome, ours: &mut Outcome) {
    let (Some(host), Some(ours)) = (&mut host.fx, &mut ours.fx) else {
        return;
    };
    host[32..64].copy_from_slice(&ours[32..64]);
    for fx in [host, ours] {
        fx[STATUS.start] &= !PRECISION;
        fx[STATUS.start + 1] &= !C1;
    }
}
