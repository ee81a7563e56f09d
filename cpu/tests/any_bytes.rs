//! No guest code panics the CPU or keeps it beyond its budget, and nothing
//! that the host may do between instructions changes what the guest sees.

use latefork_cpu::CpuModel;
use latefork_cpu::testing::layout::{DATA, DATA_ENTRY};
use latefork_cpu::testing::{Event, Scenario, Start, run_scenario};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

/// The same cases in every run: `cpu_any_bytes` looks for new ones.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2007),
        ..ProptestConfig::default()
    }
}

fn scenario(start: Start, code: &[u8]) -> Scenario {
    Scenario {
        model: CpuModel::Sse,
        start,
        seed: 1,
        events: vec![(100, Event::Interrupt(0x21))],
        code: code.to_vec(),
    }
}

/// Instructions out of a few pieces, some with an address near `DATA`.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let at = |page: u32| (0u32..0xf0).prop_map(move |at| (DATA + page + at).to_le_bytes());
    let register = || any::<u8>().prop_map(|reg| reg & 0x38);
    prop_oneof![
        4 => vec(any::<u8>(), 1..6),
        // An ALU instruction with a register or a memory operand.
        4 => (any::<u8>(), any::<u8>()).prop_map(|(op, modrm)| vec![op & 0x3b, modrm | 0xc0]),
        3 => (any::<u8>(), register(), at(0xf00))
            .prop_map(|(op, reg, at)| [&[op & 0x3b, 5 | reg], &at[..]].concat()),
        // Over the end of a page: of data, and into the code.
        2 => (select(vec![0x89u8, 0x8b, 0x01]), register(), select(vec![DATA + 0x2ffe, 0xfff]))
            .prop_map(|(op, reg, at)| [&[op, 5 | reg], &at.to_le_bytes()[..]].concat()),
        1 => (-40i32..40).prop_map(|to| [&[0xe8], &to.to_le_bytes()[..]].concat()),
        1 => (any::<u8>(), 0u8..20).prop_map(|(cc, to)| vec![0x70 | cc & 15, to]),
        // cmp eax, imm8; jcc back or forth.
        2 => (any::<u8>(), any::<u8>(), -30i8..30)
            .prop_map(|(value, cc, to)| vec![0x83, 0xf8, value, 0x70 | cc & 15, to.cast_unsigned()]),
        // mov ecx, n; mov esi; mov edi; a string instruction with REP or REPNE.
        2 => (0u8..200, at(0xf00), at(0xe00), select(STRINGS.to_vec()), select(vec![0xf2, 0xf3]))
            .prop_map(|(n, from, to, op, rep)| {
                [&[0xb9, n, 0, 0, 0, 0xbe], &from[..], &[0xbf], &to, &[rep, op]].concat()
            }),
        6 => special(),
    ]
}

const STRINGS: &[u8] = &[
    0xa4, 0xa5, 0xaa, 0xab, 0xa6, 0xa7, 0xae, 0xaf, 0xac, 0x6c, 0x6e,
];

/// What random bytes do not reach.
fn special() -> impl Strategy<Value = Vec<u8>> {
    let entry = DATA_ENTRY.to_le_bytes();
    let not_accessed = (!0x20u32).to_le_bytes();
    prop_oneof![
        // Page tables without INVLPG: and dword [entry], ~accessed; btc [entry], 1.
        2 => Just([&[0x81, 0x25][..], &entry, &not_accessed].concat()),
        1 => Just([&[0x0f, 0xba, 0x3d][..], &entry, &[1]].concat()),
        // mov eax, cr3; mov cr3, eax
        1 => Just(vec![0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]),
        // mov byte [code that is about to run], imm8
        2 => (0u8..0xff, any::<u8>()).prop_map(|(at, byte)| vec![0xc6, 0x05, at, 0x10, 0, 0, byte]),
        // int 0x80; in al, 0x60; out 0x61, eax; sti; a set TF
        1 => Just(vec![0xcd, 0x80]),
        1 => Just(vec![0xe4, 0x60]),
        1 => Just(vec![0xe7, 0x61]),
        1 => Just(vec![0xfb]),
        1 => Just(vec![0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d]),
        // The stack into the code: mov esp, CODE + n
        1 => (0u8..0x80).prop_map(|at| vec![0xbc, at, 0x10, 0, 0]),
        // A read-modify-write beyond RAM: a page fault, or a device.
        1 => Just(vec![0x83, 0x05, 0, 0, 0x20, 0, 3]),
        1 => Just(vec![0x83, 0x05, 0xfe, 0x2f, 1, 0, 3]),
    ]
}

