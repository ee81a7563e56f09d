//! Near jumps, calls and returns, loops.

use iced_x86::{Code, ConditionCode, Instruction, Mnemonic, OpKind};

use super::condition::{Condition, by_condition};
use super::operand::{First, Flat, Kind, Segmented, Source, by_target, by_wide_size, kind};
use super::stack::{AnyStack, FlatStack, Stack};
use crate::lower::{Context, Lowered};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::registers::gpr;
use crate::segment::seg;
use crate::state::{Core, Raised};

/// Raises `#GP(0)` unless `target` is inside the code segment.
#[inline(always)]
fn check_target(core: &mut Core, target: u32) -> Result<(), Raised> {
    if target > core.segments[seg::CS as usize].limit {
        return Err(core.gp(0));
    }
    Ok(())
}

/// The target of a relative jump, cut to the operand size.
#[inline(always)]
fn relative<W: Word>(core: &Core, op: &Op) -> u32 {
    W::cut(op.next_eip(core).wrapping_add(op.imm)).zext()
}

#[inline(always)]
fn go(core: &mut Core, target: u32, flow: Flow) -> Flow {
    if check_target(core, target).is_err() {
        return Flow::Raised;
    }
    core.eip = target;
    flow
}

fn jcc<C: Condition, W: Word>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    if C::holds(core) {
        let target = relative::<W>(core, op);
        go(core, target, Flow::Jump)
    } else {
        Flow::Next
    }
}

fn jmp_relative<W: Word>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let target = relative::<W>(core, op);
    go(core, target, Flow::Jump)
}

fn jmp_indirect<W: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(target) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    go(core, target, Flow::Indirect)
}

/// Pushes the return address and jumps.
#[inline(always)]
fn call<W: Word, K: Stack>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    target: u32,
    flow: Flow,
) -> Flow {
    let back = op.next_eip(core);
    if check_target(core, target).is_err() || K::push(core, memory, W::cut(back)).is_err() {
        return Flow::Raised;
    }
    core.eip = target;
    flow
}

fn call_relative<W: Word, K: Stack>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let target = relative::<W>(core, op);
    let back = op.next_eip(core);
    if target <= core.segments[seg::CS as usize].limit
        && K::push_fast(core, memory, W::cut(back)).is_some()
    {
        core.eip = target;
        return Flow::Jump;
    }
    call_relative_slow::<W, K>(core, memory, op)
}

#[inline(never)]
fn call_relative_slow<W: Word, K: Stack>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let target = relative::<W>(core, op);
    call::<W, K>(core, memory, op, target, Flow::Jump)
}

fn call_indirect<W: Word, S: Source, K: Stack>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    let Ok(target) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    call::<W, K>(core, memory, op, target, Flow::Indirect)
}

/// RET, also with bytes to drop (`imm`, zero without).
fn ret<W: Word, K: Stack>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if let Some(target) = K::top_fast::<W>(core, memory)
        && target.zext() <= core.segments[seg::CS as usize].limit
    {
        K::drop(core, W::BYTES + (op.imm & 0xffff));
        core.eip = target.zext();
        return Flow::Indirect;
    }
    ret_slow::<W, K>(core, memory, op)
}

#[inline(never)]
fn ret_slow<W: Word, K: Stack>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(target) = K::peek::<W>(core, memory, 0) else {
        return Flow::Raised;
    };
    let target = target.zext();
    if check_target(core, target).is_err() {
        return Flow::Raised;
    }
    K::drop(core, W::BYTES + (op.imm & 0xffff));
    core.eip = target;
    Flow::Indirect
}

/// What LOOP and its kin ask for after counting.
trait LoopKind {
    const COUNTS: bool;
    fn goes_on(core: &Core, count: u32) -> bool;
}

macro_rules! loop_kind {
    ($name:ident, $counts:literal, |$core:ident, $count:ident| $body:expr) => {
        struct $name;
        impl LoopKind for $name {
            const COUNTS: bool = $counts;
            fn goes_on($core: &Core, $count: u32) -> bool {
                $body
            }
        }
    };
}

