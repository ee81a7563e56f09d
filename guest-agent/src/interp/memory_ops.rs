//! Operations on memory maps, and words written where a call reads.

use latefork_wire::layout::{MAP_STRIDE, MAPS, PAGE, SHARED_CELLS, slot, slot_of};
use latefork_wire::op::{
    Discard, Map, MapKind, MapSlot, Poke, PokeTarget, Protect, Protection, Touch, Unmap,
};
use latefork_wire::resolve::Role;
use latefork_wire::value::Place;

use super::Context;
use super::values::{argument, pointer};
use crate::memory::{self, SLOW_FD};
use crate::shared::{get, set, shared};
use crate::sys;

const SLOT_BYTES: u32 = 4 * PAGE;

fn start(slot: MapSlot) -> u32 {
    MAPS + u32::from(slot.number()) * MAP_STRIDE
}

/// Maps pages; 0 or an error.
pub fn map(map: &Map) -> i32 {
    let at = start(map.slot);
    let bytes = (u32::from(map.pages % 4) + 1) * PAGE;
    let rw = sys::PROT_READ | sys::PROT_WRITE;
    let private = sys::MAP_PRIVATE;
    let anonymous = private | sys::MAP_ANONYMOUS;
    let (protection, flags, fd) = match map.kind {
        MapKind::Anonymous => (rw, anonymous, -1),
        MapKind::SharedAnonymous => (rw, sys::MAP_SHARED | sys::MAP_ANONYMOUS, -1),
        MapKind::ReadOnly => (sys::PROT_READ, anonymous, -1),
        MapKind::NoAccess => (sys::PROT_NONE, anonymous, -1),
        MapKind::Fuse0 => (rw, private, SLOW_FD),
        MapKind::Fuse1 => (rw, private, SLOW_FD + 1),
        MapKind::Fuse2 => (rw, private, SLOW_FD + 2),
        MapKind::Fuse3 => (rw, private, SLOW_FD + 3),
        MapKind::File => return map_file(at, bytes),
    };
    error_or_0(sys::map_fixed(at, bytes, protection, flags, fd))
}

fn map_file(at: u32, bytes: u32) -> i32 {
    set(&shared().touched, 1);
    let fd = sys::open("/t/file", sys::O_RDWR);
    if fd < 0 {
        return fd;
    }
    let rw = sys::PROT_READ | sys::PROT_WRITE;
    let mapped = sys::map_fixed(at, bytes, rw, sys::MAP_SHARED, fd);
    sys::close(fd);
    error_or_0(mapped)
}

fn error_or_0(value: i32) -> i32 {
    if (-4095..0).contains(&value) {
        value
    } else {
        0
    }
}

/// Changes a slot's protection.
pub fn protect(protect: &Protect) -> i32 {
    let protection = match protect.to {
        Protection::None => sys::PROT_NONE,
        Protection::Read => sys::PROT_READ,
        Protection::Write => sys::PROT_WRITE,
        Protection::ReadWrite => sys::PROT_READ | sys::PROT_WRITE,
    };
    sys::mprotect(start(protect.slot), SLOT_BYTES, protection)
}

/// Unmaps a slot.
pub fn unmap(unmap: &Unmap) -> i32 {
    sys::munmap(start(unmap.slot), SLOT_BYTES)
}

/// MADV_DONTNEED on a slot.
pub fn discard(discard: &Discard) -> i32 {
    sys::call(219, &[start(discard.slot), SLOT_BYTES, 4])
}

/// Writes a word into a cell; what the cell was resolved to, else the own one.
pub fn poke(context: Context, poke: &Poke) -> i32 {
    let state = shared().call(poke.op);
    let own = slot_of(poke.op.number());
    let base = match poke.cell {
        PokeTarget::Args => resolved_or(get(&state.args), own + slot::ARGS),
        PokeTarget::Status => resolved_or(get(&state.status), own + slot::STATUS),
        PokeTarget::Buffer => own + slot::BUFFER,
    };
    let as_that_call = Context {
        op: poke.op,
        ..context
    };
    let value = argument(as_that_call, poke.value);
    let at = base.wrapping_add(u32::from(poke.word % 8) * 4);
    memory::stage(at, &value.to_le_bytes(), context.lane());
    0
}

fn resolved_or(resolved: u32, own: u32) -> u32 {
    if resolved == 0 { own } else { resolved }
}

/// Reads a byte as the kernel would; its value or an error.
pub fn touch(context: Context, touch: &Touch) -> i32 {
    let at = match touch.at.place {
        Place::Own => SHARED_CELLS,
        _ => pointer(context, touch.at, Role::Buffer),
    };
    let mut byte = [0];
    match memory::get_guarded(at, &mut byte, context.lane()) {
        1 => i32::from(byte[0]),
        error => error,
    }
}
