//! Pushing and popping several values without moving the stack pointer before
//! all of them have gone well; on the current stack or on one to come.

use crate::exception::Exception;
use crate::memory::Memory;
use crate::op::Op;
use crate::registers::gpr;
use crate::segment::{Segment, SegmentWindow, attr, seg};
use crate::state::{Core, Raised};

/// The size of what a gate, a far transfer or an IRET pushes or pops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
}

impl Width {
    /// The operand size of an instruction.
    pub(crate) fn of(op: &Op) -> Self {
        Self::wide(op.has(Op::OPERAND32))
    }

    /// 32 bits if `wide`.
    pub(crate) fn wide(wide: bool) -> Self {
        if wide { Self::Dword } else { Self::Word }
    }

    /// Size in bytes.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// Cuts a value to this size.
    pub(crate) fn cut(self, value: u32) -> u32 {
        match self {
            Self::Word => value & 0xffff,
            Self::Dword => value,
        }
    }
}

/// A stack in use: where it is, and how far it has moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack {
    window: SegmentWindow,
    mask: u32,
    user: u8,
    /// Error code of `#SS` when a value is outside the segment.
    code: u16,
    /// The stack pointer in full.
    pub(crate) esp: u32,
}

impl Stack {
    /// The stack that SS:ESP shows; `code` is the error code of `#SS`.
    pub(crate) fn current(core: &Core, code: u16) -> Self {
        Self {
            window: core.windows[seg::SS as usize],
            mask: core.stack_mask(),
            user: core.user,
            code,
            esp: core.regs[gpr::ESP],
        }
    }

    /// A stack that is about to be loaded, for privilege level `cpl`.
    pub(crate) fn on(segment: &Segment, esp: u32, cpl: u8, code: u16) -> Self {
        let mask = if segment.has(attr::BIG) {
            u32::MAX
        } else {
            0xffff
        };
        Self {
            window: SegmentWindow::new(segment),
            mask,
            user: u8::from(cpl == 3),
            code,
            esp,
        }
    }

    /// Moves the pointer by `bytes` (negative as a wrapped value).
    pub(crate) fn skip(&mut self, bytes: u32) {
        self.esp = self.esp & !self.mask | self.esp.wrapping_add(bytes) & self.mask;
    }

    fn linear(&self, core: &mut Core, range: (u32, u32), bytes: u32) -> Result<u32, Raised> {
        let offset = self.esp & self.mask;
        let inside = offset
            .checked_add(bytes - 1)
            .is_some_and(|last| last <= range.1);
        if offset < range.0 || !inside {
            return Err(core.raise(Exception::StackFault(self.code)));
        }
        Ok(self.window.base.wrapping_add(offset))
    }

    /// Pushes the low bits of `value`.
    #[allow(clippy::cast_possible_truncation)] // the low half is what is meant
    pub(crate) fn push(
        &mut self,
        core: &mut Core,
        memory: &Memory<'_>,
        width: Width,
        value: u32,
    ) -> Result<(), Raised> {
        self.skip(width.bytes().wrapping_neg());
        let linear = self.linear(core, self.window.write, width.bytes())?;
        match width {
            Width::Word => core.store_linear::<u16>(memory, linear, self.user, value as u16),
            Width::Dword => core.store_linear::<u32>(memory, linear, self.user, value),
        }
    }

    /// Writes a word where the pointer is.
    pub(crate) fn poke(
        &mut self,
        core: &mut Core,
        memory: &Memory<'_>,
        value: u16,
    ) -> Result<(), Raised> {
        let linear = self.linear(core, self.window.write, 2)?;
        core.store_linear::<u16>(memory, linear, self.user, value)
    }

    /// Pops a value, zero-extended.
    pub(crate) fn pop(
        &mut self,
        core: &mut Core,
        memory: &Memory<'_>,
        width: Width,
    ) -> Result<u32, Raised> {
        let linear = self.linear(core, self.window.read, width.bytes())?;
        let value = match width {
            Width::Word => u32::from(core.load_linear::<u16>(memory, linear, self.user)?),
            Width::Dword => core.load_linear::<u32>(memory, linear, self.user)?,
        };
        self.skip(width.bytes());
        Ok(value)
    }

    /// Makes the pointer architectural.
    pub(crate) fn commit(&self, core: &mut Core) {
        core.regs[gpr::ESP] = self.esp;
    }
}
