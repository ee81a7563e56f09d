//! What can be said of a victim's memory from the outside.

use latefork_wire::call::Call;
use latefork_wire::layout::{EDGE_PAGES, EDGES, HOLE, KERNEL_START, PAGE, SLOW, SLOW_STRIDE};
use latefork_wire::op::{FuseAction, Op, OpIndex};
use latefork_wire::program::Program;
use latefork_wire::resolve::{Ground, ground};
use latefork_wire::value::{Arg, LENGTHS, Place, Pointer, Scalar};

/// A length that stays inside every result buffer, whatever its offset: a
/// `pollfd` has 8 bytes, so counts of them stay well below.
const SHORT: u8 = 16;

/// Whether the kernel can read a range of user memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    Yes,
    No,
    /// It depends on what the program did before.
    Unknown,
}

/// Whether the `len` bytes at `address` can be read in a run of `program`.
pub(super) fn readable(program: &Program, address: u32, len: u32) -> Readable {
    let mut all = Readable::Yes;
    for offset in 0..len {
        let one = match address.checked_add(offset) {
            Some(address) => readable_byte(program, address),
            None => Readable::No,
        };
        match one {
            Readable::No => return Readable::No,
            Readable::Unknown => all = Readable::Unknown,
            Readable::Yes => {}
        }
    }
    all
}

fn readable_byte(program: &Program, address: u32) -> Readable {
    match ground(address) {
        Ground::Plain | Ground::View(_) => Readable::Yes,
        Ground::Slow { .. } if fuse_may_fail(program) => Readable::Unknown,
        Ground::Slow { .. } => Readable::Yes,
        Ground::Map => Readable::Unknown,
        Ground::Nothing if is_hole(address) => Readable::No,
        // The image, the stack of the process, the agent's own memory.
        Ground::Nothing => Readable::Unknown,
    }
}

/// Whether nothing is ever mapped at `address`, or only for the kernel.
fn is_hole(address: u32) -> bool {
    let edge = address.wrapping_sub(EDGES);
    let slow = address.wrapping_sub(SLOW);
    !(PAGE..KERNEL_START).contains(&address)
        || address.wrapping_sub(HOLE) < 0x10_0000
        || (edge < EDGE_PAGES * 2 * PAGE && !(edge / PAGE).is_multiple_of(2))
        || (slow < 4 * SLOW_STRIDE && slow % SLOW_STRIDE / PAGE >= 2)
}

/// Whether a FUSE request may end in an error by the program's own wish.
pub(super) fn fuse_may_fail(program: &Program) -> bool {
    let fails = |op: &Op| matches!(op, Op::Fuse(fuse) if fuse.action == FuseAction::Fail);
    program.steps.iter().any(|step| fails(&step.op))
}

/// Whether allocations may fail by the program's own wish.
pub(super) fn allocations_may_fail(program: &Program) -> bool {
    program.steps.iter().any(|step| match &step.op {
        Op::Fault(_) | Op::KernelLimit(_) => true,
        Op::Async(call) | Op::Plain(call) | Op::Prepare(call) => call.fail_nth != 0,
        _ => false,
    })
}

/// Whether the cells of operation `op` are its own, it is issued once, and
/// nothing else in the program can write to them.
pub(super) fn are_private(program: &Program, op: u8) -> bool {
    let Some(Op::Async(call)) = program.steps.get(usize::from(op)).map(|step| &step.op) else {
        return false;
    };
    let index = OpIndex::new(op);
    call.times() == 1
        && call.status.place == Place::Own
        && !stages_beside(call, index)
        && program.steps.iter().enumerate().all(|(at, step)| {
            let myself = at == usize::from(op);
            match &step.op {
                // A refused call writes nothing, whatever its arguments say.
                Op::Async(_) if myself => true,
                Op::Async(call) | Op::Plain(call) | Op::Prepare(call) => {
                    !names(call, index) && !may_spill(call)
                }
                Op::Poke(poke) => poke.op != index,
                _ => true,
            }
        })
}

/// Bytes of an argument block that overlap no cell but the own block's, from its
/// start on: that has room for 8 words, and the agent writes at most 6.
const SHIFT: u8 = 8;

