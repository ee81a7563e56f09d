//! Delivery of exceptions, interrupts and INT n: through the vector table in
//! real mode, through interrupt, trap and task gates in protected mode (SDM
//! vol. 3, chapter 6; vol. 2, INT n).

use crate::access::SUPERVISOR;
use crate::exception::{Exception, ExceptionClass};
use crate::exit::Exit;
use crate::flags;
use crate::memory::Memory;
use crate::registers::{dr, gpr};
use crate::segment::{Segment, seg};
use crate::state::{Core, Raised, Stop};
use crate::system::descriptor::{Descriptor, kind};
use crate::system::double_fault::combine;
use crate::system::selector::{Blame, Ext, Selector};
use crate::system::stack::{Stack, Width};
use crate::system::task::{Arrival, Departure, SwitchKind};

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An external interrupt, or an exception: gates are not checked for
    /// privilege and error codes carry EXT.
    Event,
    /// INT n, INT3 or INTO.
    Software,
}

/// What is to be delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) vector: u8,
    /// Pushed in protected mode.
    pub(crate) error_code: Option<u16>,
    pub(crate) source: Source,
    /// EIP to save.
    pub(crate) eip: u32,
    /// EFLAGS to save.
    pub(crate) eflags: u32,
}

/// What a frame holds besides EFLAGS, CS, EIP and an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// Nothing.
    SameRing,
    /// The outer SS and ESP, and before them GS, FS, DS and ES in V86 mode.
    InnerRing,
}

impl Event {
    fn ext(&self) -> Ext {
        match self.source {
            Source::Event => Ext::EVENT,
            Source::Software => Ext::PROGRAM,
        }
    }

    /// The error code that names the vector's gate.
    fn gate_code(&self) -> u16 {
        (u16::from(self.vector) * 8) | 2 | self.ext().0
    }
}

/// How an attempt to deliver or to switch tasks ended, if it did not fail
/// without a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Delivered {
    /// The handler, or the new task, is about to run.
    Done,
    /// The task switch took place, and then loading the new task raised this.
    NewTaskFault(Exception),
}

/// Delivers an exception. `Core::eip` is what has to be saved: the faulting
/// instruction's own for a fault, the next one's for a trap. An exception
/// during delivery becomes a double fault, then [`Exit::TripleFault`]. `Err`:
/// `Core::stop` holds an exit or `Restep`, and nothing was changed.
pub(crate) fn deliver_exception(
    core: &mut Core,
    memory: &Memory<'_>,
    exception: Exception,
) -> Result<(), Raised> {
    let mut current = exception;
    // Each turn that does not end in a handler raises the severity or makes
    // one more TSS busy, so the loop ends; the bound is for a guest that has
    // thousands of TSSs.
    for _ in 0..64 {
        let next = match attempt(core, memory, current) {
            Ok(Delivered::Done) if core.debug_hits & dr::BT != 0 => {
                // The T bit of the task that was just entered.
                core.debug_hits &= !dr::BT;
                core.dr[6] |= dr::BT;
                current = Exception::DebugTrap;
                continue;
            }
            Ok(Delivered::Done) => return Ok(()),
            Ok(Delivered::NewTaskFault(next)) => next,
            Err(raised) => match core.stop {
                Stop::Exception(next) => {
                    core.take_stop();
                    next
                }
                _ => return Err(raised),
            },
        };
        if let Some(address) = next.cr2() {
            core.cr2 = address;
        }
        match combine(current, next) {
            Some(combined) => current = combined,
            None => break,
        }
    }
    Err(core.exit(Exit::TripleFault))
}

/// One attempt; `Err` may hold a further exception.
fn attempt(
    core: &mut Core,
    memory: &Memory<'_>,
    exception: Exception,
) -> Result<Delivered, Raised> {
    if let Some(address) = exception.cr2() {
        core.cr2 = address;
    }
    if exception.vector() == 1 {
        // Debug handlers may touch the debug registers (SDM vol. 3, 17.2.4).
        core.dr[7] &= !dr::GD;
    }
    let mut eflags = core.eflags();
    if exception.class() == ExceptionClass::Fault && exception != Exception::DebugFault {
        eflags |= flags::RF;
    }
    let event = Event {
        vector: exception.vector(),
        error_code: exception.error_code(),
        source: Source::Event,
        eip: core.eip,
        eflags,
    };
    core.deliver(memory, event)
}

