//! Random instructions of the x87, MMX and SSE opcodes on random state: nothing panics, and the same input gives the same state.

use proptest::prelude::*;

use crate::golden::{Machine, OPERAND};
use crate::registers::{cr0, cr4, gpr};
use crate::x87::{F80, Fpu};

#[derive(Clone, Debug)]
struct Input {
    code: Vec<u8>,
    registers: [u32; 8],
    eflags: u16,
    cr0: u32,
    cr4: u32,
    base: u32,
    x87: [u16; 3],
    st: [(u64, u16); 8],
    xmm: [u128; 8],
    mxcsr: u16,
    memory: Vec<u8>,
}

fn prefixes() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop::sample::select(vec![0x66_u8, 0xF3, 0xF2, 0x67, 0x36, 0x64, 0xF0]);
    prop_oneof![4 => Just(Vec::new()), 4 => prefix.clone().prop_map(|byte| vec![byte]), 1 => prop::collection::vec(prefix, 2..4)]
}

fn code() -> impl Strategy<Value = Vec<u8>> {
    let x87 = (0xD8..=0xDF_u8).prop_map(|byte| vec![byte]);
    let sse = prop_oneof![
        0x10..0x30_u8,
        0x50..0x80_u8,
        Just(0xAE),
        0xC2..0xC7_u8,
        0xD1..=0xFE_u8
    ]
    .prop_map(|byte| vec![0x0F, byte]);
    // [esi], or anything.
    let modrm = prop_oneof![(0..8_u8).prop_map(|reg| reg << 3 | 6), any::<u8>()];
    let tail = prop::collection::vec(any::<u8>(), 6);
    (prefixes(), prop_oneof![x87, sse], modrm, tail)
        .prop_map(|(prefixes, opcode, modrm, tail)| [prefixes, opcode, vec![modrm], tail].concat())
}

fn exponent() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0),
        Just(0x7FFF),
        Just(0xFFFF),
        0x3FBF..0x4041_u16,
        any::<u16>()
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let bits = |bits: Vec<u32>| {
        prop::collection::vec(prop::sample::select(bits), 0..3)
            .prop_map(|bits| bits.into_iter().fold(0, |all, bit| all | bit))
    };
    let address = prop_oneof![3 => Just(OPERAND), 1 => any::<u32>(), 1 => 0xFFFF_FF00..=u32::MAX];
    let base = prop_oneof![6 => Just(0), 1 => any::<u32>()];
    let vectors = prop_oneof![
        any::<u128>(),
        any::<[f32; 4]>().prop_map(|[a, b, c, d]| [a, b, c, d]
            .iter()
            .fold(0, |all, lane| all << 32 | u128::from(lane.to_bits()))),
        any::<[f64; 2]>()
            .prop_map(|[a, b]| u128::from(a.to_bits()) << 64 | u128::from(b.to_bits())),
    ];
    let machine = (
        code(),
        prop::array::uniform8(address),
        any::<u16>(),
        bits(vec![cr0::NE, cr0::EM, cr0::TS, cr0::MP, cr0::AM]),
        bits(vec![cr4::OSFXSR, cr4::OSFXSR, cr4::OSXMMEXCPT]),
        base,
    );
    let units = (
        any::<[u16; 3]>(),
        prop::array::uniform8((any::<u64>(), exponent())),
        prop::array::uniform8(vectors),
        any::<u16>(),
        prop::collection::vec(any::<u8>(), 512),
    );
    (machine, units).prop_map(
        |((code, registers, eflags, cr0, cr4, base), (x87, st, xmm, mxcsr, memory))| Input {
            code,
            registers,
            eflags,
            cr0,
            cr4,
            base,
            x87,
            st,
            xmm,
            mxcsr,
            memory,
        },
    )
}

fn prepared(input: &Input) -> Machine {
    let mut machine = Machine::new();
    machine.cr0 = input.cr0;
    machine.cr4 = input.cr4;
    machine.data_base = input.base;
    machine.operand = input.registers[gpr::ESI];
    machine.write(OPERAND, &input.memory);
    let core = &mut *machine.cpu.core;
    core.regs[..8].copy_from_slice(&input.registers);
    // TF, IF and NT have nothing to do here.
    core.set_eflags(u32::from(input.eflags & 0x0CD5) | 2);
    let mut fpu = Fpu::default();
    fpu.set_control_word(input.x87[0]);
    fpu.set_status_word(input.x87[1]);
    fpu.set_tag_word(input.x87[2]);
    for (index, (significand, sign_exponent)) in (0..).zip(input.st) {
        fpu.set_st(
            index,
            F80 {
                significand,
                sign_exponent,
            },
        );
    }
    core.fpu = fpu;
    core.simd.xmm = input.xmm;
    core.simd.mxcsr = input.mxcsr.into();
    machine
}

fn outcome(input: &Input) -> (u64, Vec<u8>) {
    let mut machine = prepared(input);
    machine.step(&input.code);
    (
        machine.cpu.save().hash64(),
        machine.read::<0x200>(OPERAND).to_vec(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn random_instructions_are_deterministic(input in input()) {
        prop_assert_eq!(outcome(&input), outcome(&input));
    }
}
