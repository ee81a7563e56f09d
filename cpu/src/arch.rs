//! The user-visible registers alone: cheap to read and to replace between
//! runs, where a whole [`crate::Cpu::save`] would copy the TLB as well.

use crate::Cpu;
use crate::flags::{self, LazyFlags};
use crate::segment::Segment;
use crate::simd::SimdState;
use crate::state::{Shadow, Stop};
use crate::x87::Fpu;

/// General, flag, segment and floating-point registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRegisters {
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub gpr: [u32; 8],
    /// The next instruction's offset in the code segment.
    pub eip: u32,
    /// All flags.
    pub eflags: u32,
    /// Current privilege level, 0 to 3.
    pub cpl: u8,
    /// ES, CS, SS, DS, FS, GS with hidden parts.
    pub segments: [Segment; 6],
    /// The linear address of the last page fault.
    pub cr2: u32,
    /// The x87 unit, also the MMX registers.
    pub fpu: Fpu,
    /// XMM registers and MXCSR.
    pub simd: SimdState,
}

impl Cpu {
    /// The user-visible registers.
    #[must_use]
    pub fn user_registers(&self) -> UserRegisters {
        let core = &*self.core;
        let mut gpr = [0; 8];
        gpr.copy_from_slice(&core.regs[..8]);
        UserRegisters {
            gpr,
            eip: core.eip,
            eflags: core.eflags(),
            cpl: core.cpl,
            segments: core.segments,
            cr2: core.cr2,
            fpu: core.fpu.clone(),
            simd: core.simd.clone(),
        }
    }

    /// Replaces the user-visible registers between two instructions. A shadow,
    /// a halt, an unfinished port or memory-mapped access and a pending debug
    /// trap are forgotten; the TLB and the system registers stay.
    pub fn set_user_registers(&mut self, registers: &UserRegisters) {
        let core = &mut *self.core;
        core.regs[..8].copy_from_slice(&registers.gpr);
        core.eip = registers.eip;
        let alignment_before = core.system_flags & flags::AC;
        core.flags = LazyFlags::from_bits(registers.eflags);
        core.system_flags = registers.eflags & !flags::ARITHMETIC | flags::FIXED_ONE;
        core.set_cpl(registers.cpl);
        core.segments = registers.segments;
        core.cr2 = registers.cr2;
        core.fpu = registers.fpu.clone();
        core.simd = registers.simd.clone();
        core.halted = false;
        core.shadow = Shadow::None;
        core.debug_hits = 0;
        core.io.clear();
        core.stop = Stop::None;
        if alignment_before != core.system_flags & flags::AC {
            core.refresh_fast_paths();
        }
        core.update_mode();
    }
}
