//! Where the operands of MMX and SSE instructions come from and go to, and whether they may.

use crate::exception::Exception;
use crate::memory::Memory;
use crate::op::Op;
use crate::registers::{cr0, cr4};
use crate::state::{Core, Raised};
use crate::x87::handlers::no_pending_exception;

/// A source operand, as the low bits of a `u128`; the rest is zero.
pub(crate) trait Fetch {
    fn fetch(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<u128, Raised>;
}

macro_rules! fetch {
    ($($(#[$doc:meta])* $name:ident = |$core:ident, $memory:pat_param, $op:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Fetch for $name {
            #[inline(always)]
            fn fetch($core: &mut Core, $memory: &Memory<'_>, $op: &Op) -> Result<u128, Raised> {
                $body
            }
        }
    )*};
}

fetch! {
    XmmRegister = |core, _, op| Ok(core.simd.xmm[usize::from(op.src & 7)]);
    XmmLow = |core, _, op| Ok(core.simd.xmm[usize::from(op.src & 7)] & u128::from(u64::MAX));
    MmxRegister = |core, _, op| Ok(core.fpu.mmx(op.src).into());
    General = |core, _, op| Ok(core.regs[usize::from(op.src & 7)].into());
    /// The 8-bit immediate.
    Immediate = |_core, _, op| Ok((op.imm & 0xFF).into());
    /// 16 bytes that must be aligned.
    Aligned = |core, memory, op| {
        let linear = linear_aligned(core, op, Core::readable)?;
        load_128(core, memory, linear)
    };
    /// 16 bytes anywhere.
    Unaligned = |core, memory, op| {
        let linear = core.readable(op.seg, op.ea(core), 16)?;
        load_128(core, memory, linear)
    };
    Memory64 = |core, memory, op| Ok(core.load::<u64>(memory, op.seg, op.ea(core))?.into());
    Memory32 = |core, memory, op| Ok(core.load::<u32>(memory, op.seg, op.ea(core))?.into());
    Memory16 = |core, memory, op| Ok(core.load::<u16>(memory, op.seg, op.ea(core))?.into());
}

/// A check of a segment: [`Core::readable`] or [`Core::writable`].
type SegmentCheck = fn(&mut Core, u8, u32, u32) -> Result<u32, Raised>;

/// The linear address of a 16-byte operand; #GP(0) unless it is a multiple of 16.
pub(crate) fn linear_aligned(core: &mut Core, op: &Op, check: SegmentCheck) -> Result<u32, Raised> {
    let linear = check(core, op.seg, op.ea(core), 16)?;
    if linear & 15 != 0 {
        return Err(core.gp(0));
    }
    Ok(linear)
}

fn load_128(core: &mut Core, memory: &Memory<'_>, linear: u32) -> Result<u128, Raised> {
    if core.alignment_checked() {
        // Sixteen bytes have rules of their own; #AC is not among them.
        let mut bytes = [0; 16];
        for (byte, n) in bytes.iter_mut().zip(0..) {
            *byte = core.load_linear::<u8>(memory, linear.wrapping_add(n), core.user)?;
        }
        return Ok(u128::from_le_bytes(bytes));
    }
    let low = core.load_linear::<u64>(memory, linear, core.user)?;
    let high = core.load_linear::<u64>(memory, linear.wrapping_add(8), core.user)?;
    Ok(u128::from(high) << 64 | u128::from(low))
}

/// Stores 16 bytes, all or nothing.
pub(crate) fn store_128(
    core: &mut Core,
    memory: &Memory<'_>,
    linear: u32,
    value: u128,
) -> Result<(), Raised> {
    core.probe_write(memory, linear, 16, core.user)?;
    if core.alignment_checked() {
        for (n, byte) in (0..).zip(value.to_le_bytes()) {
            core.store_linear(memory, linear.wrapping_add(n), core.user, byte)?;
        }
        return Ok(());
    }
    core.store_linear(memory, linear, core.user, value as u64)?;
    core.store_linear(
        memory,
        linear.wrapping_add(8),
        core.user,
        (value >> 64) as u64,
    )
}

/// What must hold before an instruction executes (SDM volume 2, section 2.4; volume 3, tables 12-1 and 13-1).
pub(crate) trait Available {
    fn check(core: &mut Core) -> Result<(), Raised>;
}

/// MMX registers: #UD with CR0.EM, #NM with CR0.TS, #MF for a pending x87 exception.
#[derive(Debug)]
pub(crate) struct Mmx;
/// XMM registers: #UD with CR0.EM or without CR4.OSFXSR, #NM with CR0.TS.
#[derive(Debug)]
pub(crate) struct Sse;
/// Both.
#[derive(Debug)]
pub(crate) struct SseAndMmx;

impl Available for Mmx {
    #[inline(always)]
    fn check(core: &mut Core) -> Result<(), Raised> {
        if core.cr0 & cr0::EM != 0 {
            return Err(core.ud());
        }
        no_task_switch(core)?;
        no_pending_exception(core)
    }
}

impl Available for Sse {
    #[inline(always)]
    fn check(core: &mut Core) -> Result<(), Raised> {
        if core.cr0 & cr0::EM != 0 || core.cr4 & cr4::OSFXSR == 0 {
            return Err(core.ud());
        }
        no_task_switch(core)
    }
}

impl Available for SseAndMmx {
    fn check(core: &mut Core) -> Result<(), Raised> {
        Sse::check(core)?;
        no_pending_exception(core)
    }
}

fn no_task_switch(core: &mut Core) -> Result<(), Raised> {
    if core.cr0 & cr0::TS != 0 {
        return Err(core.raise(Exception::DeviceNotAvailable));
    }
    Ok(())
}
