//! PUSH, POP, PUSHA, POPA, ENTER, LEAVE of general registers, immediates and
//! memory.

use iced_x86::{Code, Instruction, Mnemonic};

use super::operand::{First, Flat, Immediate, Kind, Segmented, Source, by_wide_size, kind};
use crate::lower::{Context, Lowered};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::registers::{cr0, gpr};
use crate::segment::seg;
use crate::state::{Core, Raised};

/// A kind of stack.
pub(super) trait Stack {
    /// Pushes; the stack pointer moves only if that succeeds.
    fn push<W: Word>(core: &mut Core, memory: &Memory<'_>, value: W) -> Result<(), Raised>;
    /// Reads at a distance from the top.
    fn peek<W: Word>(core: &mut Core, memory: &Memory<'_>, above: u32) -> Result<W, Raised>;
    /// Takes bytes off.
    fn drop(core: &mut Core, bytes: u32);

    /// As [`Self::push`], if no function has to be called for it.
    #[inline(always)]
    fn push_fast<W: Word>(core: &mut Core, memory: &Memory<'_>, value: W) -> Option<()> {
        let _ = (core, memory, value);
        None
    }

    /// As [`Self::peek`] at the top, if no function has to be called for it.
    #[inline(always)]
    fn top_fast<W: Word>(core: &Core, memory: &Memory<'_>) -> Option<W> {
        let _ = (core, memory);
        None
    }
}

/// A flat segment with ESP.
pub(super) struct FlatStack;
/// Any segment, ESP or SP.
pub(super) struct AnyStack;

impl Stack for FlatStack {
    #[inline(always)]
    fn push<W: Word>(core: &mut Core, memory: &Memory<'_>, value: W) -> Result<(), Raised> {
        let linear = core.regs[gpr::ESP].wrapping_sub(W::BYTES);
        core.store_linear(memory, linear, core.user, value)?;
        core.regs[gpr::ESP] = linear;
        Ok(())
    }

    #[inline(always)]
    fn peek<W: Word>(core: &mut Core, memory: &Memory<'_>, above: u32) -> Result<W, Raised> {
        core.load_linear(memory, core.regs[gpr::ESP].wrapping_add(above), core.user)
    }

    #[inline(always)]
    fn drop(core: &mut Core, bytes: u32) {
        core.regs[gpr::ESP] = core.regs[gpr::ESP].wrapping_add(bytes);
    }

    #[inline(always)]
    fn push_fast<W: Word>(core: &mut Core, memory: &Memory<'_>, value: W) -> Option<()> {
        let linear = core.regs[gpr::ESP].wrapping_sub(W::BYTES);
        core.store_fast(memory, linear, value)?;
        core.regs[gpr::ESP] = linear;
        Some(())
    }

    #[inline(always)]
    fn top_fast<W: Word>(core: &Core, memory: &Memory<'_>) -> Option<W> {
        core.load_fast(memory, core.regs[gpr::ESP])
    }
}

impl Stack for AnyStack {
    #[inline(always)]
    fn push<W: Word>(core: &mut Core, memory: &Memory<'_>, value: W) -> Result<(), Raised> {
        core.push(memory, value)
    }

    #[inline(always)]
    fn peek<W: Word>(core: &mut Core, memory: &Memory<'_>, above: u32) -> Result<W, Raised> {
        core.load(memory, seg::SS, core.stack_offset(above))
    }

    #[inline(always)]
    fn drop(core: &mut Core, bytes: u32) {
        core.set_stack(core.stack_offset(bytes));
    }
}

/// The value of ESP itself is the one before the instruction.
fn push<W: Word, S: Source, K: Stack>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if let Some(value) = S::get_fast::<W>(core, memory, op)
        && K::push_fast(core, memory, W::cut(value)).is_some()
    {
        return Flow::Next;
    }
    push_slow::<W, S, K>(core, memory, op)
}

#[inline(never)]
fn push_slow<W: Word, S: Source, K: Stack>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    K::push(core, memory, W::cut(value)).into()
}

/// POP of ESP keeps the value popped.
fn pop<W: Word, K: Stack>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if let Some(value) = K::top_fast::<W>(core, memory) {
        K::drop(core, W::BYTES);
        core.set_reg::<W>(op.dst, value.zext());
        return Flow::Next;
    }
    pop_slow::<W, K>(core, memory, op)
}

#[inline(never)]
fn pop_slow<W: Word, K: Stack>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = K::peek::<W>(core, memory, 0) else {
        return Flow::Raised;
    };
    K::drop(core, W::BYTES);
    core.set_reg::<W>(op.dst, value.zext());
    Flow::Next
}

/// POP to memory: an address by ESP uses its value after the pop.
fn pop_memory<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = AnyStack::peek::<W>(core, memory, 0) else {
        return Flow::Raised;
    };
    let before = core.regs[gpr::ESP];
    AnyStack::drop(core, W::BYTES);
    let done = core.store(memory, op.seg, op.ea(core), value);
    if done.is_err() {
        core.regs[gpr::ESP] = before;
    }
    done.into()
}

fn pusha<W: Word>(core: &mut Core, memory: &Memory<'_>, _: &Op) -> Flow {
    let offset = core.stack_offset((W::BYTES * 8).wrapping_neg());
    // Real mode: the end of the segment in the middle of the frame.
    if core.cr0 & cr0::PE == 0 && matches!(core.stack_offset(0), 7 | 9 | 11 | 13 | 15) {
        let _raised = core.gp(0);
        return Flow::Raised;
    }
    for n in 0..8u8 {
        let value = W::cut(core.reg::<W>(n));
        let at = core.stack_offset((W::BYTES * u32::from(n + 1)).wrapping_neg());
        if core.store(memory, seg::SS, at, value).is_err() {
            return Flow::Raised;
        }
    }
    core.set_stack(offset);
    Flow::Next
}

