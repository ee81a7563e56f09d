//! Tests of the core through the public interface.

use std::cell::Cell;

use crate::registers::{cr0, gpr};
use crate::segment::{Segment, attr};
use crate::{Cpu, CpuModel, CpuState, Exit, Instructions, Memory};

mod basic;
mod guest;
mod hooks;
mod properties;

/// RAM and a CPU in flat 32-bit protected mode without paging, with code at
/// `CODE`, a stack below `STACK` and interrupts off.
pub(crate) struct Machine {
    pub(crate) cpu: Cpu,
    ram: Vec<Cell<u8>>,
    dirty: Vec<Cell<u64>>,
}

pub(crate) const CODE: u32 = 0x1000;
pub(crate) const STACK: u32 = 0x8000;
pub(crate) const DATA: u32 = 0x10000;
const RAM: usize = 1 << 20;

pub(crate) fn flat_state(model: CpuModel) -> CpuState {
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

impl Machine {
    pub(crate) fn new(code: &[u8]) -> Self {
        let mut machine = Self {
            cpu: Cpu::new(CpuModel::Fuzz),
            ram: vec![Cell::new(0); RAM],
            dirty: vec![Cell::new(0); RAM / 4096 / 64],
        };
        machine.cpu.restore(&flat_state(CpuModel::Fuzz));
        machine.write(CODE, code);
        machine
    }

    #[allow(clippy::cast_possible_truncation)] // a few bytes
    pub(crate) fn write(&mut self, at: u32, bytes: &[u8]) {
        for (cell, &byte) in self.ram[at as usize..].iter().zip(bytes) {
            cell.set(byte);
        }
        let memory = Memory::new(&self.ram, &[], &self.dirty);
        self.cpu
            .note_host_write(&memory, crate::PhysAddr(at.into()), bytes.len() as u32);
    }

    pub(crate) fn read(&self, at: u32) -> u32 {
        let at = at as usize;
        u32::from_le_bytes(std::array::from_fn(|i| self.ram[at + i].get()))
    }

    pub(crate) fn run(&mut self, budget: u64) -> Exit {
        let memory = Memory::new(&self.ram, &[], &self.dirty);
        self.cpu.run(&memory, Instructions(budget))
    }

    pub(crate) fn state(&self) -> CpuState {
        self.cpu.save()
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut CpuState)) {
        let mut state = self.cpu.save();
        change(&mut state);
        self.cpu.restore(&state);
    }
}
