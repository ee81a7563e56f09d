//! Pairs of frequent instructions.

use std::marker::PhantomData;

use iced_x86::ConditionCode;

use super::part::{Alu, Former, Latter, Load, Move, Part, Place, Pop, Push, ShiftBy, Store};
use super::shape::{Class, Form, Shape};
use super::{apart_after, raised_after};
use crate::integer::alu::{Add, And, Binary, Or, Sub, Xor};
use crate::integer::condition::{Condition, by_condition};
use crate::integer::shift::{Shl, Shr};
use crate::integer::stack::{FlatStack, Stack};
use crate::memory::Memory;
use crate::op::{Flow, Handler, Op};
use crate::segment::seg;
use crate::state::Core;

/// Whether the first two shapes can be a pair.
pub(super) fn can(shapes: &[Shape]) -> bool {
    matches!(shapes, [first, second, ..]
        if matches!(first.form, Form::Plain(_)) && second.form != Form::Other)
}

/// Makes a pair of `op`, whose lengths are added up already.
pub(super) fn make(op: &mut Op, shapes: &[Shape]) {
    let [first, second] = shapes else {
        return;
    };
    let Form::Plain(class) = first.form else {
        return;
    };
    if let Some(handler) = handler(class, second.form) {
        op.handler = handler;
        (op.dst, op.base, op.disp) = (first.reg, first.other, first.word);
        (op.src, op.index, op.imm) = (second.reg, second.other, second.word);
        op.scale = first.len;
    }
}

/// The second of a pair.
trait Last {
    fn run(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow;
}

fn pair<A: Part, B: Last>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if A::fast::<Former>(core, memory, op).is_none() {
        return pair_slow::<A, B>(core, memory, op);
    }
    B::run(core, memory, op)
}

#[cold]
#[inline(never)]
fn pair_slow<A: Part, B: Last>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    if A::slow::<Former>(core, memory, op).is_err() {
        return Flow::Raised;
    }
    B::run(core, memory, op)
}

/// An instruction that goes on with the next one.
struct Then<P>(PhantomData<P>);

impl<P: Part> Last for Then<P> {
    #[inline(always)]
    fn run(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
        if P::fast::<Latter>(core, memory, op).is_none() {
            return then_slow::<P>(core, memory, op);
        }
        Flow::Next
    }
}

#[cold]
#[inline(never)]
fn then_slow<P: Part>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    match P::slow::<Latter>(core, memory, op) {
        Ok(()) => Flow::Next,
        Err(_) => raised_after(core, op.scale, 1),
    }
}

/// Jumps if `C` holds.
struct Jcc<C>(PhantomData<C>);
/// Applies `O` to two registers and jumps if `C` holds then.
struct OpJcc<O, C>(PhantomData<(O, C)>);
/// Jumps.
struct Jump;
/// Calls.
struct Call;
/// Returns.
struct Ret;

/// The target of the relative jump that the pair ends with.
#[inline(always)]
fn target(core: &Core, op: &Op) -> u32 {
    op.next_eip(core).wrapping_add(Latter::word(op))
}

#[inline(always)]
fn jump(core: &mut Core, op: &Op) -> Flow {
    let target = target(core, op);
    if target > core.segments[seg::CS as usize].limit {
        return apart_after(core, op.scale, 1);
    }
    core.eip = target;
    Flow::Jump
}

impl<C: Condition> Last for Jcc<C> {
    #[inline(always)]
    fn run(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
        if C::holds(core) {
            jump(core, op)
        } else {
            Flow::Next
        }
    }
}

impl<O: Binary, C: Condition> Last for OpJcc<O, C> {
    #[inline(always)]
    fn run(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
        let before = core.flags;
        let (a, b) = (
            core.reg::<u32>(Latter::reg(op)),
            core.reg::<u32>(Latter::other(op)),
        );
        O::apply::<u32>(&mut core.flags, a, b);
        if !C::holds(core) {
            return Flow::Next;
        }
        if target(core, op) > core.segments[seg::CS as usize].limit {
            core.flags = before;
        }
        jump(core, op)
    }
}

impl Last for Jump {
    #[inline(always)]
    fn run(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
        jump(core, op)
    }
}

impl Last for Call {
    #[inline(always)]
    fn run(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
        let (target, back) = (target(core, op), op.next_eip(core));
        if target > core.segments[seg::CS as usize].limit {
            return apart_after(core, op.scale, 1);
        }
        if FlatStack::push_fast(core, memory, back).is_none() {
            return call_slow(core, memory, op);
        }
        core.eip = target;
        Flow::Jump
    }
}

#[cold]
#[inline(never)]
fn call_slow(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let (target, back) = (target(core, op), op.next_eip(core));
    if FlatStack::push(core, memory, back).is_err() {
        return raised_after(core, op.scale, 1);
    }
    core.eip = target;
    Flow::Jump
}

impl Last for Ret {
    #[inline(always)]
    fn run(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
        if let Some(target) = FlatStack::top_fast::<u32>(core, memory)
            && target <= core.segments[seg::CS as usize].limit
        {
            FlatStack::drop(core, 4);
            core.eip = target;
            return Flow::Indirect;
        }
        apart_after(core, op.scale, 1)
    }
}

/// A handler for a class: `$p` is the part in `$body`.
macro_rules! by_class {
    ($class:expr, $p:ident => $body:expr) => {
        by_class!(@ $class, $p => $body,
            Load Load<u32>, LoadByte Load<u8>, Store Store, Move Move, Push Push, Pop Pop,
            Add Alu<Add>, Sub Alu<Sub>, And Alu<And>, Or Alu<Or>, Xor Alu<Xor>,
            Shl ShiftBy<Shl>, Shr ShiftBy<Shr>)
    };
    (@ $class:expr, $p:ident => $body:expr, $($name:ident $part:ty),*) => {
        match $class {
            $(Class::$name => {
                type $p = $part;
                $body
            })*
        }
    };
}

fn handler(former: Class, latter: Form) -> Option<Handler> {
    let handler: Handler = by_class!(former, A => match latter {
        Form::Plain(class) => by_class!(class, B => pair::<A, Then<B>>),
        Form::Jcc(code) => by_condition!(code, C => pair::<A, Jcc<C>>),
        Form::CompareJcc(code) => by_condition!(code, C => pair::<A, OpJcc<Sub, C>>),
        Form::TestJcc(code) => by_condition!(code, C => pair::<A, OpJcc<And, C>>),
        Form::Jump => pair::<A, Jump>,
        Form::Call => pair::<A, Call>,
        Form::Ret => pair::<A, Ret>,
        Form::Other => return None,
    });
    Some(handler)
}
