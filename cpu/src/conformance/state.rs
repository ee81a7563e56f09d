//! Cases in terms of a [`CpuState`]: where an engine that keeps one starts, and
//! what it found at the end.

use super::{Case, End, Ending, FX_BYTES, PAGE, Pages, System, initial_fx};
use crate::{Cpu, CpuModel, CpuState};

/// CR4's bit for PAE.
const PAE: u32 = 1 << 5;

impl Case {
    /// The CPU's state when the case begins, for the model that has all
    /// instructions.
    ///
    /// # Panics
    ///
    /// When a PAE case names no page at its CR3.
    #[must_use]
    pub fn state(&self) -> CpuState {
        let setup = &self.setup;
        let mut state = Cpu::new(CpuModel::Sse).save();
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
        state.pdpte = self.directory_pointers();
        state.gpr.copy_from_slice(&self.registers[..8]);
        state.eip = self.registers[8];
        state.eflags = self.registers[9];
        let fx = self.fx.clone().unwrap_or_else(initial_fx);
        let x87 = fx[..160].try_into().expect("160 bytes");
        state.fpu.load_fxsave_image(x87);
        state.simd.mxcsr = u32::from_le_bytes(fx[24..28].try_into().expect("four bytes"));
        for (register, bytes) in state.simd.xmm.iter_mut().zip(fx[160..].chunks_exact(16)) {
            *register = u128::from_le_bytes(bytes.try_into().expect("16 bytes"));
        }
        state
    }

    /// What a load of CR3 under PAE reads.
    fn directory_pointers(&self) -> [u64; 4] {
        if self.setup.cr4 & PAE == 0 {
            return [0; 4];
        }
        let cr3 = self.setup.cr3 & !31;
        let page = &self.pages()[&(cr3 >> 12)];
        let at = cr3 as usize % PAGE;
        std::array::from_fn(|n| {
            let entry = page[at + 8 * n..at + 8 * n + 8].try_into();
            u64::from_le_bytes(entry.expect("eight bytes"))
        })
    }
}

impl End {
    /// The end of a case: the CPU's state, what was written to the port, and
    /// memory.
    #[must_use]
    pub fn new(ending: Ending, state: &CpuState, port: Vec<u8>, pages: Pages) -> Self {
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
        Self {
            ending,
            registers,
            system,
            fx,
            port,
            pages,
        }
    }
}
