//! The approximations of SSE, which the manual only bounds.

use std::ops::Range;

use iced_x86::{Instruction, Mnemonic};

use super::wire::Outcome;

fn destination(instruction: &Instruction) -> Range<usize> {
    let start = 160 + 16 * instruction.op0_register().number();
    start..start + 16
}

/// Whether the instruction is an approximation and every lane of the two
/// results is equal or within twice the bound of 1.5 * 2^-12 that each of
/// them has from the true value.
pub(crate) fn is_approximate(instruction: &Instruction, host: &Outcome, ours: &Outcome) -> bool {
    use Mnemonic as M;
    if !matches!(
        instruction.mnemonic(),
        M::Rcpps | M::Rcpss | M::Rsqrtps | M::Rsqrtss
    ) {
        return false;
    }
    let (Some(host), Some(ours)) = (&host.fx, &ours.fx) else {
        return false;
    };
    let range = destination(instruction);
    let lanes = host[range.clone()]
        .chunks_exact(4)
        .zip(ours[range].chunks_exact(4));
    lanes
        .into_iter()
        .all(|(host, ours)| host == ours || near(single(host), single(ours)))
}

fn single(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn near(host: f32, ours: f32) -> bool {
    // What would be denormal is zero.
    let bound = (3.0 / 4096.0 * host.abs().max(ours.abs())).max(1.001 * f32::MIN_POSITIVE);
    host.is_finite() && ours.is_finite() && (host - ours).abs() <= bound
}

/// Takes our destination on both sides.
pub(crate) fn mask_destination(instruction: &Instruction, host: &mut Outcome, ours: &Outcome) {
    if let (Some(host), Some(ours)) = (&mut host.fx, &ours.fx) {
        let range = destination(instruction);
        host[range.clone()].copy_from_slice(&ours[range]);
    }
}
