//! The debug registers (SDM vol. 3, 17.2). Breakpoints and traps themselves
//! are found by the run loop and by the accesses.

use crate::exception::Exception;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::registers::{cr4, dr};
use crate::state::{Core, Raised};

/// DR6 bits that can be written.
const DR6_BITS: u32 = dr::BT | dr::BS | dr::BD | 0xf;
/// DR7 bits that can be written: enables, GD, R/W and LEN.
const DR7_BITS: u32 = 0xffff_0000 | dr::GD | 0x3ff;

/// The register that a number means, with all checks of the access.
fn register(core: &mut Core, number: u8) -> Result<usize, Raised> {
    let alias = matches!(number, 4 | 5);
    if alias && core.cr4 & cr4::DE != 0 {
        return Err(core.ud());
    }
    core.require_ring0()?;
    if core.dr[7] & dr::GD != 0 {
        // Delivery clears GD again.
        core.dr[6] |= dr::BD;
        return Err(core.raise(Exception::GeneralDetect));
    }
    Ok(usize::from(if alias { number + 2 } else { number & 7 }))
}

/// MOV r32, DRn.
pub(crate) fn read(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let read = |core: &mut Core| {
        let number = register(core, op.src)?;
        core.regs[op.dst as usize & 7] = core.dr[number];
        Ok(())
    };
    read(core).into()
}

/// MOV DRn, r32.
pub(crate) fn write(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let write = |core: &mut Core| {
        let number = register(core, op.dst)?;
        let value = core.regs[op.src as usize & 7];
        core.dr[number] = match number {
            6 => value & DR6_BITS | dr::DR6_ONES,
            7 => value & DR7_BITS | dr::DR7_ONES,
            _ => value,
        };
        // Accesses to watched pages must take the slow path from now on.
        core.refresh_fast_paths();
        Ok(core.end(op))
    };
    write(core).into()
}
