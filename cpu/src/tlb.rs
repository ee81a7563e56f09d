//! The translation lookaside buffers.
//!
//! An entry has an architectural part (what the page tables said when they
//! were walked; saved with the state) and tags that let the fast path of a
//! load or store skip every check (derived; they can be cleared at any time
//! without a visible effect).

use crate::address::PAGE_OFFSET;
use crate::code_map::CodeMap;
use crate::hooks::Hooks;
use crate::memory::Memory;

/// Entries for data, direct-mapped by the low bits of the page number.
pub(crate) const DATA_ENTRIES: usize = 1024;
/// Entries for instruction fetches, direct-mapped: a kernel's code has several
/// hundred pages, and one miss costs as much as a few blocks.
pub(crate) const CODE_ENTRIES: usize = 1024;
/// A tag that no page has: its low bits are not zero.
const INVALID: u32 = 1;

/// What the page tables allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permissions(pub(crate) u32);

impl Permissions {
    /// User accesses.
    pub(crate) const USER: u32 = 1;
    /// Writes.
    pub(crate) const WRITE: u32 = 2;
    /// Survives a load of CR3.
    pub(crate) const GLOBAL: u32 = 4;
    /// The dirty bit of the page-table entry is set.
    pub(crate) const DIRTY: u32 = 8;
    /// No instruction fetches.
    pub(crate) const NO_EXECUTE: u32 = 16;
    /// A 4-KiB piece of a 4-MiB page.
    pub(crate) const PIECE_4M: u32 = 32;
    /// A 4-KiB piece of a 2-MiB page.
    pub(crate) const PIECE_2M: u32 = 64;
    /// Without paging, everything is allowed.
    pub(crate) const ALL: Self = Self(Self::USER | Self::WRITE | Self::DIRTY);

    pub(crate) fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// One entry; 32 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Entry {
    /// The page, if the fast path may read: by supervisor, by user.
    pub(crate) read: [u32; 2],
    /// The page, if the fast path may write.
    pub(crate) write: [u32; 2],
    /// Added to a linear address it gives the offset in RAM.
    pub(crate) addend: u32,
    /// The linear page, or `INVALID`.
    pub(crate) page: u32,
    /// The number of the physical page.
    pub(crate) frame: u32,
    pub(crate) permissions: Permissions,
}

const EMPTY: Entry = Entry {
    read: [INVALID; 2],
    write: [INVALID; 2],
    addend: 0,
    page: INVALID,
    frame: 0,
    permissions: Permissions(0),
};

impl Entry {
    fn clear_tags(&mut self) {
        self.read = [INVALID; 2];
        self.write = [INVALID; 2];
    }
}

/// What decides which tags an entry gets.
pub(crate) struct TagRules<'a> {
    pub(crate) memory: &'a Memory<'a>,
    pub(crate) code: &'a CodeMap,
    pub(crate) hooks: &'a Hooks,
    /// DR7 has a data breakpoint on this page: addresses in DR0 to DR3.
    pub(crate) debug_pages: [u32; 4],
    /// Supervisor writes ignore the read-only bit (CR0.WP is clear).
    pub(crate) write_all: bool,
    /// User accesses must be checked for alignment.
    pub(crate) check_alignment: bool,
}

/// Both buffers.
pub(crate) struct Tlb {
    pub(crate) data: [Entry; DATA_ENTRIES],
    /// A bit for each entry of `data` that holds a page.
    used: [u64; DATA_ENTRIES / 64],
    /// The same for `code`.
    used_code: [u64; CODE_ENTRIES / 64],
    /// A bit for each 4 MiB of linear addresses that may have pieces of large
    /// pages here.
    large: [u64; 16],
    pub(crate) code: [Entry; CODE_ENTRIES],
}

impl std::fmt::Debug for Tlb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.entries().map(|(_, entry)| entry))
            .finish()
    }
}

impl Default for Tlb {
    fn default() -> Self {
        Self {
            data: [EMPTY; DATA_ENTRIES],
            used: [0; DATA_ENTRIES / 64],
            used_code: [0; CODE_ENTRIES / 64],
            large: [0; 16],
            code: [EMPTY; CODE_ENTRIES],
        }
    }
}

/// Which of the two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Data,
    Code,
}

/// Visits the entries whose bits are set.
fn each(used: &[u64], entries: &mut [Entry], mut visit: impl FnMut(&mut Entry)) {
    for (bits, entries) in used.iter().zip(entries.chunks_exact_mut(64)) {
        let mut bits = *bits;
        while bits != 0 {
            visit(&mut entries[bits.trailing_zeros() as usize]);
            bits &= bits - 1;
        }
    }
}

/// Drops the entries that are not global, and their bits.
fn keep_global(used: &mut [u64], entries: &mut [Entry]) {
    for (used, entries) in used.iter_mut().zip(entries.chunks_exact_mut(64)) {
        let mut bits = *used;
        while bits != 0 {
            let entry = &mut entries[bits.trailing_zeros() as usize];
            if entry.page == INVALID || !entry.permissions.has(Permissions::GLOBAL) {
                *entry = EMPTY;
                *used &= !(bits & bits.wrapping_neg());
            }
            bits &= bits - 1;
        }
    }
}

impl Tlb {
    #[inline(always)]
    pub(crate) fn data_index(linear: u32) -> usize {
        (linear >> 12) as usize & (DATA_ENTRIES - 1)
    }

    #[inline(always)]
    pub(crate) fn code_index(linear: u32) -> usize {
        (linear >> 12) as usize & (CODE_ENTRIES - 1)
    }

