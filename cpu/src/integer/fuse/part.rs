//! The frequent instructions, as parts of a pair.
//!
//! Each has at most two registers and one word, so that an op has room for two.

use std::marker::PhantomData;

use crate::integer::alu::Binary;
use crate::integer::shift::Shift;
use crate::integer::stack::{FlatStack, Stack};
use crate::memory::{Memory, Word};
use crate::op::Op;
use crate::state::{Core, Raised};

/// Where in an op the operands of a part are.
pub(super) trait Place {
    /// The register that is written, stored, pushed or popped.
    fn reg(op: &Op) -> u8;
    /// The register that is read, or the base of the address; 8 if none.
    fn other(op: &Op) -> u8;
    /// Immediate or displacement.
    fn word(op: &Op) -> u32;
}

/// The first of a pair.
pub(super) struct Former;
/// The second of a pair.
pub(super) struct Latter;

impl Place for Former {
    #[inline(always)]
    fn reg(op: &Op) -> u8 {
        op.dst
    }

    #[inline(always)]
    fn other(op: &Op) -> u8 {
        op.base
    }

    #[inline(always)]
    fn word(op: &Op) -> u32 {
        op.disp
    }
}

impl Place for Latter {
    #[inline(always)]
    fn reg(op: &Op) -> u8 {
        op.src
    }

    #[inline(always)]
    fn other(op: &Op) -> u8 {
        op.index
    }

    #[inline(always)]
    fn word(op: &Op) -> u32 {
        op.imm
    }
}

/// An instruction of 32 bits, in flat segments, that does not jump.
pub(super) trait Part {
    /// Executes it if no function has to be called for that.
    fn fast<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Option<()>;

    /// Executes it after [`Self::fast`] has not.
    fn slow<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let _ = (core, memory, op);
        Ok(())
    }
}

/// The sum of register and word: an address, or the second operand.
#[inline(always)]
fn sum<P: Place>(core: &Core, op: &Op) -> u32 {
    core.reg::<u32>(P::other(op)).wrapping_add(P::word(op))
}

/// MOV from memory, zero-extended from `W`.
pub(super) struct Load<W>(PhantomData<W>);
/// MOV of a register to memory.
pub(super) struct Store;
/// MOV and LEA.
pub(super) struct Move;
/// PUSH of a register.
pub(super) struct Push;
/// POP of a register.
pub(super) struct Pop;
/// An operation of a register with another one or an immediate.
pub(super) struct Alu<O>(PhantomData<O>);
/// A shift by an immediate, which is not 0.
pub(super) struct ShiftBy<S>(PhantomData<S>);

impl<W: Word> Part for Load<W> {
    #[inline(always)]
    fn fast<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Option<()> {
        let value = core.load_fast::<W>(memory, sum::<P>(core, op))?;
        core.set_reg::<u32>(P::reg(op), value.zext());
        Some(())
    }

    fn slow<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let value = core.load_linear::<W>(memory, sum::<P>(core, op), core.user)?;
        core.set_reg::<u32>(P::reg(op), value.zext());
        Ok(())
    }
}

impl Part for Store {
    #[inline(always)]
    fn fast<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Option<()> {
        core.store_fast(memory, sum::<P>(core, op), core.reg::<u32>(P::reg(op)))
    }

    fn slow<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let value = core.reg::<u32>(P::reg(op));
        core.store_linear(memory, sum::<P>(core, op), core.user, value)
    }
}

impl Part for Move {
    #[inline(always)]
    fn fast<P: Place>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Option<()> {
        let value = sum::<P>(core, op);
        core.set_reg::<u32>(P::reg(op), value);
        Some(())
    }
}

impl Part for Push {
    #[inline(always)]
    fn fast<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Option<()> {
        let value = core.reg::<u32>(P::reg(op));
        FlatStack::push_fast(core, memory, value)
    }

    fn slow<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let value = core.reg::<u32>(P::reg(op));
        FlatStack::push(core, memory, value)
    }
}

impl Part for Pop {
    #[inline(always)]
    fn fast<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Option<()> {
        let value = FlatStack::top_fast::<u32>(core, memory)?;
        FlatStack::drop(core, 4);
        core.set_reg::<u32>(P::reg(op), value);
        Some(())
    }

    fn slow<P: Place>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
        let value: u32 = FlatStack::peek(core, memory, 0)?;
        FlatStack::drop(core, 4);
        core.set_reg::<u32>(P::reg(op), value);
        Ok(())
    }
}

impl<O: Binary> Part for Alu<O> {
    #[inline(always)]
    fn fast<P: Place>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Option<()> {
        let (a, b) = (core.reg::<u32>(P::reg(op)), sum::<P>(core, op));
        let result = O::apply::<u32>(&mut core.flags, a, b);
        core.set_reg::<u32>(P::reg(op), result);
        Some(())
    }
}

impl<S: Shift> Part for ShiftBy<S> {
    #[inline(always)]
    fn fast<P: Place>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Option<()> {
        let value = core.reg::<u32>(P::reg(op));
        // Not 0, but the compiler must see that.
        let count = (P::word(op) & 31).max(1);
        let result = S::apply::<u32>(&mut core.flags, value, count);
        core.set_reg::<u32>(P::reg(op), result);
        Some(())
    }
}
