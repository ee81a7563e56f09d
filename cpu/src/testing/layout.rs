//! The small operating system around a scenario's code: descriptor tables,
//! page tables and handlers that step over what faults.

use super::Scenario;
use super::machine::CODE;
use crate::registers::{EFER_NXE, cr0, cr4, gpr};
use crate::segment::{DescriptorTable, Segment};
use crate::{Cpu, CpuState};

/// Bytes of RAM.
pub(super) const RAM_BYTES: usize = 0x1_3000;
/// Most bytes of code.
pub(super) const CODE_BYTES: usize = 0x2000;
const GDT: u32 = 0x4000;
const IDT: u32 = 0x5000;
const TSS: u32 = 0x6000;
const HANDLERS: u32 = 0x7000;
const REAL_HANDLER: u32 = 0x7F00;
const STACK0: u32 = 0x9000;
const STACK3: u32 = 0xB000;
/// Where EBX, ESI and EDI point: four pages, the second of them read-only.
pub const DATA: u32 = 0xC000;
const DATA_BYTES: u32 = 0x4000;
const READ_ONLY: u32 = DATA + 0x1000;
/// The page where the first four pages are mapped once more.
const ALIASES: u32 = 0x20;
const DIRECTORY: u32 = 0x1_0000;
const TABLE: u32 = 0x1_1000;
const POINTERS: u32 = 0x1_2000;
/// The entry of the page at [`DATA`] in a table of two-level paging.
pub const DATA_ENTRY: u32 = TABLE + 4 * (DATA >> 12);

/// The mode in which a scenario starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Real mode.
    Real,
    /// 16-bit protected mode, ring 0.
    Protected16,
    /// Flat 32-bit protected mode, ring 0.
    Flat0,
    /// Flat 32-bit protected mode, ring 3.
    Flat3,
    /// With two-level paging, ring 0.
    Paged0,
    /// With two-level paging, ring 3.
    Paged3,
    /// With three-level paging and NX, ring 0.
    Pae0,
    /// With three-level paging and NX, ring 3.
    Pae3,
}

impl Start {
    /// All modes.
    pub const ALL: [Self; 8] = [
        Self::Real,
        Self::Protected16,
        Self::Flat0,
        Self::Flat3,
        Self::Paged0,
        Self::Paged3,
        Self::Pae0,
        Self::Pae3,
    ];

    fn is_ring_3(self) -> bool {
        matches!(self, Self::Flat3 | Self::Paged3 | Self::Pae3)
    }
}

/// The descriptors: null, code 0, data 0, code 3, data 3, TSS, code 16,
/// data 16, and a call gate to code 0.
const DESCRIPTORS: [u64; 9] = [
    0,
    0x00CF_9B00_0000_FFFF,
    0x00CF_9300_0000_FFFF,
    0x00CF_FB00_0000_FFFF,
    0x00CF_F300_0000_FFFF,
    0x0000_8B00_6000_0067,
    0x0000_9B00_0000_FFFF,
    0x0000_9300_0000_FFFF,
    0x0000_EC00_0008_1000,
];

struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: u32, bytes: &[u8]) {
        self.0[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn put_u32(&mut self, at: u32, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn put_u64(&mut self, at: u32, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// The contents of RAM at the start.
pub(super) fn memory(scenario: &Scenario) -> Vec<u8> {
    let mut image = Image(vec![0; RAM_BYTES]);
    for (at, descriptor) in (GDT..).step_by(8).zip(DESCRIPTORS) {
        image.put_u64(at, descriptor);
    }
    image.put_u32(TSS + 4, STACK0);
    image.put_u32(TSS + 8, 0x10);
    image.put_u32(TSS + 100, 0x0068_0000);
    put_handlers(&mut image);
    put_tables(&mut image, scenario.start);
    // Data that looks like pointers and small numbers.
    let mut value = scenario.seed | 1;
    for at in (DATA..DATA + DATA_BYTES).step_by(4) {
        value = value
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(scenario.seed);
        let word = u32::try_from(value >> 32).expect("32 bits");
        image.put_u32(
            at,
            if word & 3 == 0 {
                DATA | word >> 19
            } else {
                word
            },
        );
    }
    image.put(CODE, &scenario.code);
    put_jump_back(&mut image, scenario.code.len());
    image.0
}

/// A jump behind the code to its start: what runs off its end goes round, and
/// does not decode empty memory. (A 16-bit segment takes two of the four bytes
/// of displacement and lands two bytes before the code.)
fn put_jump_back(image: &mut Image, len: usize) {
    let back = i32::try_from(len + 5).map_or(0, i32::wrapping_neg);
    let end = CODE + u32::try_from(len).expect("at most CODE_BYTES");
    image.put(end, &[0xE9]);
    image.put(end + 1, &back.to_le_bytes());
}

/// Handlers go on one byte behind what faulted, so that every byte of the
/// scenario is tried as the start of an instruction.
fn put_handlers(image: &mut Image) {
    let real: u32 = REAL_HANDLER;
    // push bp; mov bp, sp; inc word [bp + 2]; pop bp; iret
    image.put(real, &[0x55, 0x89, 0xE5, 0xFF, 0x46, 0x02, 0x5D, 0xCF]);
    for vector in 0..256 {
        let gate = u64::from(HANDLERS + 16 * (vector % 32)) | 0x0008_0000;
        image.put_u64(IDT + 8 * vector, gate | 0xEE00_0000_0000);
        image.put_u32(4 * vector, real);
    }
    for vector in 0..32 {
        let at = HANDLERS + 16 * vector;
        let code: &[u8] = match vector {
            // add esp, 4; inc dword [esp]; iretd
            8 | 10..=14 | 17 => &[0x83, 0xC4, 0x04, 0xFF, 0x04, 0x24, 0xCF],
            // iretd: traps are behind the instruction already
            1 | 3 | 4 => &[0xCF],
            // inc dword [esp]; iretd
            _ => &[0xFF, 0x04, 0x24, 0xCF],
        };
        image.put(at, code);
    }
}

/// Identity for all of RAM, in user pages but for the directory. With two
/// levels, the first pages once more, read-only.
fn put_tables(image: &mut Image, start: Start) {
    let pae = matches!(start, Start::Pae0 | Start::Pae3);
    for page in 0..u32::try_from(RAM_BYTES / 4096).unwrap_or(0) {
        let address = page * 4096;
        let flags = match address {
            DIRECTORY => 3,
            READ_ONLY => 5,
            _ => 7,
        };
        if pae {
            let no_execute = if address == DATA { 1 << 63 } else { 0 };
            let entry = u64::from(address | flags) | no_execute;
            image.put_u64(TABLE + 8 * page, entry);
        } else {
            image.put_u32(TABLE + 4 * page, address | flags);
        }
    }
    if !pae {
        for page in 0..4 {
            image.put_u32(TABLE + 4 * (ALIASES + page), (page * 4096) | 5);
        }
    }
    if pae {
        image.put_u64(POINTERS, u64::from(DIRECTORY | 1));
        image.put_u64(DIRECTORY, u64::from(TABLE | 7));
        // A large page: the same memory at 2 MiB, beyond RAM after it.
        image.put_u64(DIRECTORY + 8, 0x87);
    } else {
        image.put_u32(DIRECTORY, TABLE | 7);
        image.put_u32(DIRECTORY + 4, 0x87);
    }
}

/// The state of the CPU at the start.
pub(super) fn state(scenario: &Scenario) -> CpuState {
    let mut state = Cpu::new(scenario.model).save();
    state.eip = CODE;
    state.gpr[gpr::ESP] = STACK0;
    state.gpr[gpr::EBX] = DATA + 0x10;
    state.gpr[gpr::EBP] = STACK0;
    state.gpr[gpr::ESI] = DATA + 0x100;
    state.gpr[gpr::EDI] = DATA + 0xFF8;
    state.eflags |= 0x200;
    if scenario.start == Start::Real {
        state.segments = [Segment::real(0); 6];
        state.idtr = DescriptorTable {
            base: 0,
            limit: 0x3FF,
        };
        return state;
    }
    protect(&mut state, scenario.start);
    match scenario.start {
        Start::Paged0 | Start::Paged3 => {
            state.cr3 = DIRECTORY;
            state.cr4 |= cr4::PSE;
            state.cr0 |= cr0::PG | cr0::WP;
        }
        Start::Pae0 | Start::Pae3 => {
            state.cr3 = POINTERS;
            state.pdpte = [u64::from(DIRECTORY | 1), 0, 0, 0];
            state.msrs.efer = EFER_NXE;
            state.cr4 |= cr4::PAE | cr4::PGE;
            state.cr0 |= cr0::PG;
        }
        _ => {}
    }
    state
}

fn protect(state: &mut CpuState, start: Start) {
    let (code, data) = match start {
        Start::Protected16 => (6, 7),
        _ if start.is_ring_3() => (3, 4),
        _ => (1, 2),
    };
    state.cpl = if start.is_ring_3() { 3 } else { 0 };
    if start.is_ring_3() {
        state.gpr[gpr::ESP] = STACK3;
    }
    let segment = |index: u16| {
        let [low, high] = words(DESCRIPTORS[usize::from(index)]);
        let rpl = if start.is_ring_3() { 3 } else { 0 };
        Segment::from_descriptor(index * 8 + rpl, low, high)
    };
    state.segments = [segment(data); 6];
    state.segments[1] = segment(code);
    state.gdtr = DescriptorTable {
        base: GDT,
        limit: 0x47,
    };
    state.idtr = DescriptorTable {
        base: IDT,
        limit: 0x7FF,
    };
    let [low, high] = words(DESCRIPTORS[5]);
    state.tr = Segment::from_descriptor(0x28, low, high);
    state.cr0 = cr0::PE | cr0::ET | cr0::NE | cr0::AM;
    state.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT;
}

fn words(descriptor: u64) -> [u32; 2] {
    let bytes = descriptor.to_le_bytes();
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4)]
}
