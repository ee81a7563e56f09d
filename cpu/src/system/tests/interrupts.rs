//! External interrupts, shadows, HLT, and how deliveries fail.

use super::control::paged;
use super::{
    CODE, CODE0, FREE, GDT, IDT, KERNEL_STACK, TSS, USER_STACK, descriptor, event, fault, machine,
    put, set_descriptor, set_gate,
};
use crate::flags;
use crate::registers::gpr;
use crate::segment::DescriptorTable;
use crate::tests::Machine;
use crate::{CpuState, Exit, Shadow};

const VECTOR: u8 = 20;

fn with_if(state: &mut CpuState) {
    state.eflags |= flags::IF;
}

/// Runs with INTR asserted until the window opens; EIP from the code's start.
fn window(code: &[u8], change: impl FnOnce(&mut CpuState)) -> u32 {
    let mut machine = machine(code, 0);
    machine.change(|state| {
        state.interrupt_line = true;
        change(state);
    });
    assert_eq!(machine.run(1000), Exit::InterruptWindow);
    machine.state().eip - CODE
}

#[test]
fn the_window_opens_where_interrupts_are_enabled() {
    let nops = [0x90, 0x90, 0x90, 0x90, 0xf4];
    assert_eq!(window(&nops, with_if), 0);
    // sti; nop; nop: one instruction later
    assert_eq!(window(&[0xfb, 0x90, 0x90, 0xf4], |_| {}), 2);
    // sti with IF set already: no shadow
    assert_eq!(
        window(&[0xfb, 0x90], |state| {
            with_if(state);
            state.shadow = Shadow::Sti;
        }),
        1
    );
    // sti; sti; nop: only the first counts
    assert_eq!(window(&[0xfb, 0xfb, 0x90, 0xf4], |_| {}), 2);
    // push IF; popfd; nop: at once
    assert_eq!(window(&[0x68, 2, 2, 0, 0, 0x9d, 0x90, 0xf4], |_| {}), 6);
    // sti; hlt: after HLT
    assert_eq!(window(&[0xfb, 0xf4], |_| {}), 2);
}

#[test]
fn a_load_of_ss_shuts_the_window_for_one_instruction() {
    // mov ss, eax; nop; nop (with IF set after the first check)
    let mut machine = machine(&[0x8e, 0xd0, 0x90, 0x90, 0xf4], 0);
    machine.change(|state| {
        with_if(state);
        state.gpr[gpr::EAX] = u32::from(super::DATA0);
    });
    assert_eq!(machine.run(1), Exit::Budget);
    machine.change(|state| state.interrupt_line = true);
    assert_eq!(machine.run(10), Exit::InterruptWindow);
    assert_eq!(machine.state().eip - CODE, 3);
}

#[test]
fn sti_then_cli_never_opens_the_window() {
    // sti; cli; hlt
    let mut machine = machine(&[0xfb, 0xfa, 0xf4], 0);
    machine.change(|state| state.interrupt_line = true);
    assert_eq!(machine.run(10), Exit::Halted);
}

#[test]
fn an_interrupt_wakes_hlt_and_returns_behind_it() {
    let mut machine = machine(&[0xf4, 0xf4], 0);
    machine.change(with_if);
    assert_eq!(machine.run(10), Exit::Halted);
    assert_eq!(machine.run(10), Exit::Halted);
    assert_eq!(machine.state().retired, 1);
    machine.change(|state| state.pending_vector = Some(VECTOR));
    let event = event(&mut machine);
    assert_eq!((event.vector, event.error, event.eip), (VECTOR, None, 1));
    assert_eq!(event.eflags & (flags::IF | flags::RF), flags::IF);
    assert_eq!(machine.state().eflags & flags::IF, 0);
}

