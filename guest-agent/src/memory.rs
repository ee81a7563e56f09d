//! The victim's fixed mappings, and access to memory that may not be there.

use latefork_wire::layout::{
    ALT_STACKS, CALLS, CALLS_BYTES, CALLS_READ_ONLY, CALLS_WRITE_ONLY, CANARY, EDGE_PAGES, EDGES,
    FILL, PAGE, SHARED, SHARED_CELL, SHARED_CELLS, SLOW, SLOW_STRIDE, STACK_BYTES, STACK_STRIDE,
    STACKS, slot, slot_of,
};
use latefork_wire::op::OpIndex;
use latefork_wire::resolve::{Ground, ground};
use latefork_wire::trace::AgentFault;

use crate::shared::{SHARED_BYTES, SLOW_CONTENTS, agent_error};
use crate::sys::{self, Fd};

/// Descriptor of the shared state's memory: the executed image maps it again.
pub const SHARED_FD: Fd = 100;
const CALLS_FD: Fd = 101;
const SCRATCH_FD: Fd = 102;
/// /dev/null.
pub const NULL_FD: Fd = 103;
/// FUSE files 0 to 3, for slow mappings.
pub const SLOW_FD: Fd = 104;
/// Scratch pages, one for each thread and one for init, through which
/// guarded copies go.
const SCRATCH: u32 = 0x2180_0000;
const SCRATCH_PAGES: u32 = 8;

const RW: u32 = sys::PROT_READ | sys::PROT_WRITE;

fn memory_file(name: &str, at: Fd, bytes: u32) -> Result<(), i32> {
    let fd = sys::memfd_create(name);
    if fd < 0 {
        return Err(fd);
    }
    let moved = sys::dup2(fd, at);
    sys::close(fd);
    let sized = sys::ftruncate(at, bytes);
    if moved < 0 || sized < 0 {
        Err(moved.min(sized))
    } else {
        Ok(())
    }
}

fn map(at: u32, bytes: u32, protection: u32, fd: Fd) -> Result<(), i32> {
    check(
        sys::map_fixed(at, bytes, protection, sys::MAP_SHARED, fd),
        at,
    )
}

fn map_anonymous(at: u32, bytes: u32, flags: u32) -> Result<(), i32> {
    let flags = flags | sys::MAP_ANONYMOUS;
    check(sys::map_fixed(at, bytes, RW, flags, -1), at)
}

fn check(mapped: i32, at: u32) -> Result<(), i32> {
    if mapped as u32 == at {
        Ok(())
    } else {
        Err(mapped)
    }
}

/// Maps the shared state, making its memory.
pub fn make_shared() -> Result<(), i32> {
    memory_file("shared", SHARED_FD, SHARED_BYTES)?;
    map_shared()
}

/// Maps the shared state from the descriptor that is there.
pub fn map_shared() -> Result<(), i32> {
    map(SHARED, SHARED_BYTES, RW, SHARED_FD)
}

/// Maps what init and every victim share of the cells.
pub fn make_cells() -> Result<(), i32> {
    memory_file("calls", CALLS_FD, CALLS_BYTES)?;
    memory_file("scratch", SCRATCH_FD, SCRATCH_PAGES * PAGE)?;
    map(CALLS, CALLS_BYTES, RW, CALLS_FD)?;
    map(CALLS_READ_ONLY, CALLS_BYTES, sys::PROT_READ, CALLS_FD)?;
    map(CALLS_WRITE_ONLY, CALLS_BYTES, sys::PROT_WRITE, CALLS_FD)?;
    map(SCRATCH, SCRATCH_PAGES * PAGE, RW, SCRATCH_FD)?;
    map_anonymous(SHARED_CELLS, 8 * SHARED_CELL, sys::MAP_SHARED)?;
    for page in 0..EDGE_PAGES {
        map_anonymous(EDGES + page * 2 * PAGE, PAGE, sys::MAP_SHARED)?;
    }
    Ok(())
}

