//! The CPU's state in KVM's terms, and back: one format for both engines.
//!
//! What KVM cannot keep: the selectors of the x87's last instruction and
//! operand (it saves the 64-bit form of the pointers), the time-stamp counter's
//! offset (RDTSC reads the host's), and on AMD's processors the granularity bit
//! of descriptors (KVM makes it of the limit) and the cached
//! page-directory-pointer entries (read from memory at each use, under nested
//! paging). ARCHITECTURE.md lists them.

use kvm_bindings::{
    KVM_SREGS2_FLAGS_PDPTRS_VALID, KVM_VCPUEVENT_VALID_SHADOW, KVM_X86_SHADOW_INT_MOV_SS,
    KVM_X86_SHADOW_INT_STI, Msrs, kvm_debugregs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment,
    kvm_sregs, kvm_sregs2, kvm_vcpu_events, kvm_xsave,
};
use latefork_cpu::registers::{cr0, cr4, dr, gpr};
use latefork_cpu::segment::{DescriptorTable, Segment, attr, seg};
use latefork_cpu::{CpuState, Shadow};

/// IA32_SYSENTER_CS, _ESP, _EIP and IA32_PAT (SDM volume 4, table 2-2).
const MSRS: [u32; 4] = [0x174, 0x175, 0x176, 0x277];
/// Bytes of the XSAVE area's legacy region that hold x87, MXCSR and XMM0-7.
const LEGACY: usize = 288;
/// Where XSTATE_BV lies in the XSAVE area, in 32-bit words (SDM volume 1, 13.4.2).
const XSTATE_BV: usize = 128;
/// XSTATE_BV: x87 and SSE state are there.
const X87_AND_SSE: u32 = 3;
/// A busy 32-bit TSS, which TR always holds.
const BUSY_TSS: u16 = 0xb;
/// The same, not busy. See [`TaskRegister`].
const FREE_TSS: u8 = 9;

/// The type that TR wants when it is loaded.
///
/// Intel's processors refuse to enter a guest whose TR is not busy (SDM volume
/// 3, 27.3.1.2). AMD's do not look, but QEMU's emulation of one reads the type
/// as a program's load of TR would, and wants it not busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskRegister {
    Busy,
    Free,
}

/// All of a vCPU's state that a restore sets.
#[derive(Debug)]
pub(super) struct VcpuState {
    pub(super) regs: kvm_regs,
    pub(super) sregs: kvm_sregs,
    pub(super) events: kvm_vcpu_events,
    pub(super) debug: kvm_debugregs,
    pub(super) xsave: Box<kvm_xsave>,
    pub(super) msrs: Msrs,
}

impl VcpuState {
    /// Room for the MSRs to be read into.
    pub(super) fn msr_list() -> Msrs {
        msr_entries([0; MSRS.len()])
    }

    /// `state` for a vCPU whose registers start as `fresh` (what it has after
    /// its creation, for what `state` does not know).
    pub(super) fn new(state: &CpuState, fresh: &kvm_sregs, tr: TaskRegister) -> Self {
        Self {
            regs: regs(state),
            sregs: sregs(state, fresh, tr),
            events: events(state),
            debug: debug(state),
            xsave: Box::new(xsave(state)),
            msrs: msr_entries([
                state.msrs.sysenter_cs.into(),
                state.msrs.sysenter_esp.into(),
                state.msrs.sysenter_eip.into(),
                state.msrs.pat,
            ]),
        }
    }

    /// Writes this state over what `state` has of it.
    pub(super) fn store(&self, state: &mut CpuState) {
        store_regs(&self.regs, state);
        store_sregs(&self.sregs, state);
        store_debug(&self.debug, state);
        store_xsave(&self.xsave, state);
        let msr = |index: usize| {
            self.msrs
                .as_slice()
                .get(index)
                .map_or(0, |entry| entry.data)
        };
        state.msrs.sysenter_cs = low(msr(0));
        state.msrs.sysenter_esp = low(msr(1));
        state.msrs.sysenter_eip = low(msr(2));
        state.msrs.pat = msr(3);
        state.shadow = shadow(u32::from(self.events.interrupt.shadow));
    }
}

/// KVM keeps 32-bit registers in 64 bits.
#[allow(clippy::cast_possible_truncation)] // the upper half is zero outside long mode
fn low(value: u64) -> u32 {
    value as u32
}

fn regs(state: &CpuState) -> kvm_regs {
    let reg = |number: usize| u64::from(state.gpr[number]);
    kvm_regs {
        rax: reg(gpr::EAX),
        rbx: reg(gpr::EBX),
        rcx: reg(gpr::ECX),
        rdx: reg(gpr::EDX),
        rsi: reg(gpr::ESI),
        rdi: reg(gpr::EDI),
        rsp: reg(gpr::ESP),
        rbp: reg(gpr::EBP),
        rip: state.eip.into(),
        rflags: state.eflags.into(),
        ..kvm_regs::default()
    }
}

