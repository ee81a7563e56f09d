//! Calls whose arguments fit the function that they name, but for some.

use arbitrary::{Result, Unstructured};
use latefork_wire::call::{ASYNC_INDEX, Call, CallIndex, DESCRIPTORS, Flags, Watch};
use latefork_wire::op::Op;
use latefork_wire::value::{Arg, Place, Pointer, Scalar};

use super::generate::Bias;

/// The call of an operation that has one.
pub(super) fn of(op: &Op) -> Option<&Call> {
    match op {
        Op::Async(call) | Op::Plain(call) | Op::Prepare(call) => Some(call),
        _ => None,
    }
}

/// The same, to change it.
pub(super) fn of_mut(op: &mut Op) -> Option<&mut Call> {
    match op {
        Op::Async(call) | Op::Plain(call) | Op::Prepare(call) => Some(call),
        _ => None,
    }
}

/// Any call; `at` is its step's place, for references to earlier ones.
pub(super) fn any(bias: Bias, at: usize, chance: &mut Unstructured<'_>) -> Result<Call> {
    let mut call = Call {
        index: index(bias, chance)?,
        status: pointer(bias, at, chance)?,
        args: pointer(bias, at, chance)?,
        watch: *chance.choose(Watch::ALL)?,
        ..Call::default()
    };
    if chance.ratio(1, 8)? {
        call.flags = *chance.choose(Flags::ALL)?;
    }
    if chance.ratio(bias.failures(), 16)? {
        call.fail_nth = chance.int_in_range(1..=40)?;
    }
    if chance.ratio(1, 24)? {
        call.repeat = chance.int_in_range(1..=7)?;
    }
    for place in 0..6 {
        *argument_mut(&mut call, place) = argument(bias, call.index, place, at, chance)?;
    }
    Ok(call)
}

/// Another class or value in one place of `call`.
pub(super) fn tweak(
    bias: Bias,
    call: &mut Call,
    at: usize,
    chance: &mut Unstructured<'_>,
) -> Result<()> {
    match chance.int_in_range(0..=10)? {
        0..=1 => call.status = any_pointer(at, chance)?,
        2..=3 => call.args = any_pointer(at, chance)?,
        4..=7 => {
            let place = chance.choose_index(6)?;
            *argument_mut(call, place) = argument(bias, call.index, place, at, chance)?;
        }
        8 => call.index = index(bias, chance)?,
        9 => call.fail_nth = chance.int_in_range(0..=40)?,
        _ => *call = any(bias, at, chance)?,
    }
    Ok(())
}

fn index(bias: Bias, chance: &mut Unstructured<'_>) -> Result<CallIndex> {
    if chance.ratio(bias.nesting(), 16)? {
        return Ok(CallIndex(ASYNC_INDEX));
    }
    if chance.ratio(1, 16)? {
        return Ok(CallIndex(chance.arbitrary()?));
    }
    let row = chance.choose_index(DESCRIPTORS.len())?;
    Ok(CallIndex(u8::try_from(row).unwrap_or(0)))
}

fn argument_mut(call: &mut Call, place: usize) -> &mut Arg {
    match place {
        0 => &mut call.a0,
        1 => &mut call.a1,
        2 => &mut call.a2,
        3 => &mut call.a3,
        4 => &mut call.a4,
        _ => &mut call.a5,
    }
}

/// An argument that the function can use, or now and then any.
fn argument(
    bias: Bias,
    index: CallIndex,
    place: usize,
    at: usize,
    chance: &mut Unstructured<'_>,
) -> Result<Arg> {
    if chance.ratio(bias.hostility(), 24)? {
        return any_argument(at, chance);
    }
    let row = DESCRIPTORS.get(index.value() as usize);
    let name = row.map_or("", |row| row.name);
    if row.is_some_and(|row| row.buffer.map(usize::from) == Some(place)) && name != "poll" {
        return Ok(Arg::Buffer(pointer(bias, at, chance)?));
    }
    let earlier = earlier(at, chance)?;
    let scalar = match (name, place) {
        ("stat64" | "open" | "access", 0) => *chance.choose(&[Scalar::Path, Scalar::SlowPath])?,
        ("read" | "write" | "fsync" | "recvfrom" | "recv" | "fcntl64", 0) | ("splice", 0 | 2) => {
            Scalar::Fd
        }
        ("write", 1) => return Ok(Arg::Buffer(pointer(bias, at, chance)?)),
        ("read" | "write" | "recvfrom" | "recv", 2) | ("splice", 4) => Scalar::Len,
        ("clock_nanosleep", 2) | ("ppoll", 2) | ("semtimedop" | "futex", 3) => {
            *chance.choose(&[Scalar::Time, Scalar::SlowTime])?
        }
        ("poll" | "ppoll", 0) => Scalar::Poll,
        ("poll" | "ppoll", 1) => return Ok(Arg::Scalar(Scalar::Int, 1)),
        ("futex", 0) => Scalar::Futex,
        ("wait4", 0) => *chance.choose(&[Scalar::Child, Scalar::Minus])?,
        ("semtimedop", 0) => Scalar::Sem,
        ("semtimedop", 1) => Scalar::SemOp,
        ("semtimedop", 2) => return Ok(Arg::Scalar(Scalar::Int, 1)),
        ("rt_sigsuspend", 0) | ("ppoll", 3) => Scalar::SigSet,
        ("rt_sigsuspend", 1) | ("ppoll", 4) => return Ok(Arg::Scalar(Scalar::Int, 8)),
        ("fcntl64", 2) => Scalar::Lock,
        ("async", 0) => return Ok(Arg::Scalar(Scalar::IndexOf, earlier)),
        ("async", 2) => return Ok(Arg::Buffer(Pointer::new(Place::StatusOf, earlier))),
        ("async", 3) => return Ok(Arg::Buffer(Pointer::new(Place::ArgsOf, earlier))),
        _ => Scalar::Int,
    };
    let largest = if scalar == Scalar::Int { 15 } else { 63 };
    Ok(Arg::Scalar(scalar, chance.int_in_range(0..=largest)?))
}

fn any_argument(at: usize, chance: &mut Unstructured<'_>) -> Result<Arg> {
    if chance.arbitrary()? {
        return Ok(Arg::Buffer(any_pointer(at, chance)?));
    }
    let scalar = *chance.choose(Scalar::ALL)?;
    Ok(Arg::Scalar(scalar, chance.arbitrary()?))
}

/// The call's own cell, or by the target's hostility any place.
fn pointer(bias: Bias, at: usize, chance: &mut Unstructured<'_>) -> Result<Pointer> {
    if chance.ratio(bias.hostility(), 16)? {
        return any_pointer(at, chance);
    }
    Ok(Pointer::default())
}

fn any_pointer(at: usize, chance: &mut Unstructured<'_>) -> Result<Pointer> {
    let place = *chance.choose(Place::ALL)?;
    let param = match place {
        Place::StatusOf | Place::ArgsOf | Place::BufferOf => earlier(at, chance)?,
        _ if chance.arbitrary()? => chance.int_in_range(0..=8)?,
        _ => chance.arbitrary()?,
    };
    Ok(Pointer::new(place, param))
}

/// The number of a step before `at`, most often of the one right before it.
fn earlier(at: usize, chance: &mut Unstructured<'_>) -> Result<u8> {
    let last = u8::try_from(at.saturating_sub(1)).unwrap_or(u8::MAX);
    if chance.ratio(1, 2)? {
        return Ok(last);
    }
    chance.int_in_range(0..=last)
}
