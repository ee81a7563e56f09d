//! Instructions that load, store and inspect segment registers and their
//! descriptors: MOV, PUSH, POP, LDS and kin, LAR, LSL, VERR, VERW, ARPL.

use crate::flags;
use crate::memory::{Memory, Word};
use crate::op::{Flow, Op};
use crate::segment::seg;
use crate::state::{Core, Raised, Shadow};
use crate::system::descriptor::{Descriptor, kind};
use crate::system::selector::Selector;
use crate::system::stack::{Stack, Width};

impl Core {
    /// The word operand number `1` (`op.src`) or in memory.
    pub(crate) fn word_operand<const MEMORY: bool>(
        &mut self,
        memory: &Memory<'_>,
        op: &Op,
        register: u8,
    ) -> Result<u16, Raised> {
        if MEMORY {
            self.load::<u16>(memory, op.seg, op.ea(self))
        } else {
            Ok(Selector::from_slot(self.regs[register as usize & 7]).0)
        }
    }

    /// Stores a system value: a word to memory, or zero-extended to a register
    /// of the operand size.
    pub(crate) fn store_word_operand<const MEMORY: bool>(
        &mut self,
        memory: &Memory<'_>,
        op: &Op,
        value: u32,
    ) -> Result<(), Raised> {
        if MEMORY {
            return self.store::<u16>(memory, op.seg, op.ea(self), u16::cut(value));
        }
        match Width::of(op) {
            Width::Word => self.set_reg::<u16>(op.dst, value),
            Width::Dword => self.set_reg::<u32>(op.dst, value),
        }
        Ok(())
    }

    /// Loads a segment register as part of MOV, POP or LDS. The next block
    /// must be looked up anew if the mode has changed; a load of SS keeps
    /// interrupts and traps off for one instruction.
    fn load_and_go_on(
        &mut self,
        memory: &Memory<'_>,
        which: u8,
        selector: u16,
        op: &Op,
    ) -> Result<Flow, Raised> {
        let mode = self.mode;
        self.load_segment(memory, which, Selector(selector))?;
        if which == seg::SS {
            self.shadow = Shadow::MovSs;
        } else if self.mode == mode {
            return Ok(Flow::Next);
        }
        Ok(self.end(op))
    }

    fn require_protected(&mut self) -> Result<(), Raised> {
        if self.real_segments() {
            Err(self.ud())
        } else {
            Ok(())
        }
    }

    fn set_zf(&mut self, zf: bool) {
        let bits = self.eflags() & !flags::ZF;
        self.set_eflags(if zf { bits | flags::ZF } else { bits });
    }
}

/// MOV Sreg, r/m16.
pub(crate) fn load<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let load = |core: &mut Core| {
        let selector = core.word_operand::<MEMORY>(memory, op, op.src)?;
        core.load_and_go_on(memory, op.dst, selector, op)
    };
    load(core).into()
}

/// MOV r/m16, Sreg; a 32-bit register is zero-extended.
pub(crate) fn store<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let value = u32::from(core.segments[op.src as usize % 6].selector);
    core.store_word_operand::<MEMORY>(memory, op, value).into()
}

/// PUSH Sreg. With 32-bit operands ESP moves by four and the upper two bytes
/// of the slot stay as they were, as on all processors of the last decades.
pub(crate) fn push(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let push = |core: &mut Core| {
        let value = core.segments[op.dst as usize % 6].selector;
        let mut stack = Stack::current(core, 0);
        match Width::of(op) {
            Width::Word => stack.push(core, memory, Width::Word, u32::from(value))?,
            Width::Dword => {
                stack.skip(4u32.wrapping_neg());
                stack.poke(core, memory, value)?;
            }
        }
        stack.commit(core);
        Ok(())
    };
    push(core).into()
}

/// POP Sreg. With 32-bit operands only two of the four bytes are read.
pub(crate) fn pop(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let pop = |core: &mut Core| {
        let mut stack = Stack::current(core, 0);
        let selector = Selector::from_slot(stack.pop(core, memory, Width::Word)?);
        stack.skip(Width::of(op).bytes() - Width::Word.bytes());
        let flow = core.load_and_go_on(memory, op.dst, selector.0, op)?;
        stack.commit(core);
        Ok(flow)
    };
    pop(core).into()
}

