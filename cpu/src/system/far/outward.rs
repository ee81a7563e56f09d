//! Returns: RETF, and what IRET shares with it on the way to an outer ring.

use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::registers::gpr;
use crate::segment::{Segment, seg};
use crate::state::{Core, Raised};
use crate::system::descriptor::Descriptor;
use crate::system::selector::{Blame, Ext, Selector};
use crate::system::stack::{Stack, Width};

/// Where a return to an outer ring goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outer {
    pub(crate) code: Segment,
    stack: Segment,
    esp: u32,
}

impl Core {
    pub(super) fn far_return(&mut self, memory: &Memory<'_>, op: &Op) -> Result<Flow, Raised> {
        let width = Width::of(op);
        let mut stack = Stack::current(self, 0);
        // CS is read before EIP, and only two bytes of it: CR2 shows that.
        let mut stack_of_cs = stack;
        stack_of_cs.skip(width.bytes());
        let selector = Selector::from_slot(stack_of_cs.pop(self, memory, Width::Word)?);
        stack_of_cs.skip(width.bytes() - Width::Word.bytes());
        let offset = stack.pop(self, memory, width)?;
        stack = stack_of_cs;
        stack.skip(op.imm);
        if self.real_segments() {
            let code = self.real_segment(seg::CS, selector);
            self.check_entry(&code, offset, Ext::PROGRAM)?;
            stack.commit(self);
            self.set_segment(seg::CS, code);
            self.eip = offset;
            return Ok(Flow::End);
        }
        let target = self.return_target(memory, selector)?;
        if selector.rpl() == self.cpl {
            let code = self.code_segment(memory, selector, target, self.cpl, Ext::PROGRAM)?;
            self.check_entry(&code, offset, Ext::PROGRAM)?;
            stack.commit(self);
            self.set_segment(seg::CS, code);
            self.eip = offset;
            return Ok(Flow::End);
        }
        let outer = self.pop_outer(memory, &mut stack, width, selector, target)?;
        self.check_entry(&outer.code, offset, Ext::PROGRAM)?;
        self.enter_outer(outer, offset, op.imm);
        Ok(Flow::End)
    }

    /// Checks the CS that RETF or IRET has popped; presence comes later.
    pub(crate) fn return_target(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
    ) -> Result<Descriptor, Raised> {
        let ext = Ext::PROGRAM;
        if selector.is_null() {
            return Err(self.gp(0));
        }
        let target = self.read_descriptor(memory, selector, Blame::Protection, ext)?;
        let rpl = selector.rpl();
        let level = if target.is_conforming() {
            target.dpl() <= rpl
        } else {
            target.dpl() == rpl
        };
        if !target.is_code() || rpl < self.cpl || !level {
            return Err(self.selector_fault(Blame::Protection, selector, ext));
        }
        Ok(target)
    }

    /// The outer CS, SS and ESP for a return to another ring.
    pub(crate) fn pop_outer(
        &mut self,
        memory: &Memory<'_>,
        stack: &mut Stack,
        width: Width,
        selector: Selector,
        target: Descriptor,
    ) -> Result<Outer, Raised> {
        let cpl = selector.rpl();
        let code = self.code_segment(memory, selector, target, cpl, Ext::PROGRAM)?;
        let esp = stack.pop(self, memory, width)?;
        let ss = Selector::from_slot(stack.pop(self, memory, width)?);
        let segment = self.stack_segment(memory, ss, cpl, Blame::Protection, Ext::PROGRAM)?;
        Ok(Outer {
            code,
            stack: segment,
            esp,
        })
    }

    /// Makes a checked return to an outer ring happen; `release` bytes of
    /// parameters go from the outer stack too.
    pub(crate) fn enter_outer(&mut self, outer: Outer, offset: u32, release: u32) {
        self.set_cpl(outer.code.rpl());
        self.set_segment(seg::SS, outer.stack);
        self.set_segment(seg::CS, outer.code);
        // A 16-bit stack takes SP only; the upper half of ESP stays.
        let mask = self.stack_mask();
        let esp = outer.esp.wrapping_add(release);
        self.regs[gpr::ESP] = self.regs[gpr::ESP] & !mask | esp & mask;
        self.eip = offset;
        self.drop_inner_segments();
    }
}
