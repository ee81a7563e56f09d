//! From a pointer's class to its address.

use crate::layout::{
    CALLS, CALLS_READ_ONLY, CALLS_WRITE_ONLY, EDGES, HOLE, KERNEL_ADDRESSES, KERNEL_START,
    MAP_STRIDE, MAPS, PAGE, SHARED_CELL, SHARED_CELLS, SLOT, SLOW, SLOW_STRIDE, STACK_BYTES,
    STACK_CELLS, STACK_STRIDE, STACKS, slot, slot_of,
};
use crate::op::{OpIndex, Thread};
use crate::value::{Place, Pointer};

/// What a pointer is for: each role has cells of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The status.
    Status,
    /// The argument block.
    Args,
    /// A result buffer.
    Buffer,
}

impl Role {
    const fn offset(self) -> u32 {
        match self {
            Self::Status => slot::STATUS,
            Self::Args => slot::ARGS,
            Self::Buffer => slot::BUFFER,
        }
    }
}

/// Where the cells of other operations were resolved to.
pub trait Resolved {
    /// The status pointer of operation `op`.
    fn status_of(&self, op: OpIndex) -> u32;

    /// The argument block of operation `op`.
    fn args_of(&self, op: OpIndex) -> u32;
}

/// Whose pointer is resolved.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The operation.
    pub op: OpIndex,
    /// Its thread.
    pub thread: Thread,
    /// The pointer's role.
    pub role: Role,
}

/// The address that `pointer` means for `owner`.
#[must_use]
pub fn address(pointer: Pointer, owner: Owner, others: &impl Resolved) -> u32 {
    let param = u32::from(pointer.param);
    let op = owner.op.number();
    let own = slot_of(op) + owner.role.offset();
    let lane = u32::from(op % 8);
    match pointer.place {
        Place::Own if owner.role == Role::Buffer => own + param * 4 % slot::BUFFER_BYTES,
        Place::Own => own,
        Place::Null => param,
        Place::Kernel => KERNEL_ADDRESSES[usize::from(pointer.param) % KERNEL_ADDRESSES.len()],
        Place::KernelSeam => KERNEL_START - param - 1,
        Place::Unmapped => HOLE + param * 4,
        Place::ReadOnly => own - CALLS + CALLS_READ_ONLY,
        Place::WriteOnly => own - CALLS + CALLS_WRITE_ONLY,
        Place::Edge => {
            let page = owner.role as u32 * 8 + lane;
            EDGES + page * 2 * PAGE + PAGE - param - 1
        }
        Place::Wrap => 0_u32.wrapping_sub(param + 1),
        Place::Unaligned => own + 1 + param % 3,
        Place::Slow => slow_page(param) + lane * SLOT + owner.role.offset(),
        Place::SlowSeam => {
            let unit = if owner.role == Role::Status { 1 } else { 4 };
            slow_page(param / 8) - unit * (param % 8 + 1)
        }
        Place::Slot => MAPS + param % 8 * MAP_STRIDE + owner.role as u32 * 256,
        Place::Shared => SHARED_CELLS + param % 8 * SHARED_CELL,
        Place::OverStatus => slot_of(op) + slot::STATUS + param % 8,
        Place::OverArgs => slot_of(op) + slot::ARGS + param % 32,
        Place::OverBuffer => slot_of(op) + slot::BUFFER + param % 128,
        Place::StatusOf => others.status_of(OpIndex::new(pointer.param)),
        Place::ArgsOf => others.args_of(OpIndex::new(pointer.param)),
        Place::BufferOf => slot_of(OpIndex::new(pointer.param).number()) + slot::BUFFER,
        Place::Stack => {
            let top = STACKS + u32::from(owner.thread.number()) * STACK_STRIDE + STACK_BYTES;
            top - STACK_CELLS + param * 4 % STACK_CELLS
        }
    }
}

/// The slow page of FUSE file `file` modulo 4.
#[must_use]
pub const fn slow_page(file: u32) -> u32 {
    SLOW + file % 4 * SLOW_STRIDE + PAGE
}

/// What lies at an address of a victim, as far as the layout fixes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Memory that can be read and written, at the address itself.
    Plain,
    /// Memory that user space reads here and the agent writes at the other
    /// address: a read-only or write-only view.
    View(u32),
    /// Byte `offset` of the slow page of `file`.
    Slow {
        /// The FUSE file.
        file: u32,
        /// Offset in its page.
        offset: u32,
    },
    /// A map slot: whatever the program mapped.
    Map,
    /// Nothing: a hole, the kernel's half, or the agent's own.
    Nothing,
}

/// What lies at `address`.
#[must_use]
pub const fn ground(address: u32) -> Ground {
    use crate::layout::{CALLS_BYTES, EDGE_PAGES};
    if address.wrapping_sub(CALLS) < CALLS_BYTES {
        Ground::Plain
    } else if address.wrapping_sub(CALLS_READ_ONLY) < CALLS_BYTES {
        Ground::View(address - CALLS_READ_ONLY + CALLS)
    } else if address.wrapping_sub(CALLS_WRITE_ONLY) < CALLS_BYTES {
        Ground::View(address - CALLS_WRITE_ONLY + CALLS)
    } else if address.wrapping_sub(SHARED_CELLS) < 8 * SHARED_CELL {
        Ground::Plain
    } else if address.wrapping_sub(EDGES) < EDGE_PAGES * 2 * PAGE {
        if ((address - EDGES) / PAGE).is_multiple_of(2) {
            Ground::Plain
        } else {
            Ground::Nothing
        }
    } else if address.wrapping_sub(SLOW) < 4 * SLOW_STRIDE {
        slow_ground(address - SLOW)
    } else if address.wrapping_sub(MAPS) < 8 * MAP_STRIDE {
        Ground::Map
    } else if address.wrapping_sub(STACKS) < 4 * STACK_STRIDE {
        if (address - STACKS) % STACK_STRIDE < STACK_BYTES {
            Ground::Plain
        } else {
            Ground::Nothing
        }
    } else {
        Ground::Nothing
    }
}

const fn slow_ground(offset: u32) -> Ground {
    match offset % SLOW_STRIDE / PAGE {
        0 => Ground::Plain,
        1 => Ground::Slow {
            file: offset / SLOW_STRIDE,
            offset: offset % PAGE,
        },
        _ => Ground::Nothing,
    }
}
