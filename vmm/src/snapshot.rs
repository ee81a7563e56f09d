//! Snapshots: a whole machine at one moment, and trees of them.
//!
//! The first snapshot of a machine holds every page that is not zero; one
//! taken later holds the pages written since the one that the machine was last
//! at. So a program's prefix that many programs share is run once.
//!
//! Going from one snapshot to another copies the pages that were written since
//! the first, and those that any snapshot on the way through the tree holds.

pub mod file;

use std::collections::BTreeSet;
use std::sync::Arc;

use latefork_cpu::CpuState;

use crate::bus::DevicesState;
use crate::engine::EngineKind;
use crate::layout::PAGE_SIZE;
use crate::memory::PageNumber;
use crate::time::VirtualTime;

/// The bytes of a page.
pub type Page = [u8; PAGE_SIZE];

const ZERO_PAGE: Page = [0; PAGE_SIZE];

/// A machine at one moment. A clone is another handle on the same snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot(Arc<Node>);

#[derive(Debug)]
struct Node {
    parent: Option<Snapshot>,
    /// Snapshots between this one and the root.
    depth: usize,
    ram_size: usize,
    pages: Pages,
    state: MachineState,
}

/// All of a machine but its RAM.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineState {
    /// The CPU.
    pub cpu: CpuState,
    /// The devices, open vsock streams and all.
    pub devices: DevicesState,
    /// Time that passed while the CPU was idle.
    pub idle: VirtualTime,
    /// The engine that the state is of; the other one can go on from it too.
    pub engine: EngineKind,
    /// The kind of CPU that the state is of ([`Engine::signature`]).
    ///
    /// [`Engine::signature`]: crate::engine::Engine::signature
    pub signature: u32,
}

/// The pages that a snapshot holds itself.
enum Pages {
    /// Copies, in the order of their numbers; a root's other pages are zero.
    Copies {
        /// For each page of RAM the place of its copy, counted from 1.
        index: Vec<u32>,
        copies: Vec<Page>,
    },
    /// All of RAM, in a mapped file.
    Image(file::Image),
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Copies { copies, .. } => write!(f, "{} copies", copies.len()),
            Self::Image(image) => write!(f, "{image:?}"),
        }
    }
}

impl Pages {
    fn get(&self, page: PageNumber) -> Option<&Page> {
        match self {
            Self::Copies { index, copies } => {
                let place = *index.get(page.0 as usize)?;
                copies.get((place as usize).checked_sub(1)?)
            }
            Self::Image(image) => image.page(page),
        }
    }

    /// The pages held, ascending. An image's are none: it is always a root,
    /// so nothing lies on the way through it.
    fn numbers(&self) -> impl Iterator<Item = PageNumber> + '_ {
        let index: &[u32] = match self {
            Self::Copies { index, .. } => index,
            Self::Image(_) => &[],
        };
        let numbered = index.iter().zip(0..);
        numbered.filter_map(|(place, number)| (*place != 0).then_some(PageNumber(number)))
    }
}

impl Snapshot {
    /// A snapshot on top of `parent`, of a machine with `ram_size` bytes of
    /// RAM, that holds `pages` (ascending).
    pub(crate) fn new(
        parent: Option<Self>,
        ram_size: usize,
        pages: Vec<(PageNumber, Page)>,
        state: MachineState,
    ) -> Self {
        let mut index = vec![0; ram_size / PAGE_SIZE];
        let mut copies = Vec::with_capacity(pages.len());
        for (number, page) in pages {
            copies.push(page);
            if let Some(place) = index.get_mut(number.0 as usize) {
                *place = u32::try_from(copies.len()).unwrap_or(0);
            }
        }
        Self::from_pages(parent, ram_size, Pages::Copies { index, copies }, state)
    }

    fn from_pages(
        parent: Option<Self>,
        ram_size: usize,
        pages: Pages,
        state: MachineState,
    ) -> Self {
        Self(Arc::new(Node {
            depth: parent.as_ref().map_or(0, |parent| parent.0.depth + 1),
            parent,
            ram_size,
            pages,
            state,
        }))
    }

    /// The snapshot that this one lies on.
    pub fn parent(&self) -> Option<&Self> {
        self.0.parent.as_ref()
    }

    /// How many snapshots lie below this one.
    pub fn depth(&self) -> usize {
        self.0.depth
    }

    /// Bytes of RAM of the machine.
    pub fn ram_size(&self) -> usize {
        self.0.ram_size
    }

    /// How many pages the snapshot itself keeps in memory.
    pub fn own_pages(&self) -> usize {
        self.0.pages.numbers().count()
    }

    /// All but RAM.
    pub fn state(&self) -> &MachineState {
        &self.0.state
    }

    /// The contents of `page`.
    pub fn page(&self, page: PageNumber) -> &Page {
        let mut at = Some(self);
        while let Some(snapshot) = at {
            if let Some(found) = snapshot.0.pages.get(page) {
                return found;
            }
            at = snapshot.parent();
        }
        &ZERO_PAGE
    }

    /// Whether both are handles on the same snapshot.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Adds to `pages` those that may differ between `self` and `other`;
    /// `false` if the two have no snapshot in common.
    pub(crate) fn difference(&self, other: &Self, pages: &mut BTreeSet<PageNumber>) -> bool {
        let (mut one, mut two) = (self, other);
        while !one.is(two) {
            let deeper = if one.depth() >= two.depth() {
                &mut one
            } else {
                &mut two
            };
            let Some(parent) = deeper.parent() else {
                return false;
            };
            pages.extend(deeper.0.pages.numbers());
            *deeper = parent;
        }
        true
    }
}
