//! Task state segments: stacks of inner rings, and task switches (SDM vol. 3,
//! chapter 7).

mod layout;

pub(super) use layout::Layout;

use crate::access::SUPERVISOR;
use crate::exit::Exit;
use crate::flags;
use crate::memory::Memory;
use crate::registers::{cr0, dr};
use crate::segment::{Segment, attr};
use crate::state::{Core, Raised, Stop};
use crate::system::descriptor::{Descriptor, kind};
use crate::system::interrupt::Delivered;
use crate::system::selector::{Blame, Ext, Selector};
use crate::system::stack::Width;

/// Why tasks are switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwitchKind {
    /// JMP: the old task is left for good.
    Jump,
    /// CALL, an interrupt or an exception: the new task links to the old one.
    Nest,
    /// IRET with NT: back to the task that the link names.
    Return,
}

/// The TSS to go to; type and presence are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) selector: Selector,
    pub(crate) descriptor: Descriptor,
}

/// How the old task is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    pub(crate) kind: SwitchKind,
    /// EIP to save.
    pub(crate) eip: u32,
    /// EFLAGS to save.
    pub(crate) eflags: u32,
    pub(crate) ext: Ext,
}

/// What a task switch loads.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewState {
    cr3: Option<u32>,
    eip: u32,
    eflags: u32,
    regs: [u32; 8],
    pub(super) selectors: [Selector; 6],
    pub(super) ldt: Selector,
    trap: bool,
}

/// CPL while the segments of a new task are being loaded: an exception then
/// finds its handler in an inner ring and takes the stack from the new TSS,
/// whatever state SS is in.
const CPL_IN_BETWEEN: u8 = 3;

impl Core {
    /// Reads a field of 16 or 32 bits.
    pub(super) fn read_field(
        &mut self,
        memory: &Memory<'_>,
        width: Width,
        address: u32,
    ) -> Result<u32, Raised> {
        match width {
            Width::Word => Ok(u32::from(
                self.load_linear::<u16>(memory, address, SUPERVISOR)?,
            )),
            Width::Dword => self.load_linear::<u32>(memory, address, SUPERVISOR),
        }
    }

    #[allow(clippy::cast_possible_truncation)] // the low half is what is meant
    fn write_field(
        &mut self,
        memory: &Memory<'_>,
        width: Width,
        address: u32,
        value: u32,
    ) -> Result<(), Raised> {
        match width {
            Width::Word => self.store_linear::<u16>(memory, address, SUPERVISOR, value as u16),
            Width::Dword => self.store_linear::<u32>(memory, address, SUPERVISOR, value),
        }
    }

    /// SS and ESP for an inner ring, from the current TSS; `#TS` with the
    /// selector of the TSS if its limit is too small.
    pub(crate) fn tss_stack(
        &mut self,
        memory: &Memory<'_>,
        cpl: u8,
        ext: Ext,
    ) -> Result<(Selector, u32), Raised> {
        let layout = Layout::of_register(&self.tr);
        let bytes = layout.width.bytes();
        let at = layout.stacks + u32::from(cpl) * 2 * bytes;
        // The selector takes two bytes in either format.
        if at + bytes + 1 > self.tr.limit {
            let tr = Selector(self.tr.selector);
            return Err(self.selector_fault(Blame::InvalidTss, tr, ext));
        }
        let address = self.tr.base.wrapping_add(at);
        let esp = self.read_field(memory, layout.width, address)?;
        let ss = self.read_field(memory, Width::Word, address.wrapping_add(bytes))?;
        Ok((Selector::from_slot(ss), esp))
    }

    /// Switches to another task. `Err` leaves registers, TR and busy bits as
    /// they were; a fault in the new task's segments comes after the switch.
    pub(crate) fn switch_task(
        &mut self,
        memory: &Memory<'_>,
        arrival: Arrival,
        departure: Departure,
        error_code: Option<u16>,
    ) -> Result<Delivered, Raised> {
        // The switch is all or nothing for the host: no exit in between.
        let layout = Layout::of(arrival.descriptor.is_wide());
        let tss = arrival.descriptor.segment(arrival.selector);
        if tss.limit < layout.limit {
            return Err(self.selector_fault(Blame::InvalidTss, arrival.selector, departure.ext));
        }
        let mut new = self.read_state(memory, layout, tss.base)?;
        self.leave_task(memory, arrival, departure)?;
        if departure.kind == SwitchKind::Nest {
            new.eflags |= flags::NT;
        }
        self.enter_task(memory, arrival, layout, &new);
        match self.load_task_segments(memory, &new, layout, departure.ext, error_code) {
            Ok(()) => {}
            Err(raised) => match self.take_stop() {
                Stop::Exception(exception) => return Ok(Delivered::NewTaskFault(exception)),
                // The tables of a task in memory-mapped I/O: no such guest.
                Stop::Exit(_) => {
                    let what = "a task switch through memory-mapped descriptors or stacks";
                    return Err(self.exit(Exit::Unsupported { what }));
                }
                other => {
                    self.stop = other;
                    return Err(raised);
                }
            },
        }
        if new.trap {
            self.debug_hits |= dr::BT;
        }
        Ok(Delivered::Done)
    }

