//! Far JMP, CALL and RET: to segments, through call gates and task gates, to
//! TSSs (SDM vol. 3, 5.8; vol. 2, CALL, JMP, RET).

mod outward;

use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::registers::gpr;
use crate::segment::{Segment, seg};
use crate::state::{Core, Raised};
use crate::system::descriptor::{Descriptor, kind};
use crate::system::interrupt::{Delivered, deliver_exception};
use crate::system::selector::{Blame, Ext, Selector};
use crate::system::stack::{Stack, Width};
use crate::system::task::{Arrival, Departure, SwitchKind};

/// JMP or CALL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Jump,
    Call,
}

/// A far transfer under way.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    verb: Verb,
    selector: Selector,
    offset: u32,
    width: Width,
    /// EIP behind the instruction.
    next_eip: u32,
}

/// JMP ptr16:16, JMP ptr16:32.
pub(crate) fn jump_immediate(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    immediate(core, memory, op, Verb::Jump).into()
}

/// CALL ptr16:16, CALL ptr16:32.
pub(crate) fn call_immediate(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    immediate(core, memory, op, Verb::Call).into()
}

/// JMP m16:16, JMP m16:32.
pub(crate) fn jump_memory(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    through_memory(core, memory, op, Verb::Jump).into()
}

/// CALL m16:16, CALL m16:32.
pub(crate) fn call_memory(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    through_memory(core, memory, op, Verb::Call).into()
}

/// RETF, with or without an immediate.
pub(crate) fn return_far(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    core.far_return(memory, op).into()
}

fn immediate(core: &mut Core, memory: &Memory<'_>, op: &Op, verb: Verb) -> Result<Flow, Raised> {
    let selector = Selector::from_slot(op.disp);
    let next_eip = op.next_eip(core);
    let transfer = Transfer {
        verb,
        selector,
        offset: op.imm,
        width: Width::of(op),
        next_eip,
    };
    core.far_transfer(memory, transfer)
}

fn through_memory(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    verb: Verb,
) -> Result<Flow, Raised> {
    let (offset, selector) = core.load_far_pointer(memory, op)?;
    let next_eip = op.next_eip(core);
    let transfer = Transfer {
        verb,
        selector,
        offset,
        width: Width::of(op),
        next_eip,
    };
    core.far_transfer(memory, transfer)
}

impl Core {
    /// The m16:16 or m16:32 operand.
    pub(crate) fn load_far_pointer(
        &mut self,
        memory: &Memory<'_>,
        op: &Op,
    ) -> Result<(u32, Selector), Raised> {
        let at = op.ea(self);
        let width = Width::of(op);
        let offset = match width {
            Width::Word => u32::from(self.load::<u16>(memory, op.seg, at)?),
            Width::Dword => self.load::<u32>(memory, op.seg, at)?,
        };
        // Two accesses: a 16-bit address wraps between them.
        let behind = at.wrapping_add(width.bytes()) & op.address_mask();
        let selector = self.load::<u16>(memory, op.seg, behind)?;
        Ok((offset, Selector(selector)))
    }

    fn far_transfer(&mut self, memory: &Memory<'_>, transfer: Transfer) -> Result<Flow, Raised> {
        if transfer.verb == Verb::Call {
            // It reads and writes: it must not be executed again half way.
            self.need_stepping()?;
        }
        if self.real_segments() {
            return self.real_transfer(memory, transfer);
        }
        let selector = transfer.selector;
        if selector.is_null() {
            return Err(self.gp(0));
        }
        let target = self.read_descriptor(memory, selector, Blame::Protection, Ext::PROGRAM)?;
        if target.is_code() {
            return self.transfer_to_code(memory, transfer, target);
        }
        let wanted = match target.system_kind() {
            Some(kind::CALL16 | kind::CALL32 | kind::TASK | kind::TSS16 | kind::TSS32) => {
                target.dpl() >= self.cpl.max(selector.rpl())
            }
            _ => false,
        };
        if !wanted {
            return Err(self.selector_fault(Blame::Protection, selector, Ext::PROGRAM));
        }
        if target
            .system_kind()
            .is_some_and(|k| k == kind::TSS16 || k == kind::TSS32)
            && selector.is_local()
        {
            return Err(self.selector_fault(Blame::Protection, selector, Ext::PROGRAM));
        }
        if !target.is_present() {
            return Err(self.selector_fault(Blame::NotPresent, selector, Ext::PROGRAM));
        }
        match target.system_kind() {
            Some(kind::CALL16 | kind::CALL32) => self.through_call_gate(memory, transfer, target),
            Some(kind::TASK) => {
                let arrival =
                    self.task_behind_gate(memory, target.gate_selector(), Ext::PROGRAM)?;
                self.transfer_to_task(memory, transfer, arrival)
            }
            _ => {
                let arrival = Arrival {
                    selector,
                    descriptor: target,
                };
                self.transfer_to_task(memory, transfer, arrival)
            }
        }
    }

    fn real_transfer(&mut self, memory: &Memory<'_>, transfer: Transfer) -> Result<Flow, Raised> {
        let offset = transfer.width.cut(transfer.offset);
        let code = self.real_segment(seg::CS, transfer.selector);
        self.enter_code(memory, transfer, code, offset, Ext::PROGRAM)
    }