#[test]
fn each_delivery_counts_so_that_nested_ones_spend_the_budget() {
    // A trap gate leaves IF set, so the line opens the window again before the
    // first instruction of the handler.
    let mut machine = machine(&[0x90, 0xf4], 0);
    set_gate(&mut machine, VECTOR, CODE0, 0x7000, 0x8f);
    machine.change(|state| {
        with_if(state);
        state.interrupt_line = true;
    });
    let top = machine.state().gpr[gpr::ESP];
    for delivered in 0..5 {
        assert_eq!(machine.run(1), Exit::InterruptWindow);
        assert_eq!(machine.state().retired, delivered);
        machine.change(|state| state.pending_vector = Some(VECTOR));
        // Without a budget it waits.
        assert_eq!(machine.run(0), Exit::Budget);
        assert_eq!(machine.state().retired, delivered);
    }
    assert_eq!(machine.state().gpr[gpr::ESP], top - 4 * 12);
}

#[test]
fn an_interrupt_between_two_iterations_of_rep_restarts_it() {
    // rep stosb; hlt
    let mut machine = machine(&[0xf3, 0xaa, 0xf4], 0);
    machine.change(|state| {
        with_if(state);
        state.gpr[gpr::ECX] = 1000;
        state.gpr[gpr::EDI] = 0x1_0000;
    });
    assert_eq!(machine.run(10), Exit::Budget);
    machine.change(|state| state.pending_vector = Some(VECTOR));
    let event = event(&mut machine);
    assert_eq!(
        (event.vector, event.eip, machine.state().gpr[gpr::ECX]),
        (VECTOR, 0, 990)
    );
}

#[test]
fn an_interrupt_whose_gate_is_bad_raises_with_ext() {
    let gate_code = (u32::from(VECTOR) * 8) | 2 | 1;
    for (access, expected) in [(0x0e, (11, Some(gate_code))), (0x8c, (13, Some(gate_code)))] {
        let mut machine = machine(&[0x90, 0xf4], 0);
        set_gate(&mut machine, VECTOR, CODE0, 0x7000, access);
        machine.change(|state| state.pending_vector = Some(VECTOR));
        assert_eq!(fault(&mut machine), expected);
    }
}

#[test]
fn an_interrupt_ignores_the_dpl_of_its_gate() {
    let mut machine = machine(&[0x90], 3);
    set_gate(
        &mut machine,
        VECTOR,
        CODE0,
        0x7000 + 16 * u32::from(VECTOR),
        0x8e,
    );
    machine.change(|state| state.pending_vector = Some(VECTOR));
    let event = event(&mut machine);
    assert_eq!(
        (event.vector, event.eip, event.esp),
        (VECTOR, 0, USER_STACK)
    );
}

#[test]
fn a_page_fault_while_pushing_the_frame_is_delivered_in_its_place() {
    // The user's INT3 needs the kernel stack, whose page is absent; the page
    // fault needs it as well: double fault, and again: shutdown.
    let mut machine = machine(&[0xcc], 3);
    paged(&mut machine, &[(KERNEL_STACK - 0x1000, 0)]);
    assert_eq!(machine.run(100), Exit::TripleFault);
    assert_eq!(machine.state().cr2, KERNEL_STACK - 4);
}

#[test]
fn gates_on_an_absent_page_end_in_shutdown() {
    let mut machine = machine(&[0x0f, 0x0b], 0);
    paged(&mut machine, &[(0x3_0000, 0)]);
    machine.change(|state| state.idtr.base = 0x3_0000);
    assert_eq!(machine.run(100), Exit::TripleFault);
    assert_eq!(machine.state().cr2, 0x3_0000 + 8 * 8);
}

#[test]
fn no_vector_table_is_shutdown() {
    let mut machine = machine(&[0xcc], 0);
    machine.change(|state| {
        state.idtr = DescriptorTable {
            base: IDT,
            limit: 0,
        }
    });
    assert_eq!(machine.run(100), Exit::TripleFault);
    // Nothing was changed on the way.
    let state = machine.state();
    assert_eq!(
        (state.eip, state.gpr[gpr::ESP]),
        (CODE, KERNEL_STACK - 0x400)
    );
}

#[test]
fn a_fault_in_the_double_fault_handler_is_a_new_story() {
    // #GP with an absent gate gives #DF; its handler executes UD2.
    let mut machine = machine(&[0x0f, 0x00, 0xd8], 0);
    machine.change(|state| state.gpr[gpr::EAX] = 0);
    set_gate(&mut machine, 13, CODE0, 0, 0x0e);
    machine.write(0x7000 + 8 * 16, &[0x0f, 0x0b]);
    assert_eq!(fault(&mut machine), (6, None));
}

