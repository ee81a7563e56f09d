//! MUL, IMUL, DIV, IDIV.

use iced_x86::{Instruction, Mnemonic};

use super::operand::{
    First, Flat, Kind, Segmented, Source, by_size, by_target, by_wide_size, kind, size,
};
use crate::exception::Exception;
use crate::flags::LazyFlags;
use crate::lower::{Context, Lowered};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::registers::gpr;
use crate::state::{Core, Raised};

/// The double-width accumulator: AX, DX:AX or EDX:EAX.
fn wide_accumulator<W: Word>(core: &Core) -> u64 {
    match W::BYTES {
        1 => u64::from(core.regs[gpr::EAX] & 0xffff),
        2 => {
            u64::from(core.regs[gpr::EDX] & 0xffff) << 16 | u64::from(core.regs[gpr::EAX] & 0xffff)
        }
        _ => u64::from(core.regs[gpr::EDX]) << 32 | u64::from(core.regs[gpr::EAX]),
    }
}

fn set_pair<W: Word>(core: &mut Core, high: u32, low: u32) {
    if W::BYTES == 1 {
        core.set_reg::<u16>(0, (high & 0xff) << 8 | low & 0xff);
    } else {
        core.set_reg::<W>(0, low);
        core.set_reg::<W>(2, high);
    }
}

/// CF and OF say whether the high half matters. The other flags are
/// undefined; processors set SF and PF from the low half and clear ZF and AF.
#[inline(always)]
fn multiply_flags<W: Word>(flags: &mut LazyFlags, low: u32, overflow: bool) {
    flags.set_shift::<W>(low, overflow, overflow);
}

fn mul<W: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    let product = u64::from(core.reg::<W>(0)) * u64::from(value);
    let (high, low) = (
        u32::low_bits(product >> W::BITS),
        W::low_bits(product).zext(),
    );
    set_pair::<W>(core, high, low);
    multiply_flags::<W>(&mut core.flags, low, high != 0);
    Flow::Next
}

fn imul<W: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    let (product, low, overflow) = signed_product::<W>(core.reg::<W>(0), value);
    set_pair::<W>(core, u32::low_bits(product >> W::BITS), low);
    multiply_flags::<W>(&mut core.flags, low, overflow);
    Flow::Next
}

#[inline(always)]
fn signed_product<W: Word>(a: u32, b: u32) -> (u64, u32, bool) {
    let product = i64::from(W::sext(a).cast_signed()) * i64::from(W::sext(b).cast_signed());
    let low = W::low_bits(product.cast_unsigned()).zext();
    let overflow = i64::from(W::sext(low).cast_signed()) != product;
    (product.cast_unsigned(), low, overflow)
}

/// Two operands: the first register times the second operand.
fn imul_two<W: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    let (_, low, overflow) = signed_product::<W>(core.reg::<W>(op.dst), value);
    core.set_reg::<W>(op.dst, low);
    multiply_flags::<W>(&mut core.flags, low, overflow);
    Flow::Next
}

/// Three operands: the second times the immediate, into the first.
fn imul_three<W: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(value) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    let (_, low, overflow) = signed_product::<W>(W::cut(op.imm).zext(), value);
    core.set_reg::<W>(op.dst, low);
    multiply_flags::<W>(&mut core.flags, low, overflow);
    Flow::Next
}

/// DIV leaves all flags as they are (they are undefined).
fn div<W: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(divisor) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    divide::<W>(core, u64::from(divisor)).into()
}

fn divide<W: Word>(core: &mut Core, divisor: u64) -> Result<(), Raised> {
    let dividend = wide_accumulator::<W>(core);
    let limit = 1u64 << W::BITS;
    match dividend.checked_div(divisor) {
        Some(quotient) if quotient < limit => {
            set_pair::<W>(
                core,
                u32::low_bits(dividend % divisor),
                u32::low_bits(quotient),
            );
            Ok(())
        }
        _ => Err(core.raise(Exception::DivideError)),
    }
}

fn idiv<W: Word, S: Source>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let Ok(divisor) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    divide_signed::<W>(core, i64::from(W::sext(divisor).cast_signed())).into()
}

fn divide_signed<W: Word>(core: &mut Core, divisor: i64) -> Result<(), Raised> {
    let unused = 64 - 2 * W::BITS;
    let dividend = (wide_accumulator::<W>(core) << unused).cast_signed() >> unused;
    let half = 1i64 << (W::BITS - 1);
    match dividend.checked_div(divisor) {
        Some(quotient) if (-half..half).contains(&quotient) => {
            let remainder = dividend % divisor;
            let low = |value: i64| u32::low_bits(value.cast_unsigned());
            set_pair::<W>(core, low(remainder), low(quotient));
            Ok(())
        }
        _ => Err(core.raise(Exception::DivideError)),
    }
}

macro_rules! with_accumulator {
    ($function:ident, $i:expr, $context:expr) => {{
        let handler: Handler = by_size!(size($i, 0), W =>
            by_target!(kind($i, 0, $context), T => $function::<W, T>));
        handler
    }};
}

/// The second operand, which for this form is a register or memory.
macro_rules! with_second {
    ($function:ident, $i:expr, $context:expr) => {{
        use super::operand::Second;
        let handler: Handler = by_wide_size!(size($i, 0), W => match kind($i, 1, $context) {
            Kind::Register => $function::<W, Second>,
            Kind::Flat | Kind::Based => $function::<W, Flat>,
            Kind::Segmented => $function::<W, Segmented>,
            _ => return None,
        });
        handler
    }};
}

pub(super) fn lower(i: &Instruction, context: Context) -> Option<Lowered> {
    Some(Lowered::next(match (i.mnemonic(), i.op_count()) {
        (Mnemonic::Mul, _) => with_accumulator!(mul, i, context),
        (Mnemonic::Div, _) => with_accumulator!(div, i, context),
        (Mnemonic::Idiv, _) => with_accumulator!(idiv, i, context),
        (Mnemonic::Imul, 1) => with_accumulator!(imul, i, context),
        (Mnemonic::Imul, 2) => with_second!(imul_two, i, context),
        (Mnemonic::Imul, _) => with_second!(imul_three, i, context),
        _ => return None,
    }))
}