fn popa<W: Word>(core: &mut Core, memory: &Memory<'_>, _: &Op) -> Flow {
    let mut values = [0; 8];
    for (value, n) in values.iter_mut().zip(0..) {
        match AnyStack::peek::<W>(core, memory, W::BYTES * n) {
            Ok(popped) => *value = popped.zext(),
            Err(_) => return Flow::Raised,
        }
    }
    AnyStack::drop(core, W::BYTES * 8);
    for (value, number) in values.into_iter().zip((0..8u8).rev()) {
        if usize::from(number) != gpr::ESP {
            core.set_reg::<W>(number, value);
        }
    }
    Flow::Next
}

/// ENTER: `imm` bytes of locals, `disp` modulo 32 levels of nesting.
fn enter<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    enter_checked::<W>(core, memory, op).into()
}

fn enter_checked<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
    let level = op.disp & 31;
    if level > 1 {
        // It reads and writes in turn: it must not be executed again half way.
        core.need_stepping()?;
    }
    let mut depth = W::BYTES.wrapping_neg();
    let frame = core.stack_offset(depth);
    core.store(memory, seg::SS, frame, W::cut(core.regs[gpr::EBP]))?;
    for n in 1..level {
        let from = core.regs[gpr::EBP].wrapping_sub(W::BYTES * n) & core.stack_mask();
        let pointer: W = core.load(memory, seg::SS, from)?;
        depth = depth.wrapping_sub(W::BYTES);
        core.store(memory, seg::SS, core.stack_offset(depth), pointer)?;
    }
    if level > 0 {
        depth = depth.wrapping_sub(W::BYTES);
        core.store(memory, seg::SS, core.stack_offset(depth), W::cut(frame))?;
    }
    let bottom = core.stack_offset(depth.wrapping_sub(op.imm & 0xffff));
    // The last byte must be writable, or the instruction faults.
    let linear = core.writable(seg::SS, bottom, W::BYTES)?;
    core.check_alignment(linear, W::BYTES, core.user)?;
    core.probe_write(memory, linear, W::BYTES, core.user)?;
    core.set_reg::<W>(5, frame);
    core.set_stack(bottom);
    Ok(())
}

fn leave<W: Word>(core: &mut Core, memory: &Memory<'_>, _: &Op) -> Flow {
    let frame = core.regs[gpr::EBP] & core.stack_mask();
    match core.load::<W>(memory, seg::SS, frame) {
        Ok(value) => {
            core.set_stack(frame.wrapping_add(W::BYTES));
            core.set_reg::<W>(5, value.zext());
            Flow::Next
        }
        Err(_) => Flow::Raised,
    }
}

/// LEAVE on a flat stack.
fn leave_flat(core: &mut Core, memory: &Memory<'_>, _: &Op) -> Flow {
    let frame = core.regs[gpr::EBP];
    match core.load_linear::<u32>(memory, frame, core.user) {
        Ok(value) => {
            core.regs[gpr::ESP] = frame.wrapping_add(4);
            core.regs[gpr::EBP] = value;
            Flow::Next
        }
        Err(_) => Flow::Raised,
    }
}

/// Bytes that a PUSH or POP moves.
fn operand_size(i: &Instruction) -> u32 {
    i.stack_pointer_increment().unsigned_abs()
}

macro_rules! push_from {
    ($i:expr, $context:expr, $k:ty) => {
        by_wide_size!(operand_size($i), W => match kind($i, 0, $context) {
            Kind::Register => push::<W, First, $k>,
            Kind::Immediate => push::<W, Immediate, $k>,
            Kind::Flat | Kind::Based => push::<W, Flat, $k>,
            Kind::Segmented => push::<W, Segmented, $k>,
            _ => return None,
        })
    };
}

pub(super) fn lower(i: &Instruction, context: Context) -> Option<Lowered> {
    let flat = context.flat_stack();
    let handler: Handler = match i.mnemonic() {
        Mnemonic::Push if flat => push_from!(i, context, FlatStack),
        Mnemonic::Push => push_from!(i, context, AnyStack),
        Mnemonic::Pop => match kind(i, 0, context) {
            Kind::Register if flat => by_wide_size!(operand_size(i), W => pop::<W, FlatStack>),
            Kind::Register => by_wide_size!(operand_size(i), W => pop::<W, AnyStack>),
            Kind::Flat | Kind::Based | Kind::Segmented => {
                by_wide_size!(operand_size(i), W => pop_memory::<W>)
            }
            _ => return None,
        },
        Mnemonic::Pusha => pusha::<u16>,
        Mnemonic::Pushad => pusha::<u32>,
        Mnemonic::Popa => popa::<u16>,
        Mnemonic::Popad => popa::<u32>,
        Mnemonic::Enter if i.code() == Code::Enterw_imm16_imm8 => enter::<u16>,
        Mnemonic::Enter => enter::<u32>,
        Mnemonic::Leave if i.code() == Code::Leavew => leave::<u16>,
        Mnemonic::Leave if flat => leave_flat,
        Mnemonic::Leave => leave::<u32>,
        _ => return None,
    };
    Some(Lowered::next(handler))
}
