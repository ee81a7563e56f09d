//! MOV, MOVZX, MOVSX, XCHG, LEA, BSWAP, XADD, CMPXCHG, CMPXCHG8B, SETcc, CMOVcc,
//! conversions of sign, XLAT, NOP.

use iced_x86::{ConditionCode, Instruction, Mnemonic};

use super::alu::{Add, Binary, Sub};
use super::condition::{Condition, by_condition};
use super::operand::{
    Based, First, Flat, Immediate, Kind, Second, Segmented, Source, Target, by_size, by_source,
    by_source_based, by_target, by_wide_size, kind, size,
};
use crate::lower::{Context, Lowered};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::registers::gpr;
use crate::state::{Core, Raised};

fn mov<W: Word, T: Target, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if let Some(value) = S::get_fast::<W>(core, memory, op)
        && T::put_fast::<W>(core, memory, op, value).is_some()
    {
        return Flow::Next;
    }
    mov_slow::<W, T, S>(core, memory, op)
}

#[inline(never)]
fn mov_slow<W: Word, T: Target, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    T::put::<W>(core, memory, op, value).into()
}

fn movzx<W: Word, N: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if let Some(value) = S::get_fast::<N>(core, memory, op) {
        core.set_reg::<W>(op.dst, value);
        return Flow::Next;
    }
    movzx_slow::<W, N, S>(core, memory, op)
}

#[inline(never)]
fn movzx_slow<W: Word, N: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = S::get::<N>(core, memory, op) else {
        return Flow::Raised;
    };
    core.set_reg::<W>(op.dst, value);
    Flow::Next
}

fn movsx<W: Word, N: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if let Some(value) = S::get_fast::<N>(core, memory, op) {
        core.set_reg::<W>(op.dst, N::sext(value));
        return Flow::Next;
    }
    movsx_slow::<W, N, S>(core, memory, op)
}

#[inline(never)]
fn movsx_slow<W: Word, N: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = S::get::<N>(core, memory, op) else {
        return Flow::Raised;
    };
    core.set_reg::<W>(op.dst, N::sext(value));
    Flow::Next
}

/// XCHG with a register as operand 1.
fn xchg<W: Word, T: Target>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let value = core.reg::<W>(op.src);
    let mut old = 0;
    let done = T::update::<W>(core, memory, op, |_, before| {
        old = before;
        value
    });
    if done.is_ok() {
        core.set_reg::<W>(op.src, old);
    }
    done.into()
}

/// XCHG with a register as operand 0 and memory as operand 1.
fn xchg_memory<W: Word, S: Target>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let swapped = Op {
        src: op.dst,
        ..op.clone()
    };
    xchg::<W, S>(core, memory, &swapped)
}

fn lea<W: Word>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let offset = op.ea(core);
    core.set_reg::<W>(op.dst, offset);
    Flow::Next
}

/// LEA with 32-bit operand and address: no masks.
fn lea32(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let offset = op.offset32(core);
    core.set_reg::<u32>(op.dst, offset);
    Flow::Next
}

fn bswap(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let value = core.reg::<u32>(op.dst);
    core.set_reg::<u32>(op.dst, value.swap_bytes());
    Flow::Next
}

/// BSWAP of a 16-bit register is undefined; processors leave zero.
fn bswap16(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    core.set_reg::<u16>(op.dst, 0);
    Flow::Next
}

fn xadd<W: Word, T: Target>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let value = core.reg::<W>(op.src);
    let mut old = 0;
    let done = T::update::<W>(core, memory, op, |core, before| {
        old = before;
        Add::apply::<W>(&mut core.flags, before, value)
    });
    if done.is_ok() {
        core.set_reg::<W>(op.src, old);
    }
    done.into()
}

/// With the same register twice, the sum wins: operand 0 is written last.
fn xadd_registers<W: Word>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let (a, b) = (core.reg::<W>(op.dst), core.reg::<W>(op.src));
    let sum = Add::apply::<W>(&mut core.flags, a, b);
    core.set_reg::<W>(op.src, a);
    core.set_reg::<W>(op.dst, sum);
    Flow::Next
}

/// CMPXCHG: the destination is written in either case.
fn cmpxchg<W: Word, T: Target>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let (accumulator, new) = (core.reg::<W>(0), core.reg::<W>(op.src));
    let mut old = 0;
    let done = T::update::<W>(core, memory, op, |core, before| {
        old = before;
        Sub::apply::<W>(&mut core.flags, accumulator, before);
        if before == accumulator { new } else { before }
    });
    if done.is_ok() && old != accumulator {
        core.set_reg::<W>(0, old);
    }
    done.into()
}

fn cmpxchg8b(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    cmpxchg8b_checked(core, memory, op).into()
}

fn cmpxchg8b_checked(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
    let linear = core.writable(op.seg, op.ea(core), 8)?;
    core.check_alignment(linear, 8, core.user)?;
    core.probe_write(memory, linear, 8, core.user)?;
    let old: u64 = core.load_linear(memory, linear, core.user)?;
    let pair =
        |high: usize, low: usize| u64::from(core.regs[high]) << 32 | u64::from(core.regs[low]);
    let equal = old == pair(gpr::EDX, gpr::EAX);
    let new = if equal { pair(gpr::ECX, gpr::EBX) } else { old };
    core.store_linear(memory, linear, core.user, new)?;
    let bits = core.flags.bits() & !crate::flags::ZF;
    let zero = if equal { crate::flags::ZF } else { 0 };
    core.flags = crate::flags::LazyFlags::from_bits(bits | zero);
    if !equal {
        core.regs[gpr::EAX] = u32::low_bits(old);
        core.regs[gpr::EDX] = u32::low_bits(old >> 32);
    }
    Ok(())
}

