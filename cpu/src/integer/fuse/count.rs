//! The counting of an edge, which a guest that is compiled for coverage does at
//! the start of every basic block, as one op:
//!
//! ```text
//! mov  eax, [place]
//! xor  eax, number           16 bits
//! js   end
//! add  byte [eax + map], 1
//! sbb  byte [eax + map], 0
//! mov  dword [place], next   16 bits
//! end:
//! ```
//!
//! It is known by its instructions and their lengths alone, whatever the
//! addresses are, and does to registers, flags and memory what they do.

use iced_x86::{Code, Instruction, Mnemonic, Register};

use super::{Draft, apart_after};
use crate::integer::alu::{Add, Binary, Sbb, Xor};
use crate::lower::Context;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::registers::gpr;
use crate::segment::seg;
use crate::state::Core;

/// The instructions, and the bytes of each.
const LENGTHS: [u8; 6] = [5, 5, 2, 7, 7, 10];
/// From the end of JS to the end.
const SKIPPED: u32 = 24;
/// Bytes, and instructions, before the last one.
const BEFORE_LAST: (u8, u8) = (26, 5);
/// Instructions that the jump skips.
const NOT_RETIRED: u64 = 3;

fn is(i: &Instruction, code: Code) -> bool {
    i.code() == code
}

/// Whether the last draft may be the third of the six: a conditional jump after
/// which the block should go on.
pub(crate) fn may_count(drafts: &[Draft]) -> bool {
    let Some([load, xor, jump]) = drafts.last_chunk() else {
        return false;
    };
    is(&load.instruction, Code::Mov_EAX_moffs32)
        && is(&xor.instruction, Code::Xor_EAX_imm32)
        && is(&jump.instruction, Code::Js_rel8_32)
        && jump.op.imm == SKIPPED
}

/// Makes one draft of the last six, if they count an edge.
pub(crate) fn count_edge(drafts: &mut Vec<Draft>, context: Context) -> bool {
    let Some(at) = drafts.len().checked_sub(LENGTHS.len()) else {
        return false;
    };
    let six = &drafts[at..];
    if !may_count(&six[..3]) || !lengths_agree(six) {
        return false;
    }
    let [load, xor, _, add, sbb, store] = six else {
        return false;
    };
    let flat = [load, add, sbb, store]
        .iter()
        .all(|draft| context.is_flat(&draft.instruction));
    let on_map = |draft: &Draft| {
        let i = &draft.instruction;
        i.memory_base() == Register::EAX && i.memory_index() == Register::None
    };
    let same_byte = on_map(add) && on_map(sbb) && add.op.disp == sbb.op.disp;
    let counts = is(&add.instruction, Code::Add_rm8_imm8)
        && add.op.imm & 0xff == 1
        && is(&sbb.instruction, Code::Sbb_rm8_imm8)
        && sbb.op.imm & 0xff == 0;
    let stores = is(&store.instruction, Code::Mov_rm32_imm32)
        && store.instruction.mnemonic() == Mnemonic::Mov
        && (store.op.base, store.op.index) == (8, 8)
        && store.op.disp == load.op.disp;
    let (Ok(number), Ok(next)) = (u16::try_from(xor.op.imm), u16::try_from(store.op.imm)) else {
        return false;
    };
    if !(flat && context.flat_stack() && same_byte && counts && stores) {
        return false;
    }
    let mut op = load.op.clone();
    op.handler = count;
    op.disp = load.op.disp;
    op.imm = add.op.disp;
    [op.dst, op.src] = number.to_le_bytes();
    [op.base, op.index] = next.to_le_bytes();
    op.len = LENGTHS.iter().sum();
    op.retires = 6;
    drafts.truncate(at + 1);
    drafts[at].op = op;
    true
}

fn lengths_agree(six: &[Draft]) -> bool {
    six.iter().map(|draft| draft.op.len).eq(LENGTHS)
}

fn count(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Some(place) = core.load_fast::<u32>(memory, op.disp) else {
        return apart_after(core, 0, 0);
    };
    let number = u32::from(u16::from_le_bytes([op.dst, op.src]));
    let edge = place ^ number;
    if edge >> 31 != 0 {
        return skip(core, op, [place, number]);
    }
    let counter = edge.wrapping_add(op.imm);
    let Some(count) = core.load_fast::<u8>(memory, counter) else {
        return apart_after(core, 0, 0);
    };
    let mut flags = core.flags;
    let count = Add::apply::<u8>(&mut flags, count.into(), 1);
    let count = Sbb::apply::<u8>(&mut flags, count & 0xff, 0);
    #[allow(clippy::cast_possible_truncation)] // a byte
    if core.store_fast(memory, counter, count as u8).is_none() {
        return apart_after(core, 0, 0);
    }
    core.regs[gpr::EAX] = edge;
    core.flags = flags;
    let next = u32::from(u16::from_le_bytes([op.base, op.index]));
    if core.store_fast(memory, op.disp, next).is_none() {
        return apart_after(core, BEFORE_LAST.0, BEFORE_LAST.1);
    }
    Flow::Next
}

/// The jump is taken.
fn skip(core: &mut Core, op: &Op, [place, number]: [u32; 2]) -> Flow {
    let end = op.next_eip(core);
    if end > core.segments[seg::CS as usize].limit {
        return apart_after(core, 0, 0);
    }
    core.regs[gpr::EAX] = Xor::apply::<u32>(&mut core.flags, place, number);
    // The op retires all six when it jumps.
    core.retired = core.retired.wrapping_sub(NOT_RETIRED);
    core.eip = end;
    Flow::Jump
}