/// Delivers an external interrupt between two instructions.
pub(crate) fn deliver_interrupt(
    core: &mut Core,
    memory: &Memory<'_>,
    vector: u8,
) -> Result<(), Raised> {
    let event = Event {
        vector,
        error_code: None,
        source: Source::Event,
        eip: core.eip,
        eflags: core.eflags(),
    };
    let fault = match core.deliver(memory, event) {
        Ok(Delivered::Done) => return Ok(()),
        Ok(Delivered::NewTaskFault(fault)) => fault,
        Err(raised) => match core.stop {
            Stop::Exception(fault) => {
                core.take_stop();
                fault
            }
            _ => return Err(raised),
        },
    };
    deliver_exception(core, memory, fault)
}

impl Core {
    /// Delivers `event`. `Err`: an exception or exit arose, and neither
    /// registers nor task state have changed.
    pub(crate) fn deliver(
        &mut self,
        memory: &Memory<'_>,
        event: Event,
    ) -> Result<Delivered, Raised> {
        self.code.in_delivery = true;
        let delivered = self.deliver_by_mode(memory, event);
        self.code.in_delivery = false;
        self.entered_handler |= delivered.is_ok();
        delivered
    }

    fn deliver_by_mode(&mut self, memory: &Memory<'_>, event: Event) -> Result<Delivered, Raised> {
        if self.protected() {
            let gate = self.read_gate(memory, &event)?;
            if gate.system_kind() == Some(kind::TASK) {
                return self.deliver_to_task(memory, event, gate);
            }
            self.deliver_through(memory, event, gate)?;
        } else {
            self.deliver_real(memory, event)?;
        }
        Ok(Delivered::Done)
    }

    /// Real mode: FLAGS, CS and IP go on the stack; no error codes.
    fn deliver_real(&mut self, memory: &Memory<'_>, event: Event) -> Result<(), Raised> {
        let at = u32::from(event.vector) * 4;
        if at + 3 > u32::from(self.idtr.limit) {
            return Err(self.gp(0));
        }
        let entry = self.load_linear::<u32>(memory, self.idtr.base.wrapping_add(at), SUPERVISOR)?;
        let selector = Selector::from_slot(entry >> 16);
        let mut stack = Stack::current(self, 0);
        let saved = self.segments[seg::CS as usize].selector;
        for value in [event.eflags, u32::from(saved), event.eip] {
            stack.push(self, memory, Width::Word, value)?;
        }
        stack.commit(self);
        let code = self.real_segment(seg::CS, selector);
        self.set_segment(seg::CS, code);
        self.eip = entry & 0xffff;
        self.set_eflags(self.eflags() & !(flags::IF | flags::TF | flags::AC | flags::RF));
        Ok(())
    }

    /// The gate of a vector, checked for type, privilege and presence.
    fn read_gate(&mut self, memory: &Memory<'_>, event: &Event) -> Result<Descriptor, Raised> {
        let at = u32::from(event.vector) * 8;
        if at + 7 > u32::from(self.idtr.limit) {
            return Err(self.gp(event.gate_code()));
        }
        let address = self.idtr.base.wrapping_add(at);
        let low = self.load_linear::<u32>(memory, address, SUPERVISOR)?;
        let high = self.load_linear::<u32>(memory, address.wrapping_add(4), SUPERVISOR)?;
        let gate = Descriptor { low, high, address };
        let is_gate = matches!(
            gate.system_kind(),
            Some(kind::TASK | kind::INTERRUPT16 | kind::TRAP16 | kind::INTERRUPT32 | kind::TRAP32)
        );
        let barred = event.source == Source::Software && gate.dpl() < self.cpl;
        if !is_gate || barred {
            return Err(self.gp(event.gate_code()));
        }
        if !gate.is_present() {
            return Err(self.raise(Exception::SegmentNotPresent(event.gate_code())));
        }
        Ok(gate)
    }

    fn deliver_to_task(
        &mut self,
        memory: &Memory<'_>,
        event: Event,
        gate: Descriptor,
    ) -> Result<Delivered, Raised> {
        let ext = event.ext();
        let arrival = self.task_behind_gate(memory, gate.gate_selector(), ext)?;
        let departure = Departure {
            kind: SwitchKind::Nest,
            eip: event.eip,
            eflags: event.eflags,
            ext,
        };
        self.switch_task(memory, arrival, departure, event.error_code)
    }

