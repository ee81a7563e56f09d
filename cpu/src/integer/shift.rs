//! Shifts and rotates.

use iced_x86::{Instruction, Mnemonic};

use super::operand::{
    First, Flat, Kind, Segmented, Target, by_size, by_target, by_wide_size, is_cl, kind, size,
};
use crate::flags::LazyFlags;
use crate::lower::{Context, Lowered};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::registers::gpr;
use crate::state::Core;

/// A shift or rotate by 1 to 31.
///
/// OF is defined for a count of 1 only; for other counts it is what the same
/// expression over the result gives. AF is undefined after a shift and cleared
/// here; a rotate leaves it.
pub(super) trait Shift {
    fn apply<W: Word>(flags: &mut LazyFlags, value: u32, count: u32) -> u32;
}

/// The top bit of a `W`.
#[inline(always)]
fn top<W: Word>(value: u32) -> bool {
    value >> (W::BITS - 1) & 1 != 0
}

pub(super) struct Shl;
impl Shift for Shl {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut LazyFlags, value: u32, count: u32) -> u32 {
        let wide = u64::from(value) << count;
        let result = u32::low_bits(wide);
        let carry = wide >> W::BITS & 1 != 0;
        flags.set_shift::<W>(result, carry, carry != top::<W>(result));
        result
    }
}

pub(super) struct Shr;
impl Shift for Shr {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut LazyFlags, value: u32, count: u32) -> u32 {
        let carry = value >> (count - 1) & 1 != 0;
        let result = value >> count;
        let next = result << 1;
        flags.set_shift::<W>(result, carry, top::<W>(result ^ next));
        result
    }
}

struct Sar;
impl Shift for Sar {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut LazyFlags, value: u32, count: u32) -> u32 {
        let value = W::sext(value).cast_signed();
        let carry = value >> (count - 1) & 1 != 0;
        let result = (value >> count).cast_unsigned();
        flags.set_shift::<W>(result, carry, false);
        result
    }
}

struct Rol;
impl Shift for Rol {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut LazyFlags, value: u32, count: u32) -> u32 {
        let wide = spread::<W>(value).rotate_left(count);
        let result = W::cut(wide).zext();
        let carry = result & 1 != 0;
        flags.set_cf_of(carry, carry != top::<W>(result));
        result
    }
}

struct Ror;
impl Shift for Ror {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut LazyFlags, value: u32, count: u32) -> u32 {
        let wide = spread::<W>(value).rotate_right(count);
        let result = W::cut(wide).zext();
        flags.set_cf_of(top::<W>(result), top::<W>(result ^ result << 1));
        result
    }
}

/// The value repeated over 32 bits, so that rotating 32 bits rotates it.
#[inline(always)]
fn spread<W: Word>(value: u32) -> u32 {
    match W::BITS {
        8 => value * 0x0101_0101,
        16 => value * 0x0001_0001,
        _ => value,
    }
}

struct Rcl;
impl Shift for Rcl {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut LazyFlags, value: u32, count: u32) -> u32 {
        let count = count % (W::BITS + 1);
        if count == 0 {
            // By 9 or 17 times a multiple: nothing moves, OF follows the result.
            flags.set_cf_of(flags.cf(), flags.cf() != top::<W>(value));
            return value;
        }
        let wide = u64::from(flags.carry()) << W::BITS | u64::from(value);
        let rotated = wide << count | wide >> (W::BITS + 1 - count);
        let result = W::low_bits(rotated).zext();
        let carry = rotated >> W::BITS & 1 != 0;
        flags.set_cf_of(carry, carry != top::<W>(result));
        result
    }
}

struct Rcr;
impl Shift for Rcr {
    #[inline(always)]
    fn apply<W: Word>(flags: &mut LazyFlags, value: u32, count: u32) -> u32 {
        let count = count % (W::BITS + 1);
        let (result, carry) = if count == 0 {
            (value, flags.cf())
        } else {
            let wide = u64::from(flags.carry()) << W::BITS | u64::from(value);
            let rotated = wide >> count | wide << (W::BITS + 1 - count);
            (W::low_bits(rotated).zext(), rotated >> W::BITS & 1 != 0)
        };
        flags.set_cf_of(carry, top::<W>(result ^ result << 1));
        result
    }
}

