//! Which instructions become one op, and what shows of it: nothing.
//! `tests/any_bytes.rs` compares them with single steps at random.

use super::{CODE, DATA, Machine, STACK};
use crate::registers::gpr::{EAX, EBX, ECX, EDX, ESP};
use crate::{CpuState, Exit};

/// Runs `code` to its HLT; the state then, and how many ops the first block has.
fn run(code: &[u8], change: impl FnOnce(&mut CpuState)) -> (Machine, usize) {
    let mut machine = Machine::new(code);
    machine.change(change);
    assert_eq!(machine.run(1000), Exit::Halted);
    let ops = machine.cpu.cache.ops_of_first_block();
    (machine, ops)
}

#[test]
fn pushes_and_pops_are_runs() {
    // push eax; push ecx; push edx; push ebx; pop eax; pop ecx; pop edx; hlt
    let code = [0x50, 0x51, 0x52, 0x53, 0x58, 0x59, 0x5a, 0xf4];
    let (machine, ops) = run(&code, |state| {
        state.gpr[EAX] = 1;
        state.gpr[ECX] = 2;
        state.gpr[EDX] = 3;
        state.gpr[EBX] = 4;
    });
    let state = machine.state();
    assert_eq!(ops, 3);
    assert_eq!([state.gpr[EAX], state.gpr[ECX], state.gpr[EDX]], [4, 3, 2]);
    assert_eq!(state.gpr[ESP], STACK - 4);
    assert_eq!(machine.read(STACK - 4), 1);
    assert_eq!(state.retired, 8);
}

#[test]
fn a_push_of_the_stack_pointer_is_in_no_run() {
    // push esp; push esp; push esp; hlt
    let (machine, _) = run(&[0x54, 0x54, 0x54, 0xf4], |_| {});
    let pushed = [4, 8, 12].map(|below| machine.read(STACK - below));
    assert_eq!(pushed, [STACK, STACK - 4, STACK - 8]);
}

#[test]
fn frequent_instructions_are_pairs() {
    // mov eax, [DATA]; mov ecx, eax; add ecx, 5; mov [DATA + 4], ecx; hlt
    let code = [
        0xa1, 0, 0, 1, 0, 0x89, 0xc1, 0x83, 0xc1, 5, 0x89, 0x0d, 4, 0, 1, 0, 0xf4,
    ];
    let mut machine = Machine::new(&code);
    machine.write_u32(DATA, 37);
    assert_eq!(machine.run(1000), Exit::Halted);
    assert_eq!(machine.cpu.cache.ops_of_first_block(), 3);
    assert_eq!(machine.read(DATA + 4), 42);
}

/// The counting of an edge at DATA + 0x100 + (place ^ 6), and HLT.
const COUNT: &[u8] = &[
    0xa1, 0, 0, 1, 0, // mov eax, [DATA]
    0x35, 6, 0, 0, 0, // xor eax, 6
    0x78, 0x18, // js end
    0x80, 0x80, 0, 1, 1, 0, 1, // add byte [eax + DATA + 0x100], 1
    0x80, 0x98, 0, 1, 1, 0, 0, // sbb byte [eax + DATA + 0x100], 0
    0xc7, 0x05, 0, 0, 1, 0, 3, 0, 0, 0,    // mov dword [DATA], 3
    0xf4, // end: hlt
];

#[test]
fn an_edge_is_counted_by_one_op_and_up_to_255() {
    for (before, after) in [(0, 1), (254, 255), (255, 255)] {
        let mut machine = Machine::new(COUNT);
        machine.write_u32(DATA, 5);
        machine.write_u32(DATA + 0x103, before);
        assert_eq!(machine.run(1000), Exit::Halted);
        assert_eq!(machine.cpu.cache.ops_of_first_block(), 2);
        let state = machine.state();
        assert_eq!((state.gpr[EAX], state.retired), (3, 7));
        assert_eq!((machine.read(DATA), machine.read(DATA + 0x103)), (3, after));
    }
}

#[test]
fn an_edge_that_is_not_to_be_counted_is_three_instructions() {
    let mut machine = Machine::new(COUNT);
    machine.write_u32(DATA, 1 << 31);
    assert_eq!(machine.run(1000), Exit::Halted);
    let state = machine.state();
    assert_eq!(state.retired, 4);
    assert_eq!(state.gpr[EAX], 1 << 31 | 6);
    assert_eq!(state.eip, CODE + 37);
    assert_eq!(machine.read(DATA), 1 << 31);
}

#[test]
fn a_budget_ends_inside_of_an_op() {
    for budget in 0..7 {
        let mut machine = Machine::new(COUNT);
        machine.write_u32(DATA, 5);
        assert_eq!(machine.run(budget), Exit::Budget);
        let state = machine.state();
        assert_eq!(state.retired, budget);
        let offsets = [0, 5, 10, 12, 19, 26, 36];
        let place = usize::try_from(budget).expect("a small number");
        assert_eq!(state.eip, CODE + offsets[place]);
        assert_eq!(machine.run(100), Exit::Halted);
        assert_eq!(machine.read(DATA + 0x103), 1);
    }
}
