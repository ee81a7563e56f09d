//! Random encodings of one `Code`.
//!
//! The encoder of iced would always choose the same bytes; here the prefixes,
//! ModR/M, SIB, displacement and immediate bytes are random around the
//! opcode that iced's table names, and the decoder says whether the result
//! still is the wanted instruction.

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, MandatoryPrefix, OpCodeInfo, OpCodeOperandKind,
    OpCodeTableKind,
};

use super::rng::Rng;

/// The decoder options of `latefork-cpu`: F3 0F BC is BSF, F3 0F BD is BSR.
pub(crate) const DECODER_OPTIONS: u32 = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD;
/// Longest instruction, SDM volume 2, section 2.3.11.
pub(crate) const MAX_LENGTH: usize = 15;
const SEGMENT_PREFIXES: [u8; 6] = [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65];

/// An instruction's bytes and what they decode to at their address.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    /// Exactly the instruction.
    pub(crate) bytes: Vec<u8>,
    /// The same, decoded.
    pub(crate) instruction: Instruction,
    /// Where its displacement lies in `bytes`: offset and size.
    pub(crate) displacement: Option<(usize, usize)>,
}

/// Decodes the first instruction of `bytes` as 32-bit code at `eip`.
pub(crate) fn decode(bytes: &[u8], eip: u32) -> Encoding {
    let mut decoder = Decoder::with_ip(32, bytes, u64::from(eip), DECODER_OPTIONS);
    let instruction = decoder.decode();
    let offsets = decoder.get_constant_offsets(&instruction);
    Encoding {
        bytes: bytes[..instruction.len()].to_vec(),
        instruction,
        displacement: offsets.has_displacement().then(|| {
            let (at, size) = (offsets.displacement_offset(), offsets.displacement_size());
            (at, size)
        }),
    }
}

/// Random bytes that decode to `code`, or none after many tries.
pub(crate) fn random(code: Code, eip: u32, rng: &mut Rng) -> Option<Encoding> {
    let op_code = code.op_code();
    for _ in 0..200 {
        let bytes = attempt(op_code, rng);
        let encoding = decode(&bytes, eip);
        if encoding.instruction.code() == code {
            return Some(encoding);
        }
    }
    None
}

/// Random bytes, most of which are near some instruction.
pub(crate) fn random_bytes(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    while rng.percent(25) && bytes.len() < 6 {
        bytes.push(rng.pick(&[
            0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65,
        ]));
    }
    if rng.percent(50) {
        bytes.push(0x0F);
    }
    while bytes.len() < MAX_LENGTH {
        bytes.push(rng.u8());
    }
    bytes
}

fn attempt(op_code: &OpCodeInfo, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = prefixes(op_code, rng);
    match op_code.table() {
        OpCodeTableKind::T0F => bytes.push(0x0F),
        OpCodeTableKind::T0F38 => bytes.extend([0x0F, 0x38]),
        OpCodeTableKind::T0F3A => bytes.extend([0x0F, 0x3A]),
        _ => {}
    }
    let register = if has_register_in_opcode(op_code) {
        rng.below(8)
    } else {
        0
    };
    let value = op_code.op_code() + register;
    if op_code.op_code_len() == 2 {
        bytes.push((value >> 8) as u8);
    }
    bytes.push(value as u8);
    push_tail(op_code, &mut bytes, rng);
    bytes
}

fn prefixes(op_code: &OpCodeInfo, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    if rng.percent(12) {
        bytes.push(rng.pick(&SEGMENT_PREFIXES));
    }
    let size_16 = op_code.operand_size() == 16;
    if size_16 || (op_code.operand_size() == 0 && rng.percent(6)) {
        bytes.push(0x66);
    }
    let address_16 = op_code.address_size() == 16;
    if address_16 || (op_code.address_size() == 0 && rng.percent(12)) {
        bytes.push(0x67);
    }
    if rng.percent(if op_code.can_use_lock_prefix() { 25 } else { 0 }) {
        bytes.push(0xF0);
    }
    let repeats = op_code.can_use_rep_prefix() || op_code.can_use_repne_prefix();
    if rng.percent(if repeats { 50 } else { 3 }) {
        bytes.push(rng.pick(&[0xF2, 0xF3]));
    }
    match op_code.mandatory_prefix() {
        MandatoryPrefix::P66 => bytes.push(0x66),
        MandatoryPrefix::PF3 => bytes.push(0xF3),
        MandatoryPrefix::PF2 => bytes.push(0xF2),
        _ => {}
    }
    if rng.percent(2) {
        let again = rng.pick(&SEGMENT_PREFIXES);
        bytes.insert(0, again);
    }
    if bytes.len() > 1 && rng.percent(50) {
        let at = rng.below(bytes.len() as u32) as usize;
        bytes.swap(0, at);
    }
    bytes
}

fn has_register_in_opcode(op_code: &OpCodeInfo) -> bool {
    op_code.op_kinds().iter().any(|kind| {
        matches!(
            kind,
            OpCodeOperandKind::r8_opcode
                | OpCodeOperandKind::r16_opcode
                | OpCodeOperandKind::r32_opcode
                | OpCodeOperandKind::sti_opcode
        )
    })
}

/// ModR/M (if any), SIB, displacement and immediate: random, with the bytes
/// that matter at borders more often than the rest.
fn push_tail(op_code: &OpCodeInfo, bytes: &mut Vec<u8>, rng: &mut Rng) {
    let mut mod_rm = rng.u8();
    if op_code.is_group() {
        mod_rm = (mod_rm & 0xC7) | ((op_code.group_index() as u8) << 3);
    }
    if op_code.is_rm_group() {
        mod_rm = (mod_rm & 0xF8) | op_code.rm_group_index() as u8;
    }
    bytes.push(mod_rm);
    for _ in 0..10 {
        bytes.push(if rng.percent(30) {
            rng.pick(&[0x00, 0x01, 0x7F, 0x80, 0xFF])
        } else {
            rng.u8()
        });
    }
}