    fn read_state(
        &mut self,
        memory: &Memory<'_>,
        layout: Layout,
        base: u32,
    ) -> Result<NewState, Raised> {
        // Everything that a switch does must be done in one go.
        self.need_stepping()?;
        let bytes = layout.width.bytes();
        let at = |offset: u32| base.wrapping_add(offset);
        let cr3 = match layout.cr3 {
            Some(offset) => Some(self.read_field(memory, Width::Dword, at(offset))?),
            None => None,
        };
        let eip = self.read_field(memory, layout.width, at(layout.eip))?;
        let eflags = self.read_field(memory, layout.width, at(layout.eflags))?;
        let mut regs = [0; 8];
        for (n, reg) in (0..).zip(&mut regs) {
            let value = self.read_field(memory, layout.width, at(layout.regs + n * bytes))?;
            // A 16-bit TSS leaves the upper halves alone.
            *reg = match layout.width {
                Width::Word => self.regs[n as usize] & 0xffff_0000 | value,
                Width::Dword => value,
            };
        }
        let mut selectors = [Selector(0); 6];
        for (n, selector) in (0..u32::from(layout.segments)).zip(&mut selectors) {
            let value = self.read_field(memory, Width::Word, at(layout.selectors + n * bytes))?;
            *selector = Selector::from_slot(value);
        }
        let ldt = Selector::from_slot(self.read_field(memory, Width::Word, at(layout.ldt))?);
        let trap = match layout.trap {
            Some(offset) => self.read_field(memory, Width::Word, at(offset))? & 1 != 0,
            None => false,
        };
        Ok(NewState {
            cr3,
            eip,
            eflags,
            regs,
            selectors,
            ldt,
            trap,
        })
    }

    /// Saves the old task and changes busy bits and link. What can fault is
    /// probed before anything is written that cannot be written twice.
    fn leave_task(
        &mut self,
        memory: &Memory<'_>,
        arrival: Arrival,
        departure: Departure,
    ) -> Result<(), Raised> {
        let old = self.read_tr_descriptor(memory)?;
        let busy_at = arrival.descriptor.address.wrapping_add(5);
        self.probe_write(memory, busy_at, 1, SUPERVISOR)?;
        if let Some(old) = old {
            self.probe_write(memory, old.address.wrapping_add(5), 1, SUPERVISOR)?;
        }
        let nested = departure.kind == SwitchKind::Nest;
        if nested {
            let base = arrival.descriptor.segment(arrival.selector).base;
            self.probe_write(memory, base, 2, SUPERVISOR)?;
        }
        let mut eflags = departure.eflags;
        if departure.kind == SwitchKind::Return {
            eflags &= !flags::NT;
        }
        self.save_state(memory, departure.eip, eflags)?;
        if nested {
            let base = arrival.descriptor.segment(arrival.selector).base;
            self.write_field(memory, Width::Word, base, u32::from(self.tr.selector))?;
        }
        // Of the old task first: with JMP both may be the same descriptor's page.
        if let (false, Some(mut old)) = (nested, old) {
            old.high &= !(kind::BUSY << 8);
            self.write_access_byte(memory, old)?;
        }
        if departure.kind != SwitchKind::Return {
            let mut new = arrival.descriptor;
            new.high |= kind::BUSY << 8;
            self.write_access_byte(memory, new)?;
        }
        Ok(())
    }

    fn read_tr_descriptor(&mut self, memory: &Memory<'_>) -> Result<Option<Descriptor>, Raised> {
        let selector = Selector(self.tr.selector);
        if selector.is_null() {
            Ok(None)
        } else {
            self.find_descriptor(memory, selector)
        }
    }

    fn save_state(&mut self, memory: &Memory<'_>, eip: u32, eflags: u32) -> Result<(), Raised> {
        let layout = Layout::of_register(&self.tr);
        let bytes = layout.width.bytes();
        let base = self.tr.base;
        let at = |offset: u32| base.wrapping_add(offset);
        self.write_field(memory, layout.width, at(layout.eip), eip)?;
        self.write_field(memory, layout.width, at(layout.eflags), eflags)?;
        for n in 0..8 {
            let value = self.regs[n as usize];
            self.write_field(memory, layout.width, at(layout.regs + n * bytes), value)?;
        }
        for n in 0..u32::from(layout.segments) {
            let value = u32::from(self.segments[n as usize].selector);
            self.write_field(memory, Width::Word, at(layout.selectors + n * bytes), value)?;
        }
        Ok(())
    }

    /// TR, CR0.TS, CR3, the registers and the visible parts of the segments.
    fn enter_task(
        &mut self,
        memory: &Memory<'_>,
        arrival: Arrival,
        layout: Layout,
        new: &NewState,
    ) {
        let mut descriptor = arrival.descriptor;
        descriptor.high |= kind::BUSY << 8;
        self.tr = descriptor.segment(arrival.selector);
        self.set_cr0(self.cr0 | cr0::TS);
        if let (Some(cr3), true) = (new.cr3, self.cr0 & cr0::PG != 0) {
            self.switch_cr3(memory, cr3);
        }
        self.regs[..8].copy_from_slice(&new.regs);
        self.eip = new.eip;
        let allowed = match layout.width {
            Width::Word => flags::ARITHMETIC | flags::SYSTEM16,
            Width::Dword => flags::ARITHMETIC | flags::SYSTEM32,
        };
        self.set_eflags(new.eflags & allowed);
        // Local debug conditions belong to the old task (SDM vol. 3, 17.2.4).
        self.dr[7] &= !dr::LOCAL_ENABLES;
        self.refresh_fast_paths();
        self.set_cpl(CPL_IN_BETWEEN);
        self.ldtr = Segment::null(new.ldt.0);
        for (which, selector) in (0..).zip(new.selectors) {
            self.set_segment(which, Segment::null(selector.0));
        }
    }

    /// Whether TR holds a 32-bit TSS, the only kind with an I/O bitmap.
    pub(crate) fn has_io_bitmap(&self) -> bool {
        self.tr.has(attr::PRESENT) && u32::from(self.tr.attributes) & kind::WIDE != 0
    }
}
