//! The public face: a CPU and what a host does with it between runs.

use crate::address::{LinearAddr, PhysAddr};
use crate::block::BlockCache;
use crate::hooks::{EdgeCallback, WatchKind, WatchRange};
use crate::memory::Memory;
use crate::model::CpuModel;
use crate::state::Core;

/// A CPU: architectural state, TLB and decoded-block cache.
#[derive(Debug)]
pub struct Cpu {
    pub(crate) core: Box<Core>,
    pub(crate) cache: BlockCache,
}

impl Cpu {
    /// A CPU after RESET: real mode, first instruction at F000:FFF0 with the
    /// base of CS at 0xFFFF0000.
    #[must_use]
    pub fn new(model: CpuModel) -> Self {
        Self {
            core: Box::new(Core::new(model)),
            cache: BlockCache::default(),
        }
    }

    /// Instructions retired since creation. Part of the state. A delivered
    /// fault or interrupt counts as one too, so that a budget bounds every
    /// guest.
    #[must_use]
    pub fn retired(&self) -> u64 {
        self.core.retired
    }

    /// Blocks decoded since creation: a measure of the host's work, not state.
    #[must_use]
    pub fn blocks_decoded(&self) -> u64 {
        self.cache.decoded
    }

    /// The level of the INTR pin. When it is asserted and an interrupt can be
    /// taken, `run` returns [`crate::Exit::InterruptWindow`].
    pub fn set_interrupt_line(&mut self, asserted: bool) {
        self.core.interrupt_line = asserted;
    }

    /// The vector that the interrupt controller gave for an
    /// [`crate::Exit::InterruptWindow`]. The next `run` begins with its
    /// delivery.
    pub fn deliver_interrupt(&mut self, memory: &Memory<'_>, vector: u8) {
        let _ = memory;
        self.core.pending_vector = Some(vector);
    }

    /// Whether IF is set: an interrupt could be taken, now or on waking.
    #[must_use]
    pub fn interrupts_enabled(&self) -> bool {
        self.core.interrupts_enabled()
    }

    /// Whether no instruction is in the middle of its port or memory-mapped
    /// accesses.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        !self.core.io.in_progress()
    }

    /// Answers [`crate::Exit::PortIn`] or [`crate::Exit::MmioRead`]; the value
    /// is cut to the size that was asked for.
    pub fn complete_read(&mut self, value: u32) {
        self.core.io.complete(value);
    }

    /// Empties the TLB. To be called in the running machine at every snapshot
    /// and every restore, so that both go on from the same state.
    pub fn flush_tlb(&mut self) {
        self.core.tlb.flush_all();
    }

    /// The host (a device, DMA, a restore) wrote `len` bytes of guest memory:
    /// decoded blocks there whose bytes now differ are dropped.
    pub fn note_host_write(&mut self, memory: &Memory<'_>, address: PhysAddr, len: u32) {
        let end = address.0.saturating_add(u64::from(len));
        let mut at = address.0;
        while at < end {
            let next = ((at >> 12) + 1) << 12;
            #[allow(clippy::cast_possible_truncation)] // at most a page
            let piece = (next.min(end) - at) as u32;
            self.cache
                .written(&mut self.core, memory, PhysAddr(at), piece);
            at = next;
        }
    }

    /// The host cleared bits of the dirty bitmap: writes must mark again.
    pub fn dirty_cleared(&mut self) {
        self.core.tlb.clear_write_tags();
    }

    /// Stops before the instruction at a linear address.
    pub fn add_breakpoint(&mut self, address: LinearAddr) {
        self.core.hooks.breakpoints.insert(address.0);
    }

    /// Removes a breakpoint; `false` if there was none.
    pub fn remove_breakpoint(&mut self, address: LinearAddr) -> bool {
        self.core.hooks.breakpoints.remove(&address.0)
    }

    /// Stops after an instruction that accesses a range; returns the number
    /// for [`Self::remove_watch`] and in [`crate::Exit::Watch`].
    pub fn add_watch(&mut self, range: WatchRange, kind: WatchKind) -> u32 {
        self.core.refresh_fast_paths();
        self.core.hooks.add_watch(range, kind)
    }

    /// Removes a watch; `false` if there is none with this number.
    pub fn remove_watch(&mut self, number: u32) -> bool {
        self.core.refresh_fast_paths();
        self.core.hooks.remove_watch(number)
    }

    /// Calls `callback` for every taken jump; `None` ends it. While it is set,
    /// instructions are executed one by one.
    pub fn set_edge_callback(&mut self, callback: Option<EdgeCallback>) {
        self.core.hooks.edge = callback;
    }
}
