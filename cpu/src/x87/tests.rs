//! Availability, pending exceptions, faults of operands, pointers and images, through the run loop.

use super::control::{ERROR_SUMMARY, INITIAL_CONTROL};
use super::{F80, Fpu, Pointers};
use crate::golden::{CODE, Machine, OPERAND};
use crate::registers::{cr0, gpr};

const NO_DEVICE: Option<u8> = Some(7);
const GENERAL_PROTECTION: Option<u8> = Some(13);
const FLOATING_POINT: Option<u8> = Some(16);

const FLD1: &[u8] = &[0xD9, 0xE8];
const FWAIT: &[u8] = &[0x9B];
const FNINIT: &[u8] = &[0xDB, 0xE3];
const FNCLEX: &[u8] = &[0xDB, 0xE2];
const FNSTSW_AX: &[u8] = &[0xDF, 0xE0];
// The memory operand is [esi].
const FNSTSW: &[u8] = &[0xDD, 0x3E];
const FNSTCW: &[u8] = &[0xD9, 0x3E];
const FLDCW: &[u8] = &[0xD9, 0x2E];
const FNSTENV: &[u8] = &[0xD9, 0x36];
const FLDENV: &[u8] = &[0xD9, 0x26];
const FNSAVE: &[u8] = &[0xDD, 0x36];
const FRSTOR: &[u8] = &[0xDD, 0x26];
const FNSAVE_16: &[u8] = &[0x66, 0xDD, 0x36];
const FRSTOR_16: &[u8] = &[0x66, 0xDD, 0x26];
const FST_M32: &[u8] = &[0xD9, 0x16];
const FSTP_M32: &[u8] = &[0xD9, 0x1E];
const FSTP_M80: &[u8] = &[0xDB, 0x3E];
const FLD_M64: &[u8] = &[0xDD, 0x06];

fn check(with_cr0: u32, fpu: &Fpu, code: &[u8], expect: Option<u8>) {
    let mut machine = Machine::new();
    machine.cr0 = with_cr0;
    machine.cpu.core.fpu = fpu.clone();
    assert_eq!(
        machine.execute(code),
        expect,
        "{code:02x?} with CR0 {with_cr0:#x}"
    );
}

/// A unit with a pending division by zero.
fn pending() -> Fpu {
    let mut fpu = Fpu::default();
    fpu.set_control_word(INITIAL_CONTROL & !4);
    fpu.set_status_word(4);
    assert!(fpu.pending());
    fpu
}

/// A unit in which everything differs from the initial state.
fn busy() -> Fpu {
    let mut fpu = Fpu::default();
    fpu.set_control_word(0x0A72);
    fpu.set_status_word(0x6D30);
    fpu.set_tag_word(0x0F00);
    for index in 0..8 {
        fpu.set_st(
            index,
            F80 {
                significand: 0x8123_4567_89AB_CDE0 | u64::from(index),
                sign_exponent: 0x4000 + u16::from(index),
            },
        );
    }
    fpu.set_pointers(Pointers {
        instruction: 0x1234,
        code_selector: 0,
        opcode: 0x5AA,
        data: 0x5678,
        data_selector: 0,
    });
    fpu
}

#[test]
fn escapes_raise_nm_with_em_or_ts() {
    for code in [FLD1, FNINIT, FNSTSW_AX, FNSTCW, FNSAVE, FSTP_M80] {
        check(cr0::NE | cr0::EM, &Fpu::default(), code, NO_DEVICE);
        check(cr0::NE | cr0::TS, &Fpu::default(), code, NO_DEVICE);
        check(cr0::NE | cr0::MP, &Fpu::default(), code, None);
    }
}

#[test]
fn wait_raises_nm_only_with_mp_and_ts() {
    check(cr0::MP | cr0::TS, &Fpu::default(), FWAIT, NO_DEVICE);
    check(cr0::TS, &Fpu::default(), FWAIT, None);
    check(cr0::MP | cr0::EM, &Fpu::default(), FWAIT, None);
}

#[test]
fn nm_comes_before_mf() {
    check(cr0::NE | cr0::TS, &pending(), FLD1, NO_DEVICE);
    check(cr0::NE | cr0::TS | cr0::MP, &pending(), FWAIT, NO_DEVICE);
}

#[test]
fn waiting_instructions_raise_mf() {
    for code in [FLD1, FWAIT, FLDCW, FLDENV, FRSTOR, FST_M32, FLD_M64] {
        check(cr0::NE, &pending(), code, FLOATING_POINT);
    }
}

#[test]
fn non_waiting_instructions_do_not_raise_mf() {
    for code in [FNINIT, FNCLEX, FNSTSW_AX, FNSTSW, FNSTCW, FNSTENV, FNSAVE] {
        check(cr0::NE, &pending(), code, None);
    }
}

