//! Taking a machine's snapshot, and going back to one.

use std::collections::BTreeSet;

use super::{Machine, MachineConfig, MachineError, RunLimits};
use crate::device::Persist;
use crate::engine::Engine;
use crate::layout::PAGE_SIZE;
use crate::memory::{GuestRam, PageNumber};
use crate::snapshot::file::SnapshotFile;
use crate::snapshot::{MachineState, Page, Snapshot};

/// Instructions that a machine may need to end the access that it is in:
/// one, with as many accesses as PUSHA or FRSTOR have.
const SETTLE_BUDGET: u64 = 16;

/// What a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Pages copied.
    pub pages: usize,
}

impl Machine {
    /// Lets the machine come to a moment at which a snapshot can be taken:
    /// between two instructions, with no packet of the guest unread and each
    /// due interrupt raised.
    ///
    /// # Errors
    ///
    /// The guest stays in the middle of something; or the host failed.
    pub fn settle(&mut self) -> Result<(), MachineError> {
        for _ in 0..SETTLE_BUDGET {
            self.serve_devices();
            if self.engine.at_boundary() {
                return Ok(());
            }
            // An outcome here means that the guest is lost at this very
            // instruction; the next run will say so again.
            self.run(&RunLimits::instructions(1))?;
        }
        if self.engine.at_boundary() {
            return Ok(());
        }
        Err(MachineError::NotSettled(SETTLE_BUDGET))
    }

    /// Takes a snapshot, on top of the one that the machine was last at. The
    /// machine goes on as it would have without.
    ///
    /// # Errors
    ///
    /// The machine is not settled ([`Self::settle`]), or the host failed.
    pub fn snapshot(&mut self) -> Result<Snapshot, MachineError> {
        let state = self.save_state()?;
        self.engine.collect_dirty(&self.ram)?;
        let pages = self.changed_pages();
        let snapshot = Snapshot::new(self.base.take(), self.ram.size(), pages, state);
        self.start_from(&snapshot);
        Ok(snapshot)
    }

    /// The pages written since the last snapshot that differ from it.
    fn changed_pages(&self) -> Vec<(PageNumber, Page)> {
        let mut buffer: Page = [0; PAGE_SIZE];
        let mut pages = Vec::new();
        for number in self.ram.dirty().written() {
            self.ram.copy_page_out(number, &mut buffer);
            let same = match &self.base {
                Some(base) => *base.page(number) == buffer,
                None => buffer.iter().all(|byte| *byte == 0),
            };
            if !same {
                pages.push((number, buffer));
            }
        }
        pages
    }

    /// Goes back to `snapshot`: of RAM only what differs is written.
    ///
    /// # Errors
    ///
    /// A snapshot of a machine of another size, or the host failed.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<Restored, MachineError> {
        self.check_kind(snapshot)?;
        self.engine.collect_dirty(&self.ram)?;
        let pages = match &self.base {
            Some(base) if base.is(snapshot) => {
                let written = self.ram.dirty().written();
                let copy = |page: &_| self.ram.copy_written_in(*page, snapshot.page(*page));
                written.inspect(copy).collect()
            }
            _ => {
                let pages = self.pages_on_the_way(snapshot);
                self.copy_in(snapshot, pages.into_iter())
            }
        };
        for page in pages.iter() {
            self.engine.page_written(&self.ram, *page);
        }
        let pages = pages.len();
        self.restore_state(snapshot.state())?;
        self.start_from(snapshot);
        Ok(Restored { pages })
    }

    /// Whether `snapshot` is of a machine like this one.
    fn check_kind(&self, snapshot: &Snapshot) -> Result<(), MachineError> {
        let (theirs, ours) = (snapshot.ram_size(), self.ram.size());
        if theirs != ours {
            return Err(MachineError::OtherMachine { theirs, ours });
        }
        let (theirs, ours) = (snapshot.state().signature, self.engine.signature());
        if theirs != ours {
            return Err(MachineError::OtherCpu { theirs, ours });
        }
        Ok(())
    }

    fn copy_in(
        &self,
        snapshot: &Snapshot,
        pages: impl Iterator<Item = PageNumber>,
    ) -> Vec<PageNumber> {
        pages
            .inspect(|page| self.ram.copy_page_in(*page, snapshot.page(*page)))
            .collect()
    }

    fn pages_on_the_way(&self, snapshot: &Snapshot) -> BTreeSet<PageNumber> {
        let mut pages: BTreeSet<PageNumber> = self.ram.dirty().written().collect();
        let related = match &self.base {
            Some(base) => base.difference(snapshot, &mut pages),
            None => false,
        };
        if !related {
            let all = u32::try_from(self.ram.size() / PAGE_SIZE).unwrap_or(u32::MAX);
            pages.extend((0..all).map(PageNumber));
        }
        pages
    }

    fn start_from(&mut self, snapshot: &Snapshot) {
        self.ram.dirty().clear();
        self.engine.dirty_cleared();
        self.base = Some(snapshot.clone());
    }

    /// All but RAM. Each interrupt and byte that is due lies in it.
    pub(super) fn save_state(&mut self) -> Result<MachineState, MachineError> {
        if !self.devices.vsock.is_drained(self.ram.regions()) {
            return Err(MachineError::NotDrained);
        }
        Ok(MachineState {
            cpu: self.engine.save()?,
            devices: self.devices.save(),
            idle: self.idle,
            engine: self.engine.kind(),
            signature: self.engine.signature(),
        })
    }

    fn restore_state(&mut self, state: &MachineState) -> Result<(), MachineError> {
        self.engine.restore(&state.cpu)?;
        self.devices.restore(&state.devices)?;
        self.devices.serial.take_output();
        self.idle = state.idle;
        self.schedule.clear();
        Ok(())
    }

    /// A machine at the snapshot in `file`, whose pages it shares until it
    /// writes to them, with the snapshot.
    ///
    /// # Errors
    ///
    /// The file is not whole or not of this kind of machine; one line says why.
    pub fn open(
        engine: Box<dyn Engine>,
        config: &MachineConfig,
        file: &SnapshotFile,
    ) -> Result<(Self, Snapshot), MachineError> {
        let snapshot = file.snapshot();
        let ram = GuestRam::from_image(file.file()?, file.ram_offset(), snapshot.ram_size())?;
        let mut machine = Self::with_ram(engine, config, ram);
        machine.check_kind(&snapshot)?;
        machine.restore_state(snapshot.state())?;
        machine.start_from(&snapshot);
        Ok((machine, snapshot))
    }
}