/// Maps what every victim has for itself, and inherits from init: stacks and
/// slow pages.
pub fn make_victim() -> Result<(), i32> {
    for thread in 0..4 {
        map_anonymous(
            STACKS + thread * STACK_STRIDE,
            STACK_BYTES,
            sys::MAP_PRIVATE,
        )?;
        map_anonymous(ALT_STACKS + thread * 0x4000, 0x2000, sys::MAP_PRIVATE)?;
    }
    for file in 0..4 {
        let ordinary = SLOW + file * SLOW_STRIDE;
        map_anonymous(ordinary, PAGE, sys::MAP_PRIVATE)?;
        let fd = SLOW_FD + file as Fd;
        let slow = sys::map_fixed(ordinary + PAGE, PAGE, RW, sys::MAP_PRIVATE, fd);
        // Without FUSE the program's slow pages are holes: reported, not fatal.
        if slow < 0 && slow > -4096 {
            agent_error(AgentFault::Map, slow);
        }
    }
    Ok(())
}

unsafe extern "C" {
    static __executable_start: u8;
    static _end: u8;
}

/// Makes present what every program touches, so that no run pays for these
/// faults: the image, the stacks, the shared state up to the trace's start, the
/// slots.
pub fn touch_what_programs_use() {
    // SAFETY: only the addresses of the linker's symbols are taken.
    let (start, end) = unsafe {
        (
            core::ptr::from_ref(&__executable_start) as u32,
            core::ptr::from_ref(&_end) as u32,
        )
    };
    for page in (start & !(PAGE - 1)..end).step_by(PAGE as usize) {
        read_byte(page);
    }
    let top = |thread: u32, pages: u32| {
        let end = STACKS + thread * STACK_STRIDE + STACK_BYTES;
        (end - pages * PAGE, pages)
    };
    let slots = CALLS_BYTES / PAGE;
    for (from, pages) in [
        top(0, 3),
        top(1, 1),
        top(2, 1),
        top(3, 1),
        (SHARED, 6),
        (CALLS, slots),
        (SCRATCH, 4),
    ] {
        for page in 0..pages {
            let at = from + page * PAGE;
            write_byte(at, read_byte(at));
        }
    }
}

/// Makes present what init writes to from the moment that the host's snapshot
/// shows: its own pages, which the victim's fork made copies of, and the trace.
pub fn touch_what_init_uses(room: &mut [u8]) {
    let stack = 0_u32;
    let here = core::ptr::from_ref(&stack) as u32 & !(PAGE - 1);
    for page in 0..INIT_STACK_PAGES {
        let at = here - page * PAGE;
        write_byte(at, read_byte(at));
    }
    for byte in room.iter_mut().step_by(PAGE as usize) {
        // SAFETY: a byte of the caller's.
        unsafe { core::ptr::write_volatile(byte, core::ptr::read_volatile(byte)) };
    }
    for page in 0..SHARED_BYTES / PAGE {
        read_byte(SHARED + page * PAGE);
    }
}

/// Pages of init's stack below where it waits for programs.
const INIT_STACK_PAGES: u32 = 3;

fn read_word(at: u32) -> u32 {
    // SAFETY: only called for addresses on plain ground.
    unsafe { core::ptr::read_unaligned(at as *const u32) }
}

fn read_byte(at: u32) -> u8 {
    // SAFETY: only called for addresses on plain ground.
    unsafe { core::ptr::read_volatile(at as *const u8) }
}

fn write_byte(at: u32, value: u8) {
    // SAFETY: only called for addresses on plain ground.
    unsafe { core::ptr::write_volatile(at as *mut u8, value) };
}

/// Fills `bytes` bytes at `at`, on plain ground.
pub fn fill(at: u32, value: u8, bytes: u32) {
    // SAFETY: only called for cells of slots.
    unsafe { core::ptr::write_bytes(at as *mut u8, value, bytes as usize) };
}

/// Gives an operation's slot its canaries and fillings.
pub fn prepare_slot(op: OpIndex) {
    let at = slot_of(op.number());
    fill(at, 0, slot::STATUS_CANARY);
    fill(
        at + slot::STATUS_CANARY,
        CANARY,
        slot::BUFFER - slot::STATUS_CANARY,
    );
    fill(at + slot::BUFFER, FILL, slot::BUFFER_BYTES);
    fill(at + slot::BUFFER_TAIL, CANARY, 16);
}

/// Clears the stub's counters for another round.
pub fn clear_counters(op: OpIndex) {
    fill(slot_of(op.number()), 0, slot::STATUS_CANARY);
}

