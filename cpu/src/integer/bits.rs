//! BT, BTS, BTR, BTC, BSF, BSR.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::operand::{
    First, Flat, Kind, Second, Segmented, Source, Target, by_target, by_wide_size, kind, size,
};
use crate::lower::{Context, Lowered};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::state::{Core, Raised};

/// What happens to the bit after CF has got it.
trait BitOperation {
    const WRITES: bool;
    fn apply(value: u32, bit: u32) -> u32;
}

macro_rules! bit_operation {
    ($name:ident, $writes:literal, |$value:ident, $bit:ident| $body:expr) => {
        struct $name;
        impl BitOperation for $name {
            const WRITES: bool = $writes;
            #[inline(always)]
            fn apply($value: u32, $bit: u32) -> u32 {
                $body
            }
        }
    };
}

bit_operation!(Test, false, |value, _bit| value);
bit_operation!(Set, true, |value, bit| value | bit);
bit_operation!(Reset, true, |value, bit| value & !bit);
bit_operation!(Complement, true, |value, bit| value ^ bit);

/// The bit number comes from the immediate or, with a register target, from a
/// register: modulo the operand size.
fn in_operand<B: BitOperation, W: Word, T: Target, N: Source>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    let Ok(number) = N::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    let number = number & (W::BITS - 1);
    if !B::WRITES {
        let Ok(value) = T::get::<W>(core, memory, op) else {
            return Flow::Raised;
        };
        core.flags.set_cf(value >> number & 1 != 0);
        return Flow::Next;
    }
    T::update::<W>(core, memory, op, |core, value| {
        core.flags.set_cf(value >> number & 1 != 0);
        B::apply(value, 1 << number)
    })
    .into()
}

/// Memory with a bit number in a register: a string of bits, in both directions.
fn in_string<B: BitOperation, W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    in_string_checked::<B, W>(core, memory, op).into()
}

fn in_string_checked<B: BitOperation, W: Word>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Result<(), Raised> {
    let number = W::sext(core.reg::<W>(op.src)).cast_signed();
    let words = number >> W::BITS.trailing_zeros();
    let offset = op
        .ea(core)
        .wrapping_add(words.cast_unsigned().wrapping_mul(W::BYTES))
        & op.address_mask();
    let bit = number.cast_unsigned() & (W::BITS - 1);
    if !B::WRITES {
        let value = core.load::<W>(memory, op.seg, offset)?.zext();
        core.flags.set_cf(value >> bit & 1 != 0);
        return Ok(());
    }
    let linear = core.writable(op.seg, offset, W::BYTES)?;
    core.modify_linear::<W>(memory, linear, |core, value| {
        core.flags.set_cf(value >> bit & 1 != 0);
        B::apply(value, 1 << bit)
    })
}

/// BSF and BSR: with a source of zero the destination stays (as processors do;
/// the manual calls it undefined).
fn scan<W: Word, S: Source, const REVERSE: bool>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    let Ok(value) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    if value != 0 {
        let number = if REVERSE {
            value.ilog2()
        } else {
            value.trailing_zeros()
        };
        core.set_reg::<W>(op.dst, number);
    }
    // Only ZF is defined; the others are as after a comparison with the source.
    core.flags.set_logic::<W>(value);
    Flow::Next
}

macro_rules! bit_test {
    ($b:ty, $i:expr, $context:expr) => {{
        let target = kind($i, 0, $context);
        let immediate = $i.op_kind(1) == OpKind::Immediate8;
        let handler: Handler = by_wide_size!(size($i, 0), W => match target {
            _ if immediate => by_target!(target, T =>
                in_operand::<$b, W, T, super::operand::Immediate>),
            Kind::Register => in_operand::<$b, W, First, Second>,
            _ => in_string::<$b, W>,
        });
        handler
    }};
}

macro_rules! bit_scan {
    ($reverse:literal, $i:expr, $context:expr) => {{
        let handler: Handler = by_wide_size!(size($i, 0), W => match kind($i, 1, $context) {
            Kind::Register => scan::<W, Second, $reverse>,
            Kind::Flat | Kind::Based => scan::<W, Flat, $reverse>,
            Kind::Segmented => scan::<W, Segmented, $reverse>,
            _ => return None,
        });
        handler
    }};
}

pub(super) fn lower(i: &Instruction, context: Context) -> Option<Lowered> {
    Some(Lowered::next(match i.mnemonic() {
        Mnemonic::Bt => bit_test!(Test, i, context),
        Mnemonic::Bts => bit_test!(Set, i, context),
        Mnemonic::Btr => bit_test!(Reset, i, context),
        Mnemonic::Btc => bit_test!(Complement, i, context),
        Mnemonic::Bsf => bit_scan!(false, i, context),
        Mnemonic::Bsr => bit_scan!(true, i, context),
        _ => return None,
    }))
}