#[test]
fn without_ne_a_pending_exception_is_ignored() {
    check(0, &pending(), FLD1, None);
    check(0, &pending(), FWAIT, None);
}

#[test]
fn a_faulting_store_leaves_the_unit_alone() {
    for (code, offset) in [
        (FSTP_M32, 0xFFFF_FFFE),
        (FSTP_M80, 0xFFFF_FFFC),
        (FNSAVE, 0xFFFF_FFF0),
        (FNSTENV, 0xFFFF_FFF0),
    ] {
        let mut machine = Machine::new();
        machine.operand = offset;
        let mut full = busy();
        full.set_tag_word(0);
        machine.cpu.core.fpu = full.clone();
        assert_eq!(machine.execute(code), GENERAL_PROTECTION, "{code:02x?}");
        assert_eq!(machine.cpu.core.fpu, full, "{code:02x?}");
    }
}

#[test]
fn pointers_name_the_last_instruction_and_its_operand() {
    let mut machine = Machine::new();
    assert_eq!(machine.execute(&[0x64, 0xDD, 0x06]), None);
    let after_load = Pointers {
        instruction: CODE,
        code_selector: 0,
        opcode: 0x506,
        data: OPERAND,
        data_selector: 0,
    };
    assert_eq!(machine.cpu.core.fpu.pointers(), after_load);
    assert_eq!(machine.execute(FNSTCW), None, "a control instruction");
    assert_eq!(machine.cpu.core.fpu.pointers(), after_load);
    assert_eq!(
        machine.execute(FLD1),
        None,
        "an instruction without operand"
    );
    assert_eq!(
        machine.cpu.core.fpu.pointers(),
        Pointers {
            opcode: 0x1E8,
            ..after_load
        }
    );
}

#[test]
fn fnstsw_writes_ax_only() {
    let mut machine = Machine::new();
    machine.cpu.core.fpu = busy();
    machine.cpu.core.regs[gpr::EAX] = 0x1234_5678;
    assert_eq!(machine.execute(FNSTSW_AX), None);
    assert_eq!(
        machine.cpu.core.regs[gpr::EAX],
        0x1234_0000 | u32::from(busy().status_word())
    );
}

#[test]
fn fnstenv_masks_all_exceptions() {
    let mut machine = Machine::new();
    machine.cpu.core.fpu = busy();
    assert_eq!(machine.execute(FNSTENV), None);
    assert_eq!(
        machine.cpu.core.fpu.control_word(),
        busy().control_word() | 0x3F
    );
    assert_eq!(
        machine.read::<2>(OPERAND),
        busy().control_word().to_le_bytes()
    );
}

#[test]
fn fnsave_initialises_and_frstor_brings_back() {
    for (save, restore) in [(FNSAVE, FRSTOR), (FNSAVE_16, FRSTOR_16)] {
        let mut machine = Machine::new();
        machine.cpu.core.fpu = busy();
        assert_eq!(machine.execute(save), None);
        let mut initial = busy();
        initial.initialise();
        assert_eq!(machine.cpu.core.fpu.control_word(), INITIAL_CONTROL);
        assert_eq!(machine.cpu.core.fpu.tag_word(), 0xFFFF);
        assert_eq!(machine.cpu.core.fpu, initial);
        assert_eq!(machine.execute(restore), None);
        assert_eq!(machine.cpu.core.fpu, busy());
    }
}

#[test]
fn fldcw_makes_a_flag_pending_and_fnclex_ends_it() {
    let mut machine = Machine::new();
    machine.cpu.core.fpu.set_status_word(1);
    machine.write(OPERAND, &(INITIAL_CONTROL & !1).to_le_bytes());
    assert_eq!(machine.execute(FLDCW), None);
    assert_ne!(machine.cpu.core.fpu.status_word() & ERROR_SUMMARY, 0);
    assert_eq!(machine.execute(FWAIT), FLOATING_POINT);
    assert_eq!(machine.execute(FNCLEX), None);
    assert_eq!(machine.execute(FWAIT), None);
}

#[test]
fn fisttp_is_undefined() {
    for code in [[0xDB, 0x0E], [0xDD, 0x0E], [0xDF, 0x0E]] {
        check(cr0::NE, &Fpu::default(), &code, Some(6));
    }
}

#[test]
fn operands_may_wrap_at_4_gib() {
    for code in [FNSAVE, FRSTOR, FNSTENV, FLDENV, FSTP_M80, FLD_M64] {
        for base in [0xFFFF_FFB0_u32, 0xFFFF_FFF9, 0xFFFF_FFFF] {
            let mut machine = Machine::new();
            machine.data_base = base;
            machine.operand = 0;
            assert_eq!(machine.execute(code), None, "{code:02x?} at {base:#x}");
        }
    }
}
