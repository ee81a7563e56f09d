//! The CPU's state at a kernel's 32-bit entry.
//!
//! Source: Linux `Documentation/arch/x86/boot.rst`, "32-bit Boot Protocol":
//! protected mode without paging, flat 4-GiB segments with selectors 0x10
//! (code) and 0x18 (data), interrupts off, ESI at the zero page, EBP, EDI and
//! EBX zero.

use latefork_cpu::CpuState;
use latefork_cpu::registers::{cr0, gpr};
use latefork_cpu::segment::{DescriptorTable, Segment, attr};
use vm_memory::GuestAddress;

use crate::layout::BOOT_GDT;
use crate::loader::BootEntry;

const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
/// Flat segments: two null descriptors, code (execute, read), data (read, write).
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
/// EFLAGS: the bit that is always one.
const FLAGS: u32 = 2;

/// The boot's descriptor table, and where it lies.
pub fn descriptor_table() -> (GuestAddress, Vec<u8>) {
    let bytes = DESCRIPTORS
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect();
    (BOOT_GDT, bytes)
}

/// Puts `state` at `entry`.
pub(super) fn enter(state: &mut CpuState, entry: &BootEntry) {
    let flat = |selector: u16| {
        let bytes = DESCRIPTORS[usize::from(selector / 8)].to_le_bytes();
        let [a, b, c, d, e, f, g, h] = bytes;
        let low = u32::from_le_bytes([a, b, c, d]);
        let high = u32::from_le_bytes([e, f, g, h]);
        Segment::from_descriptor(selector, low, high)
    };
    let data = flat(DATA_SELECTOR);
    debug_assert!(data.has(attr::PRESENT));
    state.segments = [data, flat(CODE_SELECTOR), data, data, data, data];
    state.gdtr = DescriptorTable {
        base: u32::try_from(BOOT_GDT.0).unwrap_or(0),
        limit: 8 * 4 - 1,
    };
    state.cr0 = cr0::PE | cr0::ET;
    state.eflags = FLAGS;
    state.cpl = 0;
    state.gpr = [0; 8];
    state.gpr[gpr::ESI] = entry.boot_params;
    state.gpr[gpr::ESP] = entry.stack;
    state.eip = entry.entry;
}
