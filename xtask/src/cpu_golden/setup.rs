//! Where cases of the conformance suite start: descriptor tables, handlers and
//! page tables at the places that `cpu/conformance/system/case.inc` names.
#![allow(
    clippy::cast_possible_truncation,
    reason = "descriptors are cut into their fields"
)]

use latefork_cpu::conformance::{Bytes, PORT, Setup};
use latefork_cpu::registers::{cr0, cr4};
use latefork_cpu::segment::{DescriptorTable, Segment};

const GDT: u32 = 0x1000;
const IDT: u32 = 0x2000;
/// Eight bytes of HLT for each vector.
pub(super) const HANDLERS: u32 = 0x3000;
const TSS: u32 = 0x4000;
const OTHER_TSS: u32 = 0x4200;
const TSS16: u32 = 0x4400;
const LDT: u32 = 0x4600;
const STACK0_TOP: u32 = 0x6000;
const STACK1_TOP: u32 = 0x5400;
/// Where 16-bit stacks wrap to.
const TOP_OF_64K: u32 = 0xF000;
const DIRECTORY: u32 = 0x1_0000;
const TABLE: u32 = 0x1_1000;
/// Maps what lies from 4 MiB up.
const PROBES: u32 = 0x1_2000;
const POINTERS: u32 = 0x1_3000;
const HLT: u8 = 0xF4;
const EFER_NXE: u32 = 1 << 11;

const TSS_SELECTOR: u16 = 0x48;
const LDT_SELECTOR: u16 = 0x50;

/// The descriptors, from selector 0.
const DESCRIPTORS: [u64; 32] = [
    0,
    0x00CF_9B00_0000_FFFF,                     // 08 CODE0
    0x00CF_9300_0000_FFFF,                     // 10 DATA0
    0x00CF_BB00_0000_FFFF,                     // 18 CODE1
    0x00CF_B300_0000_FFFF,                     // 20 DATA1
    0x00CF_DB00_0000_FFFF,                     // 28 CODE2
    0x00CF_D300_0000_FFFF,                     // 30 DATA2
    0x00CF_FB00_0000_FFFF,                     // 38 CODE3
    0x00CF_F300_0000_FFFF,                     // 40 DATA3
    0x0000_8B00_4000_0086,                     // 48 the task that runs, busy
    0x0000_8200_4600_003F,                     // 50 LDT
    0x0000_9B00_0000_FFFF,                     // 58 CODE16
    0x0000_9300_0000_FFFF,                     // 60 DATA16
    0x0000_8900_4200_0067,                     // 68 another task
    0x0000_8100_4400_002B,                     // 70 a task of 16 bits
    0x0000_E500_0068_0000,                     // 78 task gate to 68
    0x0000_EC00_0008_0000 | gate_offset(0x80), // 80 call gate to ring 0
    0x0040_F700_0000_7FFF,                     // 88 expand-down from 8000 up, ring 3
    0x00CF_7300_0000_FFFF,                     // 90 data, not present
    0x00CF_7B00_0000_FFFF,                     // 98 code, not present
    0x00CF_F100_0000_FFFF,                     // A0 read-only data
    0x00CF_F900_0000_FFFF,                     // A8 execute-only code
    0x00CF_9F00_0000_FFFF,                     // B0 conforming code of ring 0
    0x0000_EC02_0008_0000 | gate_offset(0x81), // B8 call gate, two parameters
    0x0040_F300_9000_001F,                     // C0 32 bytes at 9000, ring 3
    0x0000_6C00_0008_0000 | gate_offset(0x82), // C8 call gate, not present
    0x0000_8C00_0008_0000 | gate_offset(0x83), // D0 call gate for ring 0 alone
    0x0000_E400_0008_0000 | gate_offset(0x84), // D8 call gate of 16 bits
    0x0040_9300_9000_001F,                     // E0 32 bytes at 9000, ring 0
    0x00CF_9200_0000_FFFF,                     // E8 data, not accessed yet
    0x0000_EC00_0018_0000 | gate_offset(0x85), // F0 call gate to ring 1
    0x0000_8900_4200_0010,                     // F8 a task whose limit is too small
];

/// A gate's offset: the handler of a vector.
const fn gate_offset(vector: u64) -> u64 {
    HANDLERS as u64 + 8 * vector
}

/// Every setup, in the order in which the files have them.
pub(crate) fn all() -> Vec<Setup> {
    vec![real(), prot16(), system32(), paged32(), pae32()]
}

