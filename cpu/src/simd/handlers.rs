//! Handlers of the packed, floating-point and move instructions.

use std::cmp::Ordering;

use super::float::Float;
use super::mxcsr::{BEFORE_RESULT, Mxcsr, WRITABLE};
use super::operand::{Available, Fetch, Mmx, Sse, SseAndMmx, linear_aligned, store_128};
use super::packed::{Packed, Width, sign_mask};
use super::scalar::{Precision, QuietNans, compare};
use crate::exception::Exception;
use crate::flags;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::paging::Access;
use crate::registers::{cr4, gpr};
use crate::state::{Core, Raised};

/// Runs a body that uses `?` as a handler.
macro_rules! handler {
    ($body:block) => {{
        let mut run = || -> Result<(), Raised> { $body };
        run().into()
    }};
}

/// XMM register op= source.
pub(crate) fn xmm<S: Fetch, P: Packed>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        let source = S::fetch(core, memory, op)?;
        let destination = &mut core.simd.xmm[usize::from(op.dst & 7)];
        *destination = P::apply(Width::Xmm, *destination, source, op.imm as u8);
        Ok(())
    })
}

/// MMX register op= source.
pub(crate) fn mmx<S: Fetch, P: Packed>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Mmx::check(core)?;
        let source = S::fetch(core, memory, op)?;
        core.fpu.enter_mmx();
        let result = P::apply(
            Width::Mmx,
            core.fpu.mmx(op.dst).into(),
            source,
            op.imm as u8,
        );
        core.fpu.set_mmx(op.dst, result as u64);
        Ok(())
    })
}

/// Records the exceptions of an instruction in MXCSR, and raises #XM (#UD without CR4.OSXMMEXCPT) if one is not masked.
fn signal(core: &mut Core, raised: u32) -> Result<(), Raised> {
    if raised == 0 {
        return Ok(());
    }
    let mxcsr = Mxcsr(core.simd.mxcsr);
    let early = raised & BEFORE_RESULT;
    let raised = if mxcsr.unmasked(early) != 0 {
        early
    } else {
        raised
    };
    core.simd.mxcsr |= raised;
    if mxcsr.unmasked(raised) == 0 {
        return Ok(());
    }
    Err(if core.cr4 & cr4::OSXMMEXCPT != 0 {
        core.raise(Exception::SimdFloatingPoint)
    } else {
        core.ud()
    })
}

fn compute<S: Fetch, F: Float>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Result<u128, Raised> {
    Sse::check(core)?;
    let source = S::fetch(core, memory, op)?;
    let destination = core.simd.xmm[usize::from(op.dst & 7)];
    let computed = F::apply(destination, source, op.imm as u8, Mxcsr(core.simd.mxcsr));
    signal(core, computed.raised)?;
    Ok(computed.value)
}

/// Floating-point operation whose destination is an XMM register.
pub(crate) fn float<S: Fetch, F: Float>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let result = compute::<S, F>(core, memory, op)
        .map(|value| core.simd.xmm[usize::from(op.dst & 7)] = value);
    result.into()
}

/// CVTPI2PS and CVTPI2PD from an MMX register. The processor enters MMX mode before it looks at the numbers: also if they raise #XM.
pub(crate) fn float_from_mmx<S: Fetch, F: Float>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    handler!({
        SseAndMmx::check(core)?;
        let source = S::fetch(core, memory, op)?;
        core.fpu.enter_mmx();
        let destination = core.simd.xmm[usize::from(op.dst & 7)];
        let computed = F::apply(destination, source, op.imm as u8, Mxcsr(core.simd.mxcsr));
        signal(core, computed.raised)?;
        core.simd.xmm[usize::from(op.dst & 7)] = computed.value;
        Ok(())
    })
}

/// Conversions whose destination is an MMX register; here too MMX mode comes first.
pub(crate) fn float_to_mmx<S: Fetch, F: Float>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    handler!({
        SseAndMmx::check(core)?;
        let source = S::fetch(core, memory, op)?;
        core.fpu.enter_mmx();
        let computed = F::apply(0, source, op.imm as u8, Mxcsr(core.simd.mxcsr));
        signal(core, computed.raised)?;
        core.fpu.set_mmx(op.dst, computed.value as u64);
        Ok(())
    })
}

/// Conversions whose destination is a general register.
pub(crate) fn float_to_general<S: Fetch, F: Float>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    let result = compute::<S, F>(core, memory, op)
        .map(|value| core.regs[usize::from(op.dst & 7)] = value as u32);
    result.into()
}

/// COMISS and its relatives.
fn compare_flags<S: Fetch>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    precision: Precision,
    quiet: QuietNans,
) -> Result<(), Raised> {
    Sse::check(core)?;
    let mask = if precision == Precision::Single {
        0xFFFF_FFFF
    } else {
        u64::MAX
    };
    let b = S::fetch(core, memory, op)? as u64 & mask;
    let a = core.simd.xmm[usize::from(op.dst & 7)] as u64 & mask;
    let (order, raised) = compare(precision, a, b, quiet, Mxcsr(core.simd.mxcsr));
    signal(core, raised)?;
    let bits = match order {
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => flags::CF,
        Some(Ordering::Equal) => flags::ZF,
        None => flags::CF | flags::PF | flags::ZF,
    };
    core.flags.replace(flags::ARITHMETIC, bits);
    Ok(())
}

macro_rules! comparisons {
    ($($name:ident: $precision:ident $quiet:ident;)*) => {$(
        pub(crate) fn $name<S: Fetch>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
            compare_flags::<S>(core, memory, op, Precision::$precision, QuietNans::$quiet).into()
        }
    )*};
}

comparisons! {
    comiss: Single Invalid;
    comisd: Double Invalid;
    ucomiss: Single Unordered;
    ucomisd: Double Unordered;
}

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

/// EMMS.
pub(crate) fn emms(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    handler!({
        Mmx::check(core)?;
        core.fpu.leave_mmx();
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

/// LDMXCSR: #GP(0) for reserved bits.
pub(crate) fn ldmxcsr(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        let value = core.load::<u32>(memory, op.seg, op.ea(core))?;
        if value & !WRITABLE != 0 {
            return Err(core.gp(0));
        }
        core.simd.mxcsr = value;
        Ok(())
    })
}

pub(crate) fn stmxcsr(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        Sse::check(core)?;
        core.store(memory, op.seg, op.ea(core), core.simd.mxcsr)
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

/// Fences and prefetches.
pub(crate) fn nothing(_: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    Flow::Next
}

/// CLFLUSH: the faults of a byte load, and no other effect.
pub(crate) fn clflush(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    handler!({
        let linear = core.readable(op.seg, op.ea(core), 1)?;
        core.translate(memory, linear, Access::Read, core.user)?;
        Ok(())
    })
}
