//! Availability, alignment, MXCSR and the FXSAVE area, through the run loop.

use iced_x86::{Code, CpuidFeature, Instruction};

use crate::golden::{Machine, OPERAND};
use crate::lower::{Context, allowed_codes};
use crate::registers::{cr0, cr4};
use crate::state::Mode;
use crate::{CpuModel, simd, x87};

const UNDEFINED: Option<u8> = Some(6);
const NO_DEVICE: Option<u8> = Some(7);
const GENERAL_PROTECTION: Option<u8> = Some(13);
const FLOATING_POINT: Option<u8> = Some(16);
const SIMD_FLOATING_POINT: Option<u8> = Some(19);

const PADDB_MM: &[u8] = &[0x0F, 0xFC, 0xC1];
const EMMS: &[u8] = &[0x0F, 0x77];
const PADDB_XMM: &[u8] = &[0x66, 0x0F, 0xFC, 0xC1];
const DIVPS: &[u8] = &[0x0F, 0x5E, 0xC1];
const CVTPS2PI: &[u8] = &[0x0F, 0x2D, 0xC1];
const MFENCE: &[u8] = &[0x0F, 0xAE, 0xF0];
const PAUSE: &[u8] = &[0xF3, 0x90];
// The memory operand is [esi].
const MOVAPS_LOAD: &[u8] = &[0x0F, 0x28, 0x06];
const MOVAPS_STORE: &[u8] = &[0x0F, 0x29, 0x06];
const MOVUPS_LOAD: &[u8] = &[0x0F, 0x10, 0x06];
const MOVUPS_STORE: &[u8] = &[0x0F, 0x11, 0x06];
const MOVNTI: &[u8] = &[0x0F, 0xC3, 0x06];
const MOVNTDQ: &[u8] = &[0x66, 0x0F, 0xE7, 0x06];
const ADDPS_MEMORY: &[u8] = &[0x0F, 0x58, 0x06];
const ADDSS_MEMORY: &[u8] = &[0xF3, 0x0F, 0x58, 0x06];
const LDMXCSR: &[u8] = &[0x0F, 0xAE, 0x16];
const STMXCSR: &[u8] = &[0x0F, 0xAE, 0x1E];
const FXSAVE: &[u8] = &[0x0F, 0xAE, 0x06];
const FXRSTOR: &[u8] = &[0x0F, 0xAE, 0x0E];
const CLFLUSH: &[u8] = &[0x0F, 0xAE, 0x3E];
const PREFETCH: &[u8] = &[0x0F, 0x18, 0x06];
const MASKMOVDQU: &[u8] = &[0x66, 0x0F, 0xF7, 0xC1];

fn check(prepare: impl FnOnce(&mut Machine), code: &[u8], expect: Option<u8>) -> Machine {
    let mut machine = Machine::new();
    prepare(&mut machine);
    assert_eq!(machine.execute(code), expect, "{code:02x?}");
    machine
}

#[test]
fn every_allowed_code_of_32_bit_mode_has_a_handler() {
    let features = [
        CpuidFeature::FPU,
        CpuidFeature::FPU287,
        CpuidFeature::FPU387,
        CpuidFeature::MMX,
        CpuidFeature::SSE,
        CpuidFeature::SSE2,
        CpuidFeature::FXSR,
        CpuidFeature::CLFSH,
    ];
    let context = Context {
        mode: Mode(Mode::CODE32),
        model: CpuModel::Sse,
        operand32: true,
        address32: true,
    };
    let mut count = 0;
    for code in allowed_codes(CpuModel::Sse) {
        let ours = code
            .cpuid_features()
            .iter()
            .any(|feature| features.contains(feature));
        let name = format!("{code:?}");
        let only_64 = name.contains("rm64")
            || name.contains("r64")
            || name.contains("save64")
            || name.contains("rstor64");
        if !ours || only_64 || matches!(code, Code::Movnti_m64_r64) {
            continue;
        }
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        assert!(
            x87::lower(&instruction, context)
                .or_else(|| simd::lower(&instruction, context))
                .is_some(),
            "{name}"
        );
        count += 1;
    }
    assert!(count > 400, "{count}");
}