#[test]
fn faults_carry_rf_and_traps_do_not() {
    // ud2; int3; into (with OF)
    let table: [(&[u8], u8, bool); 4] = [
        (&[0x0f, 0x0b], 6, true),
        (&[0xcc], 3, false),
        (&[0xcd, 5], 5, false),
        (&[0xf7, 0xf1], 0, true),
    ];
    for (code, vector, rf) in table {
        let mut machine = machine(code, 0);
        machine.change(|state| state.gpr[gpr::ECX] = 0);
        let event = event(&mut machine);
        assert_eq!(
            (event.vector, event.eflags & flags::RF != 0),
            (vector, rf),
            "{code:x?}"
        );
    }
}

/// The exception comes from ring 3 with a 16-bit SS: only SP is used, and IRET
/// brings back SP alone.
#[test]
fn iret_to_a_16_bit_stack_leaves_the_upper_half_of_esp() {
    // iretd to ring 3 with SS = FREE (16-bit); there: mov eax, esp; int3
    let mut machine = machine(&[0xcf], 0);
    set_descriptor(&mut machine, FREE, descriptor(0, 0xffff, 0xf3, 0));
    machine.write(0x1800, &[0x89, 0xe0, 0xcc]);
    let esp = KERNEL_STACK - 0x400;
    for (n, value) in [
        0x1800,
        u32::from(super::CODE3),
        2,
        0x1234_a000,
        u32::from(FREE) | 3,
    ]
    .into_iter()
    .enumerate()
    {
        put(&mut machine, esp + 4 * u32::try_from(n).unwrap(), value);
    }
    machine.change(|state| state.gpr[gpr::ESP] = esp);
    assert_eq!(fault(&mut machine).0, 3);
    assert_eq!(machine.state().gpr[gpr::EAX], esp & 0xffff_0000 | 0xa000);
}

#[test]
fn call_through_a_gate_copies_parameters_and_restarts_cleanly() {
    // call FREE:0 from ring 3 with two parameters; the old stack ends too early
    for (limit, expected) in [(0xa007, None), (0xa006, Some((12, Some(0))))] {
        let mut machine = machine(&[0x9a, 0, 0, 0, 0, 0x33, 0], 3);
        let at = GDT + u32::from(FREE);
        put(&mut machine, at, u32::from(CODE0) << 16 | 0x1800);
        put(&mut machine, at + 4, 0xec02);
        machine.write(0x1800, &[0xcc]);
        put(&mut machine, USER_STACK, 0xaaaa);
        put(&mut machine, USER_STACK + 4, 0xbbbb);
        let user = descriptor(0, limit, 0xf3, 0x40);
        machine.change(|state| state.segments[2] = super::segment(super::DATA3, user));
        let got = event(&mut machine);
        match expected {
            None => {
                assert_eq!(got.vector, 3);
                let frame: Vec<u32> = (1..7).map(|n| machine.read(KERNEL_STACK - 4 * n)).collect();
                let cs = u32::from(super::CODE3);
                let ss = u32::from(super::DATA3);
                assert_eq!(frame, [ss, USER_STACK, 0xbbbb, 0xaaaa, cs, CODE + 7]);
            }
            Some(expected) => {
                assert_eq!((got.vector, got.error), expected);
                assert_eq!((got.eip, got.esp), (0, USER_STACK));
            }
        }
    }
}

#[test]
fn the_tss_is_read_by_its_limit() {
    // int3 in ring 3 with a TSS that ends inside SS0
    for (limit, expected) in [(9, (3, None)), (8, (10, Some(0x28)))] {
        let mut machine: Machine = machine(&[0xcc], 3);
        machine.change(|state| state.tr = super::segment(0x28, descriptor(TSS, limit, 0x8b, 0)));
        // A second handler's frame cannot be taken from ring 3 either.
        if limit == 8 {
            assert_eq!(machine.run(100), Exit::TripleFault);
        } else {
            assert_eq!(fault(&mut machine), expected);
        }
    }
}
