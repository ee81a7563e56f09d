//! What QEMU's TCG does not check, or does otherwise than the manual, and what
//! an image cannot see from inside: limits, debug traps, interrupts, restarts.
//! Everything else is in `tests/rom_images`.

use crate::flags;
use crate::registers::{cr0, gpr};
use crate::segment::{DescriptorTable, Segment, attr};
use crate::tests::{CODE, Machine};
use crate::{CpuState, Exit};

mod control;
mod debug;
mod held_traps;
mod interrupts;
mod limits;
mod tasks;

pub(super) const GDT: u32 = 0x4000;
pub(super) const IDT: u32 = 0x5000;
pub(super) const TSS: u32 = 0x6000;
/// A handler for each of the first 32 vectors, 16 bytes apart: HLT.
const HANDLERS: u32 = 0x7000;
pub(super) const KERNEL_STACK: u32 = 0x9000;
pub(super) const USER_STACK: u32 = 0xa000;

pub(super) const CODE0: u16 = 0x08;
pub(super) const DATA0: u16 = 0x10;
pub(super) const CODE3: u16 = 0x1b;
pub(super) const DATA3: u16 = 0x23;
pub(super) const TSS_SELECTOR: u16 = 0x28;
/// The first descriptor that a test may fill.
pub(super) const FREE: u16 = 0x30;

/// The two doublewords of a descriptor; `flags` are G and D/B as in byte 6.
pub(super) fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> (u32, u32) {
    let low = base << 16 | limit & 0xffff;
    let high = base & 0xff00_0000
        | u32::from(flags) << 16
        | limit & 0xf_0000
        | u32::from(access) << 8
        | base >> 16 & 0xff;
    (low, high)
}

pub(super) fn put(machine: &mut Machine, at: u32, value: u32) {
    machine.write(at, &value.to_le_bytes());
}

pub(super) fn set_descriptor(machine: &mut Machine, selector: u16, value: (u32, u32)) {
    let at = GDT + u32::from(selector & !7);
    put(machine, at, value.0);
    put(machine, at + 4, value.1);
}

pub(super) fn set_gate(machine: &mut Machine, vector: u8, selector: u16, offset: u32, access: u8) {
    let at = IDT + u32::from(vector) * 8;
    put(machine, at, u32::from(selector) << 16 | offset & 0xffff);
    put(
        machine,
        at + 4,
        offset & 0xffff_0000 | u32::from(access) << 8,
    );
}

pub(super) fn segment(selector: u16, value: (u32, u32)) -> Segment {
    Segment::from_descriptor(selector, value.0, value.1)
}

const FLAT_CODE: (u8, u8) = (0x9b, 0xc0);
const FLAT_DATA: (u8, u8) = (0x93, 0xc0);

/// A machine with GDT, IDT (gates to handlers that halt, DPL 3) and TSS, about
/// to execute `code` in ring `cpl` (0 or 3) on a stack of that ring.
pub(super) fn machine(code: &[u8], cpl: u8) -> Machine {
    let mut machine = Machine::new(code);
    let flat =
        |(access, flags): (u8, u8), dpl: u8| descriptor(0, 0xf_ffff, access | dpl << 5, flags);
    for (selector, value) in [
        (CODE0, flat(FLAT_CODE, 0)),
        (DATA0, flat(FLAT_DATA, 0)),
        (CODE3, flat(FLAT_CODE, 3)),
        (DATA3, flat(FLAT_DATA, 3)),
        (TSS_SELECTOR, descriptor(TSS, 0x67, 0x8b, 0)),
    ] {
        set_descriptor(&mut machine, selector, value);
    }
    for vector in 0..32 {
        let handler = HANDLERS + u32::from(vector) * 16;
        set_gate(&mut machine, vector, CODE0, handler, 0xee);
        machine.write(handler, &[0xf4]);
    }
    put(&mut machine, TSS + 4, KERNEL_STACK);
    put(&mut machine, TSS + 8, u32::from(DATA0));
    put(&mut machine, TSS + 0x64, 0x0068_0000);
    machine.change(|state| enter_ring(state, cpl));
    machine
}

fn enter_ring(state: &mut CpuState, cpl: u8) {
    let (code, data) = if cpl == 0 {
        (CODE0, DATA0)
    } else {
        (CODE3, DATA3)
    };
    let data = segment(
        data,
        descriptor(0, 0xf_ffff, FLAT_DATA.0 | cpl << 5, FLAT_DATA.1),
    );
    state.segments = [data; 6];
    state.segments[1] = segment(
        code,
        descriptor(0, 0xf_ffff, FLAT_CODE.0 | cpl << 5, FLAT_CODE.1),
    );
    state.cpl = cpl;
    state.gdtr = DescriptorTable {
        base: GDT,
        limit: 0x3ff,
    };
    state.idtr = DescriptorTable {
        base: IDT,
        limit: 0x7ff,
    };
    state.tr = segment(TSS_SELECTOR, descriptor(TSS, 0x67, 0x8b, 0));
    state.ldtr = Segment {
        attributes: state.ldtr.attributes & !attr::PRESENT,
        ..state.ldtr
    };
    state.cr0 = cr0::PE | cr0::ET;
    state.eflags = flags::FIXED_ONE;
    state.gpr[gpr::ESP] = if cpl == 0 {
        KERNEL_STACK - 0x400
    } else {
        USER_STACK
    };
}

/// What a handler found on its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) vector: u8,
    pub(super) error: Option<u32>,
    /// Counted from the start of the code.
    pub(super) eip: u32,
    pub(super) eflags: u32,
    /// The stack pointer before the event.
    pub(super) esp: u32,
}

const WITH_ERROR: [u8; 7] = [8, 10, 11, 12, 13, 14, 17];

/// Runs until a handler halts and looks at its frame.
pub(super) fn event(machine: &mut Machine) -> Event {
    assert_eq!(machine.run(10_000), Exit::Halted);
    let state = machine.state();
    let slot = state.eip.wrapping_sub(HANDLERS + 1);
    assert!(
        slot < 32 * 16 && slot.is_multiple_of(16),
        "halted at {:#x}, in no handler",
        state.eip
    );
    let vector = u8::try_from(slot / 16).unwrap();
    let mut at = state.gpr[gpr::ESP];
    let mut pop = || {
        at += 4;
        machine.read(at - 4)
    };
    let error = WITH_ERROR.contains(&vector).then(&mut pop);
    let (eip, cs, eflags) = (pop(), pop(), pop());
    let esp = if cs & 3 == 0 { at } else { machine.read(at) };
    Event {
        vector,
        error,
        eip: eip.wrapping_sub(CODE),
        eflags,
        esp,
    }
}

/// Vector and error code of the first event.
pub(super) fn fault(machine: &mut Machine) -> (u8, Option<u32>) {
    let event = event(machine);
    (event.vector, event.error)
}
