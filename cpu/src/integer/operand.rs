//! Operands as types, so that a handler is compiled for each combination.

mod choice;

pub(super) use choice::*;

use crate::memory::{Memory, Word};
use crate::op::Op;
use crate::state::{Core, Raised};

/// Something that can be read.
pub(super) trait Source {
    /// The value, zero-extended.
    fn get<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<u32, Raised>;

    /// The same if no function has to be called for it. A handler tries this
    /// first and leaves the rest to a function that it calls last: so the
    /// frequent case needs no stack frame.
    #[inline(always)]
    fn get_fast<W: Word>(core: &Core, memory: &Memory<'_>, op: &Op) -> Option<u32> {
        let _ = (core, memory, op);
        None
    }
}

/// Something that can be read and written.
pub(super) trait Target: Source {
    /// Writes the low bits of `value`.
    fn put<W: Word>(
        core: &mut Core,
        memory: &Memory<'_>,
        op: &Op,
        value: u32,
    ) -> Result<(), Raised>;

    /// As [`Self::put`], if no function has to be called for it.
    #[inline(always)]
    fn put_fast<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op, value: u32) -> Option<()> {
        let _ = (core, memory, op, value);
        None
    }

    /// As [`Self::update`], if no function has to be called for it.
    #[inline(always)]
    fn update_fast<W: Word>(
        core: &mut Core,
        memory: &Memory<'_>,
        op: &Op,
        change: impl FnOnce(&mut Core, u32) -> u32,
    ) -> Option<()> {
        let _ = (core, memory, op, change);
        None
    }

    /// Reads, changes, writes; see [`Core::modify_linear`].
    fn update<W: Word>(
        core: &mut Core,
        memory: &Memory<'_>,
        op: &Op,
        change: impl FnOnce(&mut Core, u32) -> u32,
    ) -> Result<(), Raised>;
}

/// Operand 0, a register.
pub(super) struct First;
/// Operand 1, a register.
pub(super) struct Second;
/// The immediate.
pub(super) struct Immediate;
/// The memory operand, in a flat segment, with 32-bit addressing.
pub(super) struct Flat;
/// The same, without an index register.
pub(super) struct Based;
/// The memory operand, any segment and address size.
pub(super) struct Segmented;

impl Source for First {
    #[inline(always)]
    fn get<W: Word>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Result<u32, Raised> {
        Ok(core.reg::<W>(op.dst))
    }

    #[inline(always)]
    fn get_fast<W: Word>(core: &Core, _: &Memory<'_>, op: &Op) -> Option<u32> {
        Some(core.reg::<W>(op.dst))
    }
}

impl Target for First {
    #[inline(always)]
    fn put<W: Word>(core: &mut Core, _: &Memory<'_>, op: &Op, value: u32) -> Result<(), Raised> {
        core.set_reg::<W>(op.dst, value);
        Ok(())
    }

    #[inline(always)]
    fn update<W: Word>(
        core: &mut Core,
        _: &Memory<'_>,
        op: &Op,
        change: impl FnOnce(&mut Core, u32) -> u32,
    ) -> Result<(), Raised> {
        let old = core.reg::<W>(op.dst);
        let new = change(core, old);
        core.set_reg::<W>(op.dst, new);
        Ok(())
    }

    #[inline(always)]
    fn put_fast<W: Word>(core: &mut Core, _: &Memory<'_>, op: &Op, value: u32) -> Option<()> {
        core.set_reg::<W>(op.dst, value);
        Some(())
    }

    #[inline(always)]
    fn update_fast<W: Word>(
        core: &mut Core,
        _: &Memory<'_>,
        op: &Op,
        change: impl FnOnce(&mut Core, u32) -> u32,
    ) -> Option<()> {
        let old = core.reg::<W>(op.dst);
        let new = change(core, old);
        core.set_reg::<W>(op.dst, new);
        Some(())
    }
}

impl Source for Second {
    #[inline(always)]
    fn get<W: Word>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Result<u32, Raised> {
        Ok(core.reg::<W>(op.src))
    }

    #[inline(always)]
    fn get_fast<W: Word>(core: &Core, _: &Memory<'_>, op: &Op) -> Option<u32> {
        Some(core.reg::<W>(op.src))
    }
}

impl Source for Immediate {
    #[inline(always)]
    fn get<W: Word>(_: &mut Core, _: &Memory<'_>, op: &Op) -> Result<u32, Raised> {
        Ok(W::cut(op.imm).zext())
    }

    #[inline(always)]
    fn get_fast<W: Word>(_: &Core, _: &Memory<'_>, op: &Op) -> Option<u32> {
        Some(W::cut(op.imm).zext())
    }
}

/// The operands that need no segment differ in how the offset is made.
macro_rules! flat_operand {
    ($name:ident, $offset:ident) => {
        impl Source for $name {
            #[inline(always)]
            fn get<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<u32, Raised> {
                let linear = op.$offset(core);
                Ok(core.load_linear::<W>(memory, linear, core.user)?.zext())
            }

            #[inline(always)]
            fn get_fast<W: Word>(core: &Core, memory: &Memory<'_>, op: &Op) -> Option<u32> {
                Some(core.load_fast::<W>(memory, op.$offset(core))?.zext())
            }
        }

        impl Target for $name {
            #[inline(always)]
            fn put<W: Word>(
                core: &mut Core,
                memory: &Memory<'_>,
                op: &Op,
                value: u32,
            ) -> Result<(), Raised> {
                let linear = op.$offset(core);
                core.store_linear(memory, linear, core.user, W::cut(value))
            }

            #[inline(always)]
            fn update<W: Word>(
                core: &mut Core,
                memory: &Memory<'_>,
                op: &Op,
                change: impl FnOnce(&mut Core, u32) -> u32,
            ) -> Result<(), Raised> {
                let linear = op.$offset(core);
                core.modify_linear::<W>(memory, linear, change)
            }

            #[inline(always)]
            fn put_fast<W: Word>(
                core: &mut Core,
                memory: &Memory<'_>,
                op: &Op,
                value: u32,
            ) -> Option<()> {
                core.store_fast(memory, op.$offset(core), W::cut(value))
            }

            #[inline(always)]
            fn update_fast<W: Word>(
                core: &mut Core,
                memory: &Memory<'_>,
                op: &Op,
                change: impl FnOnce(&mut Core, u32) -> u32,
            ) -> Option<()> {
                let linear = op.$offset(core);
                core.modify_fast::<W>(memory, linear, change)
            }
        }
    };
}
flat_operand!(Flat, offset32);
flat_operand!(Based, offset32_based);

impl Source for Segmented {
    #[inline(always)]
    fn get<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<u32, Raised> {
        Ok(core.load::<W>(memory, op.seg, op.ea(core))?.zext())
    }
}

impl Target for Segmented {
    #[inline(always)]
    fn put<W: Word>(
        core: &mut Core,
        memory: &Memory<'_>,
        op: &Op,
        value: u32,
    ) -> Result<(), Raised> {
        core.store(memory, op.seg, op.ea(core), W::cut(value))
    }

    #[inline(always)]
    fn update<W: Word>(
        core: &mut Core,
        memory: &Memory<'_>,
        op: &Op,
        change: impl FnOnce(&mut Core, u32) -> u32,
    ) -> Result<(), Raised> {
        let linear = core.writable(op.seg, op.ea(core), W::BYTES)?;
        core.modify_linear::<W>(memory, linear, change)
    }
}
