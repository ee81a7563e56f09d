//! Task switches: what comes after the switch, and restarts before it.

use super::control::paged;
use super::{
    CODE, CODE0, CODE3, DATA0, DATA3, FREE, GDT, TSS, TSS_SELECTOR, descriptor, event, fault,
    machine, put, set_descriptor, set_gate,
};
use crate::flags;
use crate::registers::{cr0, gpr};
use crate::tests::Machine;
use crate::{Exit, Shadow};

pub(super) const NEW_TSS: u32 = 0x2_0000;
pub(super) const ENTRY: u32 = 0x1800;
const STACK: u32 = 0xb000;
const KERNEL0: u32 = 0xc000;

/// A 386 TSS at `NEW_TSS` behind `selector`: ring 0, starting at `ENTRY` with
/// HLT. Returns its address.
pub(super) fn new_task(machine: &mut Machine, selector: u16) -> u32 {
    set_descriptor(machine, selector, descriptor(NEW_TSS, 0x67, 0x89, 0));
    let fields = [
        (0x04, KERNEL0),
        (0x08, u32::from(DATA0)),
        (0x20, ENTRY),
        (0x24, flags::FIXED_ONE),
        (0x28, 0xa0a0_a0a0),
        (0x38, STACK),
        (0x48, u32::from(DATA0)),
        (0x4c, u32::from(CODE0)),
        (0x50, u32::from(DATA0)),
        (0x54, u32::from(DATA0)),
    ];
    for (offset, value) in fields {
        put(machine, NEW_TSS + offset, value);
    }
    machine.write(ENTRY, &[0xcc]);
    NEW_TSS
}

/// jmp FREE:0
const JUMP: &[u8] = &[0xea, 0, 0, 0, 0, 0x30, 0];
/// call FREE:0
const CALL: &[u8] = &[0x9a, 0, 0, 0, 0, 0x30, 0];

fn busy(machine: &Machine, selector: u16) -> bool {
    machine.read(GDT + u32::from(selector) + 4) >> 9 & 1 != 0
}

#[test]
fn a_fault_before_the_switch_leaves_the_old_task_whole() {
    // The new TSS, its descriptor, or the old TSS is on a page that is not
    // there or not writable.
    for (page, entry, code) in [
        (NEW_TSS, 0, 0),
        (TSS, 0, 0),
        (TSS, TSS | 1, 3),
        (GDT, GDT | 1, 3),
    ] {
        let mut machine = machine(JUMP, 0);
        new_task(&mut machine, FREE);
        paged(&mut machine, &[(page, entry)]);
        machine.change(|state| {
            state.cr0 |= cr0::WP;
            // The segments are loaded already; only the switch needs the GDT.
            state.shadow = Shadow::None;
        });
        put(&mut machine, NEW_TSS + 0x1c, 0x8_0000);
        let before = machine.state();
        let got = event(&mut machine);
        let after = machine.state();
        let expected = if entry == 0 && page == TSS { 2 } else { code };
        assert_eq!(
            (got.vector, got.error),
            (14, Some(expected)),
            "page {page:#x} entry {entry:#x}"
        );
        assert_eq!((got.eip, got.esp), (0, before.gpr[gpr::ESP]));
        assert_eq!((after.tr.selector, after.cr0 & cr0::TS), (TSS_SELECTOR, 0));
        assert!(busy(&machine, TSS_SELECTOR) && !busy(&machine, FREE));
    }
}

#[test]
fn a_bad_segment_faults_in_the_new_task_on_its_inner_stack() {
    // (offset of the field, value, vector, error code)
    let table = [
        (0x4c, 0, 10, 0),
        (0x4c, u32::from(DATA0), 10, 0x10),
        (0x50, 0, 10, 0),
        (0x50, u32::from(DATA3), 10, 0x20),
        (0x54, u32::from(TSS_SELECTOR), 10, 0x28),
        (0x60, u32::from(DATA0), 10, 0x10),
        (0x60, 0x3fc, 10, 0x3fc),
    ];
    for (offset, value, vector, error) in table {
        let mut machine = machine(CALL, 0);
        let tss = new_task(&mut machine, FREE);
        put(&mut machine, tss + offset, value);
        assert_eq!(
            fault(&mut machine),
            (vector, Some(error)),
            "field {offset:#x} = {value:#x}"
        );
        let state = machine.state();
        assert_eq!(state.tr.selector, FREE);
        // Delivery changed to ESP0 of the new task: five values and the code.
        assert_eq!(
            state.gpr[gpr::ESP],
            KERNEL0 - 24,
            "field {offset:#x} = {value:#x}"
        );
        assert_eq!(machine.read(KERNEL0 - 20), ENTRY);
        assert!(busy(&machine, FREE) && busy(&machine, TSS_SELECTOR));
        assert_eq!(machine.read(NEW_TSS), u32::from(TSS_SELECTOR));
    }
}

