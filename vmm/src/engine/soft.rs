//! The software engine: crate `latefork-cpu` behind the [`Engine`] contract.

use latefork_cpu::{Cpu, CpuModel, CpuState, Memory, PhysAddr};

use super::{Access, Engine, EngineError, EngineKind, Exit, InterruptLine, Slice};
use crate::layout::PAGE_SIZE;
use crate::loader::BootEntry;
use crate::memory::{GuestRam, PageNumber};
use crate::time::VirtualTime;

/// The software CPU.
#[derive(Debug)]
pub struct SoftVcpu {
    cpu: Cpu,
    model: CpuModel,
}

/// Bytes of a page, in the type that the CPU counts them in.
const PAGE_LEN: u32 = 4096;
const _: () = assert!(PAGE_LEN as usize == PAGE_SIZE);

impl SoftVcpu {
    /// A CPU after reset.
    pub fn new(model: CpuModel) -> Self {
        Self {
            cpu: Cpu::new(model),
            model,
        }
    }
}

/// Guest memory as the CPU wants it, for one call.
fn lend(ram: &GuestRam) -> Memory<'_> {
    Memory::new(ram.cells(), &[], ram.dirty().words()).with_lines(ram.dirty().lines())
}

impl Engine for SoftVcpu {
    fn kind(&self) -> EngineKind {
        EngineKind::Soft
    }

    fn signature(&self) -> u32 {
        self.model.signature()
    }

    fn elapsed(&self) -> VirtualTime {
        VirtualTime(self.cpu.retired())
    }

    fn interrupts_enabled(&self) -> bool {
        self.cpu.interrupts_enabled()
    }

    fn run(&mut self, memory: &GuestRam, slice: Slice) -> Result<Exit, EngineError> {
        // A budget is kept exactly, so the deadline is not needed: this engine
        // never looks at a clock.
        let exit = self.cpu.run(&lend(memory), slice.budget);
        Ok(match exit {
            latefork_cpu::Exit::Budget => Exit::Budget,
            latefork_cpu::Exit::Halted => Exit::Halted,
            latefork_cpu::Exit::InterruptWindow => Exit::InterruptWindow,
            latefork_cpu::Exit::PortIn { port, size } => Exit::PortIn { port, size },
            latefork_cpu::Exit::PortOut { port, size, value } => {
                Exit::PortOut { port, size, value }
            }
            latefork_cpu::Exit::MmioRead { address, size } => Exit::MmioRead {
                address: address.0,
                size,
            },
            latefork_cpu::Exit::MmioWrite {
                address,
                size,
                value,
            } => Exit::MmioWrite {
                address: address.0,
                size,
                value,
            },
            latefork_cpu::Exit::TripleFault => Exit::TripleFault,
            latefork_cpu::Exit::Breakpoint { address } => Exit::Breakpoint { address },
            latefork_cpu::Exit::Watch {
                watch,
                address,
                write,
            } => Exit::Watch {
                watch,
                address,
                access: if write { Access::Write } else { Access::Read },
            },
            latefork_cpu::Exit::Unsupported { what } => Exit::Unsupported { what },
        })
    }

    fn complete_read(&mut self, value: u32) {
        self.cpu.complete_read(value);
    }

    fn set_interrupt_line(&mut self, line: InterruptLine) {
        self.cpu.set_interrupt_line(line == InterruptLine::Asserted);
    }

    fn deliver_interrupt(&mut self, memory: &GuestRam, vector: u8) -> Result<(), EngineError> {
        self.cpu.deliver_interrupt(&lend(memory), vector);
        Ok(())
    }

    fn enter(&mut self, entry: &BootEntry) -> Result<(), EngineError> {
        let mut state = self.cpu.save();
        super::boot::enter(&mut state, entry);
        self.cpu.restore(&state);
        Ok(())
    }

    fn save(&mut self) -> Result<CpuState, EngineError> {
        if !self.at_boundary() {
            return Err(EngineError::NotAtBoundary);
        }
        self.cpu.flush_tlb();
        Ok(self.cpu.save())
    }

    fn restore(&mut self, state: &CpuState) -> Result<(), EngineError> {
        self.cpu.restore(state);
        self.cpu.flush_tlb();
        Ok(())
    }

    fn at_boundary(&self) -> bool {
        self.cpu.at_boundary()
    }

    fn page_written(&mut self, memory: &GuestRam, page: PageNumber) {
        let address = PhysAddr(u64::from(page.0) * PAGE_SIZE as u64);
        self.cpu.note_host_write(&lend(memory), address, PAGE_LEN);
    }

    fn collect_dirty(&mut self, _memory: &GuestRam) -> Result<(), EngineError> {
        // The CPU marks the machine's own bitmap.
        Ok(())
    }

    fn dirty_cleared(&mut self) {
        self.cpu.dirty_cleared();
    }

    fn soft(&mut self) -> Option<&mut Cpu> {
        Some(&mut self.cpu)
    }
}
