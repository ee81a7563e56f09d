//! What the comparisons with records of a real processor share: a reader, and a machine that executes one instruction.

#![allow(clippy::cast_possible_truncation)] // lengths of instructions, numbers of vectors

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::address::{Instructions, PhysAddr};
use crate::memory::{Memory, Region, RegionKind};
use crate::registers::{cr0, cr4, gpr};
use crate::segment::{Segment, attr, seg};
use crate::{Cpu, CpuModel, Exit};

/// Reads records from the front of a byte slice.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .expect("the file ends inside a record");
        self.0 = tail;
        *head
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub(crate) fn dword(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(crate) fn qword(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub(crate) fn oword(&mut self) -> u128 {
        u128::from_le_bytes(self.take())
    }
}

/// What the CPU made of a record.
pub(crate) struct Verdict {
    /// What differences are counted by: the opcode.
    pub(crate) key: Vec<u8>,
    /// The record and the result, if that is not the recorded one.
    pub(crate) difference: Option<String>,
}

/// Compares all records of a file; `compare` takes one from the reader.
///
/// # Panics
/// If any is different; the first of each opcode are shown.
pub(crate) fn check(
    records: &[u8],
    mut compare: impl FnMut(&mut Reader<'_>, &mut Machine) -> Verdict,
) {
    let mut differences = BTreeMap::<Vec<u8>, usize>::new();
    let mut reader = Reader(records);
    let mut machine = Machine::new();
    let mut cases = 0;
    while !reader.0.is_empty() {
        let Verdict { key, difference } = compare(&mut reader, &mut machine);
        cases += 1;
        if let Some(text) = difference {
            let count = differences.entry(key.clone()).or_default();
            *count += 1;
            if *count <= 3 {
                eprintln!("{key:02x?} {text}");
            }
        }
    }
    eprintln!("{cases} cases");
    assert!(
        differences.is_empty(),
        "differences by opcode: {differences:02x?}"
    );
}

/// For long runs: compares the records in the file that an environment variable
/// names, if it is set.
pub(crate) fn check_file(variable: &str, check: impl FnOnce(&[u8])) {
    if let Some(path) = std::env::var_os(variable) {
        let records = std::fs::read(path);
        check(&records.unwrap_or_else(|e| panic!("{variable} names no readable file: {e}")));
    }
}

/// Where the instruction is.
pub(crate) const CODE: u32 = 0x1000;
const HANDLERS: u32 = 0x2000;
/// Where ESI and EDI point unless a test moves them.
pub(crate) const OPERAND: u32 = 0x3000;
const STACK: u32 = 0x8000;
const HLT: u8 = 0xF4;

/// 64 KiB of RAM and a CPU in real mode with 32-bit code and segments of 4 GiB. Every exception ends at a HLT of its own.
pub(crate) struct Machine {
    pub(crate) cpu: Cpu,
    pub(crate) cr0: u32,
    pub(crate) cr4: u32,
    pub(crate) operand: u32,
    /// Linear address of offset 0 in the data segments.
    pub(crate) data_base: u32,
    ram: Vec<Cell<u8>>,
    dirty: Vec<Cell<u64>>,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        Machine::with_model(CpuModel::Sse)
    }

    pub(crate) fn with_model(model: CpuModel) -> Machine {
        let ram = vec![Cell::new(0); 0x10000];
        let machine = Machine {
            cpu: Cpu::new(model),
            cr0: cr0::NE,
            cr4: cr4::OSFXSR | cr4::OSXMMEXCPT,
            operand: OPERAND,
            data_base: 0,
            ram,
            dirty: vec![Cell::new(0)],
        };
        for vector in 0..32_u32 {
            machine.write(4 * vector, &(HANDLERS + 16 * vector).to_le_bytes());
            machine.write(HANDLERS + 16 * vector, &[HLT]);
        }
        machine
    }

    pub(crate) fn write(&self, at: u32, bytes: &[u8]) {
        for (cell, byte) in self.ram[at as usize..].iter().zip(bytes) {
            cell.set(*byte);
        }
    }

    pub(crate) fn read<const N: usize>(&self, at: u32) -> [u8; N] {
        std::array::from_fn(|n| self.ram[at as usize + n].get())
    }

    /// Executes one instruction; the vector of the exception that it raised, if any.
    pub(crate) fn execute(&mut self, code: &[u8]) -> Option<u8> {
        let exit = self.run(code, Instructions(4));
        assert_eq!(exit, Exit::Halted, "{code:02x?}");
        let eip = self.cpu.core.eip;
        if eip == CODE + code.len() as u32 + 1 {
            None
        } else {
            Some(((eip - HANDLERS) / 16) as u8)
        }
    }

    /// Retires one instruction of any kind.
    pub(crate) fn step(&mut self, code: &[u8]) {
        self.run(code, Instructions(1));
    }

    fn run(&mut self, code: &[u8], budget: Instructions) -> Exit {
        let core = &mut *self.cpu.core;
        core.set_cr0(cr0::ET | self.cr0);
        core.cr4 = self.cr4;
        for which in seg::ES..=seg::GS {
            let data = which != seg::CS && which != seg::SS;
            let segment = Segment {
                base: if data { self.data_base } else { 0 },
                limit: u32::MAX,
                attributes: Segment::real(0).attributes | attr::BIG,
                ..Segment::real(0)
            };
            core.set_segment(which, segment);
        }
        core.eip = CODE;
        core.halted = false;
        core.regs[gpr::ESP] = STACK;
        core.regs[gpr::ESI] = self.operand;
        core.regs[gpr::EDI] = self.operand;
        self.write(CODE, code);
        self.write(CODE + code.len() as u32, &[HLT]);
        let regions = [Region {
            start: PhysAddr(0),
            bytes: &self.ram,
            kind: RegionKind::Ram,
        }];
        let memory = Memory::new(&self.ram, &regions, &self.dirty);
        self.cpu
            .note_host_write(&memory, PhysAddr(u64::from(CODE)), 16);
        loop {
            // Whatever is not RAM takes writes and reads as zero.
            match self.cpu.run(&memory, budget) {
                Exit::MmioRead { .. } => self.cpu.complete_read(0),
                Exit::MmioWrite { .. } => {}
                exit => return exit,
            }
        }
    }
}
