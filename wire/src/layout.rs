//! Where everything lies in a victim's address space.
//!
//! The agent maps it, the oracles and memory watches of the host rely on it.
//! All values are linear addresses or bytes.

/// Bytes of a page.
pub const PAGE: u32 = 4096;

/// First byte of the kernel's half.
pub const KERNEL_START: u32 = 0xc000_0000;

/// Addresses that `kernel` pointers take, parameter modulo their number: the
/// half's start, low memory, the coverage map, text, the fixed mappings, the
/// last word.
pub const KERNEL_ADDRESSES: [u32; 8] = [
    0xc000_0000,
    0xc000_1000,
    0xc008_0000,
    0xc010_0000,
    0xc120_0000,
    0xe000_0000,
    0xffff_e000,
    0xffff_fffc,
];

/// The cells of the calls: one slot of [`SLOT`] bytes for each operation.
pub const CALLS: u32 = 0x2000_0000;
/// The same memory, mapped read-only.
pub const CALLS_READ_ONLY: u32 = 0x2010_0000;
/// The same memory, mapped with PROT_WRITE alone.
pub const CALLS_WRITE_ONLY: u32 = 0x2020_0000;
/// Bytes of a slot.
pub const SLOT: u32 = 512;
/// Bytes of all slots.
pub const CALLS_BYTES: u32 = SLOT * SLOTS;
/// Number of slots: one for each step of the longest program.
pub const SLOTS: u32 = 64;
const _: () = assert!(SLOTS as usize == crate::program::MAX_STEPS);

/// Offsets in a slot.
pub mod slot {
    /// Continuations counted by the stub (a word).
    pub const CONTINUATIONS: u32 = 0;
    /// Latch that the first continuation takes (a word).
    pub const LATCH: u32 = 4;
    /// Carry flag at the return (a byte).
    pub const CARRY: u32 = 8;
    /// Thread id of a second continuation (a word).
    pub const SECOND: u32 = 12;
    /// eax at the return, while the stub needs the register (a word).
    pub const RESULT: u32 = 20;
    /// Flags at the return: OF in bit 0, LAHF's byte in bits 8 to 15 (a word).
    pub const FLAGS: u32 = 24;
    /// Start of the canary before the status.
    pub const STATUS_CANARY: u32 = 64;
    /// The status cell (a word).
    pub const STATUS: u32 = 80;
    /// Start of the canary behind the status.
    pub const STATUS_TAIL: u32 = 84;
    /// Start of the canary before the argument block.
    pub const ARGS_CANARY: u32 = 96;
    /// The argument block (8 words; a call takes 7 at most).
    pub const ARGS: u32 = 104;
    /// Start of the canary behind the argument block.
    pub const ARGS_TAIL: u32 = 136;
    /// Start of the canary before the result buffer.
    pub const BUFFER_CANARY: u32 = 144;
    /// The result buffer.
    pub const BUFFER: u32 = 160;
    /// Bytes of the result buffer.
    pub const BUFFER_BYTES: u32 = 160;
    /// Start of the canary behind the result buffer.
    pub const BUFFER_TAIL: u32 = 320;
    /// The x87 state at the return (FNSAVE's 108 bytes).
    pub const X87: u32 = 336;
    /// General, then segment registers, then flags (15 words).
    pub const REGISTERS: u32 = 444;
}

/// Value of the status cell before a call: no system call returns it.
pub const STATUS_UNWRITTEN: u32 = 0x5aa5_a55a;
/// Byte of which canaries are made.
pub const CANARY: u8 = 0xc7;
/// Byte that fills result buffers before a call.
pub const FILL: u8 = 0x3c;

/// Memory that the victim shares with the agent outside it.
pub const SHARED: u32 = 0x2100_0000;
/// Shared cells of [`SHARED_CELL`] bytes, the same for every call.
pub const SHARED_CELLS: u32 = 0x2108_0000;
/// Bytes of a shared cell.
pub const SHARED_CELL: u32 = 256;

/// Pages with a hole behind each: role x 8 + operation mod 8, in steps of two
/// pages.
pub const EDGES: u32 = 0x2200_0000;
/// Number of edge pages.
pub const EDGE_PAGES: u32 = 24;

/// For each FUSE file, in steps of four pages: an ordinary page, then the
/// slow one, then a hole.
pub const SLOW: u32 = 0x2300_0000;
/// Bytes from one file's pages to the next.
pub const SLOW_STRIDE: u32 = 4 * PAGE;

/// Map slots, in steps of [`MAP_STRIDE`].
pub const MAPS: u32 = 0x2800_0000;
/// Bytes from one map slot to the next.
pub const MAP_STRIDE: u32 = 16 * PAGE;

/// A megabyte that is never mapped.
pub const HOLE: u32 = 0x3000_0000;

/// Stacks of the threads, in steps of [`STACK_STRIDE`], each with a hole
/// below.
pub const STACKS: u32 = 0x4000_0000;
/// Bytes from one stack's top to the next.
pub const STACK_STRIDE: u32 = 0x2_0000;
/// Bytes of an ordinary stack.
pub const STACK_BYTES: u32 = 0x1_0000;
/// Bytes at the top of each stack that `stack` pointers point to.
pub const STACK_CELLS: u32 = 256;
/// Alternate signal stacks, in steps of 16 KiB.
pub const ALT_STACKS: u32 = 0x4100_0000;

/// Address of the slot of operation `op`.
#[must_use]
pub const fn slot_of(op: u8) -> u32 {
    CALLS + op as u32 % SLOTS * SLOT
}