/// Instructions that the decoder makes one op of with those beside them.
fn fusable() -> impl Strategy<Value = Vec<u8>> {
    // Pages that may be written, may not, are code, or end where RAM does.
    let edges = [
        DATA + 0x40,
        DATA + 0xffa,
        DATA + 0x1ffa,
        0xffa,
        0x1040,
        0x1_2ffa,
    ];
    let at = move || (select(edges.to_vec()), 0u32..12).prop_map(|(at, n)| (at + n).to_le_bytes());
    let modrm = || any::<u8>();
    let condition = || any::<u8>().prop_map(|cc| 0x70 | cc & 15);
    prop_oneof![
        // push and pop of a register, also of ESP
        6 => (0x50u8..0x60).prop_map(|op| vec![op]),
        // mov between registers and memory, movzx
        3 => (select(vec![0x89u8, 0x8b]), modrm(), at())
            .prop_map(|(op, reg, at)| [&[op, 5 | reg & 0x38], &at[..]].concat()),
        2 => (select(vec![0x89u8, 0x8b, 0x8d]), modrm(), any::<u8>())
            .prop_map(|(op, modrm, at)| vec![op, 0x46 | modrm & 0x39, at]),
        1 => (modrm(), at()).prop_map(|(reg, at)| [&[0x0f, 0xb6, 5 | reg & 0x38], &at[..]].concat()),
        // two registers; a register and an immediate; shifts
        4 => (select(vec![0x01u8, 0x09, 0x21, 0x29, 0x31, 0x89]), modrm())
            .prop_map(|(op, modrm)| vec![op, 0xc0 | modrm]),
        2 => (modrm(), any::<u8>()).prop_map(|(modrm, value)| vec![0x83, 0xc0 | modrm, value]),
        1 => (select(vec![0xe0u8, 0xe8]), 0u8..8, 0u8..40)
            .prop_map(|(op, reg, count)| vec![0xc1, op | reg, count]),
        // a comparison and its jump; a jump; jmp; call; ret
        3 => (select(vec![0x39u8, 0x85]), modrm(), condition(), -20i8..20)
            .prop_map(|(op, modrm, cc, to)| vec![op, 0xc0 | modrm, cc, to.cast_unsigned()]),
        1 => (condition(), 0u8..9).prop_map(|(cc, to)| vec![cc, to]),
        1 => (0u8..9).prop_map(|to| vec![0xeb, to]),
        1 => (0i32..9).prop_map(|to| [&[0xe8], &to.to_le_bytes()[..]].concat()),
        1 => Just(vec![0xc3]),
        // mov esp, imm
        2 => at().prop_map(|at| [&[0xbc], &at[..]].concat()),
        3 => (at(), at(), any::<[u16; 2]>(), 0u8..2).prop_map(|(place, map, numbers, sure)| {
            count_edge(place, map, numbers, sure)
        }),
    ]
}

/// The counting of an edge. With `sure` the place holds 0 or 1 before, so that
/// it is counted at the start of `map`, if nothing faults.
fn count_edge(place: [u8; 4], map: [u8; 4], [number, next]: [u16; 2], sure: u8) -> Vec<u8> {
    let number = if sure == 1 { number & 1 } else { number };
    let number = u32::from(number).to_le_bytes();
    let next = if sure == 1 { next & 1 } else { next };
    let next = u32::from(next).to_le_bytes();
    let before = [&[0xc7, 0x05], &place[..], &next[..]].concat();
    [
        if sure == 1 { &before[..] } else { &[] },
        &[0xa1],
        &place,
        &[0x35],
        &number,
        &[0x78, 0x18, 0x80, 0x80],
        &map,
        &[0x01, 0x80, 0x98],
        &map,
        &[0x00, 0xc7, 0x05],
        &place,
        &next,
    ]
    .concat()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn fused_instructions_run_the_same_in_every_way(
        choice in any::<[u8; 2]>(),
        events in any::<[u8; 9]>(),
        code in vec(fusable(), 1..60),
    ) {
        let events = &events[..3 * usize::from(choice[0] >> 6)];
        // Only in flat 32-bit modes are instructions fused.
        let choice = [if choice[0] & 6 == 0 { choice[0] | 4 } else { choice[0] | 2 }, choice[1]];
        run_scenario(&Scenario::from_bytes(&[&choice[..], events, &code.concat()].concat()));
    }

    #[test]
    fn any_bytes_run_the_same_in_every_way(bytes in vec(any::<u8>(), 0..300)) {
        run_scenario(&Scenario::from_bytes(&bytes));
    }

    #[test]
    fn likely_bytes_run_the_same_in_every_way(
        choice in any::<[u8; 2]>(),
        code in vec(prop_oneof![
            Just(0x66u8), Just(0x67), Just(0x0F), Just(0xF3), Just(0x83), Just(0x8B), Just(0x89),
            Just(0xFF), Just(0xD9), Just(0xDD), Just(0x6C), Just(0xA4), Just(0xAB), Just(0xEB),
            Just(0xE8), Just(0x0F), 0x50u8..0x60, 0x00u8..0x20, any::<u8>(),
        ], 0..200),
    ) {
        run_scenario(&Scenario::from_bytes(&[&choice[..], &code].concat()));
    }

    #[test]
    fn instructions_run_the_same_in_every_way(
        choice in any::<[u8; 2]>(),
        events in any::<[u8; 9]>(),
        code in vec(instruction(), 1..60),
    ) {
        let events = &events[..3 * usize::from(choice[0] >> 6)];
        run_scenario(&Scenario::from_bytes(&[&choice[..], events, &code.concat()].concat()));
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
    // again: and dword [entry of DATA], ~0x60; mov eax, [ebx]; mov [ebx], eax;
    // mov edx, [entry of DATA]; add [esi], edx; jmp again
    let entry = DATA_ENTRY.to_le_bytes();
    let code = [
        &[0x81, 0x25][..],
        &entry,
        &[0x9F, 0xFF, 0xFF, 0xFF, 0x8B, 0x03, 0x89, 0x03, 0x8B, 0x15],
        &entry,
        &[0x01, 0x16, 0xEB, 0xE8],
    ];
    for start in [Start::Paged0, Start::Paged3] {
        run_scenario(&scenario(start, &code.concat()));
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
    // mov edi, 0x12ff0; mov ecx, 20; rep insb; mov esi, 0x12ff0; mov ecx, 8;
    // rep outsd; mov ecx, 30; rep movsb; hlt
    let code = [
        0xBF, 0xF0, 0x2F, 0x01, 0x00, 0xB9, 0x14, 0, 0, 0, 0xF3, 0x6C, 0xBE, 0xF0, 0x2F, 0x01, 0,
        0xB9, 8, 0, 0, 0, 0xF3, 0x6F, 0xB9, 0x1E, 0, 0, 0, 0xF3, 0xA4, 0xF4,
    ];
    run_scenario(&scenario(Start::Flat0, &code));
}