#[test]
fn an_entry_beyond_the_code_limit_faults_in_the_new_task() {
    let mut machine = machine(JUMP, 0);
    let tss = new_task(&mut machine, FREE);
    set_descriptor(&mut machine, FREE + 8, descriptor(0, 0xfff, 0x9b, 0x40));
    put(&mut machine, tss + 0x4c, u32::from(FREE) + 8);
    let got = event(&mut machine);
    assert_eq!(
        (got.vector, got.error, got.eip),
        (13, Some(0), ENTRY - CODE)
    );
    assert_eq!(machine.state().tr.selector, FREE);
}

#[test]
fn an_error_code_needs_room_on_the_new_stack() {
    // #GP through a task gate whose task has a stack of 2 bytes: #SS, so #DF,
    // which a second task takes.
    let mut machine = machine(&[0x0f, 0x00, 0xd8], 0);
    machine.change(|state| state.gpr[gpr::EAX] = 0);
    let tss = new_task(&mut machine, FREE);
    put(&mut machine, tss + 0x38, 2);
    let rescue = NEW_TSS + 0x100;
    for at in (0..0x68).step_by(4) {
        let value = machine.read(tss + at);
        put(&mut machine, rescue + at, value);
    }
    put(&mut machine, rescue + 0x38, STACK);
    set_descriptor(&mut machine, FREE + 8, descriptor(rescue, 0x67, 0x89, 0));
    set_gate(&mut machine, 13, FREE, 0, 0x85);
    set_gate(&mut machine, 8, FREE + 8, 0, 0x85);
    assert_eq!(fault(&mut machine).0, 3);
    assert_eq!(machine.state().tr.selector, FREE + 8);
    assert_eq!(machine.read(STACK - 4), 0);
    assert_eq!(machine.read(rescue), u32::from(FREE));
}

#[test]
fn a_task_in_v86_mode() {
    let mut machine = machine(JUMP, 0);
    let tss = new_task(&mut machine, FREE);
    put(&mut machine, tss + 0x24, flags::VM | flags::IOPL | 2);
    for (offset, value) in [(0x48, 0x100), (0x4c, 0x180), (0x50, 0x200), (0x54, 0x300)] {
        put(&mut machine, tss + offset, value);
    }
    put(&mut machine, tss + 0x20, 0x10);
    machine.write(0x1810, &[0x0f, 0x0b]);
    let got = event(&mut machine);
    assert_eq!((got.vector, got.eip.wrapping_add(CODE)), (6, 0x10));
    assert_eq!(got.eflags & flags::VM, flags::VM);
    let frame: Vec<u32> = (1..5).map(|n| machine.read(KERNEL0 - 4 * n)).collect();
    assert_eq!(frame, [0, 0, 0x300, 0x100]);
    let state = machine.state();
    assert_eq!(
        (
            state.segments[3].selector,
            state.cpl,
            state.eflags & flags::VM
        ),
        (0, 0, 0)
    );
}

#[test]
fn back_from_a_nested_task_of_ring_3() {
    // call FREE:0; nop; int3 -- the new task: iretd in ring 3
    let mut code = CALL.to_vec();
    code.extend([0x90, 0xcc]);
    let mut machine = machine(&code, 0);
    let tss = new_task(&mut machine, FREE);
    put(&mut machine, tss + 0x4c, u32::from(CODE3));
    put(&mut machine, tss + 0x50, u32::from(DATA3));
    put(&mut machine, tss + 0x48, 0);
    put(&mut machine, tss + 0x54, 0);
    machine.write(ENTRY, &[0xcf]);
    let got = event(&mut machine);
    assert_eq!((got.vector, got.eip), (3, 9));
    let state = machine.state();
    assert_eq!(
        (state.tr.selector, state.eflags & flags::NT),
        (TSS_SELECTOR, 0)
    );
    assert!(busy(&machine, TSS_SELECTOR) && !busy(&machine, FREE));
    // NT was cleared in what was saved of the nested task.
    assert_eq!(machine.read(tss + 0x24) & flags::NT, 0);
    assert_eq!(machine.read(tss + 0x20), ENTRY + 1);
}

#[test]
fn cr3_changes_only_with_paging_on() {
    for paging in [false, true] {
        let mut machine = machine(JUMP, 0);
        let tss = new_task(&mut machine, FREE);
        put(&mut machine, tss + 0x1c, 0x9_0000);
        if paging {
            paged(&mut machine, &[]);
            put(&mut machine, 0x9_0000, 0x8_1007);
        }
        assert_eq!(fault(&mut machine).0, 3);
        assert_eq!(machine.state().cr3, if paging { 0x9_0000 } else { 0 });
    }
}

#[test]
fn a_string_of_bad_tasks_ends_in_shutdown() {
    // #TS, #GP and #DF all lead to tasks whose CS is null.
    let mut machine = machine(&[0x0f, 0x0b], 0);
    for (n, vector) in [6u8, 10, 13, 8].into_iter().enumerate() {
        let selector = FREE + 8 * u16::try_from(n).unwrap();
        new_task(&mut machine, selector);
        set_gate(&mut machine, vector, selector, 0, 0x85);
    }
    put(&mut machine, NEW_TSS + 0x4c, 0);
    assert_eq!(machine.run(100), Exit::TripleFault);
}
