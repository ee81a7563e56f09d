//! The whole state as a value: saved, compared, hashed, restored.

use xxhash_rust::xxh3::xxh3_64;

use crate::Cpu;
use crate::flags::{self, LazyFlags};
use crate::io::{IoLog, Waiting};
use crate::model::CpuModel;
use crate::registers::Msrs;
use crate::segment::{DescriptorTable, Segment};
use crate::simd::SimdState;
use crate::state::{Shadow, Stop};
use crate::tlb::{Permissions, Side, Tlb};
use crate::x87::Fpu;

mod bytes;

pub use bytes::StateError;

/// A translation held by the TLB. Its position follows from the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlbEntry {
    /// Held for instruction fetches (else for data).
    pub code: bool,
    /// First linear address of the page.
    pub page: u32,
    /// Number of the physical page.
    pub frame: u32,
    /// What the page tables said: a set of bits private to this crate.
    pub permissions: u32,
}

/// Accesses to ports or memory-mapped I/O that the current instruction has
/// already made, if the state was taken in the middle of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingIo {
    pub(crate) answers: Vec<u32>,
    pub(crate) waiting: Waiting,
}

/// Everything that decides what the CPU does next, apart from memory.
///
/// Two CPUs with equal states, on equal memory, with equal answers to their
/// exits, stay equal. Hooks and the cache of decoded blocks are not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuState {
    /// What CPUID shows.
    pub model: CpuModel,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub gpr: [u32; 8],
    /// The next instruction's offset in the code segment.
    pub eip: u32,
    /// All flags.
    pub eflags: u32,
    /// Current privilege level, 0 to 3.
    pub cpl: u8,
    /// ES, CS, SS, DS, FS, GS with hidden parts.
    pub segments: [Segment; 6],
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdtr: DescriptorTable,
    /// Interrupt descriptor table.
    pub idtr: DescriptorTable,
    /// Control register 0.
    pub cr0: u32,
    /// Page-fault linear address.
    pub cr2: u32,
    /// Page-directory base.
    pub cr3: u32,
    /// Control register 4.
    pub cr4: u32,
    /// DR0 to DR3, DR6 and DR7 at their numbers; 4 and 5 are unused.
    pub dr: [u32; 8],
    /// Model-specific registers.
    pub msrs: Msrs,
    /// The page-directory-pointer entries that a load of CR3 with PAE cached.
    pub pdpte: [u64; 4],
    /// The x87 unit, also the MMX registers.
    pub fpu: Fpu,
    /// XMM registers and MXCSR.
    pub simd: SimdState,
    /// Instructions retired since creation.
    pub retired: u64,
    /// HLT was executed and no interrupt has come since.
    pub halted: bool,
    /// What keeps interrupts off for the next instruction.
    pub shadow: Shadow,
    /// Debug traps that wait for the end of a shadow, or for memory-mapped I/O
    /// of their delivery: bits of DR6.
    pub debug_hits: u32,
    /// The level of INTR.
    pub interrupt_line: bool,
    /// An acknowledged interrupt that is yet to be delivered.
    pub pending_vector: Option<u8>,
    /// I/O of an instruction that is not finished.
    pub pending_io: PendingIo,
    /// The TLB's entries, by side and position.
    pub tlb: Vec<TlbEntry>,
}

impl Cpu {
    /// The whole state.
    #[must_use]
    pub fn save(&self) -> CpuState {
        let core = &*self.core;
        let mut gpr = [0; 8];
        gpr.copy_from_slice(&core.regs[..8]);
        CpuState {
            model: core.model,
            gpr,
            eip: core.eip,
            eflags: core.eflags(),
            cpl: core.cpl,
            segments: core.segments,
            ldtr: core.ldtr,
            tr: core.tr,
            gdtr: core.gdtr,
            idtr: core.idtr,
            cr0: core.cr0,
            cr2: core.cr2,
            cr3: core.cr3,
            cr4: core.cr4,
            dr: core.dr,
            msrs: core.msrs,
            pdpte: core.pdpte,
            fpu: core.fpu.clone(),
            simd: core.simd.clone(),
            retired: core.retired,
            halted: core.halted,
            shadow: core.shadow,
            debug_hits: core.debug_hits,
            interrupt_line: core.interrupt_line,
            pending_vector: core.pending_vector,
            pending_io: PendingIo {
                answers: core.io.answers.clone(),
                waiting: core.io.waiting,
            },
            tlb: core
                .tlb
                .entries()
                .map(|(side, entry)| TlbEntry {
                    code: side == Side::Code,
                    page: entry.page,
                    frame: entry.frame,
                    permissions: entry.permissions.0,
                })
                .collect(),
        }
    }

    /// Puts a saved state in the place of the current one. Memory is the
    /// host's to restore, with [`Cpu::note_host_write`] for what it wrote.
    pub fn restore(&mut self, state: &CpuState) {
        let core = &mut *self.core;
        core.model = state.model;
        core.regs = [0; 16];
        core.regs[..8].copy_from_slice(&state.gpr);
        core.eip = state.eip;
        core.flags = LazyFlags::from_bits(state.eflags);
        core.system_flags = state.eflags & !flags::ARITHMETIC | flags::FIXED_ONE;
        core.set_cpl(state.cpl);
        core.segments = state.segments;
        core.ldtr = state.ldtr;
        core.tr = state.tr;
        core.gdtr = state.gdtr;
        core.idtr = state.idtr;
        core.cr0 = state.cr0;
        core.cr2 = state.cr2;
        core.cr3 = state.cr3;
        core.cr4 = state.cr4;
        core.dr = state.dr;
        core.msrs = state.msrs;
        core.pdpte = state.pdpte;
        core.fpu = state.fpu.clone();
        core.simd = state.simd.clone();
        core.retired = state.retired;
        core.halted = state.halted;
        core.shadow = state.shadow;
        core.debug_hits = state.debug_hits;
        core.interrupt_line = state.interrupt_line;
        core.pending_vector = state.pending_vector;
        core.io = IoLog {
            answers: state.pending_io.answers.clone(),
            used: 0,
            waiting: state.pending_io.waiting,
        };
        core.stop = Stop::None;
        core.stepping = false;
        core.keep_resume = false;
        core.hooks.hit = None;
        core.hooks.passed = None;
        core.tlb.flush_all();
        for entry in &state.tlb {
            let side = if entry.code { Side::Code } else { Side::Data };
            core.tlb.insert(
                side,
                entry.page,
                entry.frame,
                Permissions(entry.permissions),
            );
        }
        core.update_mode();
    }
}

impl CpuState {
    /// A hash of the fixed byte form; equal states have equal hashes, on every
    /// host.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        xxh3_64(&self.to_bytes())
    }
}

/// How many entries of each side a state may have.
const fn most_entries(side: Side) -> usize {
    match side {
        Side::Data => crate::tlb::DATA_ENTRIES,
        Side::Code => crate::tlb::CODE_ENTRIES,
    }
}

/// The position of a page in its side of the TLB.
fn position(entry: &TlbEntry) -> usize {
    if entry.code {
        Tlb::code_index(entry.page)
    } else {
        Tlb::data_index(entry.page)
    }
}
