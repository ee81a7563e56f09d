//! Which pages of RAM were written, and by whom.
//!
//! One bit a page of 4 KiB says "written since the last snapshot or restore",
//! whoever wrote. A second one says "written by a device since the CPU was
//! last told": the CPU keeps decoded code, and must hear of such writes.

use std::cell::Cell;
use std::rc::Rc;

use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};

use crate::layout::PAGE_SIZE;

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
    by_devices: Box<[Cell<u64>]>,
    any_by_devices: Cell<bool>,
}

impl DirtyPages {
    /// A clean bitmap for `pages` pages.
    pub fn new(pages: usize) -> Self {
        let words = pages.div_ceil(64);
        let clean = || (0..words).map(|_| Cell::new(0)).collect();
        let bits = Bits {
            written: clean(),
            by_devices: clean(),
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

    /// The pages written since [`Self::clear`], ascending.
    pub fn written(&self) -> impl Iterator<Item = PageNumber> + '_ {
        set_bits(&self.bits.written)
    }

    /// Marks `page` as written, by no device.
    pub fn mark(&self, page: PageNumber) {
        set(&self.bits.written, page);
    }

    /// Adds the marks of another bitmap of the same pages.
    pub fn merge(&self, words: &[u64]) {
        for (mine, theirs) in self.bits.written.iter().zip(words) {
            mine.set(mine.get() | theirs);
        }
    }

    /// Forgets every mark.
    pub fn clear(&self) {
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
    words.iter().zip(0u32..).flat_map(|(word, index)| {
        let mut rest = word.get();
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let bit = rest.trailing_zeros();
            rest &= rest - 1;
            Some(PageNumber(index * 64 + bit))
        })
    })
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
    fn clearing_forgets_both_records() {
        let dirty = DirtyPages::new(64);
        dirty.mark_dirty(0, 1);
        dirty.mark(PageNumber(5));
        dirty.clear();
        assert_eq!(dirty.written().count(), 0);
        assert!(dirty.take_device_writes().is_empty());
    }
}