    /// The entry for the page of `linear`, if there is one.
    pub(crate) fn lookup(&self, side: Side, linear: u32) -> Option<&Entry> {
        let entry = match side {
            Side::Data => &self.data[Self::data_index(linear)],
            Side::Code => &self.code[Self::code_index(linear)],
        };
        (entry.page == linear & !PAGE_OFFSET).then_some(entry)
    }

    /// Puts a translation in, in the place of whatever was there.
    pub(crate) fn insert(&mut self, side: Side, linear: u32, frame: u32, permissions: Permissions) {
        let page = linear & !PAGE_OFFSET;
        let addend = (frame << 12).wrapping_sub(page);
        let entry = Entry {
            addend,
            page,
            frame,
            permissions,
            ..EMPTY
        };
        if permissions.has(Permissions::PIECE_4M | Permissions::PIECE_2M) {
            self.large[(page >> 28) as usize] |= 1 << (page >> 22 & 63);
        }
        match side {
            Side::Data => {
                let index = Self::data_index(linear);
                self.used[index / 64] |= 1 << (index % 64);
                self.data[index] = entry;
            }
            Side::Code => {
                let tag = |allowed: bool| if allowed { page } else { INVALID };
                let execute = !permissions.has(Permissions::NO_EXECUTE);
                let user = execute && permissions.has(Permissions::USER);
                let index = Self::code_index(linear);
                self.used_code[index / 64] |= 1 << (index % 64);
                self.code[index] = Entry {
                    read: [tag(execute), tag(user)],
                    ..entry
                };
            }
        }
    }

    /// Gives the data entry for `linear` the tags that it may have now.
    pub(crate) fn tag(&mut self, linear: u32, rules: &TagRules<'_>) {
        let entry = &mut self.data[Self::data_index(linear)];
        entry.clear_tags();
        let backed = (entry.frame as usize + 1) * 4096 <= rules.memory.ram.len();
        let watched = rules.hooks.watches_page(entry.page, entry.frame)
            || rules.debug_pages.contains(&entry.page);
        if !backed || watched {
            return;
        }
        let permissions = entry.permissions;
        let user = permissions.has(Permissions::USER) && !rules.check_alignment;
        entry.read[0] = entry.page;
        if user {
            entry.read[1] = entry.page;
        }
        let marked = permissions.has(Permissions::DIRTY) && rules.memory.is_dirty(entry.frame);
        if !marked || rules.code.granules(entry.frame) != 0 {
            return;
        }
        if permissions.has(Permissions::WRITE) || rules.write_all {
            entry.write[0] = entry.page;
        }
        if permissions.has(Permissions::WRITE) && user {
            entry.write[1] = entry.page;
        }
    }

    fn each_used(&mut self, visit: impl FnMut(&mut Entry)) {
        each(&self.used, &mut self.data, visit);
    }

    /// All tags go; the slow path gives them back.
    pub(crate) fn clear_all_tags(&mut self) {
        self.each_used(Entry::clear_tags);
    }

    /// The fast path may not write any more (the dirty bitmap was cleared).
    pub(crate) fn clear_write_tags(&mut self) {
        self.each_used(|entry| entry.write = [INVALID; 2]);
    }

    /// The fast path may not write to physical page `frame`: it holds code now.
    pub(crate) fn clear_write_tags_of(&mut self, frame: u32) {
        self.each_used(|entry| {
            if entry.frame == frame {
                entry.write = [INVALID; 2];
            }
        });
    }

    /// Drops every entry (a change of CR0.PG, CR4.PGE and so on).
    pub(crate) fn flush_all(&mut self) {
        self.each_used(|entry| *entry = EMPTY);
        each(&self.used_code, &mut self.code, |entry| *entry = EMPTY);
        self.used = [0; DATA_ENTRIES / 64];
        self.used_code = [0; CODE_ENTRIES / 64];
        self.large = [0; 16];
    }

    /// Drops every entry that is not global (a load of CR3).
    pub(crate) fn flush_not_global(&mut self) {
        keep_global(&mut self.used, &mut self.data);
        keep_global(&mut self.used_code, &mut self.code);
    }

    /// INVLPG: drops the entries for the page of `linear`, global or not; of a
    /// large page all pieces go.
    pub(crate) fn flush_page(&mut self, linear: u32) {
        if self.large[(linear >> 28) as usize] >> (linear >> 22 & 63) & 1 != 0 {
            let piece = |entry: &Entry| {
                let distance = entry.page ^ linear;
                distance < 1 << 12
                    || distance < 1 << 21 && entry.permissions.has(Permissions::PIECE_2M)
                    || distance < 1 << 22 && entry.permissions.has(Permissions::PIECE_4M)
            };
            // The bits in `used` may stay: they only say where to look.
            self.each_used(|entry| {
                if piece(entry) {
                    *entry = EMPTY;
                }
            });
            each(&self.used_code, &mut self.code, |entry| {
                if piece(entry) {
                    *entry = EMPTY;
                }
            });
            return;
        }
        for entry in [
            &mut self.data[Self::data_index(linear)],
            &mut self.code[Self::code_index(linear)],
        ] {
            if entry.page == linear & !PAGE_OFFSET {
                *entry = EMPTY;
            }
        }
    }

    /// All entries that hold a page, for saving and comparing.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Side, &Entry)> {
        let data = self.data.iter().map(|entry| (Side::Data, entry));
        let code = self.code.iter().map(|entry| (Side::Code, entry));
        data.chain(code).filter(|(_, entry)| entry.page != INVALID)
    }
}