fn setcc<C: Condition, T: Target>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let value = u32::from(C::holds(core));
    T::put::<u8>(core, memory, op, value).into()
}

/// CMOVcc: a memory operand is read in either case.
fn cmov<C: Condition, W: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    if C::holds(core) {
        core.set_reg::<W>(op.dst, value);
    }
    Flow::Next
}

fn cbw(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    core.set_reg::<u16>(0, u8::sext(core.regs[0]));
    Flow::Next
}

fn cwde(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    core.regs[0] = u16::sext(core.regs[0]);
    Flow::Next
}

fn cwd(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let sign = if core.regs[0] & 0x8000 != 0 {
        0xffff
    } else {
        0
    };
    core.set_reg::<u16>(2, sign);
    Flow::Next
}

fn cdq(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    core.regs[gpr::EDX] = if core.regs[gpr::EAX] >> 31 != 0 {
        u32::MAX
    } else {
        0
    };
    Flow::Next
}

fn xlat(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let offset = core.regs[gpr::EBX].wrapping_add(core.regs[gpr::EAX] & 0xff);
    match core.load::<u8>(memory, op.seg, offset & op.address_mask()) {
        Ok(value) => {
            core.set_reg::<u8>(0, value.into());
            Flow::Next
        }
        Err(_) => Flow::Raised,
    }
}

fn nop(_: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    Flow::Next
}

fn lower_mov(i: &Instruction, context: Context) -> Option<Lowered> {
    let (first, second) = (kind(i, 0, context), kind(i, 1, context));
    let handler: Handler = by_size!(size(i, 0), W => match (first, second) {
        (Kind::Register, second) => by_source_based!(second, S => mov::<W, First, S>),
        (Kind::Flat, Kind::Register) => mov::<W, Flat, Second>,
        (Kind::Flat, Kind::Immediate) => mov::<W, Flat, Immediate>,
        (Kind::Based, Kind::Register) => mov::<W, Based, Second>,
        (Kind::Based, Kind::Immediate) => mov::<W, Based, Immediate>,
        (Kind::Segmented, Kind::Register) => mov::<W, Segmented, Second>,
        (Kind::Segmented, Kind::Immediate) => mov::<W, Segmented, Immediate>,
        _ => return None,
    });
    Some(Lowered::next(handler))
}

fn lower_extension(i: &Instruction, context: Context) -> Option<Lowered> {
    let second = kind(i, 1, context);
    let signed = i.mnemonic() == Mnemonic::Movsx;
    let handler: Handler = by_wide_size!(size(i, 0), W => match size(i, 1) {
        1 if signed => by_source_based!(second, S => movsx::<W, u8, S>),
        1 => by_source_based!(second, S => movzx::<W, u8, S>),
        _ if signed => by_source_based!(second, S => movsx::<W, u16, S>),
        _ => by_source_based!(second, S => movzx::<W, u16, S>),
    });
    Some(Lowered::next(handler))
}

fn lower_xchg(i: &Instruction, context: Context) -> Option<Lowered> {
    let (first, second) = (kind(i, 0, context), kind(i, 1, context));
    let handler: Handler = by_size!(size(i, 0), W => match (first, second) {
        (_, Kind::Register) => by_target!(first, T => xchg::<W, T>),
        (Kind::Register, Kind::Flat | Kind::Based) => xchg_memory::<W, Flat>,
        (Kind::Register, Kind::Segmented) => xchg_memory::<W, Segmented>,
        _ => return None,
    });
    Some(Lowered::next(handler))
}

fn lower_conditional(i: &Instruction, context: Context) -> Option<Lowered> {
    if i.condition_code() == ConditionCode::None {
        return None;
    }
    let handler: Handler = if i.op_count() == 1 {
        by_condition!(i.condition_code(), C =>
            by_target!(kind(i, 0, context), T => setcc::<C, T>))
    } else {
        by_condition!(i.condition_code(), C => by_wide_size!(size(i, 0), W =>
            by_source!(kind(i, 1, context), S => cmov::<C, W, S>)))
    };
    Some(Lowered::next(handler))
}

pub(super) fn lower(i: &Instruction, context: Context) -> Option<Lowered> {
    let first = kind(i, 0, context);
    let handler: Handler = match i.mnemonic() {
        Mnemonic::Mov => return lower_mov(i, context),
        Mnemonic::Movzx | Mnemonic::Movsx => return lower_extension(i, context),
        Mnemonic::Xchg => return lower_xchg(i, context),
        Mnemonic::Lea if context.operand32 && context.address32 => lea32,
        Mnemonic::Lea => by_wide_size!(size(i, 0), W => lea::<W>),
        Mnemonic::Bswap if size(i, 0) == 4 => bswap,
        Mnemonic::Bswap => bswap16,
        Mnemonic::Xadd if first == Kind::Register => by_size!(size(i, 0), W => xadd_registers::<W>),
        Mnemonic::Xadd => by_size!(size(i, 0), W => by_target!(first, T => xadd::<W, T>)),
        Mnemonic::Cmpxchg => by_size!(size(i, 0), W => by_target!(first, T => cmpxchg::<W, T>)),
        Mnemonic::Cmpxchg8b => cmpxchg8b,
        Mnemonic::Cbw => cbw,
        Mnemonic::Cwde => cwde,
        Mnemonic::Cwd => cwd,
        Mnemonic::Cdq => cdq,
        Mnemonic::Xlatb => xlat,
        Mnemonic::Nop
        | Mnemonic::Pause
        | Mnemonic::Endbr32
        | Mnemonic::Endbr64
        | Mnemonic::Reservednop => nop,
        _ => return lower_conditional(i, context),
    };
    Some(Lowered::next(handler))
}
