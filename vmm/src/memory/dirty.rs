//! Which pages of RAM were written, and by whom.
//!
//! One bit a page of 4 KiB says "written since the last snapshot or restore",
//! whoever wrote; and for each of its 64 lines of 64 bytes another one does, so
//! that a restore copies little. A third record says "written by a device since
//! the CPU was last told": the CPU keeps decoded code, and must hear of it.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};

use crate::layout::PAGE_SIZE;

/// Bytes of a line.
pub(super) const LINE_SIZE: usize = 64;

/// The number of a 4-KiB page of RAM, from guest-physical 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNumber(pub u32);

/// The dirty bitmap of one machine's RAM; a clone is another handle on it.
#[derive(Clone, Debug)]
pub struct DirtyPages {
    bits: Rc<Bits>,
    /// Where in RAM this handle's offset 0 lies (vm-memory's slices).
    base: usize,
}

#[derive(Debug)]
struct Bits {
    written: Box<[Cell<u64>]>,
    /// A word for each page. Only those of written pages are not zero.
    lines: Box<[Cell<u64>]>,
    /// Pages that others write to as well, who mark no lines.
    shared: Cell<(u32, u32)>,
    by_devices: Box<[Cell<u64>]>,
    any_by_devices: Cell<bool>,
}

impl DirtyPages {
    /// A clean bitmap for `pages` pages.
    pub fn new(pages: usize) -> Self {
        let words = pages.div_ceil(64);
        let clean = |words: usize| (0..words).map(|_| Cell::new(0)).collect();
        let bits = Bits {
            written: clean(words),
            lines: clean(words * 64),
            shared: Cell::new((0, 0)),
            by_devices: clean(words),
            any_by_devices: Cell::new(false),
        };
        Self {
            bits: Rc::new(bits),
            base: 0,
        }
    }

    /// The words of the bitmap, for the CPU: page `n` is bit `n % 64` of word `n / 64`.
    pub fn words(&self) -> &[Cell<u64>] {
        &self.bits.written
    }

    /// For each page which of its lines were written, for the CPU: bit `n` for
    /// bytes `64 n` to `64 n + 63`. A mark stands for the 7 bytes before its
    /// line too: who writes up to 8 bytes marks the line of the last one.
    pub fn lines(&self) -> &[Cell<u64>] {
        &self.bits.lines
    }

    /// The lines of a page as [`Self::lines`] has them; all, where others may
    /// have written to it without a mark.
    pub fn lines_of(&self, page: PageNumber) -> u64 {
        let (first, end) = self.bits.shared.get();
        if (first..end).contains(&page.0) {
            return u64::MAX;
        }
        self.bits.lines.get(page.0 as usize).map_or(0, Cell::get)
    }

    /// From now on others may write to these pages.
    pub(super) fn share(&self, pages: Range<u32>) {
        let (first, end) = self.bits.shared.get();
        let all = if first == end {
            (pages.start, pages.end)
        } else {
            (first.min(pages.start), end.max(pages.end))
        };
        self.bits.shared.set(all);
    }

    /// The pages written since [`Self::clear`], ascending.
    pub fn written(&self) -> impl Iterator<Item = PageNumber> + '_ {
        set_bits(&self.bits.written)
    }

    /// Marks all of `page` as written, by no device.
    pub fn mark(&self, page: PageNumber) {
        set(&self.bits.written, page);
        self.mark_lines(page, u64::MAX);
    }

    fn mark_lines(&self, page: PageNumber, lines: u64) {
        if let Some(word) = self.bits.lines.get(page.0 as usize) {
            word.set(word.get() | lines);
        }
    }

    /// Adds the marks of another bitmap of the same pages.
    pub fn merge(&self, words: &[u64]) {
        for (mine, theirs) in self.bits.written.iter().zip(words) {
            mine.set(mine.get() | theirs);
        }
        for (word, index) in words.iter().zip(0u32..) {
            bits(*word).for_each(|bit| self.mark_lines(PageNumber(index * 64 + bit), u64::MAX));
        }
    }

    /// Forgets every mark.
    pub fn clear(&self) {
        for page in self.written() {
            if let Some(word) = self.bits.lines.get(page.0 as usize) {
                word.set(0);
            }
        }
        self.bits.written.iter().for_each(|word| word.set(0));
        self.take_device_writes();
    }

    /// The pages that devices wrote since the last call, ascending.
    pub fn take_device_writes(&self) -> Vec<PageNumber> {
        if !self.bits.any_by_devices.replace(false) {
            return Vec::new();
        }
        let pages = set_bits(&self.bits.by_devices).collect();
        self.bits.by_devices.iter().for_each(|word| word.set(0));
        pages
    }
}

fn set(words: &[Cell<u64>], page: PageNumber) {
    if let Some(word) = words.get(page.0 as usize / 64) {
        word.set(word.get() | 1 << (page.0 % 64));
    }
}

