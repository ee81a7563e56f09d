//! REP MOVS and REP STOS over whole pieces of pages: what the single
//! iterations would do, when the TLB says that none of them can fault, exit or
//! touch code.

use std::cell::Cell;

use super::string::{advance, index};
use crate::address::PAGE_OFFSET;
use crate::flags::DF;
use crate::memory::{Memory, Word};
use crate::op::Op;
use crate::paging::Access;
use crate::registers::gpr;
use crate::segment::seg;
use crate::state::Core;
use crate::tlb::Tlb;

/// Fewer elements than this are left to the single iterations.
const WORTHWHILE: u32 = 4;

/// The linear address of `offset` and how many elements from there, at most
/// `most`, lie in the segment and in one page.
fn reach<W: Word>(core: &Core, which: u8, offset: u32, access: Access, most: u32) -> (u32, u32) {
    let window = &core.windows[(which & 7) as usize];
    let (first, last) = if access == Access::Write {
        window.write
    } else {
        window.read
    };
    let linear = window.base.wrapping_add(offset);
    if offset < first || offset > last {
        return (linear, 0);
    }
    let in_page = (PAGE_OFFSET + 1 - (linear & PAGE_OFFSET)) / W::BYTES;
    let in_segment = ((last - offset) / W::BYTES)
        .saturating_add(u32::from((last - offset) % W::BYTES == W::BYTES - 1));
    (linear, most.min(in_page).min(in_segment))
}

/// The cells of RAM behind `bytes` bytes at a linear address, if the fast path
/// may use them. Who asks to write is about to write all of them.
#[inline(always)]
pub(super) fn cells<'a>(
    core: &Core,
    memory: &Memory<'a>,
    linear: u32,
    bytes: u32,
    access: Access,
) -> Option<&'a [Cell<u8>]> {
    let entry = &core.tlb.data[Tlb::data_index(linear)];
    let tags = if access == Access::Write {
        &entry.write
    } else {
        &entry.read
    };
    if tags[(core.user & 1) as usize] != linear & !PAGE_OFFSET {
        return None;
    }
    let at = linear.wrapping_add(entry.addend) as usize;
    let end = at + bytes as usize;
    let cells = memory.ram.get(at..end)?;
    if access == Access::Write {
        memory.mark_lines(at, end - 1);
    }
    Some(cells)
}

/// With a 16-bit address the index must not wrap inside the piece.
fn before_wrap<W: Word>(op: &Op, offset: u32, most: u32) -> u32 {
    let left = (op.address_mask() - offset) / W::BYTES;
    most.min(left)
}

pub(super) fn movs<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op, most: u32) -> u32 {
    if most < WORTHWHILE || core.system_flags & DF != 0 {
        return 0;
    }
    let (from, to) = (index(core, gpr::ESI, op), index(core, gpr::EDI, op));
    let most = before_wrap::<W>(op, from, before_wrap::<W>(op, to, most));
    let (source, most) = reach::<W>(core, op.seg, from, Access::Read, most);
    let (target, most) = reach::<W>(core, seg::ES, to, Access::Write, most);
    if most < WORTHWHILE {
        return 0;
    }
    let bytes = most * W::BYTES;
    let Some(source) = cells(core, memory, source, bytes, Access::Read) else {
        return 0;
    };
    let Some(target) = cells(core, memory, target, bytes, Access::Write) else {
        return 0;
    };
    let (from, to) = (source.as_ptr().addr(), target.as_ptr().addr());
    if from.abs_diff(to) >= bytes as usize {
        copy_apart(source, target);
    } else {
        // Overlapping: element by element, as the instruction says.
        for at in (0..bytes as usize).step_by(W::BYTES as usize) {
            if let Some(value) = W::get(source, at) {
                value.put(target, at);
            }
        }
    }
    advance::<W>(core, gpr::ESI, op, most);
    advance::<W>(core, gpr::EDI, op, most);
    most
}

/// Copies between slices that do not overlap, eight bytes at a time.
fn copy_apart(source: &[Cell<u8>], target: &[Cell<u8>]) {
    let (from, from_rest) = source.as_chunks::<8>();
    let (to, to_rest) = target.as_chunks::<8>();
    for (from, to) in from.iter().zip(to) {
        let bytes: [u8; 8] = std::array::from_fn(|i| from[i].get());
        for i in 0..8 {
            to[i].set(bytes[i]);
        }
    }
    for (from, to) in from_rest.iter().zip(to_rest) {
        to.set(from.get());
    }
}

pub(super) fn stos<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op, most: u32) -> u32 {
    if most < WORTHWHILE || core.system_flags & DF != 0 {
        return 0;
    }
    let to = index(core, gpr::EDI, op);
    let most = before_wrap::<W>(op, to, most);
    let (target, most) = reach::<W>(core, seg::ES, to, Access::Write, most);
    if most < WORTHWHILE {
        return 0;
    }
    let bytes = most * W::BYTES;
    let Some(target) = cells(core, memory, target, bytes, Access::Write) else {
        return 0;
    };
    let value = W::cut(core.regs[gpr::EAX]);
    for at in (0..bytes as usize).step_by(W::BYTES as usize) {
        value.put(target, at);
    }
    advance::<W>(core, gpr::EDI, op, most);
    most
}