/// LES, LDS, LSS, LFS, LGS: `WHICH` is the segment register.
pub(crate) fn load_far<const WHICH: u8>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let load = |core: &mut Core| {
        let (offset, selector) = core.load_far_pointer(memory, op)?;
        let flow = core.load_and_go_on(memory, WHICH, selector.0, op)?;
        match Width::of(op) {
            Width::Word => core.set_reg::<u16>(op.dst, offset),
            Width::Dword => core.set_reg::<u32>(op.dst, offset),
        }
        // LSS has no shadow: it loads ESP as well.
        core.shadow = Shadow::None;
        Ok(flow)
    };
    load(core).into()
}

/// LAR.
pub(crate) fn lar<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let lar = |core: &mut Core| {
        let known = |k| {
            matches!(
                k,
                kind::TSS16
                    | kind::LDT
                    | kind::TSS16_BUSY
                    | kind::CALL16
                    | kind::TASK
                    | kind::TSS32
                    | kind::TSS32_BUSY
                    | kind::CALL32
            )
        };
        let found = visible::<MEMORY>(core, memory, op, known)?;
        if let Some((descriptor, _)) = found {
            write_result(core, op, descriptor.high & 0x00f0_ff00);
        }
        core.set_zf(found.is_some());
        Ok(())
    };
    lar(core).into()
}

/// LSL.
pub(crate) fn lsl<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let lsl = |core: &mut Core| {
        let known = |k| {
            matches!(
                k,
                kind::TSS16 | kind::LDT | kind::TSS16_BUSY | kind::TSS32 | kind::TSS32_BUSY
            )
        };
        let found = visible::<MEMORY>(core, memory, op, known)?;
        if let Some((descriptor, selector)) = found {
            write_result(core, op, descriptor.segment(selector).limit);
        }
        core.set_zf(found.is_some());
        Ok(())
    };
    lsl(core).into()
}

fn write_result(core: &mut Core, op: &Op, value: u32) {
    match Width::of(op) {
        Width::Word => core.set_reg::<u16>(op.dst, value),
        Width::Dword => core.set_reg::<u32>(op.dst, value),
    }
}

/// The descriptor of the source operand, if LAR or LSL may see it.
fn visible<const MEMORY: bool>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    known: impl Fn(u32) -> bool,
) -> Result<Option<(Descriptor, Selector)>, Raised> {
    core.require_protected()?;
    let selector = Selector(core.word_operand::<MEMORY>(memory, op, op.src)?);
    let Some(descriptor) = find(core, memory, selector)? else {
        return Ok(None);
    };
    let kind_fits = descriptor.system_kind().is_none_or(known);
    let near = descriptor.is_conforming() || descriptor.dpl() >= core.cpl.max(selector.rpl());
    Ok((kind_fits && near).then_some((descriptor, selector)))
}

fn find(
    core: &mut Core,
    memory: &Memory<'_>,
    selector: Selector,
) -> Result<Option<Descriptor>, Raised> {
    if selector.is_null() {
        Ok(None)
    } else {
        core.find_descriptor(memory, selector)
    }
}

/// VERR.
pub(crate) fn verr<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    verify::<MEMORY>(core, memory, op, Descriptor::is_readable).into()
}

/// VERW.
pub(crate) fn verw<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    verify::<MEMORY>(core, memory, op, Descriptor::is_writable).into()
}

fn verify<const MEMORY: bool>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    usable: fn(Descriptor) -> bool,
) -> Result<(), Raised> {
    core.require_protected()?;
    let selector = Selector(core.word_operand::<MEMORY>(memory, op, op.dst)?);
    let found = find(core, memory, selector)?;
    let ok = found.is_some_and(|descriptor| {
        let near = descriptor.is_conforming() || descriptor.dpl() >= core.cpl.max(selector.rpl());
        usable(descriptor) && near
    });
    core.set_zf(ok);
    Ok(())
}

/// ARPL.
pub(crate) fn arpl<const MEMORY: bool>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let arpl = |core: &mut Core| {
        core.require_protected()?;
        let wanted = Selector::from_slot(core.regs[op.src as usize & 7]).rpl();
        let raise = |old: u32| {
            let selector = Selector::from_slot(old);
            if selector.rpl() < wanted {
                u32::from(selector.0 & !3 | u16::from(wanted))
            } else {
                u32::from(selector.0)
            }
        };
        let changed = if MEMORY {
            // Only a selector that changes is written back.
            let old = u32::from(core.load::<u16>(memory, op.seg, op.ea(core))?);
            let changed = raise(old) != old;
            if changed {
                core.store(memory, op.seg, op.ea(core), u16::cut(raise(old)))?;
            }
            changed
        } else {
            let old = core.reg::<u16>(op.dst);
            core.set_reg::<u16>(op.dst, raise(old));
            raise(old) != old
        };
        core.set_zf(changed);
        Ok(())
    };
    arpl(core).into()
}
