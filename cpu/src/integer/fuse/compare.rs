//! A comparison and the conditional jump after it as one op.
//!
//! Together they are a tenth of what a kernel executes, and dispatch costs more
//! than either. The op retires two instructions; where only one of them fits
//! (the budget, single steps), blocks of one instruction are used instead.

use iced_x86::{ConditionCode, Instruction, Mnemonic, OpKind};

use crate::integer::alu::{And, Binary, Sub};
use crate::integer::condition::{Condition, by_condition};
use crate::integer::operand::{Based, First, Immediate, Kind, Second, Source, kind, size};
use crate::lower::Context;
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::segment::seg;
use crate::state::{Core, Raised};

/// The field that holds the jump's displacement: one that the operands of the
/// comparison leave free.
trait Displacement {
    fn get(op: &Op) -> u32;
}

/// No memory operand.
struct InDisp;
/// No immediate.
struct InImm;
/// No register: 16 bits.
struct InRegisters;

impl Displacement for InDisp {
    #[inline(always)]
    fn get(op: &Op) -> u32 {
        op.disp
    }
}

impl Displacement for InImm {
    #[inline(always)]
    fn get(op: &Op) -> u32 {
        op.imm
    }
}

impl Displacement for InRegisters {
    #[inline(always)]
    fn get(op: &Op) -> u32 {
        i32::from(i16::from_le_bytes([op.dst, op.src])).cast_unsigned()
    }
}

fn compare_and_jump<O, W, T, S, D, C>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow
where
    O: Binary,
    W: Word,
    T: Source,
    S: Source,
    D: Displacement,
    C: Condition,
{
    let (a, b) = (
        T::get_fast::<W>(core, memory, op),
        S::get_fast::<W>(core, memory, op),
    );
    let (Some(a), Some(b)) = (a, b) else {
        return apart(core).into();
    };
    let before = core.flags;
    O::apply::<W>(&mut core.flags, a, b);
    if !C::holds(core) {
        return Flow::Next;
    }
    let target = op.next_eip(core).wrapping_add(D::get(op));
    if target > core.segments[seg::CS as usize].limit {
        core.flags = before;
        return apart(core).into();
    }
    core.eip = target;
    Flow::Jump
}

/// The memory operand needs the slow path, or the jump faults: the two are
/// executed one by one instead.
#[cold]
fn apart(core: &mut Core) -> Result<(), Raised> {
    core.need_stepping()
}

macro_rules! fused {
    ($code:expr, $o:ty, $w:ty, $t:ty, $s:ty, $d:ty) => {{
        let handler: Handler =
            by_condition!($code, C => compare_and_jump::<$o, $w, $t, $s, $d, C>);
        handler
    }};
}

/// The handler for a pair, if this is one of the frequent ones.
fn handler(compare: &Instruction, condition: ConditionCode, context: Context) -> Option<Handler> {
    let kinds = (kind(compare, 0, context), kind(compare, 1, context));
    let test = match compare.mnemonic() {
        Mnemonic::Cmp => false,
        Mnemonic::Test => true,
        _ => return None,
    };
    Some(match (test, size(compare, 0), kinds) {
        (false, 4, (Kind::Register, Kind::Register)) => {
            fused!(condition, Sub, u32, First, Second, InDisp)
        }
        (false, 4, (Kind::Register, Kind::Immediate)) => {
            fused!(condition, Sub, u32, First, Immediate, InDisp)
        }
        (false, 4, (Kind::Register, Kind::Based)) => {
            fused!(condition, Sub, u32, First, Based, InImm)
        }
        (false, 4, (Kind::Based, Kind::Register)) => {
            fused!(condition, Sub, u32, Based, Second, InImm)
        }
        (false, 4, (Kind::Based, Kind::Immediate)) => {
            fused!(condition, Sub, u32, Based, Immediate, InRegisters)
        }
        (false, 1, (Kind::Register, Kind::Immediate)) => {
            fused!(condition, Sub, u8, First, Immediate, InDisp)
        }
        (false, 1, (Kind::Based, Kind::Immediate)) => {
            fused!(condition, Sub, u8, Based, Immediate, InRegisters)
        }
        (true, 4, (Kind::Register, Kind::Register)) => {
            fused!(condition, And, u32, First, Second, InDisp)
        }
        (true, 1, (Kind::Register, Kind::Register)) => {
            fused!(condition, And, u8, First, Second, InDisp)
        }
        (true, 1, (Kind::Register, Kind::Immediate)) => {
            fused!(condition, And, u8, First, Immediate, InDisp)
        }
        (true, 1, (Kind::Based, Kind::Immediate)) => {
            fused!(condition, And, u8, Based, Immediate, InRegisters)
        }
        _ => return None,
    })
}

/// Turns `op`, which executes `compare`, into one that executes `jump` as well.
/// The caller adds up lengths and counts.
pub(crate) fn fuse(
    op: &mut Op,
    compare: &Instruction,
    jump_op: &Op,
    jump: &Instruction,
    context: Context,
) -> bool {
    let conditional = jump.is_jcc_short_or_near() && jump.op_kind(0) == OpKind::NearBranch32;
    if !conditional || op.len + jump_op.len > 30 {
        return false;
    }
    let Some(handler) = handler(compare, jump.condition_code(), context) else {
        return false;
    };
    let memory = compare.op_kind(0) == OpKind::Memory || compare.op_kind(1) == OpKind::Memory;
    let immediate = kind(compare, 1, context) == Kind::Immediate;
    match (memory, immediate) {
        (false, _) => op.disp = jump_op.imm,
        (true, false) => op.imm = jump_op.imm,
        (true, true) => {
            let Ok(short) = i16::try_from(jump_op.imm.cast_signed()) else {
                return false;
            };
            [op.dst, op.src] = short.to_le_bytes();
        }
    }
    op.handler = handler;
    true
}
