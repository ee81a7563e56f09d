//! Instructions per second of micro-loops: `cargo bench -p latefork-cpu`.
//!
//! Each loop runs `BUDGET` instructions; Criterion's "elements" are retired
//! guest instructions.
#![allow(missing_docs)] // criterion_group makes undocumented items

use std::cell::Cell;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use latefork_cpu::registers::{cr0, gpr};
use latefork_cpu::segment::{DescriptorTable, Segment, attr};
use latefork_cpu::{Cpu, CpuModel, CpuState, Exit, Instructions, Memory};

const RAM: usize = 16 << 20;
const CODE: u32 = 0x10_0000;
const BUDGET: u64 = 1_000_000;

/// Where the page tables are: a directory, then tables for 16 MiB.
const DIRECTORY: u32 = 0x20_0000;

struct Machine {
    cpu: Cpu,
    ram: Vec<Cell<u8>>,
    dirty: Vec<Cell<u64>>,
}

impl Machine {
    /// Flat 32-bit protected mode with 4-KiB pages, identity-mapped, user
    /// accessible.
    fn new(code: &[u8]) -> Self {
        let mut machine = Self {
            cpu: Cpu::new(CpuModel::Fuzz),
            ram: vec![Cell::new(0); RAM],
            dirty: vec![Cell::new(0); RAM / 4096 / 64],
        };
        for table in 0..4 {
            let at = DIRECTORY + 0x1000 * (table + 1);
            machine.write32(DIRECTORY + 4 * table, at | 7);
            for n in 0..1024 {
                machine.write32(at + 4 * n, (table << 22) | (n << 12) | 7);
            }
        }
        machine.write(CODE, code);
        let mut state = machine.cpu.save();
        flat(&mut state);
        machine.cpu.restore(&state);
        machine
    }

    fn write(&mut self, at: u32, bytes: &[u8]) {
        for (cell, &byte) in self.ram[at as usize..].iter().zip(bytes) {
            cell.set(byte);
        }
    }

    fn write32(&mut self, at: u32, value: u32) {
        self.write(at, &value.to_le_bytes());
    }

    fn run(&mut self) {
        let memory = Memory::new(&self.ram, &[], &self.dirty);
        let exit = self.cpu.run(&memory, Instructions(BUDGET));
        assert_eq!(exit, Exit::Budget);
        black_box(self.cpu.retired());
    }
}

fn flat(state: &mut CpuState) {
    let data = attr::PRESENT | attr::S | attr::WRITABLE_OR_READABLE | attr::ACCESSED;
    let flat = Segment {
        selector: 0x10,
        attributes: data | attr::BIG | attr::GRANULARITY,
        base: 0,
        limit: u32::MAX,
    };
    state.segments = [flat; 6];
    state.segments[1] = Segment {
        selector: 8,
        attributes: flat.attributes | attr::CODE,
        ..flat
    };
    state.cr0 = cr0::PE | cr0::PG | cr0::WP | cr0::ET;
    state.cr3 = DIRECTORY;
    state.eip = CODE;
    state.gpr[gpr::ESP] = 0x30_0000;
}

/// An endless loop of eight ALU instructions between registers and a jump.
fn alu() -> Machine {
    Machine::new(&[
        0x01, 0xd8, // l: add eax, ebx
        0x31, 0xc1, // xor ecx, eax
        0x83, 0xc3, 0x07, // add ebx, 7
        0xc1, 0xe2, 0x03, // shl edx, 3
        0x29, 0xca, // sub edx, ecx
        0x21, 0xd6, // and esi, edx
        0x46, // inc esi
        0x39, 0xc6, // cmp esi, eax
        0x75, 0xed, // jne l
        0xeb, 0xeb, // jmp l
    ])
}

/// Loads, stores and read-modify-writes over 64 KiB.
fn memory() -> Machine {
    Machine::new(&[
        0xbb, 0x00, 0x00, 0x40, 0x00, // mov ebx, 0x400000
        0x8b, 0x04, 0x0b, // l: mov eax, [ebx+ecx]
        0x01, 0x44, 0x0b, 0x04, // add [ebx+ecx+4], eax
        0x89, 0x54, 0x0b, 0x08, // mov [ebx+ecx+8], edx
        0x0f, 0xb6, 0x54, 0x0b, 0x01, // movzx edx, byte [ebx+ecx+1]
        0x83, 0xc1, 0x10, // add ecx, 16
        0x81, 0xe1, 0xff, 0xff, 0x00, 0x00, // and ecx, 0xffff
        0xeb, 0xe5, // jmp l
    ])
}

