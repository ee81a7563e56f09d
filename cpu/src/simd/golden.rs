//! Comparison with records of a real processor, made by `tests/golden/sse.c`. The instructions go through decoder and run loop.

use crate::golden::{Machine, OPERAND, Reader, Verdict, check, check_file};
use crate::registers::gpr;

static COMMITTED: &[u8] = include_bytes!("../../tests/golden/sse.bin");

/// The vector of #XM.
const SIMD_FLOATING_POINT: u8 = 19;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    eflags: u16,
    mxcsr: u16,
    status: u16,
    valid: u8,
    general: u32,
    xmm: u128,
    mm: u64,
    memory: [u8; 16],
}

struct Record {
    code: Vec<u8>,
    before: State,
    source_xmm: u128,
    source_mm: u64,
    fault: Option<u8>,
    after: State,
}

fn state(reader: &mut Reader<'_>) -> State {
    State {
        eflags: reader.word(),
        mxcsr: reader.word(),
        status: reader.word(),
        valid: reader.byte(),
        general: reader.dword(),
        xmm: reader.oword(),
        mm: reader.qword(),
        memory: reader.take(),
    }
}

fn record(reader: &mut Reader<'_>) -> Record {
    let len = usize::from(reader.byte());
    let code = reader.take::<7>()[..len].to_vec();
    let before = state(reader);
    let (source_xmm, source_mm) = (reader.oword(), reader.qword());
    let fault = (reader.byte() != 0).then_some(SIMD_FLOATING_POINT);
    Record {
        code,
        before,
        source_xmm,
        source_mm,
        fault,
        after: state(reader),
    }
}

fn run(machine: &mut Machine, record: &Record) -> (Option<u8>, State) {
    let before = &record.before;
    machine.write(OPERAND, &before.memory);
    let core = &mut *machine.cpu.core;
    core.set_eflags(u32::from(before.eflags));
    core.simd.mxcsr = before.mxcsr.into();
    core.simd.xmm[0] = before.xmm;
    core.simd.xmm[1] = record.source_xmm;
    core.fpu.initialise();
    core.fpu.set_mmx(0, before.mm);
    core.fpu.set_mmx(1, record.source_mm);
    core.fpu.set_status_word(before.status);
    core.fpu.set_abridged_tags(before.valid);
    core.regs[gpr::EAX] = 0x1234_5678;
    core.regs[gpr::ECX] = before.general;
    let fault = machine.execute(&record.code);
    let core = &machine.cpu.core;
    let after = State {
        // Delivery of an exception pushes the flags and clears IF.
        eflags: if fault.is_some() {
            before.eflags
        } else {
            core.eflags() as u16
        },
        mxcsr: core.simd.mxcsr as u16,
        status: core.fpu.status_word(),
        valid: core.fpu.abridged_tags(),
        general: core.regs[gpr::EAX],
        xmm: core.simd.xmm[0],
        mm: core.fpu.mmx(0),
        memory: machine.read(OPERAND),
    };
    (fault, after)
}

/// RCPPS, RCPSS, RSQRTPS, RSQRTSS: the documented difference is a relative error of at most 1.5 × 2^-12 on either side.
fn accept_approximation(record: &Record, got: &mut State) {
    let [.., opcode, _] = record.code[..] else {
        return;
    };
    if !matches!(opcode, 0x52 | 0x53) || record.code.len() > 4 {
        return;
    }
    for n in 0..4 {
        let single = |value: u128| f32::from_bits((value >> (32 * n)) as u32);
        let (a, b) = (single(got.xmm), single(record.after.xmm));
        if a.is_normal() && b.is_normal() && (a / b - 1.0).abs() < 3.0 / 4096.0 {
            let mask = 0xFFFF_FFFF << (32 * n);
            got.xmm = got.xmm & !mask | record.after.xmm & mask;
        }
    }
}

fn compare(reader: &mut Reader<'_>, machine: &mut Machine) -> Verdict {
    let record = record(reader);
    let (fault, mut got) = run(machine, &record);
    accept_approximation(&record, &mut got);
    let same = got == record.after && fault == record.fault;
    let difference = || {
        format!(
            "{:02x?} source {:x} {:x}\n before {:x?}\n got    {got:x?} {fault:?}\n expect {:x?} {:?}",
            record.code,
            record.source_xmm,
            record.source_mm,
            record.before,
            record.after,
            record.fault
        )
    };
    Verdict {
        difference: (!same).then(difference),
        key: record.code[..record.code.len().min(4)].to_vec(),
    }
}

#[test]
fn committed_records_of_the_processor_agree() {
    check(COMMITTED, compare);
}

/// The file is one that `tests/golden/sse.c` has written.
#[test]
fn given_records_of_the_processor_agree() {
    check_file("LATEFORK_SSE_RECORDS", |records| check(records, compare));
}
