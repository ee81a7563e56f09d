//! Handlers of the packed, floating-point and move instructions.

mod moves;

use std::cmp::Ordering;

pub(crate) use moves::*;

use super::float::Float;
use super::mxcsr::{BEFORE_RESULT, Mxcsr, WRITABLE};
use super::operand::{Available, Fetch, Mmx, Sse, SseAndMmx};
use super::packed::{Packed, Width};
use super::scalar::{Precision, QuietNans, compare};
use crate::exception::Exception;
use crate::flags;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::paging::Access;
use crate::registers::cr4;
use crate::state::{Core, Raised};

/// Runs a body that uses `?` as a handler.
macro_rules! handler {
    ($body:block) => {{
        let mut run = || -> Result<(), Raised> { $body };
        run().into()
    }};
}
use handler;

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

/// EMMS.
pub(crate) fn emms(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    handler!({
        Mmx::check(core)?;
        core.fpu.leave_mmx();
        Ok(())
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
