//! Comparison with records of a real processor, made by `tests/golden/x87.c`. The instructions go through decoder and run loop.

use super::{Fpu, control::C1, f80::F80};
use crate::golden::{Machine, OPERAND, Reader, Verdict, check, check_file};

static COMMITTED: &[u8] = include_bytes!("../../tests/golden/x87.bin");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    eflags: u16,
    control: u16,
    status: u16,
    tags: u16,
    memory: [u8; 10],
    st: [F80; 8],
}

fn register(reader: &mut Reader<'_>) -> F80 {
    F80::from_bytes(reader.take())
}

fn state(reader: &mut Reader<'_>, st: [F80; 8]) -> State {
    let [eflags, control, status, tags] = std::array::from_fn(|_| reader.word());
    State {
        eflags,
        control,
        status,
        tags,
        memory: reader.take(),
        st,
    }
}

/// The opcode, and the states before and after.
fn record(reader: &mut Reader<'_>) -> ([u8; 2], State, State) {
    let op = reader.take();
    let mut before = state(reader, [F80::default(); 8]);
    let quiet = F80 {
        significand: 0xC000_0000_0000_0123,
        sign_exponent: 0x7FFF,
    };
    let [st0, st1, st2, st7] = std::array::from_fn(|_| register(reader));
    before.st = [
        st0,
        st1,
        st2,
        F80::ONE,
        F80::encode(true, 1, 1 << 63),
        F80::zero(false),
        quiet,
        st7,
    ];
    let mut after = state(reader, before.st);
    let changed = reader.byte();
    for (index, value) in after.st.iter_mut().enumerate() {
        if changed >> index & 1 != 0 {
            *value = register(reader);
        }
    }
    (op, before, after)
}

fn run(machine: &mut Machine, op: [u8; 2], before: &State) -> State {
    let core = &mut *machine.cpu.core;
    core.set_eflags(before.eflags.into());
    core.fpu = Fpu::default();
    core.fpu.set_control_word(before.control);
    core.fpu.set_status_word(before.status);
    core.fpu.set_tag_word(before.tags);
    for (index, value) in (0..).zip(before.st) {
        core.fpu.set_st(index, value);
    }
    machine.write(OPERAND, &before.memory);
    let fault = machine.execute(&op);
    assert_eq!(fault, None, "{op:02x?}");
    let core = &machine.cpu.core;
    State {
        eflags: core.eflags() as u16,
        control: core.fpu.control_word(),
        status: core.fpu.status_word(),
        tags: core.fpu.tag_word(),
        memory: machine.read(OPERAND),
        st: std::array::from_fn(|index| core.fpu.st(u8::try_from(index).unwrap())),
    }
}

/// F2XM1, FYL2X, FPTAN, FPATAN, FYL2XP1, FSINCOS, FSIN, FCOS.
fn is_transcendental(op: [u8; 2]) -> bool {
    op[0] == 0xD9 && matches!(op[1], 0xF0..=0xF3 | 0xF9 | 0xFB | 0xFE | 0xFF)
}

/// The documented difference of the transcendental instructions: double precision, and so another C1, and next to the smallest normal number another
/// opinion on underflow.
fn accept_double_precision(got: &mut State, expect: &State) {
    const UNDERFLOW_FLAG: u16 = 0x10;
    const PRECISION_FLAG: u16 = 0x20;
    const SMALLEST_NORMAL: i128 = 1 << 63;
    // Four units in the last place of a double.
    const TOLERANCE: i128 = 4 << 11;
    if got.status & expect.status & PRECISION_FLAG != 0 {
        got.status = got.status & !C1 | expect.status & C1;
    }
    let scale = |value: F80| {
        i128::from(value.sign_exponent) << 63 | i128::from(value.significand & !(1 << 63))
    };
    for (value, expected) in got.st.iter_mut().zip(expect.st) {
        if (scale(*value) - scale(expected)).abs() <= TOLERANCE {
            *value = expected;
            got.tags = expect.tags;
            if (scale(expected.magnitude()) - SMALLEST_NORMAL).abs() <= TOLERANCE {
                got.status = got.status & !UNDERFLOW_FLAG | expect.status & UNDERFLOW_FLAG;
            }
        }
    }
}

fn compare(reader: &mut Reader<'_>, machine: &mut Machine) -> Verdict {
    let (op, before, expect) = record(reader);
    let mut got = run(machine, op, &before);
    if is_transcendental(op) {
        accept_double_precision(&mut got, &expect);
    }
    Verdict {
        key: op.to_vec(),
        difference: (got != expect)
            .then(|| format!("\n before {before:x?}\n got    {got:x?}\n expect {expect:x?}")),
    }
}

#[test]
fn committed_records_of_the_processor_agree() {
    check(COMMITTED, compare);
}

/// The file is one that `tests/golden/x87.c` has written.
#[test]
fn given_records_of_the_processor_agree() {
    check_file("LATEFORK_X87_RECORDS", |records| check(records, compare));
}
