//! Debug registers, TF and RF: which trap, when, with which DR6.

use super::{
    CODE, CODE0, Event, FREE, TSS_SELECTOR, descriptor, event, machine, put, set_descriptor,
};
use crate::flags;
use crate::registers::{cr4, dr, gpr};
use crate::tests::Machine;
use crate::{CpuState, Exit};

const ONES: u32 = dr::DR6_ONES;

/// The first event of `code` in ring 0, and DR6 afterwards.
fn trap(code: &[u8], change: impl FnOnce(&mut CpuState)) -> (Event, u32) {
    let mut machine = machine(code, 0);
    machine.change(change);
    let event = event(&mut machine);
    (event, machine.state().dr[6])
}

fn with_tf(state: &mut CpuState) {
    state.eflags |= flags::TF;
}

#[test]
fn single_step_traps_after_one_instruction() {
    let (event, dr6) = trap(&[0x90, 0x90, 0xf4], with_tf);
    assert_eq!((event.vector, event.eip, dr6), (1, 1, ONES | dr::BS));
    assert_ne!(event.eflags & flags::TF, 0);
    assert_eq!(event.eflags & flags::RF, 0);
}

#[test]
fn popf_that_sets_tf_traps_after_the_next_instruction() {
    // push 0x102; popfd; nop; nop; hlt
    let (event, dr6) = trap(&[0x68, 2, 1, 0, 0, 0x9d, 0x90, 0x90, 0xf4], |_| {});
    assert_eq!((event.vector, event.eip, dr6), (1, 7, ONES | dr::BS));
}

#[test]
fn popf_that_clears_tf_still_traps() {
    // popfd; nop, with zero on the stack
    let (event, _) = trap(&[0x9d, 0x90, 0xf4], with_tf);
    assert_eq!(
        (event.vector, event.eip, event.eflags & flags::TF),
        (1, 1, 0)
    );
}

#[test]
fn a_load_of_ss_holds_the_trap_back_for_one_instruction() {
    // mov ss, eax; nop; nop
    let (event, dr6) = trap(&[0x8e, 0xd0, 0x90, 0x90, 0xf4], |state| {
        with_tf(state);
        state.gpr[gpr::EAX] = u32::from(super::DATA0);
    });
    assert_eq!((event.vector, event.eip, dr6), (1, 3, ONES | dr::BS));
}

#[test]
fn sti_does_not_hold_a_single_step_back() {
    let (event, _) = trap(&[0xfb, 0x90, 0xf4], with_tf);
    assert_eq!((event.vector, event.eip), (1, 1));
}

#[test]
fn a_software_interrupt_drops_its_own_trap() {
    // int 4 clears TF on the way; its handler is not stepped into.
    let (event, dr6) = trap(&[0xcd, 4, 0x90], with_tf);
    assert_eq!((event.vector, event.eip, dr6), (4, 2, ONES));
    assert_ne!(event.eflags & flags::TF, 0);
}

#[test]
fn a_fault_under_tf_is_delivered_first() {
    let (event, dr6) = trap(&[0x0f, 0x0b], with_tf);
    assert_eq!((event.vector, event.eip, dr6), (6, 0, ONES));
    assert_ne!(event.eflags & flags::RF, 0);
}

#[test]
fn each_iteration_of_rep_traps() {
    // rep stosb
    let (event, _) = trap(&[0xf3, 0xaa, 0xf4], |state| {
        with_tf(state);
        state.gpr[gpr::ECX] = 3;
        state.gpr[gpr::EDI] = 0x1_0000;
    });
    assert_eq!((event.vector, event.eip), (1, 0));
}

/// DR7 with breakpoint `n` enabled globally, of a kind and length.
fn dr7(n: u32, kind: u32, length: u32) -> u32 {
    dr::DR7_ONES | 2 << (2 * n) | kind << (16 + 4 * n) | length << (18 + 4 * n)
}

const EXECUTE: u32 = 0;
const WRITE: u32 = 1;
const ACCESS: u32 = 3;

#[test]
fn an_instruction_breakpoint_is_a_fault_with_rf_clear() {
    for n in 0..4 {
        let (event, dr6) = trap(&[0x90, 0x90, 0xf4], |state| {
            state.dr[n as usize] = CODE + 1;
            state.dr[7] = dr7(n, EXECUTE, 0);
        });
        assert_eq!((event.vector, event.eip, dr6), (1, 1, ONES | 1 << n));
    }
}

#[test]
fn rf_passes_the_breakpoint_once() {
    // inc eax; dec ecx; jnz -3; hlt
    let code = [0x40, 0x49, 0x75, 0xfc, 0xf4];
    let (event, _) = trap(&code, |state| {
        state.dr[0] = CODE;
        state.dr[7] = dr7(0, EXECUTE, 0);
        state.eflags |= flags::RF;
        state.gpr[gpr::ECX] = 5;
        state.gpr[gpr::EAX] = 0;
    });
    assert_eq!((event.vector, event.eip), (1, 0));
    assert_eq!(event.eflags & flags::RF, 0);
}

#[test]
fn iret_sets_rf_for_the_instruction_it_returns_to() {
    // push RF|2; push CODE0; push CODE+0x20; iretd; at 0x20: nop; nop; hlt
    let mut code = vec![0x68, 2, 0, 1, 0, 0x6a, 8, 0x68, 0x20, 0x10, 0, 0, 0xcf];
    code.resize(0x20, 0xcc);
    code.extend([0x90, 0x90, 0xf4]);
    for (at, expected) in [(0x20, None), (0x21, Some(0x21))] {
        let mut machine = machine(&code, 0);
        machine.change(|state| {
            state.dr[0] = CODE + at;
            state.dr[7] = dr7(0, EXECUTE, 0);
        });
        assert_eq!(machine.run(100), Exit::Halted);
        let halted = machine.state().eip;
        match expected {
            None => assert_eq!(halted, CODE + 0x23),
            Some(eip) => assert_eq!(event(&mut machine).eip, eip),
        }
    }
}

