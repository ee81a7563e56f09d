//! String instructions, alone and repeated.
//!
//! Every iteration of a repeated one retires an instruction and may be the
//! last before a fault, an exit or the end of the budget: the registers are
//! then those between two iterations, and EIP is the instruction's own.

use iced_x86::{Instruction, Mnemonic};

use super::alu::{Binary, Sub};
use super::bulk;
use super::operand::by_size;
use crate::flags::DF;
use crate::lower::{Context, Lowered};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::registers::gpr;
use crate::segment::seg;
use crate::state::{Core, Raised};

/// One iteration.
trait StringOperation {
    /// REPE and REPNE look at ZF.
    const COMPARES: bool = false;

    fn once(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised>;

    /// What is checked even if the count is 0.
    #[inline(always)]
    fn permitted(core: &mut Core, memory: &Memory<'_>) -> Result<(), Raised> {
        let _ = (core, memory);
        Ok(())
    }

    /// Does up to `most` iterations at once where nothing can go wrong, and
    /// returns how many: 0 if the next one needs `once`.
    #[inline(always)]
    fn many(core: &mut Core, memory: &Memory<'_>, op: &Op, most: u32) -> u32 {
        let _ = (core, memory, op, most);
        0
    }
}

/// Moves an index register over `elements` elements of size `W`.
#[inline(always)]
pub(super) fn advance<W: Word>(core: &mut Core, register: usize, op: &Op, elements: u32) {
    let bytes = elements.wrapping_mul(W::BYTES);
    let step = if core.system_flags & DF != 0 {
        bytes.wrapping_neg()
    } else {
        bytes
    };
    let mask = op.address_mask();
    let old = core.regs[register];
    core.regs[register] = old & !mask | old.wrapping_add(step) & mask;
}

/// An index register cut to the address size.
#[inline(always)]
pub(super) fn index(core: &Core, register: usize, op: &Op) -> u32 {
    core.regs[register] & op.address_mask()
}

struct Movs<W>(std::marker::PhantomData<W>);
impl<W: Word> StringOperation for Movs<W> {
    #[inline(always)]
    fn once(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let value: W = core.load(memory, op.seg, index(core, gpr::ESI, op))?;
        core.store(memory, seg::ES, index(core, gpr::EDI, op), value)?;
        advance::<W>(core, gpr::ESI, op, 1);
        advance::<W>(core, gpr::EDI, op, 1);
        Ok(())
    }

    #[inline(always)]
    fn many(core: &mut Core, memory: &Memory<'_>, op: &Op, most: u32) -> u32 {
        bulk::movs::<W>(core, memory, op, most)
    }
}

struct Stos<W>(std::marker::PhantomData<W>);
impl<W: Word> StringOperation for Stos<W> {
    #[inline(always)]
    fn once(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let value = W::cut(core.regs[gpr::EAX]);
        core.store(memory, seg::ES, index(core, gpr::EDI, op), value)?;
        advance::<W>(core, gpr::EDI, op, 1);
        Ok(())
    }

    #[inline(always)]
    fn many(core: &mut Core, memory: &Memory<'_>, op: &Op, most: u32) -> u32 {
        bulk::stos::<W>(core, memory, op, most)
    }
}

struct Lods<W>(std::marker::PhantomData<W>);
impl<W: Word> StringOperation for Lods<W> {
    #[inline(always)]
    fn once(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let value: W = core.load(memory, op.seg, index(core, gpr::ESI, op))?;
        core.set_reg::<W>(0, value.zext());
        advance::<W>(core, gpr::ESI, op, 1);
        Ok(())
    }
}

struct Cmps<W>(std::marker::PhantomData<W>);
impl<W: Word> StringOperation for Cmps<W> {
    const COMPARES: bool = true;

    #[inline(always)]
    fn once(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        // The order shows in CR2: processors read the destination first.
        let second: W = core.load(memory, seg::ES, index(core, gpr::EDI, op))?;
        let first: W = core.load(memory, op.seg, index(core, gpr::ESI, op))?;
        Sub::apply::<W>(&mut core.flags, first.zext(), second.zext());
        advance::<W>(core, gpr::ESI, op, 1);
        advance::<W>(core, gpr::EDI, op, 1);
        Ok(())
    }
}

struct Scas<W>(std::marker::PhantomData<W>);
impl<W: Word> StringOperation for Scas<W> {
    const COMPARES: bool = true;

    #[inline(always)]
    fn once(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let value: W = core.load(memory, seg::ES, index(core, gpr::EDI, op))?;
        let accumulator = core.reg::<W>(0);
        Sub::apply::<W>(&mut core.flags, accumulator, value.zext());
        advance::<W>(core, gpr::EDI, op, 1);
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation)] // ports have 16 bits, sizes are 1 to 4
fn port<W: Word>(core: &Core) -> (u16, u8) {
    (core.regs[gpr::EDX] as u16, W::BYTES as u8)
}

struct Ins<W>(std::marker::PhantomData<W>);
impl<W: Word> StringOperation for Ins<W> {
    fn permitted(core: &mut Core, memory: &Memory<'_>) -> Result<(), Raised> {
        let (port, size) = port::<W>(core);
        core.check_port(memory, port, size)
    }