/// A word of an operation's slot.
pub fn slot_word(op: OpIndex, offset: u32) -> u32 {
    read_word(slot_of(op.number()) + offset)
}

/// Which canaries of the slot are damaged. What a call's own pointers cover
/// counts as damaged too: the oracle knows them.
pub fn damaged_canaries(op: OpIndex) -> u32 {
    let at = slot_of(op.number());
    let parts = [
        (slot::STATUS_CANARY, 16),
        (slot::STATUS_TAIL, 12),
        (slot::ARGS_CANARY, 8),
        (slot::ARGS_TAIL, 8),
        (slot::BUFFER_CANARY, 16),
        (slot::BUFFER_TAIL, 16),
    ];
    let mut damaged = 0;
    for (bit, (offset, bytes)) in parts.iter().enumerate() {
        let intact = (0..bytes / 4)
            .all(|word| read_word(at + offset + word * 4) == u32::from_le_bytes([CANARY; 4]));
        damaged |= u32::from(!intact) << bit;
    }
    damaged
}

/// Hash of an operation's own result buffer, without what the descriptor's
/// function fills with times and inode numbers.
pub fn buffer_hash(op: OpIndex, index: u32) -> u32 {
    let at = slot_of(op.number()) + slot::BUFFER;
    if is_untouched(at) && !latefork_wire::call::has_masked_words(index) {
        return UNTOUCHED_HASH;
    }
    let words = 0..slot::BUFFER_BYTES / 4;
    if !latefork_wire::call::has_masked_words(index) {
        return latefork_wire::trace::hash(words.map(|word| read_word(at + word * 4)));
    }
    latefork_wire::trace::hash(words.map(|word| {
        match latefork_wire::call::is_masked(index, word * 4) {
            true => 0,
            false => read_word(at + word * 4),
        }
    }))
}

/// Hash of a buffer that nothing was written to, which most of them are when
/// they are looked at.
const UNTOUCHED_HASH: u32 = {
    let mut hash = latefork_wire::trace::HASH_START;
    let mut word = 0;
    while word < slot::BUFFER_BYTES / 4 {
        hash = latefork_wire::trace::hash_word(hash, FILL_WORD);
        word += 1;
    }
    hash
};
const FILL_WORD: u32 = u32::from_le_bytes([FILL; 4]);

fn is_untouched(buffer: u32) -> bool {
    // SAFETY: an operation's own buffer, which is always there.
    unsafe { crate::rt::words_are(buffer, FILL_WORD, slot::BUFFER_BYTES / 4) }
}

/// How many bytes of the result buffer at `at` can be read without waiting, at
/// most as many as an own buffer has, and their hash as [`buffer_hash`] makes
/// it.
pub fn result_hash(at: u32, index: u32, lane: u32) -> (u32, u32) {
    let mut bytes = [0; slot::BUFFER_BYTES as usize];
    let len = read_known(at, &mut bytes, lane) & !3;
    let words = bytes[..len].chunks_exact(4).enumerate();
    let hash =
        latefork_wire::trace::hash(
            words.map(|(word, four)| {
                match latefork_wire::call::is_masked(index, word as u32 * 4) {
                    true => 0,
                    false => u32::from_le_bytes([four[0], four[1], four[2], four[3]]),
                }
            }),
        );
    (len as u32, hash)
}

/// Reads from `at` up to the first byte that is not there, or would have to be
/// waited for; how many bytes.
fn read_known(at: u32, into: &mut [u8], lane: u32) -> usize {
    let mut len = 0;
    while len < into.len() {
        let Some(address) = at.checked_add(len as u32) else {
            return len;
        };
        // Ground changes at page boundaries only.
        let page = (PAGE - address % PAGE) as usize;
        let end = into.len().min(len + page);
        let piece = &mut into[len..end];
        let wanted = piece.len();
        let got = match ground(address) {
            Ground::Plain => copy_known(address, piece),
            Ground::View(writable) => copy_known(writable, piece),
            Ground::Slow { .. } | Ground::Map if is_resident(address) => {
                get_guarded(address, piece, lane).max(0) as usize
            }
            _ => 0,
        };
        len += got;
        if got < wanted {
            return len;
        }
    }
    len
}

