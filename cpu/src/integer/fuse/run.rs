//! Runs of PUSH and POP, as functions begin and end with.

use super::shape::{Class, Form, Shape};
use super::{apart_after, raised_after};
use crate::address::PAGE_OFFSET;
use crate::integer::bulk::cells;
use crate::integer::stack::{FlatStack, Stack};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::paging::Access;
use crate::registers::gpr;
use crate::segment::seg;
use crate::state::Core;

/// Registers in a run: as many as an op has room for.
const MOST: usize = 4;

/// How many shapes from the first on are one run; 0 if none. Every shorter run
/// of two or more is one too.
pub(super) fn longest(shapes: &[Shape]) -> usize {
    let of = |class: Class| {
        let same = |shape: &&Shape| {
            // One byte each, so that their lengths need not be kept.
            shape.form == Form::Plain(class) && shape.len == 1 && usize::from(shape.reg) != gpr::ESP
        };
        shapes.iter().take(MOST).take_while(same).count()
    };
    let pops = of(Class::Pop);
    let returns = pops > 0 && shapes.get(pops).is_some_and(|next| next.form == Form::Ret);
    match of(Class::Push).max(pops) + usize::from(returns) {
        1 => 0,
        all => all,
    }
}

/// Makes a run of `op`, whose lengths are added up already; `false` if the
/// shapes are none.
pub(super) fn make(op: &mut Op, shapes: &[Shape]) -> bool {
    if longest(shapes) < shapes.len() {
        return false;
    }
    let returns = shapes.last().is_some_and(|last| last.form == Form::Ret);
    let registers = &shapes[..shapes.len() - usize::from(returns)];
    let handler: Option<Handler> = match (shapes[0].form, registers.len(), returns) {
        (Form::Plain(Class::Push), 2, _) => Some(pushes::<2>),
        (Form::Plain(Class::Push), 3, _) => Some(pushes::<3>),
        (Form::Plain(Class::Push), 4, _) => Some(pushes::<4>),
        (_, 2, false) => Some(pops::<2, false>),
        (_, 3, false) => Some(pops::<3, false>),
        (_, 4, false) => Some(pops::<4, false>),
        (_, 1, true) => Some(pops::<1, true>),
        (_, 2, true) => Some(pops::<2, true>),
        (_, 3, true) => Some(pops::<3, true>),
        (_, 4, true) => Some(pops::<4, true>),
        _ => None,
    };
    let Some(handler) = handler else {
        return false;
    };
    op.handler = handler;
    let fields = [&mut op.dst, &mut op.src, &mut op.base, &mut op.index];
    for (field, shape) in fields.into_iter().zip(registers) {
        *field = shape.reg;
    }
    true
}

#[inline(always)]
fn registers(op: &Op) -> [u8; MOST] {
    [op.dst, op.src, op.base, op.index]
}

/// Whether `bytes` bytes from `linear` lie in one page.
#[inline(always)]
fn in_one_page(linear: u32, bytes: u32) -> bool {
    (linear & PAGE_OFFSET) + bytes <= PAGE_OFFSET + 1
}

fn pushes<const N: usize>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    #[allow(clippy::cast_possible_truncation)] // at most MOST
    let bytes = 4 * N as u32;
    let bottom = core.regs[gpr::ESP].wrapping_sub(bytes);
    if in_one_page(bottom, bytes)
        && let Some(cells) = cells(core, memory, bottom, bytes, Access::Write)
    {
        for (n, number) in registers(op).into_iter().take(N).enumerate() {
            core.reg::<u32>(number).put(cells, 4 * (N - 1 - n));
        }
        core.regs[gpr::ESP] = bottom;
        return Flow::Next;
    }
    pushes_slow::<N>(core, memory, op)
}

#[inline(never)]
fn pushes_slow<const N: usize>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    for (number, n) in registers(op).into_iter().take(N).zip(0u8..) {
        let value = core.reg::<u32>(number);
        if FlatStack::push(core, memory, value).is_err() {
            return raised_after(core, n, n);
        }
    }
    Flow::Next
}

fn pops<const N: usize, const RETURNS: bool>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    #[allow(clippy::cast_possible_truncation)] // at most MOST
    let bytes = 4 * (N as u32 + u32::from(RETURNS));
    let top = core.regs[gpr::ESP];
    if in_one_page(top, bytes)
        && let Some(cells) = cells(core, memory, top, bytes, Access::Read)
    {
        let at = |n: usize| u32::get(cells, 4 * n).unwrap_or(0);
        let target = if RETURNS { at(N) } else { 0 };
        if !RETURNS || target <= core.segments[seg::CS as usize].limit {
            for (n, number) in registers(op).into_iter().take(N).enumerate() {
                core.set_reg::<u32>(number, at(n));
            }
            FlatStack::drop(core, bytes);
            if RETURNS {
                core.eip = target;
                return Flow::Indirect;
            }
            return Flow::Next;
        }
    }
    pops_slow::<N, RETURNS>(core, memory, op)
}

#[inline(never)]
fn pops_slow<const N: usize, const RETURNS: bool>(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
) -> Flow {
    for (number, n) in registers(op).into_iter().take(N).zip(0u8..) {
        let Ok(value) = FlatStack::peek::<u32>(core, memory, 0) else {
            return raised_after(core, n, n);
        };
        FlatStack::drop(core, 4);
        core.set_reg::<u32>(number, value);
    }
    if !RETURNS {
        return Flow::Next;
    }
    #[allow(clippy::cast_possible_truncation)] // at most MOST
    let done = N as u8;
    match FlatStack::peek::<u32>(core, memory, 0) {
        Ok(target) if target <= core.segments[seg::CS as usize].limit => {
            FlatStack::drop(core, 4);
            core.eip = target;
            Flow::Indirect
        }
        Ok(_) => apart_after(core, done, done),
        Err(_) => raised_after(core, done, done),
    }
}
