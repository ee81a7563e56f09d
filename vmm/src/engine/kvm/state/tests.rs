use latefork_cpu::{Cpu, CpuModel};

use super::*;

/// A state in which no field has its value at reset.
fn busy_state() -> CpuState {
    let mut state = Cpu::new(CpuModel::Sse).save();
    let descriptor = |selector, high| Segment::from_descriptor(selector, 0x1000_ffff, high);
    let user = descriptor(0x7b, 0x00cf_f300);
    state.segments = [
        user,
        descriptor(0x73, 0x00cf_fb00),
        user,
        user,
        Segment::null(0),
        user,
    ];
    state.ldtr = Segment::null(0);
    state.tr = Segment::from_descriptor(0x80, 0x4000_206b, 0x0000_8b12);
    state.cpl = 3;
    for (value, register) in (1..).zip(state.gpr.iter_mut()) {
        *register = 0x0101_0101 * value;
    }
    (state.eip, state.eflags) = (0x0804_8000, 0x0020_0246);
    (state.cr0, state.cr2, state.cr3, state.cr4) = (0x8005_0033, 0x1234, 0x5000, 0x690);
    state.gdtr = DescriptorTable {
        base: 0xc100_0000,
        limit: 0xff,
    };
    state.idtr = DescriptorTable {
        base: 0xc100_1000,
        limit: 0x7ff,
    };
    state.dr[..4].copy_from_slice(&[1, 2, 3, 4]);
    (state.dr[6], state.dr[7]) = (dr::DR6_ONES | 1, dr::DR7_ONES | 2);
    state.msrs.efer = 1 << 11;
    (state.msrs.sysenter_cs, state.msrs.sysenter_esp) = (0x60, 0xc200_0000);
    (state.msrs.sysenter_eip, state.msrs.pat) = (0xc300_0000, 0x0007_0406_0007_0406);
    state.simd.xmm = [1, 2, 3, 4, 5, 6, 7, u128::MAX];
    state.simd.mxcsr = 0x1fa0;
    state.fpu.set_control_word(0x27f);
    state.fpu.set_tag_word(0x3fff);
    state.fpu.set_mmx(7, 0x8000_0000_0000_0000);
    state.shadow = Shadow::MovSs;
    state
}

#[test]
fn a_state_survives_the_way_through_kvms_terms() {
    let state = busy_state();
    for tr in [TaskRegister::Busy, TaskRegister::Free] {
        let there = VcpuState::new(&state, &kvm_sregs::default(), tr);
        let mut back = Cpu::new(CpuModel::Sse).save();
        there.store(&mut back);
        assert_eq!(back, state, "{tr:?}");
    }
}

#[test]
fn a_free_task_register_is_only_what_was_asked_for() {
    let state = busy_state();
    let types = [TaskRegister::Busy, TaskRegister::Free].map(|tr| {
        VcpuState::new(&state, &kvm_sregs::default(), tr)
            .sregs
            .tr
            .type_
    });
    assert_eq!(types, [11, 9]);
}

#[test]
fn null_segments_are_unusable_and_others_are_not() {
    let state = busy_state();
    let sregs = VcpuState::new(&state, &kvm_sregs::default(), TaskRegister::Busy).sregs;
    assert_eq!((sregs.fs.unusable, sregs.fs.present), (1, 0));
    assert_eq!(
        (sregs.cs.unusable, sregs.cs.present, sregs.cs.dpl),
        (0, 1, 3)
    );
}

#[test]
fn selectors_of_the_last_x87_instruction_are_left_out() {
    let mut state = busy_state();
    let mut pointers = state.fpu.pointers();
    pointers.instruction = 0x1234;
    pointers.code_selector = 0x73;
    state.fpu.set_pointers(pointers);
    let area = VcpuState::new(&state, &kvm_sregs::default(), TaskRegister::Busy).xsave;
    assert_eq!(area.region[2..4], [0x1234, 0]);
}
