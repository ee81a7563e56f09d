//! IN and OUT, and who may use which port (SDM vol. 1, 19.5).

use crate::access::SUPERVISOR;
use crate::memory::{Memory, Word};
use crate::op::{Flow, Op};
use crate::registers::gpr;
use crate::state::{Core, Raised};

/// Offset in a 32-bit TSS of the word that says where the bitmap starts.
const BITMAP_BASE: u32 = 0x66;

impl Core {
    /// `#GP(0)` if the program may not access `size` ports from `port`: IOPL,
    /// then the bitmap of the TSS; in V86 mode the bitmap alone.
    pub(crate) fn check_port(
        &mut self,
        memory: &Memory<'_>,
        port: u16,
        size: u8,
    ) -> Result<(), Raised> {
        if !self.protected() || self.cpl <= self.iopl() && !self.virtual_8086() {
            return Ok(());
        }
        if !self.has_io_bitmap() || self.tr.limit < BITMAP_BASE + 1 {
            return Err(self.gp(0));
        }
        let base = self.tr.base;
        let start = self.load_linear::<u16>(memory, base.wrapping_add(BITMAP_BASE), SUPERVISOR)?;
        let at = u32::from(start) + u32::from(port / 8);
        // Two bytes are always read, so the map needs one byte behind its end.
        if at + 1 > self.tr.limit {
            return Err(self.gp(0));
        }
        let bits = self.load_linear::<u16>(memory, base.wrapping_add(at), SUPERVISOR)?;
        let wanted = ((1u16 << size) - 1) << (port % 8);
        if bits & wanted != 0 {
            Err(self.gp(0))
        } else {
            Ok(())
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // 1, 2 or 4
fn size<W: Word>() -> u8 {
    W::BYTES as u8
}

#[allow(clippy::cast_possible_truncation)] // DX is the low half
fn dx(core: &Core) -> u16 {
    core.regs[gpr::EDX] as u16
}

#[allow(clippy::cast_possible_truncation)] // an 8-bit immediate
fn immediate(op: &Op) -> u16 {
    op.imm as u16 & 0xff
}

fn input<W: Word>(core: &mut Core, memory: &Memory<'_>, port: u16) -> Result<(), Raised> {
    core.check_port(memory, port, size::<W>())?;
    let value = core.port_in(port, size::<W>())?;
    core.set_reg::<W>(0, value);
    Ok(())
}

fn output<W: Word>(core: &mut Core, memory: &Memory<'_>, port: u16) -> Result<(), Raised> {
    core.check_port(memory, port, size::<W>())?;
    core.port_out(port, size::<W>(), core.regs[gpr::EAX])
}

/// IN with the port in DX.
pub(crate) fn in_dx<W: Word>(core: &mut Core, memory: &Memory<'_>, _: &Op) -> Flow {
    input::<W>(core, memory, dx(core)).into()
}

/// IN with an immediate port.
pub(crate) fn in_imm<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    input::<W>(core, memory, immediate(op)).into()
}

/// OUT with the port in DX.
pub(crate) fn out_dx<W: Word>(core: &mut Core, memory: &Memory<'_>, _: &Op) -> Flow {
    output::<W>(core, memory, dx(core)).into()
}

/// OUT with an immediate port.
pub(crate) fn out_imm<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    output::<W>(core, memory, immediate(op)).into()
}
