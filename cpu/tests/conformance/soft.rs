//! This crate's CPU as an engine of the suite.

use std::cell::Cell;

use latefork_cpu::conformance::{
    Case, End, Ending, Engine, FX_BYTES, PAGE, PORT, Pages, System, initial_fx,
};
use latefork_cpu::{
    Cpu, CpuModel, CpuState, Exit, Instructions, Memory, PhysAddr, Region, RegionKind,
};

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
        let mut cpu = start(case);
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
        end(ending, &cpu.save(), port, contents(&ram))
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

fn start(case: &Case) -> Cpu {
    let setup = &case.setup;
    let mut cpu = Cpu::new(CpuModel::Sse);
    let mut state = cpu.save();
    state.cr0 = setup.cr0;
    state.cr3 = setup.cr3;
    state.cr4 = setup.cr4;
    state.msrs.efer = setup.efer;
    state.segments = setup.segments;
    state.ldtr = setup.ldtr;
    state.tr = setup.tr;
    state.gdtr = setup.gdtr;
    state.idtr = setup.idtr;
    state.cpl = 0;
    state.pdpte = directory_pointers(case);
    state.gpr.copy_from_slice(&case.registers[..8]);
    state.eip = case.registers[8];
    state.eflags = case.registers[9];
    let fx = case.fx.clone().unwrap_or_else(initial_fx);
    let x87 = fx[..160].try_into().expect("160 bytes");
    state.fpu.load_fxsave_image(x87);
    state.simd.mxcsr = u32::from_le_bytes(fx[24..28].try_into().expect("four bytes"));
    for (register, bytes) in state.simd.xmm.iter_mut().zip(fx[160..].chunks_exact(16)) {
        *register = u128::from_le_bytes(bytes.try_into().expect("16 bytes"));
    }
    cpu.restore(&state);
    cpu
}

/// What a load of CR3 under PAE reads.
fn directory_pointers(case: &Case) -> [u64; 4] {
    const PAE: u32 = 1 << 5;
    if case.setup.cr4 & PAE == 0 {
        return [0; 4];
    }
    let cr3 = case.setup.cr3 & !31;
    let page = &case.pages()[&(cr3 >> 12)];
    let at = cr3 as usize % PAGE;
    std::array::from_fn(|n| {
        let entry = page[at + 8 * n..at + 8 * n + 8].try_into();
        u64::from_le_bytes(entry.expect("eight bytes"))
    })
}

fn end(ending: Ending, state: &CpuState, port: Vec<u8>, pages: Pages) -> End {
    let mut registers = [0; 10];
    registers[..8].copy_from_slice(&state.gpr);
    registers[8] = state.eip;
    registers[9] = state.eflags;
    let mut fx = Box::new([0; FX_BYTES]);
    fx[..160].copy_from_slice(&state.fpu.fxsave_image());
    fx[24..28].copy_from_slice(&state.simd.mxcsr.to_le_bytes());
    for (bytes, register) in fx[160..].chunks_exact_mut(16).zip(state.simd.xmm) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    let mut system = System {
        cr: [state.cr0, state.cr2, state.cr3, state.cr4],
        dr: [state.dr[6], state.dr[7]],
        selectors: [0; 8],
    };
    let segments = state.segments.iter().chain([&state.ldtr, &state.tr]);
    for (selector, segment) in system.selectors.iter_mut().zip(segments) {
        *selector = segment.selector;
    }
    End {
        ending,
        registers,
        system,
        fx,
        port,
        pages,
    }
}
