//! What the suite covers: every instruction that exists, and every exception.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions};
use latefork_cpu::conformance::{Case, Engine};
use latefork_cpu::{Cpu, CpuModel, allowed_codes};

use crate::soft::Soft;

/// Why no case can have a `Code` of the allow-list.
fn is_out_of_reach(code: Code) -> Option<&'static str> {
    let op_code = code.op_code();
    if !op_code.mode32() && !op_code.mode16() {
        Some("64-bit code only")
    } else if op_code.fwait() {
        Some("FWAIT and another instruction, which the decoder gives one by one")
    } else if matches!(code, Code::Ud0 | Code::Zero_bytes) {
        Some("a pseudo-instruction, which the decoder never gives")
    } else {
        None
    }
}

/// The instruction at CS:EIP, if it lies in RAM at its own linear address.
fn decode(cpu: &Cpu, read: &dyn Fn(u32) -> Option<u8>) -> Option<Code> {
    let registers = cpu.user_registers();
    let code = registers.segments[1];
    let linear = code.base.wrapping_add(registers.eip);
    let bytes: Vec<u8> = (linear..).take(15).map_while(read).collect();
    let bits = if code.attributes & latefork_cpu::segment::attr::BIG != 0 {
        32
    } else {
        16
    };
    let options = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD;
    let instruction = Decoder::with_ip(bits, &bytes, u64::from(registers.eip), options).decode();
    (!instruction.is_invalid()).then(|| instruction.code())
}

/// The instructions that begin in a case.
fn executed(case: &Case) -> BTreeSet<Code> {
    let codes = Rc::new(RefCell::new(BTreeSet::new()));
    let seen = Rc::clone(&codes);
    let mut engine = Soft {
        trace: Some(Box::new(move |cpu, read| {
            seen.borrow_mut().extend(decode(cpu, read));
        })),
    };
    engine.run(case, case.pages());
    codes.take()
}

#[test]
fn every_instruction_of_the_allow_list_is_in_a_case() {
    let mut covered = BTreeSet::new();
    for case in &crate::suite() {
        covered.extend(executed(case));
    }
    let missing: Vec<Code> = allowed_codes(CpuModel::Sse)
        .filter(|code| is_out_of_reach(*code).is_none() && !covered.contains(code))
        .collect();
    assert!(missing.is_empty(), "no case executes {missing:?}");
    // What is not in the allow-list is #UD, and there is a case of that, too.
    let absent = |code: &Code| code.cpuid_features().contains(&CpuidFeature::SSE4_1);
    assert!(!allowed_codes(CpuModel::Sse).any(|code| absent(&code)));
}

/// Vectors that the CPU raises: #MC and the 387's vector 9 do not exist here.
const VECTORS: [u32; 17] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 19, 0x80];
/// The handler of a vector, eight bytes each.
const HANDLERS: u32 = 0x3000;

#[test]
fn every_exception_is_delivered_in_every_mode_that_has_it() {
    let mut found: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let cases = crate::suite();
    for case in &cases {
        let eip = case.expected.registers[8];
        if (HANDLERS..HANDLERS + 0x800).contains(&eip) {
            let vectors = found.entry(&case.setup.name).or_default();
            vectors.insert((eip - 1 - HANDLERS) / 8);
        }
    }
    let real: Vec<u32> = vec![0, 1, 3, 4, 5, 6, 7, 12, 13, 16, 0x80];
    let all_but = |vector| -> Vec<u32> { VECTORS.into_iter().filter(|&v| v != vector).collect() };
    let without_paging: Vec<u32> = all_but(14).into_iter().filter(|&v| v != 17).collect();
    let table = [
        ("real", real),
        ("prot16", vec![0, 6, 11, 12, 13, 0x80]),
        ("system32", without_paging),
        ("paged32", all_but(8)),
        ("pae32", vec![14, 0x80]),
    ];
    for (setup, vectors) in table {
        let missing: Vec<u32> = vectors
            .into_iter()
            .filter(|vector| !found.get(setup).is_some_and(|set| set.contains(vector)))
            .collect();
        assert!(
            missing.is_empty(),
            "{setup}: no case of vectors {missing:x?}"
        );
    }
}

#[test]
fn every_setup_ends_in_a_shutdown_once() {
    let shutdowns: BTreeSet<String> = crate::suite()
        .into_iter()
        .filter(|case| case.expected.ending == latefork_cpu::conformance::Ending::Shutdown)
        .map(|case| case.setup.name.clone())
        .collect();
    let names: Vec<&str> = shutdowns.iter().map(String::as_str).collect();
    assert_eq!(names, ["pae32", "paged32", "prot16", "real", "system32"]);
}
