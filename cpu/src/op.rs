//! Decoded instructions and the functions that execute them.

use std::cell::Cell;

use crate::memory::Memory;
use crate::segment::seg;
use crate::state::{Core, Raised};

/// Executes one decoded instruction.
///
/// When it runs, `Core::eip` is still the EIP at which the *block* started:
/// use [`Op::start_eip`] and [`Op::next_eip`]. The count of retired
/// instructions before this one is [`Core::retired_at`].
///
/// A handler changes the state only when nothing can raise any more (a write
/// that is part of the instruction may be repeated: the whole instruction is
/// executed again after a fault, a memory-mapped access, or a write to decoded
/// code). One that reads memory after it has written some asks for
/// [`Core::need_stepping`] first.
pub(crate) type Handler = fn(&mut Core, &Memory<'_>, &Op) -> Flow;

/// What happens after a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flow {
    /// Go on with the next instruction of the block; also for a conditional
    /// jump that is not taken.
    Next,
    /// A direct near jump that is taken: the handler set `eip`.
    Jump,
    /// A near jump to a computed address: the handler set `eip`.
    Indirect,
    /// The instruction is done and may have changed anything (mode, segments,
    /// paging, IF, TF): the handler set `eip`, also when it goes on with the
    /// next instruction.
    End,
    /// A REP instruction stopped before its end, after whole iterations: the
    /// handler set `eip` to the instruction itself and counted the iterations.
    Again,
    /// Not executed (or to be restarted); `Core::stop` says why.
    Raised,
}

/// For handlers written with `?`: `Ok` goes on with the next instruction.
impl From<Result<(), Raised>> for Flow {
    #[inline(always)]
    fn from(result: Result<(), Raised>) -> Self {
        if result.is_ok() {
            Self::Next
        } else {
            Self::Raised
        }
    }
}

/// For handlers that choose how to go on.
impl From<Result<Flow, Raised>> for Flow {
    #[inline(always)]
    fn from(result: Result<Flow, Raised>) -> Self {
        result.unwrap_or(Self::Raised)
    }
}

/// A decoded instruction: 32 bytes, filled by the decoder in one way for all
/// instructions; a handler uses the fields that its operands need.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    /// The function that executes it.
    pub(crate) handler: Handler,
    /// Immediate operand, extended as the instruction wants; relative
    /// displacement of a near branch; offset of a far pointer.
    pub(crate) imm: u32,
    /// Displacement of the memory operand; selector of a far pointer; second
    /// immediate of ENTER.
    pub(crate) disp: u32,
    /// Register number of operand 0, if that is a register.
    pub(crate) dst: u8,
    /// Register number of operand 1, if that is a register.
    pub(crate) src: u8,
    /// Base register of the memory operand; 8 (always zero) if none.
    pub(crate) base: u8,
    /// Index register of the memory operand; 8 if none.
    pub(crate) index: u8,
    /// Factor of the index: 1, 2, 4 or 8.
    pub(crate) scale: u8,
    /// Segment register of the memory operand.
    pub(crate) seg: u8,
    /// Prefixes and sizes: the `Op::…` constants.
    pub(crate) flags: u8,
    /// Bytes, 1 to 15; of both instructions when fused.
    pub(crate) len: u8,
    /// Offset of the first byte from the start of the block.
    pub(crate) offset: u16,
    /// Instructions before this one in the block.
    pub(crate) ordinal: u8,
    /// Instructions that this op stands for: 1, or 2 when fused.
    pub(crate) retires: u8,
    /// Where a jump went last: a block, as a hint to be checked.
    pub(crate) link: Cell<u32>,
}

impl Op {
    /// Operand size is 32 bits (else 16).
    pub(crate) const OPERAND32: u8 = 1;
    /// Address size is 32 bits (else 16).
    pub(crate) const ADDRESS32: u8 = 2;
    /// F3 prefix.
    pub(crate) const REP: u8 = 4;
    /// F2 prefix.
    pub(crate) const REPNE: u8 = 8;
    /// The stack pointer is ESP (else SP): B of the stack segment.
    pub(crate) const STACK32: u8 = 16;

    /// An op of `len` bytes without operands.
    #[allow(clippy::cast_possible_truncation)] // at most 15
    pub(crate) fn new(handler: Handler, len: usize) -> Self {
        Self {
            handler,
            imm: 0,
            disp: 0,
            dst: 0,
            src: 0,
            base: 8,
            index: 8,
            scale: 1,
            seg: seg::DS,
            flags: 0,
            len: len.max(1) as u8,
            offset: 0,
            ordinal: 0,
            retires: 1,
            link: Cell::new(0),
        }
    }

    /// EIP of this instruction.
    #[inline(always)]
    pub(crate) fn start_eip(&self, core: &Core) -> u32 {
        core.eip.wrapping_add(u32::from(self.offset))
    }

    /// EIP of the following instruction. It does not wrap at 64 KiB: in a
    /// 16-bit segment only a jump with 16-bit operands cuts EIP, and going on
    /// past a limit of 0xFFFF is `#GP`.
    #[inline(always)]
    pub(crate) fn next_eip(&self, core: &Core) -> u32 {
        core.eip
            .wrapping_add(u32::from(self.offset))
            .wrapping_add(u32::from(self.len))
    }

    /// Whether `flag` is set.
    #[inline(always)]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Offset of the memory operand in its segment, for 32-bit addressing.
    #[inline(always)]
    pub(crate) fn offset32(&self, core: &Core) -> u32 {
        // One multiplication is cheaper than a shift by a variable.
        let index = core.regs[(self.index & 15) as usize].wrapping_mul(u32::from(self.scale));
        core.regs[(self.base & 15) as usize]
            .wrapping_add(index)
            .wrapping_add(self.disp)
    }

    /// As [`Self::offset32`], for a memory operand without an index.
    #[inline(always)]
    pub(crate) fn offset32_based(&self, core: &Core) -> u32 {
        core.regs[(self.base & 15) as usize].wrapping_add(self.disp)
    }

    /// Offset of the memory operand in its segment, for either address size.
    #[inline(always)]
    pub(crate) fn ea(&self, core: &Core) -> u32 {
        let offset = self.offset32(core);
        if self.has(Self::ADDRESS32) {
            offset
        } else {
            offset & 0xffff
        }
    }

    /// Cuts an offset to the address size.
    #[inline(always)]
    pub(crate) fn address_mask(&self) -> u32 {
        if self.has(Self::ADDRESS32) {
            u32::MAX
        } else {
            0xffff
        }
    }
}