fn copy_known(at: u32, into: &mut [u8]) -> usize {
    for (offset, place) in into.iter_mut().enumerate() {
        *place = read_byte(at + offset as u32);
    }
    into.len()
}

/// Twenty bytes of an operation's own result buffer.
pub fn buffer_words(op: OpIndex, offset: u32) -> [u32; 5] {
    let at = slot_of(op.number()) + slot::BUFFER + offset;
    core::array::from_fn(|word| read_word(at + word as u32 * 4))
}

/// Writes `bytes` where a victim would read them at `at`: through the
/// writable view, into the slow page's content, or guarded.
pub fn stage(at: u32, bytes: &[u8], lane: u32) {
    if is_plain(at, bytes.len() as u32) {
        // SAFETY: both ends lie on plain ground, and no hole is as short as
        // what is staged.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
        return;
    }
    // Asked once: a slow range lies in one page, or has another kind of page
    // beside it.
    let mut resident = None;
    let mut offset = 0;
    while let Some(byte) = bytes.get(offset) {
        let Some(address) = at.checked_add(offset as u32) else {
            return;
        };
        let mut staged = 1;
        match ground(address) {
            Ground::Plain => write_byte(address, *byte),
            Ground::View(writable) => write_byte(writable, *byte),
            Ground::Slow { file, offset } => {
                write_byte(SLOW_CONTENTS + file * PAGE + offset, *byte);
                if *resident.get_or_insert_with(|| is_resident(address)) {
                    write_byte(address, *byte);
                }
            }
            Ground::Map => {
                // As far as the page goes: the next one may be there or not.
                let room = (PAGE - address % PAGE) as usize;
                staged = room.min(bytes.len() - offset);
                put_guarded(address, &bytes[offset..offset + staged], lane);
            }
            Ground::Nothing => {}
        }
        offset += staged;
    }
}

/// Whether both ends of a short range lie on plain ground.
fn is_plain(at: u32, bytes: u32) -> bool {
    let last = at.checked_add(bytes.saturating_sub(1));
    let plain = |address| matches!(ground(address), Ground::Plain);
    plain(at) && last.is_some_and(plain)
}

/// Whether the page of a slow address is present, so that touching it does
/// not wait.
pub fn is_resident(address: u32) -> bool {
    let mut seen = 0_u8;
    let page = address & !(PAGE - 1);
    let found = sys::call(218, &[page, PAGE, core::ptr::from_mut(&mut seen) as u32]);
    found == 0 && seen & 1 == 1
}

/// The word at `at`, where it can be read without waiting.
pub fn peek(at: u32, lane: u32) -> Option<u32> {
    let last = at.checked_add(3)?;
    if is_plain(at, 4) {
        return Some(read_word(at));
    }
    match ground(at) {
        Ground::View(writable) => Some(read_word(writable)),
        Ground::Slow { .. } | Ground::Map if !is_resident(at) => None,
        Ground::Plain if matches!(ground(last), Ground::Slow { .. }) && !is_resident(last) => None,
        Ground::Nothing => None,
        _ => {
            let mut word = [0; 4];
            (get_guarded(at, &mut word, lane) == 4).then(|| u32::from_le_bytes(word))
        }
    }
}

/// Copies from `at` as the kernel would; bytes copied or an error.
pub fn get_guarded(at: u32, into: &mut [u8], lane: u32) -> i32 {
    let lane = lane % SCRATCH_PAGES;
    let len = (into.len() as u32).min(PAGE);
    let count = sys::pwrite(SCRATCH_FD, at, len, lane * PAGE);
    for (offset, byte) in into.iter_mut().enumerate().take(count.max(0) as usize) {
        *byte = read_byte(SCRATCH + lane * PAGE + offset as u32);
    }
    count
}

/// Copies to `at` as the kernel would; bytes copied or an error.
pub fn put_guarded(at: u32, from: &[u8], lane: u32) -> i32 {
    let lane = lane % SCRATCH_PAGES;
    let len = (from.len() as u32).min(PAGE);
    for (offset, byte) in from.iter().enumerate().take(len as usize) {
        write_byte(SCRATCH + lane * PAGE + offset as u32, *byte);
    }
    sys::pread(SCRATCH_FD, at, len, lane * PAGE)
}
