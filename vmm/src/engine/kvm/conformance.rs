//! The conformance suite of `latefork-cpu` on KVM, for the lane's tests.
//!
//! The RAM of a case is a few pages, far apart. KVM takes as many slots, but to
//! make and unmake them for each case would take longer than the cases: the
//! pages of all cases get their slots once, and pages that a case does not have
//! are zero, and must be so at its end.

use std::collections::{BTreeMap, BTreeSet};

use latefork_cpu::conformance::{self, Case, End, Ending, PAGE, PORT, Pages};
use latefork_cpu::{CpuModel, CpuState, Instructions};

use super::{KvmVcpu, failed, sys};
use crate::engine::{Deadline, Engine, EngineError, Exit, Slice};
use crate::layout::{PAGE_SIZE, RAM_MIB};
use crate::memory::{GuestRam, MemoryError, PageNumber};

/// Processor time that a case may take, in nanoseconds.
const PATIENCE: u64 = 1_000_000_000;
const _: () = assert!(PAGE == PAGE_SIZE);

/// The KVM engine as an engine of the suite.
#[derive(Debug)]
pub struct KvmCases {
    vcpu: KvmVcpu,
    ram: GuestRam,
    /// Where the guest's pages lie in `ram`.
    places: BTreeMap<u32, PageNumber>,
    slots: Vec<sys::Slot>,
    /// A virtual machine without slots, or one that broke.
    stale: bool,
}

impl KvmCases {
    /// An engine with room for every page of `cases`.
    ///
    /// # Errors
    ///
    /// There is no usable KVM, or the cases have too many pages.
    pub fn new(cases: &[Case]) -> Result<Self, CasesError> {
        let pages: BTreeSet<u32> = cases
            .iter()
            .flat_map(|case| case.pages().into_keys())
            .collect();
        let places: BTreeMap<u32, PageNumber> =
            pages.into_iter().zip((0..).map(PageNumber)).collect();
        let mib = places.len().div_ceil(256).max(*RAM_MIB.start() as usize);
        Ok(Self {
            vcpu: KvmVcpu::new(CpuModel::Sse)?,
            ram: GuestRam::new(u32::try_from(mib).unwrap_or(u32::MAX))?,
            slots: slots(&places),
            places,
            stale: true,
        })
    }

    fn try_run(&mut self, case: &Case, pages: &Pages) -> Result<End, EngineError> {
        self.fill(pages);
        if std::mem::take(&mut self.stale) {
            self.vcpu.start_anew()?;
            for slot in &self.slots {
                failed(
                    "KVM_SET_USER_MEMORY_REGION",
                    sys::set_slot(&self.vcpu.vm, &self.ram, *slot),
                )?;
            }
        }
        self.vcpu.restore(&case.state())?;
        let mut port = Vec::new();
        let ending = loop {
            let slice = Slice {
                budget: Instructions(PATIENCE.saturating_sub(self.vcpu.elapsed().0)),
                deadline: Deadline::default(),
            };
            match self.vcpu.run_attached(slice)? {
                Exit::Budget if slice.budget.0 > 0 => {}
                Exit::Halted => break Ending::Halted,
                Exit::TripleFault => break Ending::Shutdown,
                Exit::PortOut {
                    port: PORT, value, ..
                } => port.push(value.to_le_bytes()[0]),
                Exit::PortIn {
                    port: PORT,
                    size: 1,
                } => self.vcpu.complete_read(u32::from(PORT)),
                Exit::PortIn { .. } => self.vcpu.complete_read(u32::MAX),
                Exit::PortOut { .. } => {}
                other => break Ending::Other(format!("{other:?}")),
            }
        };
        // What ended in any other way may have left KVM in the middle of it.
        self.stale = ending != Ending::Halted;
        let state = match ending {
            Ending::Halted => self.vcpu.save()?,
            _ => case.state(),
        };
        Ok(self.end(ending, &state, port, pages))
    }

    /// Puts a case's memory in place.
    fn fill(&self, pages: &Pages) {
        for (number, place) in &self.places {
            match pages.get(number) {
                Some(page) => self.ram.copy_page_in(*place, page),
                None => self.ram.copy_page_in(*place, &[0; PAGE]),
            }
        }
    }

    fn end(&self, ending: Ending, state: &CpuState, port: Vec<u8>, pages: &Pages) -> End {
        let mut found = Pages::new();
        let mut strays = Vec::new();
        for (number, place) in &self.places {
            let mut page = Box::new([0; PAGE]);
            self.ram.copy_page_out(*place, &mut page);
            if pages.contains_key(number) {
                found.insert(*number, page);
            } else if *page != [0; PAGE] {
                strays.push(*number);
            }
        }
        let ending = match strays.is_empty() {
            true => ending,
            false => Ending::Other(format!("wrote to pages {strays:x?}, where it has none")),
        };
        End::new(ending, state, port, found)
    }
}

impl conformance::Engine for KvmCases {
    fn run(&mut self, case: &Case, pages: Pages) -> End {
        self.try_run(case, &pages).unwrap_or_else(|error| {
            self.stale = true;
            let ending = Ending::Other(error.to_string());
            End::new(ending, &case.state(), Vec::new(), pages)
        })
    }
}

/// One slot for each run of pages without a gap.
fn slots(places: &BTreeMap<u32, PageNumber>) -> Vec<sys::Slot> {
    let mut slots: Vec<sys::Slot> = Vec::new();
    for (number, place) in places {
        let guest = u64::from(*number) * PAGE as u64;
        match slots.last_mut() {
            Some(last) if last.guest + last.len as u64 == guest => last.len += PAGE,
            _ => slots.push(sys::Slot {
                number: u32::try_from(slots.len()).unwrap_or(u32::MAX),
                guest,
                offset: place.0 as usize * PAGE,
                len: PAGE,
            }),
        }
    }
    slots
}

/// Why there is no engine for the suite.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// KVM.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}
