//! The segments of a new task: what a task switch loads after it has made the
//! task current, so that faults belong to the new task (SDM vol. 3, 7.3).

use crate::memory::Memory;
use crate::segment::seg;
use crate::state::{Core, Raised};
use crate::system::descriptor::kind;
use crate::system::selector::{Blame, Ext, Selector};
use crate::system::stack::Stack;
use crate::system::task::{Layout, NewState};

impl Core {
    /// Loads LDTR and the segment registers from the selectors of the new
    /// task, and pushes the error code of the exception that brought us here.
    pub(super) fn load_task_segments(
        &mut self,
        memory: &Memory<'_>,
        new: &NewState,
        layout: Layout,
        ext: Ext,
        error_code: Option<u16>,
    ) -> Result<(), Raised> {
        self.load_task_ldt(memory, new.ldt, ext)?;
        if self.virtual_8086() {
            for (which, selector) in (0..).zip(new.selectors) {
                let segment = self.real_segment(which, selector);
                self.set_segment(which, segment);
            }
        } else {
            self.load_task_code(memory, new.selectors[seg::CS as usize], ext)?;
            let cpl = new.selectors[seg::CS as usize].rpl();
            let ss = new.selectors[seg::SS as usize];
            let stack = self.stack_segment(memory, ss, cpl, Blame::InvalidTss, ext)?;
            self.set_segment(seg::SS, stack);
            for which in [seg::ES, seg::DS, seg::FS, seg::GS] {
                let selector = new.selectors[which as usize];
                let data = self.data_segment(memory, selector, cpl, Blame::InvalidTss, ext)?;
                self.set_segment(which, data);
            }
            self.set_cpl(cpl);
        }
        if let Some(code) = error_code {
            let mut stack = Stack::current(self, ext.0);
            stack.push(self, memory, layout.width, u32::from(code))?;
            stack.commit(self);
        }
        if self.eip > self.segments[seg::CS as usize].limit {
            return Err(self.gp(ext.0));
        }
        Ok(())
    }

    fn load_task_ldt(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
        ext: Ext,
    ) -> Result<(), Raised> {
        if selector.is_null() {
            return Ok(());
        }
        let found = if selector.is_local() {
            None
        } else {
            self.find_descriptor(memory, selector)?
        };
        match found {
            Some(ldt) if ldt.system_kind() == Some(kind::LDT) && ldt.is_present() => {
                self.ldtr = ldt.segment(selector);
                Ok(())
            }
            _ => Err(self.selector_fault(Blame::InvalidTss, selector, ext)),
        }
    }

    fn load_task_code(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
        ext: Ext,
    ) -> Result<(), Raised> {
        if selector.is_null() {
            return Err(self.selector_fault(Blame::InvalidTss, selector, ext));
        }
        let descriptor = self.read_descriptor(memory, selector, Blame::InvalidTss, ext)?;
        let rpl = selector.rpl();
        let level = match descriptor.is_conforming() {
            true => descriptor.dpl() <= rpl,
            false => descriptor.dpl() == rpl,
        };
        if !descriptor.is_code() || !level {
            return Err(self.selector_fault(Blame::InvalidTss, selector, ext));
        }
        let code = self.code_segment(memory, selector, descriptor, rpl, ext)?;
        self.set_segment(seg::CS, code);
        Ok(())
    }
}