fn store_regs(regs: &kvm_regs, state: &mut CpuState) {
    state.gpr[gpr::EAX] = low(regs.rax);
    state.gpr[gpr::EBX] = low(regs.rbx);
    state.gpr[gpr::ECX] = low(regs.rcx);
    state.gpr[gpr::EDX] = low(regs.rdx);
    state.gpr[gpr::ESI] = low(regs.rsi);
    state.gpr[gpr::EDI] = low(regs.rdi);
    state.gpr[gpr::ESP] = low(regs.rsp);
    state.gpr[gpr::EBP] = low(regs.rbp);
    state.eip = low(regs.rip);
    state.eflags = low(regs.rflags);
}

fn sregs(state: &CpuState, fresh: &kvm_sregs, tr: TaskRegister) -> kvm_sregs {
    let of = |number: u8| segment(&state.segments[usize::from(number)]);
    let mut task = segment(&state.tr);
    if tr == TaskRegister::Free && u16::from(task.type_) == BUSY_TSS {
        task.type_ = FREE_TSS;
    }
    kvm_sregs {
        cs: of(seg::CS),
        ds: of(seg::DS),
        es: of(seg::ES),
        fs: of(seg::FS),
        gs: of(seg::GS),
        ss: of(seg::SS),
        tr: task,
        ldt: segment(&state.ldtr),
        gdt: table(state.gdtr),
        idt: table(state.idtr),
        cr0: state.cr0.into(),
        cr2: state.cr2.into(),
        cr3: state.cr3.into(),
        cr4: state.cr4.into(),
        cr8: 0,
        efer: state.msrs.efer.into(),
        apic_base: fresh.apic_base,
        interrupt_bitmap: [0; 4],
    }
}

/// Whether the CPU pages by PAE: four entries of the top level are cached then
/// (SDM volume 3, 4.4.1).
pub(super) fn has_directory_pointers(state: &CpuState) -> bool {
    state.cr0 & cr0::PG != 0 && state.cr4 & cr4::PAE != 0
}

/// `sregs` with the cached entries, in the struct that holds them.
pub(super) fn with_directory_pointers(sregs: &kvm_sregs, pointers: [u64; 4]) -> kvm_sregs2 {
    kvm_sregs2 {
        cs: sregs.cs,
        ds: sregs.ds,
        es: sregs.es,
        fs: sregs.fs,
        gs: sregs.gs,
        ss: sregs.ss,
        tr: sregs.tr,
        ldt: sregs.ldt,
        gdt: sregs.gdt,
        idt: sregs.idt,
        cr0: sregs.cr0,
        cr2: sregs.cr2,
        cr3: sregs.cr3,
        cr4: sregs.cr4,
        cr8: sregs.cr8,
        efer: sregs.efer,
        apic_base: sregs.apic_base,
        flags: KVM_SREGS2_FLAGS_PDPTRS_VALID.into(),
        pdptrs: pointers,
    }
}

fn store_sregs(sregs: &kvm_sregs, state: &mut CpuState) {
    let pairs = [
        (seg::CS, &sregs.cs),
        (seg::DS, &sregs.ds),
        (seg::ES, &sregs.es),
        (seg::FS, &sregs.fs),
        (seg::GS, &sregs.gs),
        (seg::SS, &sregs.ss),
    ];
    for (number, segment) in pairs {
        state.segments[usize::from(number)] = from_segment(segment);
    }
    state.cpl = sregs.ss.dpl & 3;
    state.ldtr = from_segment(&sregs.ldt);
    state.tr = from_segment(&sregs.tr);
    state.tr.attributes = state.tr.attributes & !attr::TYPE | BUSY_TSS;
    state.gdtr = from_table(&sregs.gdt);
    state.idtr = from_table(&sregs.idt);
    state.cr0 = low(sregs.cr0);
    state.cr2 = low(sregs.cr2);
    state.cr3 = low(sregs.cr3);
    state.cr4 = low(sregs.cr4);
    state.msrs.efer = low(sregs.efer);
}

#[allow(clippy::cast_possible_truncation)] // each is masked to its field
fn segment(from: &Segment) -> kvm_segment {
    let bit = |mask: u16| u8::from(from.attributes & mask != 0);
    kvm_segment {
        base: from.base.into(),
        limit: from.limit,
        selector: from.selector,
        type_: (from.attributes & attr::TYPE) as u8,
        present: bit(attr::PRESENT),
        dpl: from.dpl(),
        db: bit(attr::BIG),
        s: bit(attr::S),
        l: 0,
        g: bit(attr::GRANULARITY),
        avl: bit(attr::AVL),
        unusable: 1 - bit(attr::PRESENT),
        padding: 0,
    }
}