loop_kind!(Loop, true, |_core, count| count != 0);
loop_kind!(Loope, true, |core, count| count != 0 && core.flags.zf());
loop_kind!(Loopne, true, |core, count| count != 0 && !core.flags.zf());
loop_kind!(Jcxz, false, |_core, count| count == 0);

/// `A` is the size of the counter (the address size), `W` that of EIP.
fn loop_or_jcxz<L: LoopKind, A: Word, W: Word>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let before = core.regs[gpr::ECX];
    let count = A::cut(before.wrapping_sub(u32::from(L::COUNTS))).zext();
    if !L::goes_on(core, count) {
        core.set_reg::<A>(1, count);
        return Flow::Next;
    }
    let target = relative::<W>(core, op);
    if check_target(core, target).is_err() {
        return Flow::Raised;
    }
    core.set_reg::<A>(1, count);
    core.eip = target;
    Flow::Jump
}

macro_rules! loops {
    ($l:ty, $context:expr, $i:expr) => {{
        let handler: Handler = by_wide_size!(branch_size($i), W => if $context.address32 {
            loop_or_jcxz::<$l, u32, W>
        } else {
            loop_or_jcxz::<$l, u16, W>
        });
        handler
    }};
}

/// Bytes of EIP that a relative branch sets.
fn branch_size(i: &Instruction) -> u32 {
    if i.op_kind(0) == OpKind::NearBranch16 {
        2
    } else {
        4
    }
}

fn lower_indirect(i: &Instruction, context: Context) -> Option<Handler> {
    let target = kind(i, 0, context);
    let size: u32 = match i.code() {
        Code::Jmp_rm16 | Code::Call_rm16 => 2,
        Code::Jmp_rm32 | Code::Call_rm32 => 4,
        _ => return None,
    };
    let flat = context.flat_stack();
    Some(
        by_wide_size!(size, W => by_target!(target, T => match i.mnemonic() {
            Mnemonic::Jmp => jmp_indirect::<W, T>,
            _ if flat => call_indirect::<W, T, FlatStack>,
            _ => call_indirect::<W, T, AnyStack>,
        })),
    )
}

fn lower_conditional(i: &Instruction, context: Context) -> Option<Handler> {
    Some(match i.mnemonic() {
        Mnemonic::Loop => loops!(Loop, context, i),
        Mnemonic::Loope => loops!(Loope, context, i),
        Mnemonic::Loopne => loops!(Loopne, context, i),
        Mnemonic::Jcxz | Mnemonic::Jecxz => loops!(Jcxz, context, i),
        _ => by_condition!(i.condition_code(), C =>
            by_wide_size!(branch_size(i), W => jcc::<C, W>)),
    })
}

pub(super) fn lower(i: &Instruction, context: Context) -> Option<Lowered> {
    let relative =
        i.op_count() > 0 && matches!(i.op_kind(0), OpKind::NearBranch16 | OpKind::NearBranch32);
    let flat = context.flat_stack();
    let handler: Handler = match i.mnemonic() {
        Mnemonic::Jmp if relative => by_wide_size!(branch_size(i), W => jmp_relative::<W>),
        Mnemonic::Call if relative && flat => {
            by_wide_size!(branch_size(i), W => call_relative::<W, FlatStack>)
        }
        Mnemonic::Call if relative => {
            by_wide_size!(branch_size(i), W => call_relative::<W, AnyStack>)
        }
        Mnemonic::Jmp | Mnemonic::Call => lower_indirect(i, context)?,
        Mnemonic::Ret => match i.code() {
            Code::Retnw | Code::Retnw_imm16 => ret::<u16, AnyStack>,
            _ if flat => ret::<u32, FlatStack>,
            _ => ret::<u32, AnyStack>,
        },
        _ if relative => return lower_conditional(i, context).map(Lowered::side),
        _ => return None,
    };
    Some(Lowered::end(handler))
}