#[test]
fn data_breakpoints_are_traps_by_kind_and_length() {
    // mov [0x10000], eax (5 bytes); mov eax, [0x10000] (5 bytes); hlt
    let code = [0xa3, 0, 0, 1, 0, 0xa1, 0, 0, 1, 0, 0xf4];
    let table = [
        (0x1_0000, WRITE, 3, Some(5)),
        (0x1_0003, WRITE, 0, Some(5)),
        (0x1_0004, WRITE, 3, None),
        (0x0_ffff, ACCESS, 0, None),
        (0x1_0002, WRITE, 1, Some(5)),
        (0x1_0000, ACCESS, 3, Some(5)),
    ];
    for (address, kind, length, expected) in table {
        let mut machine = machine(&code, 0);
        machine.change(|state| {
            state.dr[2] = address;
            state.dr[7] = dr7(2, kind, length);
        });
        assert_eq!(machine.run(100), Exit::Halted);
        let state = machine.state();
        let got = if state.eip == CODE + 11 {
            None
        } else {
            assert_eq!(state.dr[6], ONES | 4);
            Some(event(&mut machine).eip)
        };
        assert_eq!(got, expected, "{address:#x} kind {kind} length {length}");
    }
}

#[test]
fn a_read_hits_only_an_access_breakpoint() {
    // mov eax, [0x10000]; hlt
    for (kind, vector) in [(WRITE, None), (ACCESS, Some(1))] {
        let mut machine = machine(&[0xa1, 0, 0, 1, 0, 0xf4], 0);
        machine.change(|state| {
            state.dr[0] = 0x1_0000;
            state.dr[7] = dr7(0, kind, 3);
        });
        assert_eq!(machine.run(10), Exit::Halted);
        let hit = machine.state().eip != CODE + 6;
        assert_eq!(hit.then_some(1), vector);
    }
}

#[test]
fn general_detect_faults_and_is_cleared_for_the_handler() {
    // mov eax, dr0
    let (event, dr6) = trap(&[0x0f, 0x21, 0xc0], |state| state.dr[7] |= dr::GD);
    assert_eq!((event.vector, event.eip, dr6), (1, 0, ONES | dr::BD));
    let mut machine = machine(&[0x0f, 0x23, 0xc0], 0);
    machine.change(|state| state.dr[7] |= dr::GD);
    super::event(&mut machine);
    assert_eq!(machine.state().dr[7] & dr::GD, 0);
}

#[test]
fn debug_registers_keep_only_the_bits_they_have() {
    // mov dr6, eax; mov dr7, ebx
    let code = [0x0f, 0x23, 0xf0, 0x0f, 0x23, 0xfb];
    let all = !(dr::GD | dr::BT);
    for (value, dr6, dr7) in [(0, ONES, dr::DR7_ONES), (all, 0xffff_4fff, 0xffff_07ff)] {
        let mut machine = machine(&code, 0);
        machine.change(|state| {
            state.gpr[gpr::EAX] = value;
            state.gpr[gpr::EBX] = value;
        });
        assert_eq!(machine.run(2), Exit::Budget);
        let state = machine.state();
        assert_eq!((state.dr[6], state.dr[7]), (dr6, dr7), "{value:#x}");
    }
}

#[test]
fn dr4_and_dr5_are_dr6_and_dr7_unless_cr4_de() {
    // mov eax, dr5; hlt
    let code = [0x0f, 0x21, 0xe8, 0xf4];
    let mut plain = machine(&code, 0);
    assert_eq!(plain.run(10), Exit::Halted);
    assert_eq!(plain.state().gpr[gpr::EAX], dr::DR7_ONES);
    let (event, _) = trap(&code, |state| state.cr4 = cr4::DE);
    assert_eq!((event.vector, event.eip), (6, 0));
}

#[test]
fn int1_is_a_debug_trap_that_no_dpl_stops() {
    let mut machine: Machine = machine(&[0xf1], 3);
    super::set_gate(&mut machine, 1, CODE0, 0x7010, 0x8e);
    let event = event(&mut machine);
    assert_eq!(
        (event.vector, event.eip, machine.state().dr[6]),
        (1, 1, ONES)
    );
}

#[test]
fn the_t_bit_of_a_new_task_traps_before_its_first_instruction() {
    // jmp FREE:0
    let mut machine = machine(&[0xea, 0, 0, 0, 0, 0x30, 0], 0);
    let tss = super::tasks::new_task(&mut machine, FREE);
    put(&mut machine, tss + 0x64, 1);
    machine.change(|state| state.dr[7] |= 0x155 | 0x2a8);
    let event = event(&mut machine);
    let state = machine.state();
    assert_eq!(event.vector, 1);
    assert_eq!(event.eip.wrapping_add(CODE), super::tasks::ENTRY);
    assert_eq!(state.dr[6], ONES | dr::BT);
    // The local enables went with the old task.
    assert_eq!(state.dr[7] & 0x3ff, 0x2a8);
    // The old task is no longer busy.
    let old = machine.read(super::GDT + u32::from(TSS_SELECTOR) + 4);
    assert_eq!(old >> 8 & 0xff, 0x89);
    set_descriptor(&mut machine, FREE, descriptor(0, 0, 0, 0));
}