    fn once(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let (port, size) = port::<W>(core);
        core.check_port(memory, port, size)?;
        // Nothing may fail after the port was read: its value would be lost.
        let at = index(core, gpr::EDI, op);
        let linear = core.writable(seg::ES, at, W::BYTES)?;
        core.probe_write(memory, linear, W::BYTES, core.user)?;
        let value = core.port_in(port, size)?;
        core.store_linear(memory, linear, core.user, W::cut(value))?;
        advance::<W>(core, gpr::EDI, op, 1);
        Ok(())
    }
}

struct Outs<W>(std::marker::PhantomData<W>);
impl<W: Word> StringOperation for Outs<W> {
    fn permitted(core: &mut Core, memory: &Memory<'_>) -> Result<(), Raised> {
        let (port, size) = port::<W>(core);
        core.check_port(memory, port, size)
    }

    fn once(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let (port, size) = port::<W>(core);
        core.check_port(memory, port, size)?;
        let value: W = core.load(memory, op.seg, index(core, gpr::ESI, op))?;
        core.port_out(port, size, value.zext())?;
        advance::<W>(core, gpr::ESI, op, 1);
        Ok(())
    }
}

fn single<S: StringOperation>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    S::once(core, memory, op).into()
}

/// Iterations of a REP instruction that may retire now: at least 1.
fn allowance(core: &Core, op: &Op) -> u64 {
    core.deadline.saturating_sub(core.retired_at(op)).max(1)
}

#[allow(clippy::cast_possible_truncation)] // a minimum with a u32
fn repeat<S: StringOperation>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let mask = op.address_mask();
    if core.regs[gpr::ECX] & mask == 0 {
        return S::permitted(core, memory).into();
    }
    let allowance = allowance(core, op);
    let mut done = 0u64;
    loop {
        let left = core.regs[gpr::ECX] & mask;
        let most = (allowance - done).min(u64::from(left)) as u32;
        let mut moved = S::many(core, memory, op, most);
        if moved == 0 {
            if S::once(core, memory, op).is_err() {
                core.retired += done;
                return Flow::Raised;
            }
            moved = 1;
        }
        done += u64::from(moved);
        let left = left - moved;
        core.regs[gpr::ECX] = core.regs[gpr::ECX] & !mask | left;
        let unequal = S::COMPARES && core.flags.zf() == op.has(Op::REPNE);
        if left == 0 || unequal {
            core.retired += done - 1;
            return Flow::Next;
        }
        if done >= allowance {
            core.retired += done;
            return Flow::Again;
        }
    }
}

macro_rules! string {
    ($s:ident, $bytes:expr, $repeated:expr) => {{
        let handler: Handler = by_size!($bytes, W =>
            if $repeated { repeat::<$s<W>> } else { single::<$s<W>> });
        if $repeated { Lowered::end(handler) } else { Lowered::next(handler) }
    }};
}

pub(super) fn lower(i: &Instruction, _: Context) -> Option<Lowered> {
    if !i.is_string_instruction() {
        return None;
    }
    // Both prefixes repeat; which one only matters to CMPS and SCAS.
    let repeated = i.has_rep_prefix() || i.has_repne_prefix();
    Some(match i.mnemonic() {
        Mnemonic::Movsb => string!(Movs, 1, repeated),
        Mnemonic::Movsw => string!(Movs, 2, repeated),
        Mnemonic::Movsd => string!(Movs, 4, repeated),
        Mnemonic::Stosb => string!(Stos, 1, repeated),
        Mnemonic::Stosw => string!(Stos, 2, repeated),
        Mnemonic::Stosd => string!(Stos, 4, repeated),
        Mnemonic::Lodsb => string!(Lods, 1, repeated),
        Mnemonic::Lodsw => string!(Lods, 2, repeated),
        Mnemonic::Lodsd => string!(Lods, 4, repeated),
        Mnemonic::Cmpsb => string!(Cmps, 1, repeated),
        Mnemonic::Cmpsw => string!(Cmps, 2, repeated),
        Mnemonic::Cmpsd => string!(Cmps, 4, repeated),
        Mnemonic::Scasb => string!(Scas, 1, repeated),
        Mnemonic::Scasw => string!(Scas, 2, repeated),
        Mnemonic::Scasd => string!(Scas, 4, repeated),
        Mnemonic::Insb => string!(Ins, 1, repeated),
        Mnemonic::Insw => string!(Ins, 2, repeated),
        Mnemonic::Insd => string!(Ins, 4, repeated),
        Mnemonic::Outsb => string!(Outs, 1, repeated),
        Mnemonic::Outsw => string!(Outs, 2, repeated),
        Mnemonic::Outsd => string!(Outs, 4, repeated),
        _ => return None,
    })
}
