//! This crate's CPU as an engine of the suite.

use std::cell::Cell;

use latefork_cpu::conformance::{Case, End, Ending, Engine, PAGE, PORT, Pages};
use latefork_cpu::{Cpu, CpuModel, Exit, Instructions, Memory, PhysAddr, Region, RegionKind};

/// More than the longest case has.
const BUDGET: u64 = 20_000;

/// The CPU with the model that has all instructions.
#[derive(Default)]
pub(crate) struct Soft {
    /// Called before each instruction, if set, with the CPU and what
    /// reads physical memory.
    pub(crate) trace: Option<Box<Trace>>,
}

pub(crate) type Trace = dyn FnMut(&Cpu, &dyn Fn(u32) -> Option<u8>);

impl Engine for Soft {
    fn run(&mut self, case: &Case, pages: Pages) -> End {
        let ram: Vec<(u32, Vec<Cell<u8>>)> = pages
            .iter()
            .map(|(&number, page)| (number, page.iter().copied().map(Cell::new).collect()))
            .collect();
        let regions: Vec<Region<'_>> = ram
            .iter()
            .map(|(number, bytes)| Region {
                start: PhysAddr(u64::from(*number) << 12),
                bytes,
                kind: RegionKind::Ram,
            })
            .collect();
        let memory = Memory::new(&[], &regions, &[]);
        let mut cpu = Cpu::new(CpuModel::Sse);
        cpu.restore(&case.state());
        let mut port = Vec::new();
        let ending = loop {
            let left = BUDGET.saturating_sub(cpu.retired());
            let budget = if self.trace.is_some() {
                left.min(1)
            } else {
                left
            };
            if let Some(trace) = &mut self.trace {
                trace(&cpu, &|address| {
                    let number = address >> 12;
                    let page = ram.iter().find(|(known, _)| *known == number);
                    page.map(|(_, bytes)| bytes[address as usize % PAGE].get())
                });
            }
            match cpu.run(&memory, Instructions(budget)) {
                Exit::Budget if left > 1 => {}
                Exit::Halted => break Ending::Halted,
                Exit::TripleFault => break Ending::Shutdown,
                Exit::PortOut {
                    port: PORT, value, ..
                } => {
                    port.push(value.to_le_bytes()[0]);
                }
                Exit::PortIn {
                    port: PORT,
                    size: 1,
                } => cpu.complete_read(u32::from(PORT)),
                // Nothing is at the other ports.
                Exit::PortIn { .. } => cpu.complete_read(u32::MAX),
                Exit::PortOut { .. } => {}
                other => break Ending::Other(format!("{other:?}")),
            }
        };
        End::new(ending, &cpu.save(), port, contents(&ram))
    }
}

fn contents(ram: &[(u32, Vec<Cell<u8>>)]) -> Pages {
    ram.iter()
        .map(|(number, cells)| {
            let mut page = Box::new([0; PAGE]);
            for (byte, cell) in page.iter_mut().zip(cells) {
                *byte = cell.get();
            }
            (*number, page)
        })
        .collect()
}
