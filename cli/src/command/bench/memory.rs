//! Memory of this process beside guest RAM and the snapshot.

use latefork_vmm::machine::Machine;
use serde::Serialize;

use crate::report::{mapping_kib, resident_kib};

/// Resident memory, in KiB.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) resident_kib: u64,
    /// Of that, guest RAM.
    pub(super) guest_ram_kib: u64,
    /// Of that, the snapshot's mapped file.
    pub(super) snapshot_kib: u64,
    /// Of that, the program and its libraries, which processes share.
    pub(super) program_kib: u64,
    /// The allocator's main heap.
    pub(super) heap_kib: u64,
    /// The main thread's stack.
    pub(super) stack_kib: u64,
    /// All else: mappings without a name, which the allocator makes for what is
    /// large (decoded blocks, tables) and for other threads.
    pub(super) other_kib: u64,
}

pub(super) fn measure(machine: &Machine) -> Report {
    let ram = machine.ram().cells().as_ptr() as u64;
    // Both are mappings of the same file; one of them starts where RAM does.
    let guest_ram_kib = mapping_kib(|start, _| start == ram);
    let snapshot_kib = mapping_kib(|start, line| start != ram && line.contains("ready.snapshot"));
    let program_kib = mapping_kib(|_, line| line.contains('/') && !line.contains("ready.snapshot"));
    let heap_kib = mapping_kib(|_, line| line.ends_with("[heap]"));
    let stack_kib = mapping_kib(|_, line| line.ends_with("[stack]"));
    let resident_kib = resident_kib();
    let named = guest_ram_kib + snapshot_kib + program_kib + heap_kib + stack_kib;
    Report {
        resident_kib,
        guest_ram_kib,
        snapshot_kib,
        program_kib,
        heap_kib,
        stack_kib,
        other_kib: resident_kib.saturating_sub(named),
    }
}
