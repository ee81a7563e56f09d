//! The conformance suite on this crate's CPU.

use std::cell::Cell;
use std::collections::BTreeMap;

use latefork_cpu::conformance::{Case, End, Engine, FX_BYTES, check, parse};
use latefork_cpu::registers::{cr0, cr4, gpr};
use latefork_cpu::segment::Segment;
use latefork_cpu::{Cpu, CpuModel, Exit, Instructions, Memory, PhysAddr, Region, RegionKind};

#[derive(Default)]
struct Soft {
    pages: BTreeMap<u32, Vec<Cell<u8>>>,
}

fn start(case: &Case) -> Cpu {
    let mut cpu = Cpu::new(CpuModel::Sse);
    let mut state = cpu.save();
    let data = Segment::from_descriptor(0x10, 0xFFFF, 0x00CF_9300);
    state.segments = [data; 6];
    state.segments[1] = Segment::from_descriptor(8, 0xFFFF, 0x00CF_9B00);
    state.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE;
    state.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT;
    state.gpr[..=gpr::EDI].copy_from_slice(&case.registers[..8]);
    state.eip = case.registers[8];
    state.eflags = case.registers[9];
    if let Some(fx) = &case.fx {
        let x87 = fx[..160].try_into().expect("160 bytes");
        state.fpu.load_fxsave_image(x87);
        state.simd.mxcsr = u32::from_le_bytes(fx[24..28].try_into().expect("four bytes"));
        for (register, bytes) in state.simd.xmm.iter_mut().zip(fx[160..].chunks_exact(16)) {
            *register = u128::from_le_bytes(bytes.try_into().expect("16 bytes"));
        }
    }
    cpu.restore(&state);
    cpu
}

impl Engine for Soft {
    fn run(&mut self, case: &Case, pages: &BTreeMap<u32, Box<[u8; 4096]>>) -> End {
        self.pages = pages
            .iter()
            .map(|(&number, page)| (number, page.iter().copied().map(Cell::new).collect()))
            .collect();
        let regions: Vec<Region<'_>> = self
            .pages
            .iter()
            .map(|(&number, bytes)| Region {
                start: PhysAddr(u64::from(number) << 12),
                bytes,
                kind: RegionKind::Ram,
            })
            .collect();
        let mut cpu = start(case);
        let exit = cpu.run(&Memory::new(&[], &regions, &[]), Instructions(1000));
        let state = cpu.save();
        let mut registers = [0; 10];
        registers[..8].copy_from_slice(&state.gpr);
        registers[8] = state.eip;
        registers[9] = state.eflags;
        let mut fx = Box::new([0; FX_BYTES]);
        fx[..160].copy_from_slice(&state.fpu.fxsave_image());
        fx[24..28].copy_from_slice(&state.simd.mxcsr.to_le_bytes());
        for (bytes, register) in fx[160..].chunks_exact_mut(16).zip(state.simd.xmm) {
            bytes.copy_from_slice(&register.to_le_bytes());
        }
        End {
            halted: match exit {
                Exit::Halted => Ok(()),
                other => Err(format!("{other:?}")),
            },
            registers,
            fx,
        }
    }

    fn read(&self, address: u32, len: usize) -> Vec<u8> {
        let byte = |at: u32| {
            self.pages
                .get(&(at >> 12))
                .map(|page| page[at as usize & 0xFFF].get())
        };
        (address..)
            .take(len)
            .map(|at| byte(at).unwrap_or(0xFF))
            .collect()
    }
}

#[test]
fn user_instructions_do_what_a_processor_did() {
    let cases = parse(include_str!("../conformance/user.txt")).expect("the suite can be read");
    assert!(cases.len() > 600, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        for difference in check(case, &mut Soft::default()) {
            failures.push(format!("{}: {difference}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_wrong_expectation_is_reported() {
    let text = "case nop: nop\nstart prot32\nmem 1000 90f4\nreg 1 2 3 4 5 6 7 8 1000 2\n\
                expect halted\nexpect reg 1 2 3 4 5 6 7 9 1002 2\n";
    let cases = parse(text).expect("the case can be read");
    assert_eq!(
        check(&cases[0], &mut Soft::default()),
        ["edi is 8, expected 9"]
    );
    assert!(parse("case x: y\nreg 1 2\n").is_err());
}
