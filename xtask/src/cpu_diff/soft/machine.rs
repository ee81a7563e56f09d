//! The memory image and the CPU state around a case.

use std::cell::Cell;

use latefork_cpu::segment::{DescriptorTable, Segment};
use latefork_cpu::{Cpu, CpuModel, Exit, Instructions, Memory, PhysAddr, UserRegisters};

use super::super::generate::{USER_CS, USER_DS};
use super::super::layout::{Access, MAPPINGS, PAGE};
use super::super::wire::FX_BYTES;

/// Physical pages.
const PDPT_FRAME: u32 = 1;
const DIRECTORY_LOW: u32 = 2;
const DIRECTORY_HIGH: u32 = 3;
const FIRST_TABLE: u32 = 4;
const GDT_FRAME: u32 = 8;
const IDT_FRAME: u32 = 9;
const HANDLER_FRAME: u32 = 10;
/// The ring-0 stack.
pub(super) const STACK_FRAME: u32 = 11;
/// The first page of the arena.
pub(super) const ARENA_FRAME: u32 = 12;
/// The page of code, the arena's last.
pub(super) const CODE_FRAME: u32 = ARENA_FRAME + 3;
const FRAMES: u32 = 16;

/// Supervisor pages, out of the generator's reach.
const SYSTEM: u32 = 0xF000_0000;
const GDT_LINEAR: u32 = SYSTEM;
const IDT_LINEAR: u32 = SYSTEM + PAGE;
/// The handler of vector 0; eight bytes each.
pub(super) const HANDLERS: u32 = SYSTEM + 2 * PAGE;
/// The ring-0 stack's page.
pub(super) const STACK_LINEAR: u32 = SYSTEM + 3 * PAGE;
const TSS_OFFSET: u32 = 0x800;

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const NO_EXECUTE: u64 = 1 << 63;

/// PE, MP, ET, NE, WP, AM, PG: as the host kernel runs its programs.
const CR0: u32 = 0x8005_0033;
/// PAE, PGE, OSFXSR, OSXMMEXCPT.
const CR4: u32 = 0x6A0;
const EFER_NXE: u32 = 1 << 11;

/// A CPU and its RAM.
pub(super) struct Machine {
    pub(super) cpu: Cpu,
    ram: Vec<Cell<u8>>,
    dirty: Vec<Cell<u64>>,
    template: UserRegisters,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("cpu", &self.cpu)
            .finish_non_exhaustive()
    }
}

impl Machine {
    pub(super) fn new() -> Self {
        let mut cpu = Cpu::new(CpuModel::Sse);
        let mut state = cpu.save();
        state.cr0 = CR0;
        state.cr3 = PDPT_FRAME * PAGE;
        state.cr4 = CR4;
        state.msrs.efer = EFER_NXE;
        state.pdpte = directory_pointers();
        state.gdtr = table(GDT_LINEAR, 0x7F);
        state.idtr = table(IDT_LINEAR, 0x7FF);
        state.tr = Segment::from_descriptor(0x40, (TSS_OFFSET + GDT_LINEAR) << 16 | 0x67, {
            let base = GDT_LINEAR + TSS_OFFSET;
            0x8B00 | (base >> 16 & 0xFF) | (base & 0xFF00_0000)
        });
        state.ldtr = Segment::null(0);
        state.cpl = 3;
        state.segments = [
            user_data(),
            user_code(),
            user_data(),
            user_data(),
            user_data(),
            user_data(),
        ];
        cpu.restore(&state);
        let template = cpu.user_registers();
        let machine = Self {
            cpu,
            ram: vec![Cell::new(0); (FRAMES * PAGE) as usize],
            // Every bit is set already: nobody looks at it.
            dirty: vec![Cell::new(u64::MAX)],
            template,
        };
        machine.write_page_tables();
        machine.write_descriptors();
        machine
    }

    pub(super) fn user_registers(&self) -> UserRegisters {
        self.template.clone()
    }

    pub(super) fn run(&mut self, budget: Instructions) -> Exit {
        let memory = Memory::new(&self.ram, &[], &self.dirty);
        self.cpu.run(&memory, budget)
    }

