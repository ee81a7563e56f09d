//! Instructions per second of micro-loops: `cargo bench -p latefork-cpu`.
//!
//! Each loop runs `BUDGET` instructions; Criterion's "elements" are retired
//! guest instructions.
#![allow(missing_docs)] // criterion_group makes undocumented items

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use latefork_cpu::registers::{cr0, gpr};
use latefork_cpu::segment::{DescriptorTable, Segment};
use latefork_cpu::testing::{Machine, flat_state};
use latefork_cpu::{CpuModel, Exit};

const RAM: usize = 16 << 20;
const CODE: u32 = 0x10_0000;
const BUDGET: u64 = 1_000_000;

/// Where the page tables are: a directory, then tables for 16 MiB.
const DIRECTORY: u32 = 0x20_0000;

/// Flat 32-bit protected mode with 4-KiB pages, identity-mapped, user
/// accessible.
fn machine(code: &[u8]) -> Machine {
    let mut state = flat_state(CpuModel::Fuzz);
    state.cr0 |= cr0::PG | cr0::WP;
    state.cr3 = DIRECTORY;
    state.eip = CODE;
    state.gpr[gpr::ESP] = 0x30_0000;
    let mut machine = Machine::with_state(vec![0; RAM], &state);
    for table in 0..4 {
        let at = DIRECTORY + 0x1000 * (table + 1);
        machine.write_u32(DIRECTORY + 4 * table, at | 7);
        for n in 0..1024 {
            machine.write_u32(at + 4 * n, (table << 22) | (n << 12) | 7);
        }
    }
    machine.write(CODE, code);
    machine
}

fn run(machine: &mut Machine) {
    assert_eq!(machine.run(BUDGET), Exit::Budget);
    black_box(machine.cpu.retired());
}

/// An endless loop of eight ALU instructions between registers and a jump.
fn alu() -> Machine {
    machine(&[
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
    machine(&[
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
    machine(&[
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
    machine(&[
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
    machine(&code)
}

/// INT 0x80 from ring 3 and IRET back, with a little work on each side.
fn syscalls() -> Machine {
    const KERNEL: u32 = 0x11_0000;
    const GDT: u32 = 0x12_0000;
    const IDT: u32 = 0x13_0000;
    const TSS: u32 = 0x14_0000;
    let mut machine = machine(&[
        0xb8, 0x14, 0x00, 0x00, 0x00, // l: mov eax, 20
        0xcd, 0x80, // int 0x80
        0x89, 0xc3, // mov ebx, eax
        0xeb, 0xf5, // jmp l
    ]);
    machine.write(KERNEL, &[0x53, 0x51, 0x01, 0xd0, 0x59, 0x5b, 0xcf]);
    let descriptors: [[u32; 2]; 6] = [
        [0, 0],
        [0x0000_ffff, 0x00cf_9b00],
        [0x0000_ffff, 0x00cf_9300],
        [0x0000_ffff, 0x00cf_fb00],
        [0x0000_ffff, 0x00cf_f300],
        [0x0000_0067, 0x0000_8b14],
    ];
    for (n, [low, high]) in (0..).zip(descriptors) {
        machine.write_u32(GDT + 8 * n, low);
        machine.write_u32(GDT + 8 * n + 4, high);
    }
    machine.write_u32(IDT + 8 * 0x80, KERNEL & 0xffff | 8 << 16);
    machine.write_u32(IDT + 8 * 0x80 + 4, KERNEL & 0xffff_0000 | 0xef00);
    machine.write_u32(TSS + 4, 0x31_0000);
    machine.write_u32(TSS + 8, 0x10);
    let segment = |selector: u16| {
        let [low, high] = descriptors[usize::from(selector >> 3)];
        Segment::from_descriptor(selector, low, high)
    };
    machine.change(|state| {
        state.segments = [segment(0x23); 6];
        state.segments[1] = segment(0x1b);
        state.cpl = 3;
        state.gdtr = DescriptorTable {
            base: GDT,
            limit: 0x2f,
        };
        state.idtr = DescriptorTable {
            base: IDT,
            limit: 0x7ff,
        };
        state.tr = segment(0x28);
    });
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
        run(&mut machine);
        group.bench_function(name, |bencher| bencher.iter(|| run(&mut machine)));
    }
    group.finish();
}

criterion_group!(benches, micro);
criterion_main!(benches);
