//! From guest bytes to a block of ops.

use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction, OpKind, Register};

use crate::address::PAGE_SIZE;
use crate::block::{Key, MAX_BLOCK_LEN, NewBlock};
use crate::integer::fuse::{self, Draft};
use crate::lower::{Context, Ending, Lowered, lower, too_long, undefined};
use crate::memory::Memory;
use crate::op::Op;
use crate::paging::Access;
use crate::segment::seg;
use crate::state::{Core, Mode, Raised};

/// Bytes of the longest instruction.
const MAX_LEN: usize = 15;
/// Instructions in the longest block.
const MAX_OPS: usize = 64;
/// Conditional jumps in the longest block: each may leave it.
const MAX_SIDES: usize = 3;
/// Bytes looked at for one block.
const WINDOW: usize = MAX_BLOCK_LEN as usize;
/// F3 0F BC is BSF with a prefix, not TZCNT; F3 0F BD likewise.
const OPTIONS: u32 = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD;

/// How many instructions a block may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Block,
    Single,
}

/// Where decoding starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) eip: u32,
    pub(crate) linear: u32,
    pub(crate) frame: u32,
}

/// Decodes from `place`, where the code segment's limit allows at least one
/// byte. Raises what the fetch of the *first* instruction raises; a later
/// instruction that cannot be fetched just ends the block.
#[allow(clippy::cast_possible_truncation)] // a few hundred bytes
pub(crate) fn decode(
    core: &mut Core,
    memory: &Memory<'_>,
    place: Place,
    extent: Extent,
) -> Result<NewBlock, Raised> {
    let code32 = core.mode.has(Mode::CODE32);
    let context = Context {
        mode: core.mode,
        model: core.model,
        operand32: code32,
        address32: code32,
    };
    let offset = (place.linear & 0xfff) as usize;
    let to_page_end = PAGE_SIZE as usize - offset;
    let to_limit = core.segments[seg::CS as usize]
        .limit
        .wrapping_sub(place.eip) as usize;
    let window = to_page_end.min(WINDOW);
    let mut buffer = [0xff; WINDOW];
    copy_page(memory, place.frame, offset, &mut buffer[..window]);

    let mut block = NewBlock {
        key: key(core.mode, place, extent),
        ops: Vec::new(),
        count: 0,
        second_frame: None,
        bytes: Vec::new(),
    };
    let mut drafts = Vec::with_capacity(16);
    let mut at = 0;
    let mut sides = 0;
    while drafts.len() < MAX_OPS {
        let first = drafts.is_empty();
        let slice = &buffer[at..window.min(at + MAX_LEN)];
        let Some(decoded) = decode_one(slice, place.eip.wrapping_add(at as u32), context) else {
            // The bytes end inside this instruction.
            if !first {
                break;
            }
            return crossing(core, memory, place, block, &buffer[..window], context);
        };
        if at + usize::from(decoded.op.len) - 1 > to_limit {
            if first {
                return Err(core.gp(0));
            }
            break;
        }
        let ending = decoded.ending;
        sides += usize::from(ending == Ending::Side);
        let len = usize::from(decoded.op.len);
        if !(ending == Ending::Side && fuse_last(&mut block, &mut drafts, &decoded, context)) {
            push(&mut drafts, &mut block.count, decoded, at);
        }
        sides -= usize::from(fuse::count_edge(&mut drafts, context));
        let enough = sides >= MAX_SIDES && !fuse::may_count(&drafts);
        at += len;
        let ends = ending == Ending::Block || ending == Ending::Side && enough;
        if ends || extent == Extent::Single || at >= window {
            break;
        }
    }
    block.ops = fuse::combine(&drafts, context);
    block.bytes = buffer[..at].to_vec();
    Ok(block)
}

fn key(mode: Mode, place: Place, extent: Extent) -> Key {
    let single = if extent == Extent::Single {
        Key::SINGLE
    } else {
        0
    };
    Key::new(place.frame, place.linear, Mode(mode.0 | single))
}

