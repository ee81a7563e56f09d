//! Guests out of arbitrary bytes, for property tests.
//!
//! A guest's interrupt gates lead to handlers that skip a byte and return, so
//! that it goes on after a fault.

use std::cell::Cell;

use xxhash_rust::xxh3::xxh3_64;

use crate::registers::{cr0, gpr};
use crate::segment::{DescriptorTable, Segment, attr};
use crate::{Cpu, CpuModel, CpuState, Exit, Instructions, Memory};

/// Bytes of RAM.
pub(crate) const RAM: u32 = 1 << 20;
/// Where the guest's code is.
pub(crate) const CODE: u32 = 0x1000;
const DATA: u32 = 0x1_0000;
const GDT: u32 = 0x2_0000;
const IDT: u32 = 0x2_1000;
const TSS: u32 = 0x2_2000;
const HANDLER: u32 = 0x2_3000;
const HANDLER_WITH_CODE: u32 = 0x2_3800;
const DIRECTORY: u32 = 0x2_4000;
const TABLE: u32 = 0x2_5000;
/// The page-table entry of the page at `DATA`.
pub(crate) const DATA_ENTRY: u32 = TABLE + 4 * (DATA >> 12);

/// One guest: its code and where it starts from.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) code: Vec<u8>,
    pub(crate) registers: [u32; 8],
    pub(crate) ring: Ring,
    pub(crate) model: CpuModel,
}

/// What the guest starts in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ring {
    Kernel,
    User,
    /// Real mode.
    Real,
}

impl Guest {
    /// A guest for any bytes: a byte of choices, registers, code.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (choices, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let (registers, code) = rest.split_at(rest.len().min(32));
        let mut words = registers
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        Self {
            code: code[..code.len().min(0x2000)].to_vec(),
            registers: std::array::from_fn(|_| words.next().unwrap_or(DATA)),
            ring: [Ring::Kernel, Ring::User, Ring::Real][usize::from(choices % 3)],
            model: if choices & 4 == 0 {
                CpuModel::Sse
            } else {
                CpuModel::Fuzz
            },
        }
    }
}

/// Runs a guest made of any bytes, once in a piece and once in pieces with a
/// save and a restore between them, and asserts that both end the same.
///
/// # Panics
/// If the CPU panics, keeps a budget badly, or the two runs differ.
pub(crate) fn run_any_bytes(bytes: &[u8]) {
    const TOTAL: u64 = 500;
    let guest = Guest::from_bytes(bytes);
    let mut whole = Machine::new(&guest);
    whole.run(TOTAL);
    let mut pieces = Machine::new(&guest);
    let mut left = TOTAL;
    for cut in bytes
        .iter()
        .map(|byte| u64::from(byte % 64) + 1)
        .chain([TOTAL])
    {
        if !pieces.run(cut.min(left)) {
            break;
        }
        left -= cut.min(left);
        let state = CpuState::from_bytes(&pieces.cpu.save().to_bytes());
        pieces.cpu = Cpu::new(CpuModel::Fuzz);
        pieces
            .cpu
            .restore(&state.expect("a saved state is a state"));
    }
    assert_eq!(whole.summary(), pieces.summary());
}

/// A CPU with RAM, tables and handlers.
pub(crate) struct Machine {
    pub(crate) cpu: Cpu,
    pub(crate) ram: Vec<Cell<u8>>,
    pub(crate) dirty: Vec<Cell<u64>>,
    pub(crate) reads: u32,
}

impl Machine {
    pub(crate) fn new(guest: &Guest) -> Self {
        let mut machine = Self {
            cpu: Cpu::new(guest.model),
            ram: vec![Cell::new(0); RAM as usize],
            dirty: vec![Cell::new(0); RAM as usize / 4096 / 64],
            reads: 0,
        };
        machine.tables();
        machine.write(CODE, &guest.code);
        let mut state = machine.cpu.save();
        state.gpr = guest.registers;
        state.gpr[gpr::ESP] = 0x8000;
        state.eip = CODE;
        if guest.ring == Ring::Real {
            state.segments[1] = Segment::real(0);
            machine.cpu.restore(&state);
            return machine;
        }
        let data = attr::PRESENT | attr::S | attr::WRITABLE_OR_READABLE | attr::ACCESSED;
        let flat = Segment {
            selector: 0x10,
            attributes: data | attr::BIG | attr::GRANULARITY,
            base: 0,
            limit: u32::MAX,
        };
        state.segments = [flat; 6];
        state.segments[1] = Segment {
            selector: 8,
            attributes: flat.attributes | attr::CODE,
            ..flat
        };
        state.cr0 = cr0::PE | cr0::ET;
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
        if guest.ring == Ring::User {
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
    pub(crate) fn run(&mut self, budget: u64) -> bool {
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

    pub(crate) fn summary(&self) -> (CpuState, u64, u64) {
        let ram: Vec<u8> = self.ram.iter().map(Cell::get).collect();
        let dirty: Vec<u8> = self
            .dirty
            .iter()
            .flat_map(|word| word.get().to_le_bytes())
            .collect();
        (self.cpu.save(), xxh3_64(&ram), xxh3_64(&dirty))
    }
}
