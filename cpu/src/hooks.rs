//! What a host may watch: execution breakpoints, memory ranges, edges. Costs
//! nothing while nothing is set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::address::{LinearAddr, PAGE_SIZE, PhysAddr};

/// A range to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchRange {
    /// By linear address, whatever it is mapped to.
    Linear(LinearAddr, u32),
    /// By guest-physical address, however it is mapped.
    Physical(PhysAddr, u32),
}

/// Which accesses a watch stops at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Both.
    ReadWrite,
}

/// A watch hit that waits for its instruction to retire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) watch: u32,
    pub(crate) address: u32,
    pub(crate) write: bool,
}

/// Called with the linear addresses of a retired near or far transfer and of
/// its target, and the count of instructions retired before the target.
pub type EdgeCallback = Box<dyn FnMut(LinearAddr, LinearAddr, u64) + Send>;

/// All hooks. They are the host's, not part of the saved state.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) breakpoints: BTreeSet<u32>,
    /// The breakpoint that the last run stopped at: it does not stop again.
    pub(crate) passed: Option<u32>,
    watches: BTreeMap<u32, (WatchRange, WatchKind)>,
    next_watch: u32,
    pub(crate) hit: Option<Hit>,
    pub(crate) edge: Option<EdgeCallback>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hooks({:x?}, {:x?})", self.breakpoints, self.watches)
    }
}

/// Whether the `len` bytes at `a` and those at `b` have one in common. Lengths
/// of 0 count as 1.
fn overlap(a: u64, a_len: u32, b: u64, b_len: u32) -> bool {
    a < b + u64::from(b_len.max(1)) && b < a + u64::from(a_len.max(1))
}

impl Hooks {
    /// Adds a watch and returns its number.
    pub(crate) fn add_watch(&mut self, range: WatchRange, kind: WatchKind) -> u32 {
        let number = self.next_watch;
        self.next_watch += 1;
        self.watches.insert(number, (range, kind));
        number
    }

    /// Removes a watch; `false` if there is none with this number.
    pub(crate) fn remove_watch(&mut self, number: u32) -> bool {
        self.watches.remove(&number).is_some()
    }

    /// Whether a watch covers part of the page.
    pub(crate) fn watches_page(&self, page: u32, frame: u32) -> bool {
        self.watches.values().any(|(range, _)| match *range {
            WatchRange::Linear(at, len) => {
                overlap(u64::from(at.0), len, u64::from(page), PAGE_SIZE)
            }
            WatchRange::Physical(at, len) => overlap(at.0, len, u64::from(frame) << 12, PAGE_SIZE),
        })
    }

    /// The first watch that this access hits.
    pub(crate) fn find(
        &self,
        linear: u32,
        physical: u64,
        size: u32,
        write: Direction,
    ) -> Option<Hit> {
        let write = write == Direction::Write;
        self.watches.iter().find_map(|(&watch, &(range, kind))| {
            let wanted = match kind {
                WatchKind::Read => !write,
                WatchKind::Write => write,
                WatchKind::ReadWrite => true,
            };
            let inside = match range {
                WatchRange::Linear(at, len) => {
                    overlap(u64::from(at.0), len, u64::from(linear), size)
                }
                WatchRange::Physical(at, len) => overlap(at.0, len, physical, size),
            };
            (wanted && inside).then_some(Hit {
                watch,
                address: linear,
                write,
            })
        })
    }

    /// Whether there is any watch.
    pub(crate) fn watching(&self) -> bool {
        !self.watches.is_empty()
    }
}

/// Reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}
