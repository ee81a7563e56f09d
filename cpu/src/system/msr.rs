//! RDMSR, WRMSR and RDTSC. The registers that exist are few: the time stamp
//! and EFER; any other number raises `#GP(0)`.

use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::registers::{EFER_NXE, cr4, gpr};
use crate::state::{Core, Raised};
use crate::system::control::set_edx_eax;

const TIME_STAMP: u32 = 0x10;
const EFER: u32 = 0xc000_0080;

/// RDMSR.
pub(crate) fn rdmsr(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    read(core, op).into()
}

fn read(core: &mut Core, op: &Op) -> Result<(), Raised> {
    core.require_ring0()?;
    let value = match core.regs[gpr::ECX] {
        TIME_STAMP => core.tsc_at(op),
        EFER => u64::from(core.msrs.efer),
        _ => return Err(core.gp(0)),
    };
    set_edx_eax(core, value);
    Ok(())
}

/// WRMSR.
pub(crate) fn wrmsr(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    write(core, op).into()
}

fn write(core: &mut Core, op: &Op) -> Result<Flow, Raised> {
    core.require_ring0()?;
    let value = u64::from(core.regs[gpr::EDX]) << 32 | u64::from(core.regs[gpr::EAX]);
    match core.regs[gpr::ECX] {
        TIME_STAMP => core.msrs.tsc_offset = value.wrapping_sub(core.retired_at(op)),
        EFER => match u32::try_from(value) {
            Ok(efer) if efer & !EFER_NXE == 0 => {
                core.msrs.efer = efer;
                core.tlb.flush_all();
            }
            _ => return Err(core.gp(0)),
        },
        _ => return Err(core.gp(0)),
    }
    Ok(core.end(op))
}

/// RDTSC: instructions retired before this one, plus the offset.
pub(crate) fn rdtsc(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    if core.cr4 & cr4::TSD != 0 && core.require_ring0().is_err() {
        return Flow::Raised;
    }
    set_edx_eax(core, core.tsc_at(op));
    Flow::Next
}