/// Flat segments without tables: for instructions of user programs.
pub(crate) fn flat() -> Setup {
    let data = segment(0x10);
    Setup {
        name: "prot32".to_owned(),
        cr0: cr0::PE | cr0::MP | cr0::ET | cr0::NE,
        cr3: 0,
        cr4: cr4::OSFXSR | cr4::OSXMMEXCPT,
        efer: 0,
        segments: [data, segment(8), data, data, data, data],
        ldtr: Segment::null(0),
        tr: no_task(),
        gdtr: DescriptorTable::default(),
        idtr: DescriptorTable::default(),
        memory: Vec::new(),
    }
}

/// Real mode; every vector leads to a HLT of its own.
fn real() -> Setup {
    let zero = Segment::real(0);
    let code = Segment {
        attributes: zero.attributes | 8,
        ..zero
    };
    let mut vectors = Vec::new();
    for vector in 0..0x100 {
        let handler = (HANDLERS + 8 * vector) as u16;
        vectors.extend(handler.to_le_bytes());
        vectors.extend([0, 0]);
    }
    Setup {
        name: "real".to_owned(),
        cr0: cr0::ET,
        cr4: 0,
        segments: [zero, code, zero, zero, zero, zero],
        idtr: DescriptorTable {
            base: 0,
            limit: 0x3FF,
        },
        memory: vec![
            (0, vectors),
            (HANDLERS, vec![HLT; 0x1000]),
            (STACK0_TOP - 0x1000, vec![0; 0x1000]),
            ram(),
            (TOP_OF_64K, vec![0; 0x1000]),
        ],
        ..flat()
    }
}

/// Code, data and stack of 16 bits; handlers of 32.
fn prot16() -> Setup {
    let data = segment(0x60);
    Setup {
        name: "prot16".to_owned(),
        segments: [data, segment(0x58), data, data, data, data],
        ..system32()
    }
}

/// Ring 0 with GDT, LDT, IDT and TSS, without paging.
fn system32() -> Setup {
    Setup {
        name: "system32".to_owned(),
        ldtr: segment(LDT_SELECTOR),
        tr: segment(TSS_SELECTOR),
        gdtr: DescriptorTable {
            base: GDT,
            limit: 0xFF,
        },
        idtr: DescriptorTable {
            base: IDT,
            limit: 0x7FF,
        },
        memory: vec![
            (GDT, quads(&DESCRIPTORS)),
            (IDT, quads(&gates())),
            (HANDLERS, vec![HLT; 0x1000]),
            (TSS, main_task()),
            (OTHER_TSS, other_task()),
            (TSS16, small_task()),
            (
                LDT,
                quads(&[0, 0x00CF_9300_0000_FFFF, 0x00CF_F300_0000_FFFF]),
            ),
            (STACK0_TOP - 0x1000, vec![0; 0x1000]),
            ram(),
            (TOP_OF_64K, vec![0; 0x1000]),
        ],
        ..flat()
    }
}

/// The same under paging with pages of 4 KiB and 4 MiB, WP set.
fn paged32() -> Setup {
    let mut setup = system32();
    "paged32".clone_into(&mut setup.name);
    setup.cr0 |= cr0::PG | cr0::WP;
    setup.cr3 = DIRECTORY;
    setup.cr4 |= cr4::PSE | cr4::PGE;
    // The last maps the first 4 MiB once more, as one page.
    setup
        .memory
        .push((DIRECTORY, longs(&[TABLE | 0x67, PROBES | 0x67, 0xE7, 0])));
    let identity: Vec<u32> = (0..0x100).map(|page| page << 12 | rights(page)).collect();
    setup.memory.push((TABLE, longs(&identity)));
    setup.memory.push((PROBES, longs(&PROBE_PAGES)));
    setup.memory.push(cr3_of_other_task(DIRECTORY));
    setup
}

/// The same under PAE, with NX.
fn pae32() -> Setup {
    let mut setup = system32();
    "pae32".clone_into(&mut setup.name);
    setup.cr0 |= cr0::PG | cr0::WP;
    setup.cr3 = POINTERS;
    setup.cr4 |= cr4::PAE | cr4::PGE;
    setup.efer = EFER_NXE;
    setup
        .memory
        .push((POINTERS, quads(&[u64::from(DIRECTORY) | 1, 0, 0, 0])));
    let mut directory = vec![0; 5];
    directory[0] = u64::from(TABLE) | 0x67;
    directory[2] = u64::from(PROBES) | 0x67;
    // The first 2 MiB once more, as one page without execution.
    directory[4] = 0xE7 | NO_EXECUTE;
    setup.memory.push((DIRECTORY, quads(&directory)));
    let identity: Vec<u64> = (0..0x100u32)
        .map(|page| u64::from(page << 12 | rights(page)))
        .collect();
    setup.memory.push((TABLE, quads(&identity)));
    let probes = PROBE_PAGES.map(u64::from);
    let without_execution = [0x9067 | NO_EXECUTE, 1 << 62 | 0x9067];
    setup
        .memory
        .push((PROBES, [quads(&probes), quads(&without_execution)].concat()));
    setup.memory.push(cr3_of_other_task(POINTERS));
    setup
}

