//! CPUID: exactly what is implemented. No TSC (RDTSC executes all the same),
//! no APIC, no MCE, no SEP, no MTRR, no VME.

use crate::memory::Memory;
use crate::model::CpuModel;
use crate::op::{Flow, Op};
use crate::registers::gpr;
use crate::state::Core;

/// Feature bits of leaf 1, EDX.
mod feature {
    pub(super) const FPU: u32 = 1;
    pub(super) const DE: u32 = 1 << 2;
    pub(super) const PSE: u32 = 1 << 3;
    pub(super) const MSR: u32 = 1 << 5;
    pub(super) const PAE: u32 = 1 << 6;
    pub(super) const CX8: u32 = 1 << 8;
    pub(super) const PGE: u32 = 1 << 13;
    pub(super) const CMOV: u32 = 1 << 15;
    pub(super) const CLFSH: u32 = 1 << 19;
    pub(super) const MMX: u32 = 1 << 23;
    pub(super) const FXSR: u32 = 1 << 24;
    pub(super) const SSE: u32 = 1 << 25;
    pub(super) const SSE2: u32 = 1 << 26;
    /// Leaf 8000_0001.
    pub(super) const NX: u32 = 1 << 20;
}

const VENDOR: &[u8; 12] = b"LateforkSoft";
const BRAND: &[u8; 48] =
    b"latefork software CPU\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// CLFLUSH granularity in units of 8 bytes, at its place in EBX of leaf 1.
const CLFLUSH_SIZE: u32 = 8 << 8;

/// EAX, EBX, ECX, EDX.
type Leaf = [u32; 4];

impl CpuModel {
    /// What CPUID returns for a leaf: EAX, EBX, ECX, EDX. A leaf that does not
    /// exist is all zeros. There are no subleaves.
    #[must_use]
    pub fn cpuid(self, leaf: u32) -> Leaf {
        match leaf {
            0 => [1, vendor(0), vendor(8), vendor(4)],
            1 => {
                let clflush = if self.has_sse() { CLFLUSH_SIZE } else { 0 };
                [self.signature(), clflush, 0, self.features()]
            }
            0x8000_0000 => [0x8000_0004, 0, 0, 0],
            0x8000_0001 => [0, 0, 0, feature::NX],
            0x8000_0002..=0x8000_0004 => {
                let at = (leaf - 0x8000_0002) as usize * 16;
                [0, 4, 8, 12].map(|n| four(BRAND, at + n))
            }
            _ => [0; 4],
        }
    }

    fn features(self) -> u32 {
        use feature::{CLFSH, CMOV, CX8, DE, FPU, FXSR, MMX, MSR, PAE, PGE, PSE, SSE, SSE2};
        let basic = FPU | DE | PSE | MSR | PAE | CX8 | PGE | CMOV;
        if self.has_sse() {
            basic | CLFSH | MMX | FXSR | SSE | SSE2
        } else {
            basic
        }
    }
}

fn vendor(at: usize) -> u32 {
    four(VENDOR, at)
}

fn four(bytes: &[u8], at: usize) -> u32 {
    let piece = bytes
        .get(at..at + 4)
        .and_then(|piece| piece.try_into().ok());
    piece.map_or(0, u32::from_le_bytes)
}

/// CPUID.
pub(crate) fn cpuid(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let [eax, ebx, ecx, edx] = core.model.cpuid(core.regs[gpr::EAX]);
    core.regs[gpr::EAX] = eax;
    core.regs[gpr::EBX] = ebx;
    core.regs[gpr::ECX] = ecx;
    core.regs[gpr::EDX] = edx;
    Flow::Next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_model_shows_what_is_left_out() {
        // VME, TSC, MCE, APIC, SEP, MTRR, MCA, PAT, PSE36.
        let left_out = [1, 4, 7, 9, 11, 12, 14, 16, 17];
        for model in [CpuModel::Fuzz, CpuModel::Sse] {
            let [_, _, ecx, edx] = model.cpuid(1);
            for bit in left_out {
                assert_eq!(edx >> bit & 1, 0, "{model:?} shows bit {bit}");
            }
            assert_eq!(ecx, 0, "{model:?}");
        }
    }

    #[test]
    fn only_the_sse_model_shows_simd() {
        let simd = 0x0788_0000;
        assert_eq!(CpuModel::Fuzz.cpuid(1)[3] & simd, 0);
        assert_eq!(CpuModel::Sse.cpuid(1)[3] & simd, simd);
    }

    #[test]
    fn vendor_reads_in_the_order_ebx_edx_ecx() {
        let [max, ebx, ecx, edx] = CpuModel::Fuzz.cpuid(0);
        let text: Vec<u8> = [ebx, edx, ecx]
            .iter()
            .flat_map(|r| r.to_le_bytes())
            .collect();
        assert_eq!((max, text.as_slice()), (1, VENDOR.as_slice()));
    }

    #[test]
    fn leaves_beyond_the_last_are_zero() {
        for leaf in [2, 7, 0x4000_0000, 0x8000_0005, u32::MAX] {
            assert_eq!(CpuModel::Sse.cpuid(leaf), [0; 4], "leaf {leaf:#x}");
        }
    }
}
