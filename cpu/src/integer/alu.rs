//! ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, NOT, NEG, INC, DEC.

use iced_x86::{Instruction, Mnemonic};

use super::operand::{
    Based, First, Flat, Immediate, Kind, Second, Segmented, Source, Target, by_size,
    by_source_based, by_target, kind, size,
};
use crate::flags::LazyFlags;
use crate::lower::{Context, Lowered};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::state::Core;

/// A binary operation: sets the flags and returns the result.
pub(super) trait Binary {
    fn apply<W: Word>(flags: &mut LazyFlags, a: u32, b: u32) -> u32;
}

/// Carries out of each bit of a sum.
#[inline(always)]
pub(super) fn carries(a: u32, b: u32, sum: u32) -> u32 {
    (a & b) | ((a | b) & !sum)
}

/// Borrows out of each bit of a difference.
#[inline(always)]
pub(super) fn borrows(a: u32, b: u32, difference: u32) -> u32 {
    (!a & b) | ((!a | b) & difference)
}

macro_rules! binary {
    ($name:ident, |$w:ident, $flags:ident, $a:ident, $b:ident| $body:expr) => {
        pub(super) struct $name;
        impl Binary for $name {
            #[inline(always)]
            fn apply<$w: Word>($flags: &mut LazyFlags, $a: u32, $b: u32) -> u32 {
                $body
            }
        }
    };
}

binary!(Add, |W, flags, a, b| {
    let sum = a.wrapping_add(b);
    flags.set::<W>(sum, carries(a, b, sum));
    sum
});
binary!(Adc, |W, flags, a, b| {
    let sum = a.wrapping_add(b).wrapping_add(flags.carry());
    flags.set::<W>(sum, carries(a, b, sum));
    sum
});
binary!(Sub, |W, flags, a, b| {
    let difference = a.wrapping_sub(b);
    flags.set::<W>(difference, borrows(a, b, difference));
    difference
});
binary!(Sbb, |W, flags, a, b| {
    let difference = a.wrapping_sub(b).wrapping_sub(flags.carry());
    flags.set::<W>(difference, borrows(a, b, difference));
    difference
});
binary!(And, |W, flags, a, b| {
    flags.set_logic::<W>(a & b);
    a & b
});
binary!(Or, |W, flags, a, b| {
    flags.set_logic::<W>(a | b);
    a | b
});
binary!(Xor, |W, flags, a, b| {
    flags.set_logic::<W>(a ^ b);
    a ^ b
});

/// A unary operation.
pub(super) trait Unary {
    fn apply<W: Word>(flags: &mut LazyFlags, a: u32) -> u32;
}

macro_rules! unary {
    ($name:ident, |$w:ident, $flags:ident, $a:ident| $body:expr) => {
        pub(super) struct $name;
        impl Unary for $name {
            #[inline(always)]
            fn apply<$w: Word>($flags: &mut LazyFlags, $a: u32) -> u32 {
                $body
            }
        }
    };
}

unary!(Inc, |W, flags, a| {
    let sum = a.wrapping_add(1);
    flags.set_keeping_carry::<W>(sum, carries(a, 1, sum));
    sum
});
unary!(Dec, |W, flags, a| {
    let difference = a.wrapping_sub(1);
    flags.set_keeping_carry::<W>(difference, borrows(a, 1, difference));
    difference
});
unary!(Neg, |W, flags, a| Sub::apply::<W>(flags, 0, a));
unary!(Not, |W, flags, a| {
    let _ = flags;
    W::cut(!a).zext()
});

fn binary<O: Binary, W: Word, T: Target, S: Source>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    if let Some(b) = S::get_fast::<W>(core, memory, op) {
        let apply = |core: &mut Core, a| O::apply::<W>(&mut core.flags, a, b);
        if T::update_fast::<W>(core, memory, op, apply).is_some() {
            return Flow::Next;
        }
    }
    binary_slow::<O, W, T, S>(core, memory, op)
}