/// Whether the agent puts the argument block over other cells of the call
/// itself, before it is made.
fn stages_beside(call: &Call, own: OpIndex) -> bool {
    let Pointer { place, param } = call.args;
    match place {
        Place::OverStatus => true,
        Place::OverArgs => param % 32 > SHIFT,
        Place::StatusOf | Place::ArgsOf | Place::BufferOf => OpIndex::new(param) == own,
        _ => false,
    }
}

/// Whether nothing but the call's own result store writes to its status: the
/// cells are private, and the call's other pointers do not lie over them.
pub(super) fn status_is_its_own(program: &Program, op: u8) -> bool {
    let Some(Op::Async(call)) = program.steps.get(usize::from(op)).map(|step| &step.op) else {
        return false;
    };
    let over = call.args_in_order().iter().any(|arg| {
        matches!(arg, Arg::Buffer(pointer)
            if matches!(pointer.place, Place::OverStatus | Place::OverArgs))
    });
    are_private(program, op) && !over && !names(call, OpIndex::new(op))
}

/// Whether a result buffer that is not the own one is nobody else's: it lies on a
/// slow page, at an edge or on the stack, and no other call, and nothing that
/// changes memory, can reach there.
pub(super) fn buffer_is_alone(program: &Program, op: u8) -> bool {
    let Some(Op::Async(call)) = program.steps.get(usize::from(op)).map(|step| &step.op) else {
        return false;
    };
    let elsewhere = |pointer: &Pointer| {
        matches!(
            pointer.place,
            Place::Slow | Place::SlowSeam | Place::Edge | Place::Unaligned | Place::Stack
        )
    };
    let lies_elsewhere = buffers(call).any(|pointer| elsewhere(&pointer));
    let reaches = |call: &Call| {
        may_spill(call)
            || buffers(call)
                .chain([call.status, call.args])
                .any(|pointer| elsewhere(&pointer))
    };
    lies_elsewhere
        && !elsewhere(&call.status)
        && !elsewhere(&call.args)
        && program.steps.iter().enumerate().all(|(at, step)| {
            let myself = at == usize::from(op);
            match &step.op {
                Op::Async(_) if myself => true,
                Op::Async(call) | Op::Plain(call) | Op::Prepare(call) => !reaches(call),
                Op::Poke(_) | Op::Map(_) | Op::Unmap(_) | Op::Discard(_) | Op::Protect(_) => false,
                // A program's own steps run on the stack; a signal's frames too.
                Op::Handle(_) | Op::Fork(_) | Op::Exec(_) => false,
                _ => true,
            }
        })
}

/// The pointers among a call's arguments.
fn buffers(call: &Call) -> impl Iterator<Item = Pointer> {
    call.args_in_order()
        .into_iter()
        .filter_map(|arg| match arg {
            Arg::Buffer(pointer) => Some(pointer),
            Arg::Scalar(..) => None,
        })
}

/// Whether a pointer of `call` lies in the cells of `other` by name.
fn names(call: &Call, other: OpIndex) -> bool {
    let args = call.args_in_order();
    let buffers = args.iter().filter_map(|arg| match arg {
        Arg::Buffer(pointer) => Some(*pointer),
        Arg::Scalar(..) => None,
    });
    let mut pointers = buffers.chain([call.status, call.args]);
    pointers.any(|Pointer { place, param }| {
        let by_name = matches!(place, Place::StatusOf | Place::ArgsOf | Place::BufferOf);
        by_name && OpIndex::new(param) == other
    })
}

/// Whether `call` may write past its own buffer, into the cells behind.
fn may_spill(call: &Call) -> bool {
    call.args_in_order().iter().any(|arg| match *arg {
        Arg::Scalar(Scalar::Big | Scalar::Minus, _) => true,
        Arg::Scalar(Scalar::Int, value) => value > SHORT,
        Arg::Scalar(Scalar::Len, which) => {
            LENGTHS[usize::from(which) % LENGTHS.len()] > u32::from(SHORT)
        }
        _ => false,
    })
}