#[test]
fn em_makes_mmx_and_sse_undefined() {
    for code in [PADDB_MM, EMMS, PADDB_XMM, DIVPS, LDMXCSR, MOVAPS_LOAD] {
        check(|machine| machine.cr0 |= cr0::EM, code, UNDEFINED);
    }
    check(|machine| machine.cr0 |= cr0::EM, FXSAVE, NO_DEVICE);
}

#[test]
fn without_osfxsr_only_mmx_works() {
    for code in [PADDB_XMM, DIVPS, LDMXCSR, STMXCSR, MOVAPS_LOAD, CVTPS2PI] {
        check(|machine| machine.cr4 = 0, code, UNDEFINED);
    }
    for code in [
        PADDB_MM, EMMS, FXSAVE, FXRSTOR, MOVNTI, MFENCE, PAUSE, CLFLUSH, PREFETCH,
    ] {
        check(|machine| machine.cr4 = 0, code, None);
    }
}

#[test]
fn task_switched_raises_nm() {
    for code in [
        PADDB_MM, EMMS, PADDB_XMM, DIVPS, LDMXCSR, FXSAVE, FXRSTOR, CVTPS2PI,
    ] {
        check(|machine| machine.cr0 |= cr0::TS, code, NO_DEVICE);
    }
    for code in [MOVNTI, MFENCE, PAUSE, CLFLUSH, PREFETCH] {
        check(|machine| machine.cr0 |= cr0::TS | cr0::EM, code, None);
    }
}

#[test]
fn a_pending_x87_exception_reaches_mmx_but_not_xmm_instructions() {
    let pend = |machine: &mut Machine| {
        machine.cpu.core.fpu.set_control_word(0x37E);
        machine.cpu.core.fpu.set_status_word(1);
    };
    for code in [PADDB_MM, EMMS, CVTPS2PI] {
        check(pend, code, FLOATING_POINT);
    }
    for code in [PADDB_XMM, DIVPS, FXSAVE, FXRSTOR, LDMXCSR] {
        check(pend, code, None);
    }
}

#[test]
fn sixteen_byte_operands_must_be_aligned() {
    let misalign = |machine: &mut Machine| machine.operand = OPERAND + 8;
    for code in [
        MOVAPS_LOAD,
        MOVAPS_STORE,
        MOVNTDQ,
        ADDPS_MEMORY,
        FXSAVE,
        FXRSTOR,
    ] {
        check(misalign, code, GENERAL_PROTECTION);
    }
    for code in [MOVUPS_LOAD, MOVUPS_STORE, ADDSS_MEMORY, MOVNTI] {
        check(misalign, code, None);
    }
}

#[test]
fn unmasked_exceptions_raise_xm_or_ud() {
    let divide = |machine: &mut Machine| {
        machine.cpu.core.simd.mxcsr = 0x1F80 & !(4 << 7);
        machine.cpu.core.simd.xmm[0] = 0x3F80_0000;
    };
    // 0 ÷ 0 in the upper elements is invalid and masked; 1 ÷ 0 in the lowest is not.
    let machine = check(divide, DIVPS, SIMD_FLOATING_POINT);
    assert_eq!(machine.cpu.core.simd.mxcsr & 0x3F, 5);
    assert_eq!(machine.cpu.core.simd.xmm[0], 0x3F80_0000);
    let without = |machine: &mut Machine| {
        divide(machine);
        machine.cr4 &= !cr4::OSXMMEXCPT;
    };
    check(without, DIVPS, UNDEFINED);
}