#[inline(never)]
fn binary_slow<O: Binary, W: Word, T: Target, S: Source>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    let Ok(b) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    T::update::<W>(core, memory, op, |core, a| {
        O::apply::<W>(&mut core.flags, a, b)
    })
    .into()
}

fn compare<O: Binary, W: Word, T: Source, S: Source>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    let (a, b) = (
        T::get_fast::<W>(core, memory, op),
        S::get_fast::<W>(core, memory, op),
    );
    if let (Some(a), Some(b)) = (a, b) {
        O::apply::<W>(&mut core.flags, a, b);
        return Flow::Next;
    }
    compare_slow::<O, W, T, S>(core, memory, op)
}

#[inline(never)]
fn compare_slow<O: Binary, W: Word, T: Source, S: Source>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    let Ok(a) = T::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    let Ok(b) = S::get::<W>(core, memory, op) else {
        return Flow::Raised;
    };
    O::apply::<W>(&mut core.flags, a, b);
    Flow::Next
}

fn unary<O: Unary, W: Word, T: Target>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let apply = |core: &mut Core, a| O::apply::<W>(&mut core.flags, a);
    if T::update_fast::<W>(core, memory, op, apply).is_some() {
        return Flow::Next;
    }
    unary_slow::<O, W, T>(core, memory, op)
}

#[inline(never)]
fn unary_slow<O: Unary, W: Word, T: Target>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    T::update::<W>(core, memory, op, |core, a| {
        O::apply::<W>(&mut core.flags, a)
    })
    .into()
}

/// The handler for two operands: all combinations except memory with memory.
macro_rules! two_operands {
    ($function:ident, $o:ty, $instruction:expr, $context:expr) => {{
        let (first, second) =
            (kind($instruction, 0, $context), kind($instruction, 1, $context));
        let handler: Handler = by_size!(size($instruction, 0), W => match (first, second) {
            (Kind::Register, second) => {
                by_source_based!(second, S => $function::<$o, W, First, S>)
            }
            (Kind::Flat, Kind::Register) => $function::<$o, W, Flat, Second>,
            (Kind::Flat, Kind::Immediate) => $function::<$o, W, Flat, Immediate>,
            (Kind::Based, Kind::Register) => $function::<$o, W, Based, Second>,
            (Kind::Based, Kind::Immediate) => $function::<$o, W, Based, Immediate>,
            (Kind::Segmented, Kind::Register) => $function::<$o, W, Segmented, Second>,
            (Kind::Segmented, Kind::Immediate) => $function::<$o, W, Segmented, Immediate>,
            _ => return None,
        });
        handler
    }};
}

macro_rules! one_operand {
    ($o:ty, $instruction:expr, $context:expr) => {{
        let handler: Handler = by_size!(size($instruction, 0), W =>
            by_target!(kind($instruction, 0, $context), T => unary::<$o, W, T>));
        handler
    }};
}

pub(super) fn lower(i: &Instruction, context: Context) -> Option<Lowered> {
    Some(Lowered::next(match i.mnemonic() {
        Mnemonic::Add => two_operands!(binary, Add, i, context),
        Mnemonic::Or => two_operands!(binary, Or, i, context),
        Mnemonic::Adc => two_operands!(binary, Adc, i, context),
        Mnemonic::Sbb => two_operands!(binary, Sbb, i, context),
        Mnemonic::And => two_operands!(binary, And, i, context),
        Mnemonic::Sub => two_operands!(binary, Sub, i, context),
        Mnemonic::Xor => two_operands!(binary, Xor, i, context),
        Mnemonic::Cmp => two_operands!(compare, Sub, i, context),
        Mnemonic::Test => two_operands!(compare, And, i, context),
        Mnemonic::Inc => one_operand!(Inc, i, context),
        Mnemonic::Dec => one_operand!(Dec, i, context),
        Mnemonic::Neg => one_operand!(Neg, i, context),
        Mnemonic::Not => one_operand!(Not, i, context),
        _ => return None,
    }))
}
