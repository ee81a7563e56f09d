//! The registers around a call: known values before, compared after.

use latefork_wire::layout::{slot, slot_of};
use latefork_wire::op::OpIndex;
use latefork_wire::trace::Detail;

use super::Context;
use super::calls::{ASYNC_NUMBER, Ready};
use crate::memory;
use crate::rt::{self, Frame};

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

/// Registers for the stub.
pub fn frame(op: OpIndex, ready: &Ready) -> Frame {
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
        x87: X87,
        segments: rt::segments(),
    }
}

/// An FNSAVE image: rounding towards zero, a precision exception seen (and
/// masked), the stack's top at 3, eight different numbers.
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
pub fn compare(context: Context, frame: &Frame, value: u32) {
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
    let flags = kept(14) & LATE_FLAGS | early >> 8 & LAHF_FLAGS | (early & 1) * OVERFLOW;
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
}
