//! CLI, STI, PUSHF, POPF and HLT.

use crate::flags;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::state::{Core, Raised, Shadow};
use crate::system::stack::{Stack, Width};

impl Core {
    /// Goes on with the next instruction after anything may have changed.
    pub(crate) fn end(&mut self, op: &Op) -> Flow {
        self.eip = op.next_eip(self);
        Flow::End
    }

    /// `#GP(0)` outside ring 0 (V86 mode is ring 3).
    pub(crate) fn require_ring0(&mut self) -> Result<(), Raised> {
        if self.protected() && self.cpl != 0 {
            Err(self.gp(0))
        } else {
            Ok(())
        }
    }

    /// `#GP(0)` if the program may not change IF.
    fn require_iopl(&mut self) -> Result<(), Raised> {
        if self.protected() && self.cpl > self.iopl() {
            Err(self.gp(0))
        } else {
            Ok(())
        }
    }

    fn require_v86_iopl(&mut self) -> Result<(), Raised> {
        if self.virtual_8086() && self.iopl() < 3 {
            Err(self.gp(0))
        } else {
            Ok(())
        }
    }
}

/// CLI.
pub(crate) fn cli(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    if core.require_iopl().is_err() {
        return Flow::Raised;
    }
    core.system_flags &= !flags::IF;
    Flow::Next
}

/// STI: interrupts wait for one more instruction if they were off.
pub(crate) fn sti(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    if core.require_iopl().is_err() {
        return Flow::Raised;
    }
    if core.interrupts_enabled() {
        return Flow::Next;
    }
    core.shadow = Shadow::Sti;
    core.system_flags |= flags::IF;
    core.end(op)
}

/// HLT.
pub(crate) fn hlt(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    if core.require_ring0().is_err() {
        return Flow::Raised;
    }
    core.halted = true;
    core.end(op)
}

/// PUSHF, PUSHFD.
pub(crate) fn pushf(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    push_flags(core, memory, op).into()
}

fn push_flags(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
    core.require_v86_iopl()?;
    let value = core.eflags() & !(flags::VM | flags::RF);
    let mut stack = Stack::current(core, 0);
    stack.push(core, memory, Width::of(op), value)?;
    stack.commit(core);
    Ok(())
}

/// POPF, POPFD.
pub(crate) fn popf(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    pop_flags(core, memory, op).into()
}

fn pop_flags(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<Flow, Raised> {
    core.require_v86_iopl()?;
    let width = Width::of(op);
    let mut stack = Stack::current(core, 0);
    let value = stack.pop(core, memory, width)?;
    stack.commit(core);
    let mut changed = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT;
    if width == Width::Dword {
        changed |= flags::AC | flags::ID;
    }
    if !core.protected() || core.cpl <= core.iopl() {
        changed |= flags::IF;
    }
    if !core.protected() || core.cpl == 0 {
        changed |= flags::IOPL;
    }
    let before = core.system_flags;
    core.set_eflags(before & !(changed | flags::RF) | value & changed);
    // Only a newly set IF or TF makes the run loop look up.
    let news = core.system_flags & !before & (flags::IF | flags::TF);
    Ok(if news == 0 { Flow::Next } else { core.end(op) })
}
