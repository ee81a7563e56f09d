//! Comparison with records of a real processor, made by `tests/golden/x87.c`.

use std::collections::BTreeMap;

use super::{
    Fpu,
    control::C1,
    execute::Taken,
    f80::F80,
    instruction::{Condition, ControlOp, Instruction, Sense, decode},
};

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

/// Reads records from the front of a byte slice.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .expect("the file ends inside a record");
        self.0 = tail;
        *head
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn register(&mut self) -> F80 {
        F80::from_bytes(self.take())
    }

    fn state(&mut self, st: [F80; 8]) -> State {
        let [eflags, control, status, tags] = std::array::from_fn(|_| self.word());
        State {
            eflags,
            control,
            status,
            tags,
            memory: self.take(),
            st,
        }
    }

    /// The opcode, and the states before and after.
    fn record(&mut self) -> ([u8; 2], State, State) {
        let op = self.take();
        let mut before = self.state([F80::default(); 8]);
        let quiet = F80 {
            significand: 0xC000_0000_0000_0123,
            sign_exponent: 0x7FFF,
        };
        let [st0, st1, st2, st7] = std::array::from_fn(|_| self.register());
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
        let mut after = self.state(before.st);
        let [changed] = self.take();
        for (index, value) in after.st.iter_mut().enumerate() {
            if changed >> index & 1 != 0 {
                *value = self.register();
            }
        }
        (op, before, after)
    }
}

fn loaded(state: &State) -> Fpu {
    let mut fpu = Fpu::default();
    fpu.set_control_word(state.control);
    fpu.set_status_word(state.status);
    fpu.set_tag_word(state.tags);
    for (index, value) in (0..).zip(state.st) {
        fpu.set_st(index, value);
    }
    fpu
}

fn run(op: [u8; 2], before: &State) -> State {
    let mut fpu = loaded(before);
    let mut after = *before;
    match decode(op[0] & 7, op[1]).expect("the processor executed it") {
        Instruction::Register(register) => fpu.register(register),
        Instruction::FromMemory(instruction, format) => {
            fpu.with_operand(instruction, format, before.memory)
        }
        Instruction::ToMemory { format, pops } => {
            let pending = fpu.to_memory(format, pops);
            if !pending.suppressed {
                after.memory[..format.size()].copy_from_slice(&pending.bytes[..format.size()]);
            }
            fpu.finish_store(&pending);
        }
        Instruction::ConditionalMove {
            condition,
            sense,
            source,
        } => {
            let flags = match condition {
                Condition::Below => 0x01,
                Condition::Equal => 0x40,
                Condition::BelowOrEqual => 0x41,
                Condition::Unordered => 0x04,
            };
            let taken = (before.eflags & flags != 0) == (sense == Sense::Holds);
            fpu.conditional_move(source, if taken { Taken::Yes } else { Taken::No });
        }
        Instruction::CompareToFlags {
            source,
            quiet,
            pops,
        } => {
            after.eflags = after.eflags & !0x8D5 | fpu.compare_to_flags(source, quiet, pops) >> 8;
        }
        Instruction::Control(ControlOp::ClearExceptions) => fpu.clear_exceptions(),
        Instruction::Control(ControlOp::Initialise) => fpu.initialise(),
        Instruction::Control(other) => panic!("no records of {other:?}"),
    }
    let st = std::array::from_fn(|index| fpu.st(u8::try_from(index).unwrap()));
    State {
        control: fpu.control_word(),
        status: fpu.status_word(),
        tags: fpu.tag_word(),
        st,
        ..after
    }
}

/// F2XM1, FYL2X, FPTAN, FPATAN, FYL2XP1, FSINCOS, FSIN, FCOS.
fn is_transcendental(op: [u8; 2]) -> bool {
    op[0] == 0xD9 && matches!(op[1], 0xF0..=0xF3 | 0xF9 | 0xFB | 0xFE | 0xFF)
}

/// The documented difference of the transcendental instructions: double precision, and so another C1.
fn accept_double_precision(got: &mut State, expect: &State) {
    const PRECISION_FLAG: u16 = 0x20;
    if got.status & expect.status & PRECISION_FLAG != 0 {
        got.status = got.status & !C1 | expect.status & C1;
    }
    let scale = |value: F80| {
        i128::from(value.sign_exponent) << 63 | i128::from(value.significand & !(1 << 63))
    };
    for (value, expected) in got.st.iter_mut().zip(expect.st) {
        // Four units in the last place of a double.
        if (scale(*value) - scale(expected)).abs() <= 4 << 11 {
            *value = expected;
            got.tags = expect.tags;
        }
    }
}

fn check(records: &[u8]) {
    let mut differences = BTreeMap::<[u8; 2], usize>::new();
    let mut reader = Reader(records);
    let mut cases = 0;
    while !reader.0.is_empty() {
        let (op, before, expect) = reader.record();
        let mut got = run(op, &before);
        cases += 1;
        if is_transcendental(op) {
            accept_double_precision(&mut got, &expect);
        }
        if got != expect {
            let count = differences.entry(op).or_default();
            *count += 1;
            if *count <= 3 {
                eprintln!("{op:02x?}\n before {before:x?}\n got    {got:x?}\n expect {expect:x?}");
            }
        }
    }
    eprintln!("{cases} cases");
    assert!(
        differences.is_empty(),
        "differences by opcode: {differences:02x?}"
    );
}

#[test]
fn committed_records_of_the_processor_agree() {
    check(COMMITTED);
}

/// For long runs: `LATEFORK_X87_RECORDS` names a file that `tests/golden/x87.c` has written.
#[test]
fn given_records_of_the_processor_agree() {
    if let Some(path) = std::env::var_os("LATEFORK_X87_RECORDS") {
        check(&std::fs::read(path).expect("LATEFORK_X87_RECORDS names a readable file"));
    }
}
