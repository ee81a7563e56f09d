use super::{CODE, DATA, Machine, STACK};
use crate::registers::gpr::{EAX, ECX, EDI, ESI, ESP};
use crate::{CpuState, Exit};

#[test]
fn adds_and_halts() {
    // mov eax, 5; add eax, 7; mov [0x10000], eax; hlt
    let mut machine = Machine::new(&[0xb8, 5, 0, 0, 0, 0x83, 0xc0, 7, 0xa3, 0, 0, 1, 0, 0xf4]);
    assert_eq!(machine.run(100), Exit::Halted);
    let state = machine.state();
    assert_eq!((state.gpr[EAX], state.retired), (12, 4));
    assert_eq!(machine.read(DATA), 12);
    assert_eq!(state.eip, CODE + 14);
}

/// mov ecx, 1000; l: push ecx; call f; pop edx; dec ecx; jnz l; hlt; f: add
/// eax, ecx; ret
const CALLS: &[u8] = &[
    0xb9, 0xe8, 3, 0, 0, 0x51, 0xe8, 5, 0, 0, 0, 0x5a, 0x49, 0x75, 0xf6, 0xf4, 0x01, 0xc8, 0xc3,
];

#[test]
fn loops_and_calls() {
    let mut machine = Machine::new(CALLS);
    assert_eq!(machine.run(1_000_000), Exit::Halted);
    let state = machine.state();
    assert_eq!(state.gpr[EAX], 500_500);
    assert_eq!(state.gpr[ESP], STACK);
    assert_eq!(state.retired, 2 + 7 * 1000);
}

#[test]
fn every_budget_is_exact() {
    for budget in 0..40 {
        let mut machine = Machine::new(CALLS);
        assert_eq!(machine.run(budget), Exit::Budget);
        assert_eq!(machine.state().retired, budget);
    }
}

#[test]
fn rep_retires_each_iteration_and_stops_anywhere() {
    // rep movsb; hlt
    let mut machine = Machine::new(&[0xf3, 0xa4, 0xf4]);
    machine.write(DATA, b"The quick brown fox jumps over the lazy dog....");
    machine.change(|state| {
        state.gpr[ESI] = DATA;
        state.gpr[EDI] = DATA + 0x1ff0;
        state.gpr[ECX] = 44;
    });
    assert_eq!(machine.run(17), Exit::Budget);
    let state = machine.state();
    assert_eq!((state.gpr[ECX], state.eip, state.retired), (27, CODE, 17));
    assert_eq!(machine.run(1000), Exit::Halted);
    assert_eq!(machine.state().retired, 45);
    assert_eq!(machine.read(DATA + 0x1ff0 + 40), machine.read(DATA + 40));
}

#[test]
fn code_that_rewrites_itself_is_seen_at_once() {
    // mov byte [CODE+8], 0x48; (here:) inc eax -> dec eax; hlt
    let mut machine = Machine::new(&[0xc6, 0x05, 8, 0x10, 0, 0, 0x48, 0x90, 0x40, 0xf4]);
    assert_eq!(machine.run(10), Exit::Halted);
    assert_eq!(machine.state().gpr[EAX], u32::MAX);
}

#[test]
fn mmio_read_modify_write_exits_twice_and_retires_once() {
    // add dword [0x200000], 3; hlt: beyond RAM
    let mut machine = Machine::new(&[0x83, 0x05, 0, 0, 0x20, 0, 3, 0xf4]);
    let address = crate::PhysAddr(0x20_0000);
    assert_eq!(machine.run(10), Exit::MmioRead { address, size: 4 });
    machine.cpu.complete_read(39);
    let state = machine.state();
    assert_eq!(CpuState::from_bytes(&state.to_bytes()), Ok(state));
    assert_eq!(
        machine.run(10),
        Exit::MmioWrite {
            address,
            size: 4,
            value: 42
        }
    );
    assert_eq!(machine.state().retired, 0);
    assert_eq!(machine.run(10), Exit::Halted);
    assert_eq!(machine.state().retired, 2);
}

#[test]
fn a_read_modify_write_over_the_start_of_its_own_page_is_done_once() {
    // add dword [0xffe], 0x00020002; hlt: the upper half hits this instruction
    let mut machine = Machine::new(&[0x81, 0x05, 0xfe, 0x0f, 0, 0, 2, 0, 2, 0, 0xf4]);
    machine.write(0xffe, &[7, 0]);
    assert_eq!(machine.run(100), Exit::Halted);
    assert_eq!(machine.read(0xffe), 0x0583_0009);
}

#[test]
fn a_read_modify_write_over_the_end_of_memory_is_done_once() {
    // add dword [0xffffe], 0x00020002; hlt
    let mut machine = Machine::new(&[0x81, 0x05, 0xfe, 0xff, 0x0f, 0, 2, 0, 2, 0, 0xf4]);
    machine.write(0xf_fffc, &[0, 0, 7, 0]);
    let mut written = Vec::new();
    loop {
        match machine.run(2) {
            Exit::MmioRead { size: 1, .. } => machine.cpu.complete_read(0x10),
            Exit::MmioWrite { address, value, .. } => written.push((address.0, value)),
            exit => {
                assert_eq!(exit, Exit::Halted);
                break;
            }
        }
    }
    assert_eq!(written, [(0x10_0000, 0x12), (0x10_0001, 0x10)]);
    assert_eq!(machine.read(0xf_fffc), 0x0009_0000);
    assert_eq!(machine.state().retired, 2);
}