fn from_segment(from: &kvm_segment) -> Segment {
    if from.unusable != 0 || from.present == 0 {
        return Segment::null(from.selector);
    }
    let bit = |value: u8, mask: u16| if value == 0 { 0 } else { mask };
    Segment {
        selector: from.selector,
        attributes: u16::from(from.type_) & attr::TYPE
            | u16::from(from.dpl & 3) << 5
            | bit(from.s, attr::S)
            | bit(from.present, attr::PRESENT)
            | bit(from.avl, attr::AVL)
            | bit(from.db, attr::BIG)
            | bit(from.g, attr::GRANULARITY),
        base: low(from.base),
        limit: from.limit,
    }
}

fn table(from: DescriptorTable) -> kvm_dtable {
    kvm_dtable {
        base: from.base.into(),
        limit: from.limit,
        padding: [0; 3],
    }
}

fn from_table(from: &kvm_dtable) -> DescriptorTable {
    DescriptorTable {
        base: low(from.base),
        limit: from.limit,
    }
}

#[allow(clippy::cast_possible_truncation)] // two bits
fn events(state: &CpuState) -> kvm_vcpu_events {
    let mut events = kvm_vcpu_events {
        flags: KVM_VCPUEVENT_VALID_SHADOW,
        ..kvm_vcpu_events::default()
    };
    events.interrupt.shadow = match state.shadow {
        Shadow::None => 0,
        Shadow::Sti => KVM_X86_SHADOW_INT_STI as u8,
        Shadow::MovSs => KVM_X86_SHADOW_INT_MOV_SS as u8,
    };
    events
}

/// AMD's processors do not say which of the two it is.
fn shadow(bits: u32) -> Shadow {
    if bits & KVM_X86_SHADOW_INT_STI != 0 {
        Shadow::Sti
    } else if bits & KVM_X86_SHADOW_INT_MOV_SS != 0 {
        Shadow::MovSs
    } else {
        Shadow::None
    }
}

fn debug(state: &CpuState) -> kvm_debugregs {
    kvm_debugregs {
        db: [0, 1, 2, 3].map(|number: usize| u64::from(state.dr[number])),
        dr6: (state.dr[6] | dr::DR6_ONES).into(),
        dr7: (state.dr[7] | dr::DR7_ONES).into(),
        ..kvm_debugregs::default()
    }
}

fn store_debug(debug: &kvm_debugregs, state: &mut CpuState) {
    for (to, from) in state.dr.iter_mut().zip(debug.db) {
        *to = low(from);
    }
    state.dr[6] = low(debug.dr6);
    state.dr[7] = low(debug.dr7);
}

fn xsave(state: &CpuState) -> kvm_xsave {
    let mut bytes = [0; LEGACY];
    let (x87, xmm) = bytes.split_at_mut(160);
    x87.copy_from_slice(&state.fpu.fxsave_image());
    // The selectors would be the upper halves of 64-bit pointers.
    x87[12..16].fill(0);
    x87[20..24].fill(0);
    x87[24..28].copy_from_slice(&state.simd.mxcsr.to_le_bytes());
    x87[28..32].fill(0);
    for (to, from) in xmm.chunks_exact_mut(16).zip(state.simd.xmm) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    let mut area = kvm_xsave::default();
    for (word, four) in area.region.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = four
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    area.region[XSTATE_BV] = X87_AND_SSE;
    area
}

fn store_xsave(area: &kvm_xsave, state: &mut CpuState) {
    let mut bytes = [0; LEGACY];
    for (four, word) in bytes.chunks_exact_mut(4).zip(area.region) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    let (x87, xmm) = bytes.split_at_mut(160);
    x87[12..16].fill(0);
    x87[20..24].fill(0);
    state.simd.mxcsr = area.region[6];
    x87[24..32].fill(0);
    let image: &[u8; 160] = (&*x87).try_into().expect("split at 160");
    state.fpu.load_fxsave_image(image);
    for (to, from) in state.simd.xmm.iter_mut().zip(xmm.chunks_exact(16)) {
        *to = from
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u128::from(*byte));
    }
}

fn msr_entries(values: [u64; MSRS.len()]) -> Msrs {
    let entries: Vec<kvm_msr_entry> = MSRS
        .iter()
        .zip(values)
        .map(|(index, data)| kvm_msr_entry {
            index: *index,
            reserved: 0,
            data,
        })
        .collect();
    Msrs::from_entries(&entries).expect("four entries are few enough")
}

#[cfg(test)]
mod tests;
