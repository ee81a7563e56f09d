//! Stores, and moves between register files.

use super::super::operand::{Available, Mmx, Sse, SseAndMmx, linear_aligned, store_128};
use super::super::packed::{Width, sign_mask};
use super::handler;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::registers::gpr;
use crate::state::{Core, Raised};

/// MOVAPS, MOVAPD, MOVDQA, MOVNTPS, MOVNTPD, MOVNTDQ to memory.
pub(crate) fn store_aligned(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        let linear = linear_aligned(core, op, Core::writable)?;
        store_128(core, memory, linear, core.simd.xmm[usize::from(op.src & 7)])
    })
}

/// MOVUPS, MOVUPD, MOVDQU to memory.
pub(crate) fn store_unaligned(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        let linear = core.writable(op.seg, op.ea(core), 16)?;
        store_128(core, memory, linear, core.simd.xmm[usize::from(op.src & 7)])
    })
}

/// MOVSD, MOVLPS, MOVLPD, MOVQ to memory.
pub(crate) fn store_low_64(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        let value = core.simd.xmm[usize::from(op.src & 7)] as u64;
        core.store(memory, op.seg, op.ea(core), value)
    })
}

/// MOVHPS and MOVHPD to memory.
pub(crate) fn store_high_64(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        let value = (core.simd.xmm[usize::from(op.src & 7)] >> 64) as u64;
        core.store(memory, op.seg, op.ea(core), value)
    })
}

/// MOVSS and MOVD to memory.
pub(crate) fn store_32(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        let value = core.simd.xmm[usize::from(op.src & 7)] as u32;
        core.store(memory, op.seg, op.ea(core), value)
    })
}

/// MOVQ and MOVNTQ from an MMX register to memory.
pub(crate) fn store_mmx_64(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Mmx::check(core)?;
        // TOP becomes 0 even if the store faults; the tags change after it.
        core.fpu.clear_top();
        core.store(memory, op.seg, op.ea(core), core.fpu.mmx(op.src))?;
        core.fpu.enter_mmx();
        Ok(())
    })
}

/// MOVD from an MMX register to memory.
pub(crate) fn store_mmx_32(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Mmx::check(core)?;
        core.fpu.clear_top();
        core.store(memory, op.seg, op.ea(core), core.fpu.mmx(op.src) as u32)?;
        core.fpu.enter_mmx();
        Ok(())
    })
}

/// What a general register gets from an XMM or MMX register.
pub(crate) trait Extract {
    fn extract(width: Width, value: u128, immediate: u8) -> u32;
}

macro_rules! extract {
    ($($name:ident = |$width:pat_param, $value:ident, $imm:pat_param| $body:expr;)*) => {$(
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Extract for $name {
            fn extract($width: Width, $value: u128, $imm: u8) -> u32 {
                $body
            }
        }
    )*};
}

extract! {
    Low = |_, value, _| value as u32;
    Word = |width, value, index| (value >> (16 * (u32::from(index) & (width.bits() / 16 - 1)))) as u32 & 0xFFFF;
    ByteSigns = |width, value, _| sign_mask(width, value, 8);
    SingleSigns = |width, value, _| sign_mask(width, value, 32);
    DoubleSigns = |width, value, _| sign_mask(width, value, 64);
}

pub(crate) fn xmm_to_general<E: Extract>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        let value = core.simd.xmm[usize::from(op.src & 7)];
        core.regs[usize::from(op.dst & 7)] = E::extract(Width::Xmm, value, op.imm as u8);
        Ok(())
    })
}

pub(crate) fn mmx_to_general<E: Extract>(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Mmx::check(core)?;
        core.fpu.enter_mmx();
        let value = core.fpu.mmx(op.src).into();
        core.regs[usize::from(op.dst & 7)] = E::extract(Width::Mmx, value, op.imm as u8);
        Ok(())
    })
}

/// MOVQ2DQ.
pub(crate) fn movq2dq(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        SseAndMmx::check(core)?;
        core.fpu.enter_mmx();
        core.simd.xmm[usize::from(op.dst & 7)] = core.fpu.mmx(op.src).into();
        Ok(())
    })
}

/// MOVDQ2Q.
pub(crate) fn movdq2q(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        SseAndMmx::check(core)?;
        core.fpu.enter_mmx();
        core.fpu
            .set_mmx(op.dst, core.simd.xmm[usize::from(op.src & 7)] as u64);
        Ok(())
    })
}

/// MASKMOVDQU and MASKMOVQ: bytes whose mask has bit 7 set go to [(E)DI]. The
/// decoder puts the mask register into [`Op::dst`]. The manual leaves open
/// whether bytes that are not selected are checked; as on current processors
/// all `size` of them are, the upper quadword first.
fn masked_store(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    size: u32,
    (value, mask): (u128, u128),
) -> Result<(), Raised> {
    let mut places = [0; 2];
    for (quadword, place) in (0..size / 8).zip(&mut places).rev() {
        let offset = core.regs[gpr::EDI].wrapping_add(8 * quadword) & op.address_mask();
        *place = core.writable(op.seg, offset, 8)?;
        core.check_alignment(*place, 8, core.user)?;
        core.probe_write(memory, *place, 8, core.user)?;
    }
    for n in (0..size).filter(|n| mask >> (8 * n + 7) & 1 != 0) {
        let byte = (value >> (8 * n)) as u8;
        let linear = places[n as usize / 8].wrapping_add(n % 8);
        core.store_linear(memory, linear, core.user, byte)?;
    }
    Ok(())
}

pub(crate) fn maskmovdqu(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        let (value, mask) = (
            core.simd.xmm[usize::from(op.src & 7)],
            core.simd.xmm[usize::from(op.dst & 7)],
        );
        masked_store(core, memory, op, 16, (value, mask))
    })
}

pub(crate) fn maskmovq(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Mmx::check(core)?;
        let (value, mask) = (core.fpu.mmx(op.src).into(), core.fpu.mmx(op.dst).into());
        core.fpu.enter_mmx();
        masked_store(core, memory, op, 8, (value, mask))
    })
}

/// MOVNTI: an ordinary store of a general register.
pub(crate) fn movnti(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    core.store(
        memory,
        op.seg,
        op.ea(core),
        core.regs[usize::from(op.src & 7)],
    )
    .into()
}
