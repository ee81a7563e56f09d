//! FXSAVE and FXRSTOR (SDM volume 1, section 10.5; volume 2). XMM registers and MXCSR are saved and restored whatever CR4.OSFXSR says, which the manual
//! leaves to the implementation.

use super::mxcsr::WRITABLE;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::state::{Core, Raised};
use crate::x87::handlers::available;
use crate::x87::image::FXSAVE_WRITTEN;

/// Bytes of the whole area; those from 288 on are reserved, and left alone by FXSAVE.
const AREA: u32 = 512;
const X87_PART: usize = 160;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;

/// FXSAVE.
pub(crate) fn fxsave(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    save(core, memory, op).into()
}

/// FXRSTOR.
pub(crate) fn fxrstor(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    restore(core, memory, op).into()
}

fn save(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
    available(core)?;
    let linear = core.writable(op.seg, op.ea(core), AREA)?;
    aligned(core, linear)?;
    core.probe_write(memory, linear, AREA, core.user)?;
    let mut image = [0; FXSAVE_WRITTEN];
    image[..X87_PART].copy_from_slice(&core.fpu.fxsave_image());
    image[MXCSR..MXCSR + 4].copy_from_slice(&core.simd.mxcsr.to_le_bytes());
    image[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&WRITABLE.to_le_bytes());
    for (bytes, register) in image[X87_PART..].chunks_exact_mut(16).zip(&core.simd.xmm) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    for (bytes, at) in image.as_chunks::<8>().0.iter().zip(quadwords(linear)) {
        core.store_linear(memory, at, core.user, u64::from_le_bytes(*bytes))?;
    }
    Ok(())
}

fn restore(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
    available(core)?;
    let linear = core.readable(op.seg, op.ea(core), AREA)?;
    aligned(core, linear)?;
    // A page fault at the end comes before #GP for reserved bits of MXCSR.
    core.load_linear::<u8>(memory, linear.wrapping_add(AREA - 1), core.user)?;
    let mut image = [0; FXSAVE_WRITTEN];
    for (bytes, at) in image
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(quadwords(linear))
    {
        *bytes = core
            .load_linear::<u64>(memory, at, core.user)?
            .to_le_bytes();
    }
    let mxcsr = u32::from_le_bytes([
        image[MXCSR],
        image[MXCSR + 1],
        image[MXCSR + 2],
        image[MXCSR + 3],
    ]);
    if mxcsr & !WRITABLE != 0 {
        return Err(core.gp(0));
    }
    let mut x87 = [0; X87_PART];
    x87.copy_from_slice(&image[..X87_PART]);
    core.fpu.load_fxsave_image(&x87);
    core.simd.mxcsr = mxcsr;
    for (bytes, register) in image[X87_PART..]
        .as_chunks::<16>()
        .0
        .iter()
        .zip(&mut core.simd.xmm)
    {
        *register = u128::from_le_bytes(*bytes);
    }
    Ok(())
}

/// Linear addresses eight bytes apart; they may wrap at 4 GiB.
fn quadwords(linear: u32) -> impl Iterator<Item = u32> {
    (0_u32..).map(move |n| linear.wrapping_add(8 * n))
}

fn aligned(core: &mut Core, linear: u32) -> Result<(), Raised> {
    if linear & 15 == 0 {
        return Ok(());
    }
    // With alignment checks this is #AC on current processors; the manual
    // allows either.
    core.check_alignment(linear, 8, core.user)?;
    Err(core.gp(0))
}