const NO_EXECUTE: u64 = 1 << 63;

/// Pages from 4 MiB up: with every right; not accessed; clean and read-only;
/// of the supervisor; not present; of the supervisor and read-only; the code's;
/// global.
const PROBE_PAGES: [u32; 8] = [
    0x9067, 0xA007, 0x9025, 0x9063, 0x9066, 0x9021, 0x8067, 0x9167,
];

/// The user has the pages from 6000 to BFFF, which hold code, data and stack.
fn rights(page: u32) -> u32 {
    if (6..0xC).contains(&page) { 0x67 } else { 0x63 }
}

/// Code, data and user stack: from 6000 to BFFF.
fn ram() -> Bytes {
    (0x6000, vec![0; 0x6000])
}

fn segment(selector: u16) -> Segment {
    let descriptor = DESCRIPTORS[usize::from(selector / 8)];
    Segment::from_descriptor(selector, descriptor as u32, (descriptor >> 32) as u32)
}

/// TR after RESET.
fn no_task() -> Segment {
    Segment {
        selector: 0,
        attributes: 0x8B,
        base: 0,
        limit: 0xFFFF,
    }
}

/// Interrupt gates to the handlers; those for programs have DPL 3.
fn gates() -> Vec<u64> {
    (0..0x100u64)
        .map(|vector| {
            let access = match vector {
                3 | 4 | 0x80 => 0xEE,
                0x81 => 0xEF,
                // A gate of 16 bits, one that is not present, one to ring 1.
                0x82 => 0xE6,
                0x83 => 0x6E,
                0x84 => return gate(0x18, 0xEE, vector),
                0x85 => return gate(0x68, 0xE5, vector),
                0x86 => return gate(0x10, 0xEE, vector),
                0x87 => return gate(0xB0, 0xEE, vector),
                _ => 0x8E,
            };
            gate(8, access, vector)
        })
        .collect()
}

fn gate(selector: u64, access: u64, vector: u64) -> u64 {
    gate_offset(vector) | selector << 16 | access << 40
}

fn main_task() -> Vec<u8> {
    let mut tss = [0; 26];
    tss[1] = STACK0_TOP;
    tss[2] = 0x10;
    tss[3] = STACK1_TOP;
    tss[4] = 0x21;
    tss[25] = 0x68 << 16;
    let mut bytes = longs(&tss[..26]);
    // The I/O bitmap opens the suite's port alone; it needs a byte behind.
    bytes.resize(0x87, 0xFF);
    bytes[0x68 + usize::from(PORT) / 8] &= !(1 << (PORT % 8));
    bytes
}

/// It runs in ring 0 at the handler of vector E0.
fn other_task() -> Vec<u8> {
    let mut tss = [0; 26];
    tss[1] = STACK0_TOP;
    tss[2] = 0x10;
    tss[8] = HANDLERS + 8 * 0xE0;
    tss[9] = 2;
    for (register, n) in tss[10..18].iter_mut().zip(1..) {
        *register = 0x0101_0101 * n;
    }
    tss[14] = STACK1_TOP - 0x100;
    tss[18..24].copy_from_slice(&[0x10, 8, 0x10, 0x10, 0, 0]);
    tss[25] = 0x68 << 16;
    longs(&tss)
}

fn cr3_of_other_task(cr3: u32) -> Bytes {
    (OTHER_TSS + 28, cr3.to_le_bytes().to_vec())
}

fn small_task() -> Vec<u8> {
    let mut tss = [0u16; 22];
    tss[1] = 0x6000;
    tss[2] = 0x10;
    tss[7] = (HANDLERS + 8 * 0xE1) as u16;
    tss[8] = 2;
    for (register, n) in tss[9..17].iter_mut().zip(1..) {
        *register = 0x1111 * n;
    }
    tss[13] = (STACK1_TOP - 0x100) as u16;
    tss[17..21].copy_from_slice(&[0x10, 8, 0x10, 0x10]);
    tss.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn quads(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn longs(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
