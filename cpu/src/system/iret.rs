//! INT n and its kin, and IRET in all forms (SDM vol. 2, INT n, IRET).

use crate::flags;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::registers::gpr;
use crate::segment::{Segment, attr, seg};
use crate::state::{Core, Raised};
use crate::system::interrupt::{Event, Source};
use crate::system::selector::{Ext, Selector};
use crate::system::stack::{Stack, Width};
use crate::system::task::{Departure, SwitchKind};

/// INT n.
#[allow(clippy::cast_possible_truncation)] // an 8-bit immediate
pub(crate) fn int_n(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if core.virtual_8086() && core.iopl() < 3 {
        let _raised = core.gp(0);
        return Flow::Raised;
    }
    software(core, memory, op, op.imm as u8, Source::Software).into()
}

/// INT3.
pub(crate) fn int3(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    software(core, memory, op, 3, Source::Software).into()
}

/// INT1: a debug exception that no gate's DPL stops.
pub(crate) fn int1(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    software(core, memory, op, 1, Source::Event).into()
}

/// INTO.
pub(crate) fn into(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if core.eflags() & flags::OF == 0 {
        return Flow::Next;
    }
    software(core, memory, op, 4, Source::Software).into()
}

fn software(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    vector: u8,
    source: Source,
) -> Result<Flow, Raised> {
    let event = Event {
        vector,
        error_code: None,
        source,
        eip: op.next_eip(core),
        eflags: core.eflags(),
    };
    let delivered = core.deliver(memory, event)?;
    core.after_switch(memory, delivered)
}

/// IRET, IRETD.
pub(crate) fn iret(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    core.interrupt_return(memory, op).into()
}

impl Core {
    fn interrupt_return(&mut self, memory: &Memory<'_>, op: &Op) -> Result<Flow, Raised> {
        let width = Width::of(op);
        if self.real_segments() {
            return self.iret_real(memory, width);
        }
        if self.system_flags & flags::NT != 0 {
            return self.iret_nested(memory, op);
        }
        let mut stack = Stack::current(self, 0);
        let (offset, selector, eflags) = self.pop_frame(memory, &mut stack, width)?;
        if eflags & flags::VM != 0 && self.cpl == 0 {
            return self.iret_to_v86(memory, stack, offset, selector, eflags);
        }
        let target = self.return_target(memory, selector)?;
        if selector.rpl() == self.cpl {
            let code = self.code_segment(memory, selector, target, self.cpl, Ext::PROGRAM)?;
            self.check_entry(&code, offset, Ext::PROGRAM)?;
            self.iret_flags(eflags, width);
            stack.commit(self);
            self.set_segment(seg::CS, code);
            self.eip = offset;
            return Ok(Flow::End);
        }
        let outer = self.pop_outer(memory, &mut stack, width, selector, target)?;
        self.check_entry(&outer.code, offset, Ext::PROGRAM)?;
        self.iret_flags(eflags, width);
        self.enter_outer(outer, offset, 0);
        Ok(Flow::End)
    }

    /// EIP, CS and EFLAGS, which processors read from the top down.
    fn pop_frame(
        &mut self,
        memory: &Memory<'_>,
        stack: &mut Stack,
        width: Width,
    ) -> Result<(u32, Selector, u32), Raised> {
        let mut values = [0; 3];
        for (value, above) in values.iter_mut().zip(0..3).rev() {
            let mut slot = *stack;
            slot.skip(width.bytes() * above);
            *value = slot.pop(self, memory, width)?;
        }
        stack.skip(width.bytes() * 3);
        let [eip, cs, eflags] = values;
        Ok((eip, Selector::from_slot(cs), eflags))
    }

    /// Real mode, and V86 mode with IOPL 3.
    fn iret_real(&mut self, memory: &Memory<'_>, width: Width) -> Result<Flow, Raised> {
        if self.virtual_8086() && self.iopl() < 3 {
            return Err(self.gp(0));
        }
        let mut stack = Stack::current(self, 0);
        let (offset, selector, eflags) = self.pop_frame(memory, &mut stack, width)?;
        let code = self.real_segment(seg::CS, selector);
        self.check_entry(&code, offset, Ext::PROGRAM)?;
        self.iret_flags(eflags, width);
        stack.commit(self);
        self.set_segment(seg::CS, code);
        self.eip = offset;
        Ok(Flow::End)
    }

    /// Loads the flags that the privilege level (before the return) allows.
    fn iret_flags(&mut self, eflags: u32, width: Width) {
        let mut changed = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT;
        if width == Width::Dword {
            changed |= flags::RF | flags::AC | flags::ID;
        }
        if self.cpl <= self.iopl() {
            changed |= flags::IF;
        }
        if self.cpl == 0 {
            changed |= flags::IOPL;
            if width == Width::Dword && self.protected() {
                changed |= flags::VIF | flags::VIP;
            }
        }
        self.set_eflags(self.system_flags & !changed | eflags & changed);
        // While instructions run alone, RF must outlive this one.
        self.keep_resume = self.stepping && self.system_flags & flags::RF != 0;
    }

    fn iret_nested(&mut self, memory: &Memory<'_>, op: &Op) -> Result<Flow, Raised> {
        let arrival = self.linked_task(memory)?;
        let departure = Departure {
            kind: SwitchKind::Return,
            eip: op.next_eip(self),
            eflags: self.eflags(),
            ext: Ext::PROGRAM,
        };
        let delivered = self.switch_task(memory, arrival, departure, None)?;
        self.keep_resume = self.stepping && self.system_flags & flags::RF != 0;
        self.after_switch(memory, delivered)
    }

    /// From ring 0 to V86 mode: six more values are on the stack.
    fn iret_to_v86(
        &mut self,
        memory: &Memory<'_>,
        mut stack: Stack,
        offset: u32,
        selector: Selector,
        eflags: u32,
    ) -> Result<Flow, Raised> {
        let mut values = [0; 6];
        for value in &mut values {
            *value = stack.pop(self, memory, Width::Dword)?;
        }
        let [esp, ss, es, ds, fs, gs] = values;
        // Every segment is 64 KiB long in V86 mode.
        let offset = offset & 0xffff;
        let loaded = flags::ARITHMETIC | flags::SYSTEM32;
        self.set_eflags(eflags & loaded);
        self.set_cpl(3);
        self.keep_resume = self.stepping && self.system_flags & flags::RF != 0;
        let selectors = [
            (seg::CS, selector),
            (seg::SS, Selector::from_slot(ss)),
            (seg::ES, Selector::from_slot(es)),
            (seg::DS, Selector::from_slot(ds)),
            (seg::FS, Selector::from_slot(fs)),
            (seg::GS, Selector::from_slot(gs)),
        ];
        for (which, selector) in selectors {
            let segment = self.real_segment(which, selector);
            debug_assert!(segment.has(attr::DPL));
            self.set_segment(which, Segment { ..segment });
        }
        self.regs[gpr::ESP] = esp;
        self.eip = offset;
        Ok(Flow::End)
    }
}