fn set_bits(words: &[Cell<u64>]) -> impl Iterator<Item = PageNumber> + '_ {
    words
        .iter()
        .zip(0u32..)
        .flat_map(|(word, index)| bits(word.get()).map(move |bit| PageNumber(index * 64 + bit)))
}

/// The numbers of the bits that are set.
fn bits(mut rest: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let bit = rest.trailing_zeros();
        rest &= rest - 1;
        Some(bit)
    })
}

/// The lines that hold bytes `first` to `last` of a page.
fn lines(first: usize, last: usize) -> u64 {
    (u64::MAX << (first / LINE_SIZE)) & (u64::MAX >> (63 - last / LINE_SIZE))
}

impl WithBitmapSlice<'_> for DirtyPages {
    type S = Self;
}

impl BitmapSlice for DirtyPages {}

impl Bitmap for DirtyPages {
    fn mark_dirty(&self, offset: usize, len: usize) {
        if len == 0 {
            return;
        }
        let first = self.base.saturating_add(offset);
        let last = first.saturating_add(len - 1);
        // RAM is at most 512 MiB, so that a page number always fits.
        let end = self.bits.written.len() * 64;
        for page in (first / PAGE_SIZE)..=(last / PAGE_SIZE).min(end.saturating_sub(1)) {
            let page = PageNumber(u32::try_from(page).unwrap_or(u32::MAX));
            set(&self.bits.written, page);
            set(&self.bits.by_devices, page);
            let start = page.0 as usize * PAGE_SIZE;
            let (from, to) = (first.max(start), last.min(start + PAGE_SIZE - 1));
            self.mark_lines(page, lines(from - start, to - start));
        }
        self.bits.any_by_devices.set(true);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let page = self.base.saturating_add(offset) / PAGE_SIZE;
        let word = self.bits.written.get(page / 64);
        word.is_some_and(|word| word.get() >> (page % 64) & 1 == 1)
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self {
            bits: Rc::clone(&self.bits),
            base: self.base.saturating_add(offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_cross_words_and_stop_at_the_end() {
        let dirty = DirtyPages::new(128);
        dirty.mark_dirty(63 * PAGE_SIZE + 1, PAGE_SIZE);
        dirty.mark_dirty(127 * PAGE_SIZE, usize::MAX);
        let pages: Vec<u32> = dirty.written().map(|page| page.0).collect();
        assert_eq!(pages, [63, 64, 127]);
    }

    #[test]
    fn a_slice_counts_from_its_base() {
        let dirty = DirtyPages::new(64);
        let slice = dirty.slice_at(2 * PAGE_SIZE).slice_at(PAGE_SIZE - 1);
        slice.mark_dirty(0, 2);
        assert!(dirty.dirty_at(2 * PAGE_SIZE) && dirty.dirty_at(3 * PAGE_SIZE));
        assert!(!dirty.dirty_at(PAGE_SIZE));
        assert!(slice.dirty_at(1));
    }

    #[test]
    fn nothing_is_marked_by_an_empty_write() {
        let dirty = DirtyPages::new(64);
        dirty.mark_dirty(0, 0);
        assert_eq!(dirty.written().count(), 0);
    }

    #[test]
    fn marks_know_their_lines() {
        let dirty = DirtyPages::new(64);
        dirty.mark_dirty(PAGE_SIZE + 63, 2);
        assert_eq!(dirty.lines_of(PageNumber(1)), 3);
        dirty.mark_dirty(3 * PAGE_SIZE - 1, PAGE_SIZE + 2);
        assert_eq!(dirty.lines_of(PageNumber(2)), 1 << 63);
        assert_eq!(dirty.lines_of(PageNumber(3)), u64::MAX);
        assert_eq!(dirty.lines_of(PageNumber(4)), 1);
        dirty.merge(&[1 << 7]);
        dirty.mark(PageNumber(8));
        assert_eq!(dirty.lines_of(PageNumber(7)), u64::MAX);
        assert_eq!(dirty.lines_of(PageNumber(8)), u64::MAX);
        dirty.clear();
        assert!(dirty.lines().iter().all(|lines| lines.get() == 0));
    }

    #[test]
    fn of_shared_pages_all_lines_count() {
        let dirty = DirtyPages::new(64);
        dirty.share(3..5);
        dirty.mark_dirty(4 * PAGE_SIZE, 1);
        assert_eq!(dirty.lines_of(PageNumber(4)), u64::MAX);
        assert_eq!(dirty.lines_of(PageNumber(5)), 0);
        dirty.share(8..9);
        assert_eq!(dirty.lines_of(PageNumber(3)), u64::MAX);
        assert_eq!(dirty.lines_of(PageNumber(8)), u64::MAX);
    }

    #[test]
    fn clearing_forgets_both_records() {
        let dirty = DirtyPages::new(64);
        dirty.mark_dirty(0, 1);
        dirty.mark(PageNumber(5));
        dirty.clear();
        assert_eq!(dirty.written().count(), 0);
        assert!(dirty.take_device_writes().is_empty());
    }
}