/// A function call with a frame, as compilers make them.
fn calls() -> Machine {
    Machine::new(&[
        0x6a, 0x05, // l: push 5
        0xe8, 0x05, 0x00, 0x00, 0x00, // call f
        0x83, 0xc4, 0x04, // add esp, 4
        0xeb, 0xf4, // jmp l
        0x55, // f: push ebp
        0x89, 0xe5, // mov ebp, esp
        0x53, // push ebx
        0x8b, 0x5d, 0x08, // mov ebx, [ebp+8]
        0x85, 0xdb, // test ebx, ebx
        0x74, 0x02, // jz g
        0x01, 0xd8, // add eax, ebx
        0x5b, // g: pop ebx
        0xc9, // leave
        0xc3, // ret
    ])
}

/// REP MOVSD of whole pages.
fn string_copy() -> Machine {
    Machine::new(&[
        0xbe, 0x00, 0x00, 0x40, 0x00, // l: mov esi, 0x400000
        0xbf, 0x00, 0x00, 0x50, 0x00, // mov edi, 0x500000
        0xb9, 0x00, 0x04, 0x00, 0x00, // mov ecx, 1024
        0xf3, 0xa5, // rep movsd
        0xeb, 0xed, // jmp l
    ])
}

/// Every load and store straddles two pages, and so does an instruction.
fn page_crossing() -> Machine {
    let mut code = vec![0x90; 0xff7];
    code.extend([
        0xbb, 0xfe, 0x0f, 0x40, 0x00, // mov ebx, 0x400ffe
        0xa1, 0xfe, 0x2f, 0x40,
        0x00, // l: mov eax, [0x402ffe], the last byte is on the next page
        0x8b, 0x03, // mov eax, [ebx]
        0x89, 0x43, 0x00, // mov [ebx], eax
        0xeb, 0xf4, // jmp l
    ]);
    Machine::new(&code)
}

/// INT 0x80 from ring 3 and IRET back, with a little work on each side.
fn syscalls() -> Machine {
    const KERNEL: u32 = 0x11_0000;
    const GDT: u32 = 0x12_0000;
    const IDT: u32 = 0x13_0000;
    const TSS: u32 = 0x14_0000;
    let mut machine = Machine::new(&[
        0xb8, 0x14, 0x00, 0x00, 0x00, // l: mov eax, 20
        0xcd, 0x80, // int 0x80
        0x89, 0xc3, // mov ebx, eax
        0xeb, 0xf5, // jmp l
    ]);
    machine.write(KERNEL, &[0x53, 0x51, 0x01, 0xd0, 0x59, 0x5b, 0xcf]);
    let descriptors: [u64; 6] = [
        0,
        0x00cf_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x0000_8b14_0000_0067,
    ];
    for (n, descriptor) in (0..).zip(descriptors) {
        machine.write(GDT + 8 * n, &descriptor.to_le_bytes());
    }
    let gate = u64::from(KERNEL & 0xffff) | 8 << 16 | 0xef00 << 32 | u64::from(KERNEL >> 16) << 48;
    machine.write(IDT + 8 * 0x80, &gate.to_le_bytes());
    machine.write32(TSS + 4, 0x31_0000);
    machine.write32(TSS + 8, 0x10);
    let mut state = machine.cpu.save();
    let user = Segment {
        selector: 0x23,
        attributes: state.segments[0].attributes | attr::DPL,
        ..state.segments[0]
    };
    state.segments = [user; 6];
    state.segments[1] = Segment {
        selector: 0x1b,
        attributes: user.attributes | attr::CODE,
        ..user
    };
    state.cpl = 3;
    state.gdtr = DescriptorTable {
        base: GDT,
        limit: 0x2f,
    };
    state.idtr = DescriptorTable {
        base: IDT,
        limit: 0x7ff,
    };
    state.tr = Segment {
        selector: 0x28,
        attributes: attr::PRESENT | 11,
        base: TSS,
        limit: 0x67,
    };
    machine.cpu.restore(&state);
    machine
}

fn micro(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("micro");
    group.throughput(Throughput::Elements(BUDGET));
    type Make = fn() -> Machine;
    let loops: [(&str, Make); 6] = [
        ("alu", alu),
        ("memory", memory),
        ("calls", calls),
        ("string_copy", string_copy),
        ("page_crossing", page_crossing),
        ("syscalls", syscalls),
    ];
    for (name, make) in loops {
        let mut machine = make();
        machine.run();
        group.bench_function(name, |bencher| bencher.iter(|| machine.run()));
    }
    group.finish();
}

criterion_group!(benches, micro);
criterion_main!(benches);