    pub(super) fn note_host_write(&mut self, address: PhysAddr, len: u32) {
        let memory = Memory::new(&self.ram, &[], &self.dirty);
        self.cpu.note_host_write(&memory, address, len);
    }

    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        for (cell, &byte) in self.ram[at..at + bytes.len()].iter().zip(bytes) {
            cell.set(byte);
        }
    }

    pub(super) fn write_arena(&self, offset: usize, bytes: &[u8]) {
        self.write((ARENA_FRAME * PAGE) as usize + offset, bytes);
    }

    pub(super) fn read_arena<const N: usize>(&self, offset: usize) -> [u8; N] {
        let at = (ARENA_FRAME * PAGE) as usize + offset;
        let cells: &[Cell<u8>; N] = self.ram[at..at + N].try_into().expect("N cells");
        std::array::from_fn(|i| cells[i].get())
    }

    pub(super) fn read_u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.ram[at + i].get()))
    }

    fn write_u64(&self, at: u32, value: u64) {
        self.write(at as usize, &value.to_le_bytes());
    }

    fn write_page_tables(&self) {
        for (i, entry) in (0u32..).zip(directory_pointers()) {
            self.write_u64(PDPT_FRAME * PAGE + 8 * i, entry);
        }
        let mut tables = Vec::new();
        for mapping in MAPPINGS {
            let mut flags = PRESENT | USER | ACCESSED | DIRTY;
            flags |= match mapping.access {
                Access::ReadWrite => WRITE | NO_EXECUTE,
                Access::ReadOnly => NO_EXECUTE,
                Access::Execute => 0,
            };
            for page in 0..mapping.pages {
                let frame = ARENA_FRAME + mapping.page + page;
                self.map(&mut tables, mapping.base + page * PAGE, frame, flags);
            }
        }
        for page in 0..4 {
            let flags = PRESENT | WRITE | ACCESSED | DIRTY;
            self.map(&mut tables, SYSTEM + page * PAGE, GDT_FRAME + page, flags);
        }
    }

    /// `tables` holds the 2-MiB regions that have a page table, in order.
    fn map(&self, tables: &mut Vec<u32>, linear: u32, frame: u32, flags: u64) {
        let region = linear >> 21;
        let number = tables.iter().position(|&known| known == region);
        let number = number.unwrap_or_else(|| {
            tables.push(region);
            tables.len() - 1
        });
        let table = FIRST_TABLE + number as u32;
        assert!(table < GDT_FRAME, "too many page tables");
        let directory = if linear >> 30 == 0 {
            DIRECTORY_LOW
        } else {
            DIRECTORY_HIGH
        };
        let entry = u64::from(table * PAGE) | PRESENT | WRITE | USER | ACCESSED;
        self.write_u64(directory * PAGE + 8 * (region & 511), entry);
        let entry = u64::from(frame * PAGE) | flags;
        self.write_u64(table * PAGE + 8 * (linear >> 12 & 511), entry);
    }

    /// The host kernel's descriptors as far as user code can tell, gates to
    /// the handlers, a TSS.
    fn write_descriptors(&self) {
        let gdt = GDT_FRAME * PAGE;
        let descriptors = [
            (0x08, 0x00CF_9B00_0000_FFFF),
            (0x10, 0x00CF_9B00_0000_FFFF),
            (0x18, 0x00CF_9300_0000_FFFF),
            (0x20, 0x00CF_FB00_0000_FFFF),
            (0x28, 0x00CF_F300_0000_FFFF),
            // The host's 64-bit code segment: data can be read through it.
            (0x30, 0x00AF_FB00_0000_FFFF),
        ];
        for (selector, descriptor) in descriptors {
            self.write_u64(gdt + selector, descriptor);
        }
        let tss = gdt + TSS_OFFSET;
        self.write((tss + 4) as usize, &(STACK_LINEAR + PAGE).to_le_bytes());
        self.write((tss + 8) as usize, &0x18u32.to_le_bytes());
        // The I/O bitmap lies beyond the limit: every port is denied.
        self.write((tss + 102) as usize, &0x68u16.to_le_bytes());
        for vector in 0..256 {
            let handler = u64::from(HANDLERS + 8 * vector);
            // BREAKPOINT and OVERFLOW are for ring 3, as the host has them.
            let dpl = if matches!(vector, 3 | 4) { 3 } else { 0 };
            let gate = handler & 0xFFFF
                | 0x10 << 16
                | (0x8E00 | dpl << 13) << 32
                | (handler & 0xFFFF_0000) << 32;
            self.write_u64(IDT_FRAME * PAGE + 8 * vector, gate);
        }
        let handlers = (HANDLER_FRAME * PAGE) as usize;
        self.write(handlers, &[0xF4; PAGE as usize]);
    }
}

fn directory_pointers() -> [u64; 4] {
    [
        u64::from(DIRECTORY_LOW * PAGE) | PRESENT,
        0,
        0,
        u64::from(DIRECTORY_HIGH * PAGE) | PRESENT,
    ]
}

fn table(base: u32, limit: u16) -> DescriptorTable {
    DescriptorTable { base, limit }
}

/// The flat code segment of ring 3.
pub(super) fn user_code() -> Segment {
    Segment::from_descriptor(USER_CS, 0x0000_FFFF, 0x00CF_FB00)
}

/// The flat data segment of ring 3.
pub(super) fn user_data() -> Segment {
    Segment::from_descriptor(USER_DS, 0x0000_FFFF, 0x00CF_F300)
}

/// Loads x87 and SSE state.
pub(super) fn load_fx(registers: &mut UserRegisters, fx: &[u8; FX_BYTES]) {
    let x87 = fx[..160].try_into().expect("160 bytes");
    registers.fpu.load_fxsave_image(x87);
    registers.simd.mxcsr = u32::from_le_bytes(fx[24..28].try_into().expect("four bytes"));
    for (register, bytes) in registers
        .simd
        .xmm
        .iter_mut()
        .zip(fx[160..].chunks_exact(16))
    {
        *register = u128::from_le_bytes(bytes.try_into().expect("sixteen bytes"));
    }
}

/// Stores x87 and SSE state.
pub(super) fn store_fx(registers: &UserRegisters) -> [u8; FX_BYTES] {
    let mut fx = [0; FX_BYTES];
    fx[..160].copy_from_slice(&registers.fpu.fxsave_image());
    fx[24..28].copy_from_slice(&registers.simd.mxcsr.to_le_bytes());
    for (register, bytes) in registers
        .simd
        .xmm
        .iter()
        .zip(fx[160..].chunks_exact_mut(16))
    {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    fx
}