#[allow(clippy::cast_possible_truncation)] // a few hundred bytes
fn push(drafts: &mut Vec<Draft>, count: &mut u32, decoded: Decoded, at: usize) {
    let mut op = decoded.op;
    op.offset = at as u16;
    op.ordinal = *count as u8;
    drafts.push(Draft {
        op,
        instruction: decoded.instruction,
        condition: None,
    });
    *count += 1;
}

/// Makes one op of a comparison, the last draft, and the conditional jump that
/// follows it, if there is a handler for the pair.
fn fuse_last(block: &mut NewBlock, drafts: &mut [Draft], jump: &Decoded, context: Context) -> bool {
    let Some(last) = drafts.last_mut() else {
        return false;
    };
    let op = &mut last.op;
    if op.retires != 1
        || !op.has(Op::ADDRESS32)
        || !fuse::fuse(op, &last.instruction, &jump.op, &jump.instruction, context)
    {
        return false;
    }
    op.len += jump.op.len;
    op.retires = 2;
    last.condition = Some(jump.instruction.condition_code());
    block.count += 1;
    true
}

/// A single instruction whose bytes lie in two pages.
#[allow(clippy::cast_possible_truncation)] // at most 15 bytes
fn crossing(
    core: &mut Core,
    memory: &Memory<'_>,
    place: Place,
    mut block: NewBlock,
    head: &[u8],
    context: Context,
) -> Result<NewBlock, Raised> {
    let next = place.linear.wrapping_add(head.len() as u32);
    let to_limit = core.segments[seg::CS as usize]
        .limit
        .wrapping_sub(place.eip) as usize;
    if head.len() > to_limit {
        return Err(core.gp(0));
    }
    let second = core.translate(memory, next, Access::Fetch, core.user)?;
    let mut bytes = [0xff; MAX_LEN];
    bytes[..head.len()].copy_from_slice(head);
    copy_page(memory, second, 0, &mut bytes[head.len()..]);
    let mut decoded = decode_one(&bytes, place.eip, context).unwrap_or(Decoded {
        op: Op::new(too_long, MAX_LEN),
        ending: Ending::Block,
        instruction: Instruction::default(),
    });
    // An instruction that needs no byte of the second page does not get here.
    let len = usize::from(decoded.op.len).max(head.len() + 1);
    decoded.op.len = len as u8;
    if len - 1 > to_limit {
        return Err(core.gp(0));
    }
    block.ops = vec![decoded.op];
    block.count = 1;
    block.second_frame = Some(second);
    block.bytes = bytes[..len].to_vec();
    Ok(block)
}

/// Fills `into` from a page; bytes that nothing backs are 0xff.
fn copy_page(memory: &Memory<'_>, frame: u32, offset: usize, into: &mut [u8]) {
    if let Some((page, _)) = memory.page(frame) {
        for (byte, cell) in into.iter_mut().zip(&page[offset..]) {
            *byte = cell.get();
        }
    }
}

struct Decoded {
    op: Op,
    ending: Ending,
    instruction: Instruction,
}

/// `None`: more bytes are needed.
fn decode_one(bytes: &[u8], eip: u32, mut context: Context) -> Option<Decoded> {
    for byte in bytes.iter().take_while(|&&byte| is_prefix(byte)) {
        match byte {
            0x66 => context.operand32 = !context.mode.has(Mode::CODE32),
            0x67 => context.address32 = !context.mode.has(Mode::CODE32),
            _ => {}
        }
    }
    let bits = if context.mode.has(Mode::CODE32) {
        32
    } else {
        16
    };
    let mut decoder = Decoder::with_ip(bits, bytes, u64::from(eip), OPTIONS);
    let instruction = decoder.decode();
    if instruction.is_invalid() {
        if decoder.last_error() == DecoderError::NoMoreBytes {
            return None;
        }
        let handler = if longer_than_max(bytes, bits) {
            too_long
        } else {
            undefined
        };
        return Some(Decoded {
            op: Op::new(handler, instruction.len()),
            ending: Ending::Block,
            instruction,
        });
    }
    let Lowered { handler, ending } = lower(&instruction, context);
    let mut op = Op::new(handler, instruction.len());
    fill(&mut op, &instruction, bytes, context);
    Some(Decoded {
        op,
        ending,
        instruction,
    })
}

