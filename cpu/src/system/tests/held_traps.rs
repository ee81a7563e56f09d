//! Debug traps that cannot be delivered at once: a load of SS holds them back,
//! or their delivery takes memory-mapped accesses.

use super::{DATA0, HANDLERS, event, machine, put};
use crate::flags;
use crate::registers::{dr, gpr};
use crate::tests::{DATA, Machine};
use crate::{CpuState, Exit};

const ONES: u32 = dr::DR6_ONES;
/// DR7: breakpoint 0 is enabled, for data reads and writes of four bytes.
const WATCH: u32 = 0x400 | 1 | 0b1111 << 16;
/// mov ss, [DATA]
const MOV_SS: [u8; 6] = [0x8e, 0x15, 0, 0, 1, 0];
const MOV_SS_LEN: u32 = 6;

/// The address of a vector's handler.
const fn handler(vector: u32) -> u32 {
    HANDLERS + 16 * vector
}

/// `mov ss, [DATA]` with a breakpoint on DATA, and `next`.
fn held(next: &[u8]) -> Machine {
    let mut machine = machine(&[&MOV_SS, next].concat(), 0);
    put(&mut machine, DATA, u32::from(DATA0));
    machine.change(|state| {
        state.dr[0] = DATA;
        state.dr[7] = WATCH;
    });
    machine
}

/// Vector, saved EIP and DR6 of the first event.
fn trap(mut machine: Machine) -> (u8, u32, u32) {
    let event = event(&mut machine);
    (event.vector, event.eip, machine.state().dr[6])
}

#[test]
fn a_breakpoint_of_mov_ss_traps_after_the_next_instruction() {
    let found = trap(held(&[0x90, 0x90, 0xf4]));
    assert_eq!(found, (1, MOV_SS_LEN + 1, ONES | 1));
}

#[test]
fn it_joins_the_single_step_of_the_next_instruction() {
    let mut machine = held(&[0x90, 0x90, 0xf4]);
    machine.change(|state| state.eflags |= flags::TF);
    assert_eq!(trap(machine), (1, MOV_SS_LEN + 1, ONES | dr::BS | 1));
}

#[test]
fn it_is_kept_over_a_second_load_of_ss() {
    // mov ss, eax; nop
    let mut machine = held(&[0x8e, 0xd0, 0x90, 0xf4]);
    machine.change(|state| state.gpr[gpr::EAX] = u32::from(DATA0));
    assert_eq!(trap(machine), (1, MOV_SS_LEN + 3, ONES | 1));
}

#[test]
fn it_traps_in_the_handler_of_a_software_interrupt() {
    // The handler of INT 4 is entered, but its HLT has not run yet.
    let mut machine = held(&[0xcd, 4]);
    assert_eq!(machine.run(100), Exit::Halted);
    let state = machine.state();
    assert_eq!(state.eip, handler(1) + 1);
    assert_eq!(machine.read(state.gpr[gpr::ESP]), handler(4));
    assert_eq!(state.dr[6], ONES | 1);
}

#[test]
fn it_outlives_a_fault_of_the_next_instruction() {
    let mut machine = held(&[0x0f, 0x0b]);
    assert_eq!(machine.run(100), Exit::Halted);
    let state = machine.state();
    assert_eq!(state.eip, handler(1) + 1);
    assert_eq!(machine.read(state.gpr[gpr::ESP]), handler(6));
    assert_eq!(state.dr[6], ONES | 1);
}

#[test]
fn it_survives_a_save_between_the_two_instructions() {
    let mut machine = held(&[0x90, 0x90, 0xf4]);
    assert_eq!(machine.run(1), Exit::Budget);
    let state = machine.state();
    assert_eq!(state.debug_hits, 1);
    let bytes = state.to_bytes();
    machine.change(|changed| *changed = CpuState::from_bytes(&bytes).expect("a saved state"));
    assert_eq!(trap(machine), (1, MOV_SS_LEN + 1, ONES | 1));
}

#[test]
fn without_a_breakpoint_nothing_is_held() {
    let mut machine = held(&[0x90, 0xf4]);
    machine.change(|state| state.dr[7] = 0x400);
    assert_eq!(machine.run(100), Exit::Halted);
    let state = machine.state();
    assert_eq!(
        (state.eip, state.dr[6]),
        (super::CODE + MOV_SS_LEN + 2, ONES)
    );
}

/// A stack where no RAM is: every push leaves the run.
const MMIO_STACK: u32 = 0x20_0000;

/// Runs to HLT, with a save and restore at every exit; what was written.
fn run_with_mmio(machine: &mut Machine, budget: u64) -> Vec<(u64, u32)> {
    let mut writes = Vec::new();
    for _ in 0..100 {
        match machine.run(budget) {
            Exit::MmioWrite { address, value, .. } => writes.push((address.0, value)),
            Exit::Budget => {}
            Exit::Halted => return writes,
            other => panic!("{other:?}"),
        }
        let bytes = machine.state().to_bytes();
        machine.change(|changed| *changed = CpuState::from_bytes(&bytes).expect("a saved state"));
    }
    panic!("it does not halt");
}

#[test]
fn a_trap_whose_delivery_is_memory_mapped_is_not_lost() {
    for budget in [1, 2, 1000] {
        let mut machine = machine(&[0x90, 0x40, 0xf4], 0);
        machine.change(|state| {
            state.eflags |= flags::TF;
            state.gpr[gpr::ESP] = MMIO_STACK;
        });
        let writes = run_with_mmio(&mut machine, budget);
        let state = machine.state();
        let frame = [
            (u64::from(MMIO_STACK) - 4, 2 | flags::TF),
            (u64::from(MMIO_STACK) - 8, u32::from(super::CODE0)),
            (u64::from(MMIO_STACK) - 12, super::CODE + 1),
        ];
        assert_eq!(writes, frame, "budget {budget}");
        assert_eq!(state.eip, handler(1) + 1);
        assert_eq!((state.dr[6], state.gpr[gpr::EAX]), (ONES | dr::BS, 0));
        // NOP and the handler's HLT.
        assert_eq!(machine.cpu.retired(), 2, "budget {budget}");
    }
}

#[test]
fn a_breakpoint_on_memory_mapped_io_traps_once_after_the_access() {
    // mov [MMIO_STACK], eax; inc eax; hlt
    let mut machine = machine(&[0xa3, 0, 0, 0x20, 0, 0x40, 0xf4], 0);
    machine.change(|state| {
        state.dr[0] = MMIO_STACK;
        state.dr[7] = WATCH;
    });
    let writes = run_with_mmio(&mut machine, 1000);
    let state = machine.state();
    assert_eq!(writes, [(u64::from(MMIO_STACK), 0)]);
    assert_eq!(machine.read(state.gpr[gpr::ESP]), super::CODE + 5);
    assert_eq!((state.eip, state.dr[6]), (handler(1) + 1, ONES | 1));
}