fn by_immediate<S: Shift, W: Word, T: Target>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    let count = op.imm & 31;
    T::update::<W>(core, memory, op, |core, value| {
        if count == 0 {
            value
        } else {
            S::apply::<W>(&mut core.flags, value, count)
        }
    })
    .into()
}

fn by_cl<S: Shift, W: Word, T: Target>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let count = core.regs[gpr::ECX] & 31;
    T::update::<W>(core, memory, op, |core, value| {
        if count == 0 {
            value
        } else {
            S::apply::<W>(&mut core.flags, value, count)
        }
    })
    .into()
}

/// SHLD: bits of `filler` come in from the right. For 16 bits and a count
/// above 16 the result is undefined; processors shift the operands repeated.
#[inline(always)]
fn shld<W: Word>(flags: &mut LazyFlags, value: u32, filler: u32, count: u32) -> u32 {
    let (result, carry) = if W::BITS == 16 {
        let wide = u64::from(value) << 32 | u64::from(filler) << 16 | u64::from(value);
        let shifted = wide << count;
        (
            u32::low_bits(shifted >> 32) & 0xffff,
            shifted >> 48 & 1 != 0,
        )
    } else {
        let wide = u64::from(value) << 32 | u64::from(filler);
        (
            u32::low_bits(wide << count >> 32),
            value >> (32 - count) & 1 != 0,
        )
    };
    flags.set_shift::<W>(result, carry, top::<W>(result ^ value));
    result
}

/// SHRD: bits of `filler` come in from the left.
#[inline(always)]
fn shrd<W: Word>(flags: &mut LazyFlags, value: u32, filler: u32, count: u32) -> u32 {
    let wide = if W::BITS == 16 {
        u64::from(value) << 32 | u64::from(filler) << 16 | u64::from(value)
    } else {
        u64::from(filler) << 32 | u64::from(value)
    };
    let result = W::low_bits(wide >> count).zext();
    flags.set_shift::<W>(
        result,
        wide >> (count - 1) & 1 != 0,
        top::<W>(result ^ value),
    );
    result
}

fn double<W: Word, T: Target, const LEFT: bool, const BY_CL: bool>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    let count = if BY_CL { core.regs[gpr::ECX] } else { op.imm } & 31;
    let filler = core.reg::<W>(op.src);
    T::update::<W>(core, memory, op, |core, value| match count {
        0 => value,
        _ if LEFT => shld::<W>(&mut core.flags, value, filler, count),
        _ => shrd::<W>(&mut core.flags, value, filler, count),
    })
    .into()
}

macro_rules! shift {
    ($s:ty, $i:expr, $context:expr) => {{
        let target = kind($i, 0, $context);
        let handler: Handler = by_size!(size($i, 0), W => by_target!(target, T =>
            if is_cl($i, 1) { by_cl::<$s, W, T> } else { by_immediate::<$s, W, T> }));
        handler
    }};
}

macro_rules! double_shift {
    ($left:literal, $i:expr, $context:expr) => {{
        let target = kind($i, 0, $context);
        let handler: Handler = by_wide_size!(size($i, 0), W => by_target!(target, T =>
            if is_cl($i, 2) { double::<W, T, $left, true> } else { double::<W, T, $left, false> }));
        handler
    }};
}

pub(super) fn lower(i: &Instruction, context: Context) -> Option<Lowered> {
    Some(Lowered::next(match i.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal => shift!(Shl, i, context),
        Mnemonic::Shr => shift!(Shr, i, context),
        Mnemonic::Sar => shift!(Sar, i, context),
        Mnemonic::Rol => shift!(Rol, i, context),
        Mnemonic::Ror => shift!(Ror, i, context),
        Mnemonic::Rcl => shift!(Rcl, i, context),
        Mnemonic::Rcr => shift!(Rcr, i, context),
        Mnemonic::Shld => double_shift!(true, i, context),
        Mnemonic::Shrd => double_shift!(false, i, context),
        _ => return None,
    }))
}
