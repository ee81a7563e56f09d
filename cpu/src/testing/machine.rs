//! A CPU with RAM, for tests and benchmarks.

use std::cell::Cell;

use crate::registers::{cr0, gpr};
use crate::segment::{Segment, attr};
use crate::{Cpu, CpuModel, CpuState, Exit, Instructions, Memory, PhysAddr};

/// Where [`Machine::new`] puts the code.
pub const CODE: u32 = 0x1000;
/// Its stack pointer.
pub const STACK: u32 = 0x8000;
/// Where tests have their data.
pub const DATA: u32 = 0x1_0000;
const RAM_BYTES: usize = 1 << 20;

/// A CPU, RAM from address 0, and the dirty bitmap.
#[derive(Debug)]
pub struct Machine {
    /// The CPU.
    pub cpu: Cpu,
    pub(super) ram: Vec<u8>,
    pub(super) dirty: Vec<u64>,
    pub(super) lines: Vec<u64>,
}

impl Machine {
    /// A machine of 1 MiB in flat 32-bit protected mode without paging, about to
    /// execute `code`; interrupts are off.
    #[must_use]
    pub fn new(code: &[u8]) -> Self {
        let mut machine = Self::with_state(vec![0; RAM_BYTES], &flat_state(CpuModel::Fuzz));
        machine.write(CODE, code);
        machine
    }

    /// A machine with these contents of RAM (whole pages) in this state.
    #[must_use]
    pub fn with_state(ram: Vec<u8>, state: &CpuState) -> Self {
        let mut cpu = Cpu::new(state.model);
        cpu.restore(state);
        let dirty = vec![0; ram.len().div_ceil(4096 * 64)];
        let lines = vec![0; ram.len() / 4096];
        Self {
            cpu,
            ram,
            dirty,
            lines,
        }
    }

    /// Writes as a device would.
    ///
    /// # Panics
    /// If that is not inside RAM.
    pub fn write(&mut self, at: u32, bytes: &[u8]) {
        self.ram[at as usize..][..bytes.len()].copy_from_slice(bytes);
        let len = u32::try_from(bytes.len()).expect("RAM is smaller than 4 GiB");
        let (cpu, memory) = self.parts();
        cpu.note_host_write(&memory, PhysAddr(at.into()), len);
    }

    /// Writes a doubleword.
    pub fn write_u32(&mut self, at: u32, value: u32) {
        self.write(at, &value.to_le_bytes());
    }

    /// Reads a doubleword.
    ///
    /// # Panics
    /// If that is not inside RAM.
    #[must_use]
    pub fn read(&self, at: u32) -> u32 {
        let bytes = self.ram[at as usize..].first_chunk().expect("inside RAM");
        u32::from_le_bytes(*bytes)
    }

    /// Runs for at most `budget` instructions.
    pub fn run(&mut self, budget: u64) -> Exit {
        let (cpu, memory) = self.parts();
        cpu.run(&memory, Instructions(budget))
    }

    /// The state of the CPU.
    #[must_use]
    pub fn state(&self) -> CpuState {
        self.cpu.save()
    }

    /// Changes the state of the CPU.
    pub fn change(&mut self, change: impl FnOnce(&mut CpuState)) {
        let mut state = self.cpu.save();
        change(&mut state);
        self.cpu.restore(&state);
    }

    /// The CPU, and what it runs on.
    pub fn parts(&mut self) -> (&mut Cpu, Memory<'_>) {
        let ram = Cell::from_mut(&mut self.ram[..]).as_slice_of_cells();
        let dirty = Cell::from_mut(&mut self.dirty[..]).as_slice_of_cells();
        let lines = Cell::from_mut(&mut self.lines[..]).as_slice_of_cells();
        let memory = Memory::new(ram, &[], dirty).with_lines(lines);
        (&mut self.cpu, memory)
    }
}

/// Ring 0 in flat 32-bit protected mode without paging, with selectors 8 for
/// code and 0x10 for data, EIP at [`CODE`] and ESP at [`STACK`].
#[must_use]
pub fn flat_state(model: CpuModel) -> CpuState {
    let mut state = Cpu::new(model).save();
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
    state.eip = CODE;
    state.gpr[gpr::ESP] = STACK;
    state
}