#[test]
fn mxcsr_has_reserved_bits() {
    check(
        |machine| machine.write(OPERAND, &0x1_0000_u32.to_le_bytes()),
        LDMXCSR,
        GENERAL_PROTECTION,
    );
    let machine = check(
        |machine| machine.write(OPERAND, &0xFFC0_u32.to_le_bytes()),
        LDMXCSR,
        None,
    );
    assert_eq!(machine.cpu.core.simd.mxcsr, 0xFFC0);
    let machine = check(|_| {}, STMXCSR, None);
    assert_eq!(machine.read::<4>(OPERAND), 0x1F80_u32.to_le_bytes());
}

#[test]
fn fxrstor_brings_back_what_fxsave_saved() {
    let mut machine = Machine::new();
    let core = &mut *machine.cpu.core;
    core.fpu.set_control_word(0x0A72);
    core.fpu.set_status_word(0x6D02);
    core.fpu.set_abridged_tags(0x5A);
    for n in 0..8 {
        core.fpu.set_mmx(n, 0x0123_4567_89AB_CDEF << n);
        core.simd.xmm[usize::from(n)] = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677 << n;
    }
    core.simd.mxcsr = 0x5FA1;
    let (fpu, simd) = (core.fpu.clone(), core.simd.clone());
    assert_eq!(machine.execute(FXSAVE), None);
    assert_eq!(machine.cpu.core.fpu, fpu, "FXSAVE does not initialise");
    assert_eq!(
        machine.read::<8>(OPERAND + 24),
        [0xA1, 0x5F, 0, 0, 0xFF, 0xFF, 0, 0]
    );
    machine.cpu.core.fpu = x87::Fpu::default();
    machine.cpu.core.simd = simd::SimdState::default();
    assert_eq!(machine.execute(FXRSTOR), None);
    assert_eq!(machine.cpu.core.fpu, fpu);
    assert_eq!(machine.cpu.core.simd, simd);
}

#[test]
fn fxrstor_refuses_reserved_mxcsr_bits() {
    let machine = check(
        |machine| machine.write(OPERAND + 24, &[0, 0, 1, 0]),
        FXRSTOR,
        GENERAL_PROTECTION,
    );
    assert_eq!(machine.cpu.core.simd, simd::SimdState::default());
}

#[test]
fn maskmovdqu_writes_only_selected_bytes() {
    let inside = |machine: &mut Machine| {
        machine.cpu.core.simd.xmm[0] = 0x3322_1100;
        machine.cpu.core.simd.xmm[1] = 0x80_FF00_8000;
    };
    let machine = check(inside, MASKMOVDQU, None);
    assert_eq!(machine.read::<5>(OPERAND), [0, 0x11, 0, 0x33, 0]);
}

#[test]
fn the_fuzz_model_has_none_of_it() {
    for code in [
        PADDB_MM, EMMS, PADDB_XMM, DIVPS, LDMXCSR, FXSAVE, FXRSTOR, MOVNTI, MFENCE, CLFLUSH,
    ] {
        let mut machine = Machine::with_model(CpuModel::Fuzz);
        assert_eq!(machine.execute(code), UNDEFINED, "{code:02x?}");
    }
}

#[test]
fn operands_may_wrap_at_4_gib() {
    for code in [FXSAVE, FXRSTOR, MOVUPS_LOAD, MOVUPS_STORE, MASKMOVDQU] {
        for base in [0xFFFF_FF00_u32, 0xFFFF_FFF0, 0xFFFF_FFF8] {
            let mut machine = Machine::new();
            machine.data_base = base;
            machine.operand = 0;
            machine.cpu.core.simd.xmm[1] = u128::MAX;
            let aligned_only = code == FXSAVE || code == FXRSTOR;
            let expect = if aligned_only && base & 15 != 0 {
                GENERAL_PROTECTION
            } else {
                None
            };
            assert_eq!(machine.execute(code), expect, "{code:02x?} at {base:#x}");
        }
    }
}