    /// The end of a transfer that keeps ring and stack: checks the entry, pushes
    /// the return address of a call, loads CS and EIP.
    fn enter_code(
        &mut self,
        memory: &Memory<'_>,
        transfer: Transfer,
        code: Segment,
        offset: u32,
        ext: Ext,
    ) -> Result<Flow, Raised> {
        self.check_entry(&code, offset, ext)?;
        if transfer.verb == Verb::Call {
            self.push_return(memory, transfer, Stack::current(self, 0))?;
        }
        self.set_segment(seg::CS, code);
        self.eip = offset;
        Ok(Flow::End)
    }

    /// Pushes CS and EIP of the next instruction and moves ESP.
    fn push_return(
        &mut self,
        memory: &Memory<'_>,
        transfer: Transfer,
        mut stack: Stack,
    ) -> Result<(), Raised> {
        let cs = self.segments[seg::CS as usize].selector;
        stack.push(self, memory, transfer.width, u32::from(cs))?;
        stack.push(self, memory, transfer.width, transfer.next_eip)?;
        stack.commit(self);
        Ok(())
    }

    /// Directly to a code segment: the ring stays.
    fn transfer_to_code(
        &mut self,
        memory: &Memory<'_>,
        transfer: Transfer,
        target: Descriptor,
    ) -> Result<Flow, Raised> {
        let selector = transfer.selector;
        let allowed = if target.is_conforming() {
            target.dpl() <= self.cpl
        } else {
            selector.rpl() <= self.cpl && target.dpl() == self.cpl
        };
        if !allowed {
            return Err(self.selector_fault(Blame::Protection, selector, Ext::PROGRAM));
        }
        let offset = transfer.width.cut(transfer.offset);
        let code = self.code_segment(memory, selector, target, self.cpl, Ext::PROGRAM)?;
        self.enter_code(memory, transfer, code, offset, Ext::PROGRAM)
    }

    fn through_call_gate(
        &mut self,
        memory: &Memory<'_>,
        transfer: Transfer,
        gate: Descriptor,
    ) -> Result<Flow, Raised> {
        let ext = Ext::PROGRAM;
        let selector = gate.gate_selector();
        if selector.is_null() {
            return Err(self.gp(0));
        }
        let target = self.read_descriptor(memory, selector, Blame::Protection, ext)?;
        let inner = !target.is_conforming() && target.dpl() < self.cpl;
        let barred = target.dpl() > self.cpl || transfer.verb == Verb::Jump && inner;
        if !target.is_code() || barred {
            return Err(self.selector_fault(Blame::Protection, selector, ext));
        }
        let cpl = if inner { target.dpl() } else { self.cpl };
        let code = self.code_segment(memory, selector, target, cpl, ext)?;
        let offset = gate.gate_offset();
        let through = Transfer {
            width: Width::wide(gate.is_wide()),
            ..transfer
        };
        if inner {
            return self.call_inner(memory, through, gate, code);
        }
        self.enter_code(memory, through, code, offset, ext)
    }

    /// A call to an inner ring: new stack, old SS:ESP, parameters, return.
    fn call_inner(
        &mut self,
        memory: &Memory<'_>,
        transfer: Transfer,
        gate: Descriptor,
        code: Segment,
    ) -> Result<Flow, Raised> {
        let ext = Ext::PROGRAM;
        let cpl = code.rpl();
        let width = transfer.width;
        let (segment, esp) = self.inner_stack(memory, cpl, ext)?;
        let mut slots = [0; 31];
        let parameters = &mut slots[..gate.gate_count() as usize];
        let mut old = Stack::current(self, 0);
        for parameter in parameters.iter_mut() {
            *parameter = old.pop(self, memory, width)?;
        }
        let code_of_stack = Selector(segment.selector).error_code(ext);
        let mut stack = Stack::on(&segment, esp, cpl, code_of_stack);
        let ss = self.segments[seg::SS as usize].selector;
        stack.push(self, memory, width, u32::from(ss))?;
        stack.push(self, memory, width, self.regs[gpr::ESP])?;
        for &parameter in parameters.iter().rev() {
            stack.push(self, memory, width, parameter)?;
        }
        self.check_entry(&code, gate.gate_offset(), ext)?;
        self.push_return(memory, transfer, stack)?;
        self.set_cpl(cpl);
        self.set_segment(seg::SS, segment);
        self.set_segment(seg::CS, code);
        self.eip = gate.gate_offset();
        Ok(Flow::End)
    }

    fn transfer_to_task(
        &mut self,
        memory: &Memory<'_>,
        transfer: Transfer,
        arrival: Arrival,
    ) -> Result<Flow, Raised> {
        let kind = match transfer.verb {
            Verb::Jump => SwitchKind::Jump,
            Verb::Call => SwitchKind::Nest,
        };
        let departure = Departure {
            kind,
            eip: transfer.next_eip,
            eflags: self.eflags(),
            ext: Ext::PROGRAM,
        };
        let delivered = self.switch_task(memory, arrival, departure, None)?;
        self.after_switch(memory, delivered)
    }

    /// Ends an instruction that may have switched tasks: a fault of the new
    /// task is delivered there, before its first instruction.
    pub(crate) fn after_switch(
        &mut self,
        memory: &Memory<'_>,
        delivered: Delivered,
    ) -> Result<Flow, Raised> {
        if let Delivered::NewTaskFault(exception) = delivered {
            deliver_exception(self, memory, exception)?;
        }
        Ok(Flow::End)
    }
}
