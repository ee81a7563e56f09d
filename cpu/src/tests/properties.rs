//! Determinism, save and restore at any instruction, and no panic, for
//! arbitrary guests.
//!
//! A guest is a mixture of random bytes and of sequences that reach what random
//! bytes do not: page-table edits without INVLPG, code that rewrites itself,
//! repeated strings, calls, ports. Its interrupt gates lead to handlers that
//! skip a byte and return, so that a guest goes on after a fault.

use std::cell::Cell;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::{CODE, DATA, flat_state};
use crate::registers::{cr0, gpr};
use crate::segment::{DescriptorTable, Segment, attr};
use crate::{Cpu, CpuModel, CpuState, Exit, Instructions, Memory, PhysAddr};

const RAM: usize = 1 << 20;
const GDT: u32 = 0x2_0000;
const IDT: u32 = 0x2_1000;
const TSS: u32 = 0x2_2000;
const HANDLER: u32 = 0x2_3000;
const HANDLER_WITH_CODE: u32 = 0x2_3800;
const DIRECTORY: u32 = 0x2_4000;
const TABLE: u32 = 0x2_5000;
/// The page-table entry of the page at `DATA`.
const DATA_ENTRY: u32 = TABLE + 4 * (DATA >> 12);

/// One guest: its code and where it starts from.
#[derive(Clone, Debug)]
struct Guest {
    code: Vec<u8>,
    registers: [u32; 8],
    user: Ring,
    model: CpuModel,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ring {
    Kernel,
    User,
}

struct Machine {
    cpu: Cpu,
    ram: Vec<Cell<u8>>,
    dirty: Vec<Cell<u64>>,
    reads: u32,
}

impl Machine {
    fn new(guest: &Guest) -> Self {
        let mut machine = Self {
            cpu: Cpu::new(guest.model),
            ram: vec![Cell::new(0); RAM],
            dirty: vec![Cell::new(0); RAM / 4096 / 64],
            reads: 0,
        };
        machine.tables();
        machine.write(CODE, &guest.code);
        let mut state = flat_state(guest.model);
        state.gpr = guest.registers;
        state.gpr[gpr::ESP] = 0x8000;
        state.cr0 |= cr0::PG | cr0::WP;
        state.cr3 = DIRECTORY;
        state.gdtr = DescriptorTable {
            base: GDT,
            limit: 0x2f,
        };
        state.idtr = DescriptorTable {
            base: IDT,
            limit: 0x7ff,
        };
        state.tr = Segment {
            selector: 0x28,
            attributes: attr::PRESENT | 11,
            base: TSS,
            limit: 0x67,
        };
        if guest.user == Ring::User {
            state.cpl = 3;
            for (n, segment) in state.segments.iter_mut().enumerate() {
                segment.selector = if n == 1 { 0x1b } else { 0x23 };
                segment.attributes |= attr::DPL;
            }
        }
        machine.cpu.restore(&state);
        machine
    }

    fn tables(&mut self) {
        let descriptors: [u64; 6] = [
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_fb00_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x0000_8b02_2000_0067,
        ];
        for (n, descriptor) in (0..).zip(descriptors) {
            self.write(GDT + 8 * n, &descriptor.to_le_bytes());
        }
        for vector in 0..256u32 {
            let with_code = matches!(vector, 8 | 10..=14 | 17);
            let target = if with_code {
                HANDLER_WITH_CODE
            } else {
                HANDLER
            };
            let gate =
                u64::from(target & 0xffff) | 8 << 16 | 0xee00 << 32 | u64::from(target >> 16) << 48;
            self.write(IDT + 8 * vector, &gate.to_le_bytes());
        }
        self.write32(TSS + 4, 0x7000);
        self.write32(TSS + 8, 0x10);
        // add dword [esp], 1; iretd, after dropping an error code.
        self.write(HANDLER, &[0x83, 0x04, 0x24, 0x01, 0xcf]);
        self.write(
            HANDLER_WITH_CODE,
            &[0x83, 0xc4, 0x04, 0x83, 0x04, 0x24, 0x01, 0xcf],
        );
        // The upper half of the megabyte is mapped onto the lower, read-only.
        self.write32(DIRECTORY, TABLE | 7);
        for page in 0..256 {
            let entry = if page < 192 {
                page << 12 | 7
            } else {
                (page - 192) << 12 | 5
            };
            self.write32(TABLE + 4 * page, entry);
        }
    }

    fn write(&mut self, at: u32, bytes: &[u8]) {
        for (cell, &byte) in self.ram[at as usize..].iter().zip(bytes) {
            cell.set(byte);
        }
    }

    fn write32(&mut self, at: u32, value: u32) {
        self.write(at, &value.to_le_bytes());
    }

    /// Runs for `budget` instructions; `false` when the guest has come to its
    /// end. Reads get answers that depend on their number alone.
    fn run(&mut self, budget: u64) -> bool {
        let end = self.cpu.retired() + budget;
        loop {
            let memory = Memory::new(&self.ram, &[], &self.dirty);
            let left = Instructions(end - self.cpu.retired());
            match self.cpu.run(&memory, left) {
                Exit::Budget => {
                    assert_eq!(self.cpu.retired(), end);
                    return true;
                }
                Exit::PortIn { .. } | Exit::MmioRead { .. } => {
                    self.reads += 1;
                    self.cpu.complete_read(self.reads.wrapping_mul(0x9e37_79b9));
                }
                Exit::PortOut { .. } | Exit::MmioWrite { .. } => {}
                _ => return false,
            }
            assert!(self.cpu.retired() <= end);
        }
    }

    fn summary(&self) -> (CpuState, u64, u64) {
        let ram: Vec<u8> = self.ram.iter().map(Cell::get).collect();
        let dirty: Vec<u8> = self
            .dirty
            .iter()
            .flat_map(|word| word.get().to_le_bytes())
            .collect();
        (self.cpu.save(), xxh3_64(&ram), xxh3_64(&dirty))
    }
}

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
        prop_oneof![Just(Ring::Kernel), Just(Ring::User)],
        prop_oneof![Just(CpuModel::Fuzz), Just(CpuModel::Sse)],
    )
        .prop_map(|(pieces, registers, user, model)| Guest {
            // At the end: go back to the start.
            code: pieces.concat(),
            registers,
            user,
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
                moved.cpu.note_host_write(&memory, PhysAddr(0), RAM as u32);
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
    fn no_bytes_panic(code in prop::collection::vec(any::<u8>(), 1..200), real in any::<bool>()) {
        let guest = Guest { code, registers: [0x1_0ff0; 8], user: Ring::Kernel, model: CpuModel::Sse };
        let mut machine = Machine::new(&guest);
        if real {
            machine.cpu = Cpu::new(CpuModel::Sse);
            let mut state = machine.cpu.save();
            state.segments = [Segment::real(0); 6];
            state.eip = CODE;
            machine.cpu.restore(&state);
        }
        machine.run(500);
        prop_assert!(machine.cpu.retired() <= 500);
    }
}
