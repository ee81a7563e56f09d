//! Determinism, save and restore at any instruction, and no panic, for
//! arbitrary guests.
//!
//! A guest is a mixture of random bytes and of sequences that reach what random
//! bytes do not: page-table edits without INVLPG, code that rewrites itself,
//! repeated strings, calls, ports.

use proptest::prelude::*;

use super::guest::{DATA_ENTRY, Guest, Machine, RAM, Ring, run_any_bytes};
use crate::{Cpu, CpuModel, CpuState, Memory, PhysAddr};

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let offset = 0u8..0xf0;
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..6),
        // An ALU instruction with a register or a memory operand near DATA.
        4 => (any::<u8>(), any::<u8>()).prop_map(|(op, modrm)| vec![op & 0x3b, modrm | 0xc0]),
        3 => (any::<u8>(), offset.clone(), any::<u8>())
            .prop_map(|(op, at, reg)| vec![op & 0x3b, 0x05 | reg & 0x38, at, 0x0f, 1, 0]),
        // Over the end of a page.
        2 => (any::<bool>(), any::<u8>())
            .prop_map(|(write, reg)| vec![if write { 0x89 } else { 0x8b }, 0x05 | reg & 0x38, 0xfe, 0x0f, 1, 0]),
        // and dword [entry of DATA], ~0x20: no INVLPG.
        2 => Just([&[0x81, 0x25][..], &DATA_ENTRY.to_le_bytes(), &(!0x20u32).to_le_bytes()].concat()),
        1 => Just([&[0x0f, 0xba, 0x3d][..], &DATA_ENTRY.to_le_bytes(), &[1]].concat()),
        1 => Just(vec![0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]),
        // Writes into the code that is about to run.
        2 => (0u8..0xff, any::<u8>()).prop_map(|(at, byte)| vec![0xc6, 0x05, at, 0x10, 0, 0, byte]),
        // mov ecx, n; mov esi/edi; rep movs, stos, cmps, scas.
        2 => (0u8..200, offset.clone(), offset, prop::sample::select(vec![
            0xa4u8, 0xa5, 0xaa, 0xab, 0xa6, 0xa7, 0xae, 0xaf, 0xac, 0x6c, 0x6e,
        ]), any::<bool>())
            .prop_map(|(n, from, to, op, ne)| vec![
                0xb9, n, 0, 0, 0, 0xbe, from, 0x0f, 1, 0, 0xbf, to, 0x0e, 1, 0,
                if ne { 0xf2 } else { 0xf3 }, op,
            ]),
        1 => (any::<u8>(), 0u8..20).prop_map(|(cc, to)| vec![0x70 | cc & 15, to]),
        // cmp eax, imm8; jcc back or forth.
        2 => (any::<u8>(), any::<u8>(), -30i8..30)
            .prop_map(|(value, cc, to)| vec![0x83, 0xf8, value, 0x70 | cc & 15, to.cast_unsigned()]),
        1 => (-40i8..40).prop_map(|to| vec![0xe8, to.cast_unsigned(), if to < 0 { 0xff } else { 0 }, if to < 0 { 0xff } else { 0 }, if to < 0 { 0xff } else { 0 }]),
        1 => Just(vec![0xcd, 0x80]),
        1 => Just(vec![0xe4, 0x60]),
        1 => Just(vec![0xe7, 0x61]),
        1 => Just(vec![0xfb]),
        1 => Just(vec![0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d]),
        // A load and a read-modify-write beyond RAM: unmapped, a page fault.
        1 => Just(vec![0x83, 0x05, 0, 0, 0x20, 0, 3]),
    ]
}

fn guest() -> impl Strategy<Value = Guest> {
    (
        prop::collection::vec(piece(), 1..60),
        prop::array::uniform8(prop_oneof![0u32..0x3_0000, any::<u32>()]),
        prop_oneof![Just(Ring::Kernel), Just(Ring::User), Just(Ring::Real)],
        prop_oneof![Just(CpuModel::Fuzz), Just(CpuModel::Sse)],
    )
        .prop_map(|(pieces, registers, ring, model)| Guest {
            code: pieces.concat(),
            registers,
            ring,
            model,
        })
}

const TOTAL: u64 = 600;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn budgets_do_not_change_anything(guest in guest(), cuts in prop::collection::vec(1u64..60, 1..80)) {
        let mut whole = Machine::new(&guest);
        let mut pieces = Machine::new(&guest);
        let mut left = TOTAL;
        let mut alive = true;
        for cut in cuts.into_iter().chain([TOTAL]) {
            let budget = cut.min(left);
            alive = alive && pieces.run(budget);
            left -= budget;
        }
        whole.run(TOTAL);
        prop_assert_eq!(whole.summary(), pieces.summary());
    }

    #[test]
    fn single_instructions_do_what_blocks_do(guest in guest()) {
        let mut whole = Machine::new(&guest);
        let mut single = Machine::new(&guest);
        let mut alive = true;
        for _ in 0..TOTAL {
            alive = alive && single.run(1);
        }
        whole.run(TOTAL);
        prop_assert_eq!(whole.summary(), single.summary());
    }

    #[test]
    fn save_and_restore_change_nothing(guest in guest(), cuts in prop::collection::vec(1u64..100, 1..10)) {
        let mut kept = Machine::new(&guest);
        let mut moved = Machine::new(&guest);
        for cut in cuts {
            let alive = kept.run(cut);
            prop_assert_eq!(alive, moved.run(cut));
            let state = moved.cpu.save();
            let bytes = state.to_bytes();
            prop_assert_eq!(CpuState::from_bytes(&bytes), Ok(state.clone()));
            // Into a new CPU once, into one with blocks of another past once.
            if cut % 2 == 0 {
                moved.cpu = Cpu::new(CpuModel::Fuzz);
            } else {
                moved.run(7);
                let memory = Memory::new(&moved.ram, &[], &moved.dirty);
                for (to, from) in moved.ram.iter().zip(&kept.ram) {
                    to.set(from.get());
                }
                for (to, from) in moved.dirty.iter().zip(&kept.dirty) {
                    to.set(from.get());
                }
                moved.cpu.note_host_write(&memory, PhysAddr(0), RAM);
                moved.cpu.dirty_cleared();
            }
            moved.cpu.restore(&state);
            moved.reads = kept.reads;
            if !alive {
                break;
            }
        }
        prop_assert_eq!(kept.summary(), moved.summary());
    }

    #[test]
    fn any_bytes_are_the_same_in_pieces(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        run_any_bytes(&bytes);
    }
}