fn is_prefix(byte: u8) -> bool {
    matches!(
        byte,
        0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
    )
}

/// Whether an invalid encoding of 15 bytes is so because it goes on: redundant
/// prefixes are taken away until the rest decodes or is invalid by itself.
fn longer_than_max(bytes: &[u8], bits: u32) -> bool {
    if bytes.len() < MAX_LEN {
        return false;
    }
    let prefixes = bytes.iter().take_while(|&&byte| is_prefix(byte)).count();
    if prefixes >= MAX_LEN {
        return true;
    }
    // Operand and address size are all that length depends on.
    let mut short: Vec<u8> = [0x66, 0x67]
        .into_iter()
        .filter(|size| bytes[..prefixes].contains(size))
        .collect();
    let kept = short.len();
    short.extend_from_slice(&bytes[prefixes..]);
    let mut decoder = Decoder::new(bits, &short, OPTIONS);
    let rest = decoder.decode();
    let needed = if rest.is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes {
        short.len() + 1
    } else {
        rest.len()
    };
    needed - kept + prefixes > MAX_LEN
}

/// Fills in operands and prefixes, the same way for all instructions.
#[allow(clippy::cast_possible_truncation)] // immediates and register numbers
fn fill(op: &mut Op, instruction: &Instruction, bytes: &[u8], context: Context) {
    let mut set = |bit: u8, on: bool| {
        if on {
            op.flags |= bit;
        }
    };
    set(Op::OPERAND32, context.operand32);
    set(Op::ADDRESS32, context.address32);
    set(Op::REP, instruction.has_rep_prefix());
    set(Op::REPNE, instruction.has_repne_prefix());
    set(Op::STACK32, context.mode.has(Mode::STACK32));
    // The x87 instruction map is indexed by the opcode's 11 variable bits, which the unit also keeps as its last opcode.
    if let [first @ 0xd8..=0xdf, modrm, ..] =
        bytes[bytes.iter().take_while(|&&byte| is_prefix(byte)).count()..]
    {
        op.imm = u32::from(first & 7) << 8 | u32::from(modrm);
    }
    let mut immediates = 0;
    for n in 0..instruction.op_count() {
        match instruction.op_kind(n) {
            OpKind::Register => {
                let number = instruction.op_register(n).number() as u8;
                match n {
                    0 => op.dst = number,
                    1 => op.src = number,
                    _ => {}
                }
            }
            OpKind::NearBranch16 | OpKind::NearBranch32 => {
                op.imm =
                    (instruction.near_branch_target() as u32).wrapping_sub(instruction.next_ip32());
            }
            OpKind::FarBranch16 => {
                op.imm = u32::from(instruction.far_branch16());
                op.disp = u32::from(instruction.far_branch_selector());
            }
            OpKind::FarBranch32 => {
                op.imm = instruction.far_branch32();
                op.disp = u32::from(instruction.far_branch_selector());
            }
            OpKind::Memory => {
                op.base = register_or_zero(instruction.memory_base());
                op.index = register_or_zero(instruction.memory_index());
                op.scale = instruction.memory_index_scale() as u8;
                op.disp = instruction.memory_displacement32();
            }
            OpKind::Immediate8
            | OpKind::Immediate8_2nd
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32 => {
                let value = instruction.immediate(n) as u32;
                if immediates == 0 {
                    op.imm = value
                } else {
                    op.disp = value
                }
                immediates += 1;
            }
            _ => {}
        }
    }
    // The mask, the third register of the two instructions that have one.
    if matches!(
        instruction.code(),
        Code::Maskmovq_rDI_mm_mm | Code::Maskmovdqu_rDI_xmm_xmm
    ) {
        op.dst = instruction.op_register(2).number() as u8;
    }
    if instruction.memory_segment() != Register::None {
        op.seg = instruction.memory_segment().number() as u8;
    }
}

#[allow(clippy::cast_possible_truncation)] // 0 to 7
fn register_or_zero(register: Register) -> u8 {
    if register == Register::None {
        8
    } else {
        register.number() as u8
    }
}
