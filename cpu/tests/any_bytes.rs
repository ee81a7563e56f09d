//! No guest code panics the CPU or keeps it beyond its budget, and nothing
//! that the host may do between instructions changes what the guest sees.

use latefork_cpu::CpuModel;
use latefork_cpu::testing::{Event, Scenario, Start, run_scenario};
use proptest::collection::vec;
use proptest::prelude::*;

fn scenario(start: Start, code: &[u8]) -> Scenario {
    Scenario {
        model: CpuModel::Sse,
        start,
        seed: 1,
        events: vec![(100, Event::Interrupt(0x21))],
        code: code.to_vec(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_run_the_same_in_every_way(bytes in vec(any::<u8>(), 0..300)) {
        run_scenario(&Scenario::from_bytes(&bytes));
    }

    /// Bytes that are instructions more often than chance makes them.
    #[test]
    fn likely_instructions_run_the_same_in_every_way(
        choice in any::<[u8; 2]>(),
        code in vec(prop_oneof![
            Just(0x66u8), Just(0x67), Just(0x0F), Just(0xF3), Just(0x83), Just(0x8B), Just(0x89),
            Just(0xFF), Just(0xD9), Just(0xDD), Just(0x6C), Just(0xA4), Just(0xAB), Just(0xEB),
            Just(0xE8), Just(0x0F), 0x50u8..0x60, 0x00u8..0x20, any::<u8>(),
        ], 0..200),
    ) {
        run_scenario(&Scenario::from_bytes(&[&choice[..], &code].concat()));
    }
}

#[test]
fn an_endless_chain_of_exceptions_keeps_the_budget() {
    // The handler of #UD is an invalid instruction itself; the stack wraps.
    // mov word [6 * 4], 0x1010; mov word [6 * 4 + 2], 0; ud2; ...; 1010: ud2
    let mut code = vec![
        0xC7, 0x06, 0x18, 0x00, 0x10, 0x10, 0xC7, 0x06, 0x1A, 0, 0, 0,
    ];
    code.extend([0x0F, 0x0B, 0x90, 0x90, 0x0F, 0x0B]);
    run_scenario(&scenario(Start::Real, &code));
}

#[test]
fn a_guest_that_clears_accessed_bits_without_invlpg() {
    // again: and dword [0x21040], ~0x60; mov eax, [ebx]; mov [ebx], eax;
    // mov edx, [0x21040]; add [esi], edx; jmp again
    let code = [
        0x81, 0x25, 0x40, 0x10, 0x02, 0x00, 0x9F, 0xFF, 0xFF, 0xFF, 0x8B, 0x03, 0x89, 0x03, 0x8B,
        0x15, 0x40, 0x10, 0x02, 0x00, 0x01, 0x16, 0xEB, 0xE8,
    ];
    for start in [Start::Paged0, Start::Paged3] {
        run_scenario(&scenario(start, &code));
    }
}

#[test]
fn a_loop_that_writes_its_own_code() {
    // again: inc byte [0x100a]; inc eax; mov cl, 0; add edx, ecx; jmp again
    let code = [
        0xFE, 0x05, 0x08, 0x10, 0x00, 0x00, 0x40, 0xB1, 0x00, 0x01, 0xCA, 0xEB, 0xF3,
    ];
    for start in [Start::Flat0, Start::Paged0, Start::Pae0] {
        run_scenario(&scenario(start, &code));
    }
}

#[test]
fn string_instructions_with_ports_and_memory_mapped_io() {
    // mov edi, 0x3fff0; mov ecx, 20; rep insb; mov esi, 0x3fff0; mov ecx, 8;
    // rep outsd; mov ecx, 30; rep movsb; hlt
    let code = [
        0xBF, 0xF0, 0xFF, 0x03, 0x00, 0xB9, 0x14, 0, 0, 0, 0xF3, 0x6C, 0xBE, 0xF0, 0xFF, 0x03, 0,
        0xB9, 8, 0, 0, 0, 0xF3, 0x6F, 0xB9, 0x1E, 0, 0, 0, 0xF3, 0xA4, 0xF4,
    ];
    run_scenario(&scenario(Start::Flat0, &code));
}
