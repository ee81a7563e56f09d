//! LTR and LLDT, and the link of the current task.

use crate::memory::Memory;
use crate::segment::Segment;
use crate::state::{Core, Raised};
use crate::system::descriptor::kind;
use crate::system::selector::{Blame, Ext, Selector};
use crate::system::stack::Width;
use crate::system::task::Arrival;

impl Core {
    /// LTR: makes an available TSS the current one and busy.
    pub(crate) fn load_task_register(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
    ) -> Result<(), Raised> {
        let ext = Ext::PROGRAM;
        if selector.is_null() {
            return Err(self.gp(0));
        }
        let found = if selector.is_local() {
            None
        } else {
            self.find_descriptor(memory, selector)?
        };
        let Some(mut descriptor) =
            found.filter(|found| matches!(found.system_kind(), Some(kind::TSS16 | kind::TSS32)))
        else {
            return Err(self.selector_fault(Blame::Protection, selector, ext));
        };
        if !descriptor.is_present() {
            return Err(self.selector_fault(Blame::NotPresent, selector, ext));
        }
        descriptor.high |= kind::BUSY << 8;
        self.write_access_byte(memory, descriptor)?;
        self.tr = descriptor.segment(selector);
        Ok(())
    }

    /// LLDT.
    pub(crate) fn load_ldt_register(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
    ) -> Result<(), Raised> {
        if selector.is_null() {
            self.ldtr = Segment::null(selector.0);
            return Ok(());
        }
        let found = if selector.is_local() {
            None
        } else {
            self.find_descriptor(memory, selector)?
        };
        let Some(descriptor) = found.filter(|found| found.system_kind() == Some(kind::LDT)) else {
            return Err(self.selector_fault(Blame::Protection, selector, Ext::PROGRAM));
        };
        if !descriptor.is_present() {
            return Err(self.selector_fault(Blame::NotPresent, selector, Ext::PROGRAM));
        }
        self.ldtr = descriptor.segment(selector);
        Ok(())
    }

    /// The task that an IRET with NT goes back to.
    pub(crate) fn linked_task(&mut self, memory: &Memory<'_>) -> Result<Arrival, Raised> {
        let link = self.read_field(memory, Width::Word, self.tr.base)?;
        let selector = Selector::from_slot(link);
        let found = if selector.is_local() {
            None
        } else {
            self.find_descriptor(memory, selector)?
        };
        let Some(descriptor) = found.filter(|found| {
            matches!(
                found.system_kind(),
                Some(kind::TSS16_BUSY | kind::TSS32_BUSY)
            )
        }) else {
            return Err(self.selector_fault(Blame::InvalidTss, selector, Ext::PROGRAM));
        };
        if !descriptor.is_present() {
            return Err(self.selector_fault(Blame::NotPresent, selector, Ext::PROGRAM));
        }
        Ok(Arrival {
            selector,
            descriptor,
        })
    }
}
