//! The registers around a call: known values before, compared after.

use latefork_wire::layout::{slot, slot_of};
use latefork_wire::op::OpIndex;
use latefork_wire::trace::Detail;

use super::Context;
use super::calls::{ASYNC_NUMBER, Ready};
use crate::memory;
use crate::rt::{self, Frame, Keep, SseRoom};

/// What edi holds during a call.
const EDI: u32 = 0xed1e_d1ed;
/// Flags during a call: CF, PF, AF, ZF, SF, IF, DF, OF, ID, and the bit that
/// is always set.
const FLAGS: u32 = 0x0020_0ed7;
/// Of those, the ones that the flags word after the latch still shows.
const LATE_FLAGS: u32 = 0x0020_0400;
/// Those that LAHF shows: SF, ZF, AF, PF, CF.
const LAHF_FLAGS: u32 = 0xd5;
const OVERFLOW: u32 = 1 << 11;

/// Bytes 24 to 27 of an FXSAVE image: MXCSR, with the sticky flags of
/// imprecision and underflow, all exceptions masked, rounding down.
const MXCSR: u32 = 0x3fb0;
/// Words of an FXSAVE image: MXCSR, and the first of XMM0 (SDM volume 1,
/// table 10-2).
const AT_MXCSR: usize = 6;
const AT_XMM: usize = 40;

/// Room for the SSE registers, with known values to load.
pub struct Sse(SseRoom);

impl Sse {
    /// `None` where the kernel does not use SSE.
    pub fn new() -> Option<Self> {
        if !rt::kernel_uses_sse() {
            return None;
        }
        let mut room = SseRoom {
            before: [0; 128],
            after: [0; 128],
        };
        // FXRSTOR loads the x87 too: with what the stub loaded just before.
        // SAFETY: the kernel uses FXSR, as was asked above.
        unsafe { rt::fxsave_of(&rt::x87_kept(&X87), &mut room.before) };
        room.before[AT_MXCSR] = MXCSR;
        for word in 0..32 {
            room.before[AT_XMM + word] = 0x5e00_0000 | (word as u32).wrapping_mul(0x0001_0301);
        }
        Some(Self(room))
    }
}

/// Registers for the stub.
pub fn frame(op: OpIndex, ready: &Ready, keep: Keep, sse: Option<&mut Sse>) -> Frame {
    let x87 = match keep {
        Keep::Registers => rt::x87_kept(&X87),
        Keep::Nothing => X87,
    };
    Frame {
        registers: [
            ASYNC_NUMBER,
            ready.index,
            ready.flags,
            ready.status,
            ready.args,
            EDI,
            slot_of(op.number()),
        ],
        stack: 0,
        flags: FLAGS,
        x87,
        segments: rt::segments(),
        sse: sse.map_or(core::ptr::null_mut(), |sse| &raw mut sse.0),
    }
}

/// An FNSAVE image: rounding towards zero, a precision exception seen (and
/// masked), the stack's top at 3, eight different numbers, and pointers as if
/// an `fadd` of a word in memory had run last.
const X87: [u8; 108] = {
    let mut image = [0; 108];
    image[0] = 0x7f;
    image[1] = 0x0f;
    image[2] = 0xff;
    image[3] = 0xff;
    image[4] = 0x20;
    image[5] = 0x18;
    image[6] = 0xff;
    image[7] = 0xff;
    image[10] = 0xff;
    image[11] = 0xff;
    // Instruction pointer, code segment, opcode (11 bits), operand pointer,
    // data segment.
    let pointers: [u8; 16] = [
        0x98, 0xba, 0xdc, 0x0e, 0x73, 0x00, 0x05, 0x00, 0x54, 0x76, 0x98, 0x1a, 0x7b, 0x00, 0xff,
        0xff,
    ];
    let mut byte = 0;
    while byte < 16 {
        image[12 + byte] = pointers[byte];
        byte += 1;
    }
    let mut number = 0;
    while number < 8 {
        let at = 28 + number * 10;
        let mut byte = 0;
        while byte < 7 {
            image[at + byte] = (number * 16 + byte + 1) as u8;
            byte += 1;
        }
        image[at + 7] = 0x80 | number as u8;
        image[at + 8] = number as u8;
        image[at + 9] = 0x40;
        number += 1;
    }
    image
};

fn word_of(image: &[u8; 108], at: usize) -> u32 {
    u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]])
}

/// Reports each register that came back with another value. Numbers are
/// indexes into `wire::trace::REGISTERS`.
pub fn compare(context: Context, frame: &Frame, value: u32, sse: Option<&Sse>) {
    let op = context.op;
    let kept = |at: u32| memory::slot_word(op, slot::REGISTERS + at * 4);
    let differ = |which: u32, before: u32, after: u32| {
        if before != after {
            context.reporter().report(Detail::Register {
                which,
                before,
                after,
            });
        }
    };
    let [_, ebx, ecx, edx, esi, edi, ebp] = frame.registers;
    // The stub pops the flags before the call: esp is back where it was.
    let general = [value, ecx, edx, ebx, frame.stack, ebp, esi, edi];
    for (which, before) in general.iter().enumerate() {
        differ(which as u32, *before, kept(which as u32));
    }
    for (at, before) in frame.segments.iter().enumerate() {
        differ(8 + at as u32, before & 0xffff, kept(8 + at as u32) & 0xffff);
    }
    let early = memory::slot_word(op, slot::FLAGS);
    let flags = (kept(14) & LATE_FLAGS) | (early >> 8 & LAHF_FLAGS) | ((early & 1) * OVERFLOW);
    differ(
        14,
        frame.flags & (LATE_FLAGS | LAHF_FLAGS | OVERFLOW),
        flags,
    );
    let x87 = |at: usize| memory::slot_word(op, slot::X87 + at as u32);
    differ(15, word_of(&frame.x87, 0) & 0xffff, x87(0) & 0xffff);
    differ(16, word_of(&frame.x87, 4) & 0xffff, x87(4) & 0xffff);
    let before = latefork_wire::trace::hash((28..108).step_by(4).map(|at| word_of(&frame.x87, at)));
    let after = latefork_wire::trace::hash((28..108).step_by(4).map(x87));
    differ(17, before, after);
    for (which, at, mask) in X87_ENVIRONMENT {
        differ(which, word_of(&frame.x87, at) & mask, x87(at) & mask);
    }
    if let Some(Sse(room)) = sse {
        differ(24, room.before[AT_MXCSR], room.after[AT_MXCSR]);
        for register in 0..8 {
            let start = AT_XMM + 4 * register;
            let of = |image: &[u32; 128]| {
                latefork_wire::trace::hash(image[start..start + 4].iter().copied())
            };
            differ(25 + register as u32, of(&room.before), of(&room.after));
        }
    }
}

/// The rest of the x87's environment in an FNSAVE image: the register's number,
/// the word, its bits. Tags are those of the image, not of the values.
const X87_ENVIRONMENT: [(u32, usize, u32); 6] = [
    (18, 8, 0xffff),
    (19, 12, u32::MAX),
    (20, 16, 0xffff),
    (21, 16, 0x07ff_0000),
    (22, 20, u32::MAX),
    (23, 24, 0xffff),
];