    /// Through an interrupt or trap gate.
    fn deliver_through(
        &mut self,
        memory: &Memory<'_>,
        event: Event,
        gate: Descriptor,
    ) -> Result<(), Raised> {
        let ext = event.ext();
        let selector = gate.gate_selector();
        if selector.is_null() {
            return Err(self.gp(ext.0));
        }
        let target = self.read_descriptor(memory, selector, Blame::Protection, ext)?;
        if !target.is_code() || target.dpl() > self.cpl {
            return Err(self.selector_fault(Blame::Protection, selector, ext));
        }
        let cpl = if target.is_conforming() {
            self.cpl
        } else {
            target.dpl()
        };
        let vm = self.virtual_8086();
        if vm && cpl != 0 && target.is_present() {
            return Err(self.selector_fault(Blame::Protection, selector, ext));
        }
        let code = self.code_segment(memory, selector, target, cpl, ext)?;
        let width = Width::wide(gate.is_wide());
        let inner = if cpl < self.cpl {
            Some(self.inner_stack(memory, cpl, ext)?)
        } else {
            None
        };
        let mut stack = match &inner {
            Some((segment, esp)) => {
                let code = Selector(segment.selector).error_code(ext);
                Stack::on(segment, *esp, cpl, code)
            }
            None => Stack::current(self, ext.0),
        };
        self.check_entry(&code, gate.gate_offset(), ext)?;
        let frame = match inner {
            Some(_) => Frame::InnerRing,
            None => Frame::SameRing,
        };
        self.push_frame(memory, &mut stack, width, &event, frame)?;

        // Nothing can raise any more.
        if let Some((segment, _)) = inner {
            self.set_cpl(cpl);
            self.set_segment(seg::SS, segment);
            if vm {
                for which in [seg::ES, seg::DS, seg::FS, seg::GS] {
                    self.set_segment(which, Segment::null(0));
                }
            }
        }
        stack.commit(self);
        self.set_segment(seg::CS, code);
        self.eip = gate.gate_offset();
        let mut cleared = flags::TF | flags::NT | flags::RF | flags::VM;
        if matches!(
            gate.system_kind(),
            Some(kind::INTERRUPT16 | kind::INTERRUPT32)
        ) {
            cleared |= flags::IF;
        }
        self.system_flags &= !cleared;
        Ok(())
    }

    fn push_frame(
        &mut self,
        memory: &Memory<'_>,
        stack: &mut Stack,
        width: Width,
        event: &Event,
        frame: Frame,
    ) -> Result<(), Raised> {
        let selector = |core: &Self, which: u8| u32::from(core.segments[which as usize].selector);
        if self.virtual_8086() && frame == Frame::InnerRing {
            for which in [seg::GS, seg::FS, seg::DS, seg::ES] {
                stack.push(self, memory, width, selector(self, which))?;
            }
        }
        if frame == Frame::InnerRing {
            stack.push(self, memory, width, selector(self, seg::SS))?;
            stack.push(self, memory, width, self.regs[gpr::ESP])?;
        }
        stack.push(self, memory, width, event.eflags)?;
        stack.push(self, memory, width, selector(self, seg::CS))?;
        stack.push(self, memory, width, event.eip)?;
        match event.error_code {
            Some(code) => stack.push(self, memory, width, u32::from(code)),
            None => Ok(()),
        }
    }

    /// SS and ESP of an inner ring from the current TSS, SS checked.
    pub(crate) fn inner_stack(
        &mut self,
        memory: &Memory<'_>,
        cpl: u8,
        ext: Ext,
    ) -> Result<(Segment, u32), Raised> {
        let (selector, esp) = self.tss_stack(memory, cpl, ext)?;
        let segment = self.stack_segment(memory, selector, cpl, Blame::InvalidTss, ext)?;
        Ok((segment, esp))
    }

    /// The TSS behind the selector of a task gate.
    pub(crate) fn task_behind_gate(
        &mut self,
        memory: &Memory<'_>,
        selector: Selector,
        ext: Ext,
    ) -> Result<Arrival, Raised> {
        if selector.is_local() {
            return Err(self.selector_fault(Blame::Protection, selector, ext));
        }
        let descriptor = self.read_descriptor(memory, selector, Blame::Protection, ext)?;
        if !matches!(descriptor.system_kind(), Some(kind::TSS16 | kind::TSS32)) {
            return Err(self.selector_fault(Blame::Protection, selector, ext));
        }
        if !descriptor.is_present() {
            return Err(self.selector_fault(Blame::NotPresent, selector, ext));
        }
        Ok(Arrival {
            selector,
            descriptor,
        })
    }
}
