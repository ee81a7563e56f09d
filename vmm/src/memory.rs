//! Guest RAM and the record of which of its pages were written.
//!
//! RAM is one contiguous mapping from guest-physical 0. Devices and the loader
//! reach it through vm-memory, the CPU through [`GuestRam::cells`]; both mark
//! the same bitmap, [`DirtyPages`].

mod dirty;
mod mapping;

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use xxhash_rust::xxh3::Xxh3;

pub use self::dirty::{DirtyPages, PageNumber};
use crate::layout::{PAGE_SIZE, RAM_MIB};

/// What can go wrong with guest RAM.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The size asked for is not one that the machine can have.
    #[error("memory of {mib} MiB is out of range: ask for {} to {} MiB", RAM_MIB.start(), RAM_MIB.end())]
    Size {
        /// The size asked for, in MiB.
        mib: u64,
    },
    /// The host refused a mapping.
    #[error("cannot map {bytes} bytes of guest memory: {source}")]
    Map {
        /// The size of the mapping.
        bytes: usize,
        /// Why.
        source: std::io::Error,
    },
    /// A range that is not all RAM.
    #[error("guest-physical range {address:#x}+{len:#x} is not RAM")]
    Range {
        /// First byte.
        address: u64,
        /// Bytes.
        len: usize,
    },
}

/// The RAM of one machine.
#[derive(Debug)]
pub struct GuestRam {
    regions: GuestMemoryMmap<DirtyPages>,
    dirty: DirtyPages,
    size: usize,
}

impl GuestRam {
    /// Zeroed RAM of `mib` MiB.
    ///
    /// # Errors
    ///
    /// A size outside [`RAM_MIB`], or a host out of address space.
    pub fn new(mib: u32) -> Result<Self, MemoryError> {
        if !RAM_MIB.contains(&mib) {
            return Err(MemoryError::Size { mib: mib.into() });
        }
        Self::build(mib as usize * 1024 * 1024, None)
    }

    /// RAM that starts as the `size` bytes at `offset` of `image`, copied on
    /// write: the file never changes, and processes share its pages.
    ///
    /// # Errors
    ///
    /// A mapping that the host refuses.
    ///
    /// # Panics
    ///
    /// When `size` is not whole pages: whoever reads the image checks its size.
    pub fn from_image(image: File, offset: u64, size: usize) -> Result<Self, MemoryError> {
        assert!(size.is_multiple_of(PAGE_SIZE), "RAM is whole pages");
        Self::build(size, Some((image, offset)))
    }

    fn build(size: usize, image: Option<(File, u64)>) -> Result<Self, MemoryError> {
        let dirty = DirtyPages::new(size / PAGE_SIZE);
        let regions = mapping::map_ram(size, image, dirty.clone())?;
        Ok(Self {
            regions,
            dirty,
            size,
        })
    }

    /// Bytes of RAM.
    pub fn size(&self) -> usize {
        self.size
    }

    /// RAM as vm-memory sees it, for virtio-queue and linux-loader. Each write
    /// through it marks [`Self::dirty`].
    pub fn regions(&self) -> &GuestMemoryMmap<DirtyPages> {
        &self.regions
    }

    /// Which pages were written.
    pub fn dirty(&self) -> &DirtyPages {
        &self.dirty
    }

    /// RAM as plain cells, for the CPU. Whoever writes here marks the bitmap itself.
    pub fn cells(&self) -> &[Cell<u8>] {
        mapping::cells(&self.regions, self.size)
    }

    /// The cells of one page.
    ///
    /// # Panics
    ///
    /// When `page` lies outside RAM.
    pub fn page(&self, page: PageNumber) -> &[Cell<u8>] {
        let start = page.0 as usize * PAGE_SIZE;
        &self.cells()[start..start + PAGE_SIZE]
    }

    /// Copies `page` out of RAM.
    ///
    /// # Panics
    ///
    /// When `page` lies outside RAM.
    pub fn copy_page_out(&self, page: PageNumber, to: &mut [u8; PAGE_SIZE]) {
        mapping::copy_out(self.page(page), to);
    }

    /// Overwrites `page` without marking it.
    ///
    /// # Panics
    ///
    /// When `page` lies outside RAM.
    pub fn copy_page_in(&self, page: PageNumber, from: &[u8; PAGE_SIZE]) {
        mapping::copy_in(from, self.page(page));
    }

    /// Overwrites those bytes of `page` that were written since
    /// [`DirtyPages::clear`], without marking them; more may be overwritten.
    ///
    /// # Panics
    ///
    /// When `page` lies outside RAM.
    pub fn copy_written_in(&self, page: PageNumber, from: &[u8; PAGE_SIZE]) {
        mapping::copy_lines_in(from, self.page(page), self.dirty.lines_of(page));
    }

    /// Writes `bytes` at `address`.
    ///
    /// # Errors
    ///
    /// A range that is not all RAM; nothing is written then.
    pub fn write(&self, address: GuestAddress, bytes: &[u8]) -> Result<(), MemoryError> {
        self.check(address, bytes.len())?;
        self.regions
            .write_slice(bytes, address)
            .map_err(|_| MemoryError::Range {
                address: address.0,
                len: bytes.len(),
            })
    }

    /// Reads `bytes.len()` bytes from `address`.
    ///
    /// # Errors
    ///
    /// A range that is not all RAM.
    pub fn read(&self, address: GuestAddress, bytes: &mut [u8]) -> Result<(), MemoryError> {
        self.check(address, bytes.len())?;
        let len = bytes.len();
        self.regions
            .read_slice(bytes, address)
            .map_err(|_| MemoryError::Range {
                address: address.0,
                len,
            })
    }

    fn check(&self, address: GuestAddress, len: usize) -> Result<(), MemoryError> {
        if self.regions.check_range(address, len) {
            return Ok(());
        }
        Err(MemoryError::Range {
            address: address.0,
            len,
        })
    }

    /// Lays `shared` over the pages of `range`: what the guest writes there
    /// shows in every other mapping of that file, and the other way round.
    ///
    /// The harness lays libFuzzer's extra counters over the coverage map so.
    ///
    /// # Errors
    ///
    /// A range that is not whole pages of RAM, or a mapping that the host refuses.
    pub fn overlay(&self, range: Range<u64>, shared: &File) -> Result<(), MemoryError> {
        let page = PAGE_SIZE as u64;
        let ordered = range.start < range.end && range.end <= self.size as u64;
        if !ordered || !range.start.is_multiple_of(page) || !range.end.is_multiple_of(page) {
            return Err(MemoryError::Range {
                address: range.start,
                len: usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX),
            });
        }
        let page_of = |address: u64| u32::try_from(address / page).unwrap_or(u32::MAX);
        self.dirty.share(page_of(range.start)..page_of(range.end));
        mapping::overlay(&self.regions, range, shared)
    }

    /// Makes the guest's coverage blocks one memory with libFuzzer's extra
    /// counters: what the guest counts is a feature without being copied, and
    /// libFuzzer's zeroing before each input zeroes the guest's blocks.
    ///
    /// There is one set of such counters a process: a later call takes them
    /// away from the machine that had them.
    ///
    /// # Errors
    ///
    /// A mapping that the host refuses.
    #[cfg(any(test, feature = "extra-counters"))]
    pub fn overlay_extra_counters(&self) -> Result<(), MemoryError> {
        use crate::layout::{COVERAGE_MAP, COVERAGE_SIZE};

        let counters = mapping::extra_counters()?;
        let start = COVERAGE_MAP.0;
        self.overlay(start..start + COVERAGE_SIZE as u64, &counters)?;
        // What was in the blocks is gone: a restore puts it back.
        let first = u32::try_from(start / PAGE_SIZE as u64).unwrap_or(u32::MAX);
        let pages = (first..).take(COVERAGE_SIZE / PAGE_SIZE);
        pages.for_each(|page| self.dirty.mark(PageNumber(page)));
        Ok(())
    }

    /// A hash of all of RAM, the same on every host.
    pub fn hash(&self) -> u64 {
        let mut hasher = Xxh3::new();
        let mut buffer = [0; PAGE_SIZE];
        for page in self.cells().chunks_exact(PAGE_SIZE) {
            mapping::copy_out(page, &mut buffer);
            hasher.update(&buffer);
        }
        hasher.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_of_devices_and_loader_mark_every_page_they_touch() {
        let ram = GuestRam::new(16).unwrap();
        ram.write(GuestAddress(0x1fff), &[1, 2]).unwrap();
        let dirty: Vec<u32> = ram.dirty().written().map(|page| page.0).collect();
        assert_eq!(dirty, [1, 2]);
        assert_eq!(ram.cells()[0x1fff].get(), 1);
        assert_eq!(ram.cells()[0x2000].get(), 2);
        let device: Vec<u32> = ram
            .dirty()
            .take_device_writes()
            .iter()
            .map(|p| p.0)
            .collect();
        assert_eq!(device, [1, 2]);
        assert!(ram.dirty().take_device_writes().is_empty());
    }

    #[test]
    fn a_write_past_the_end_changes_nothing() {
        let ram = GuestRam::new(16).unwrap();
        let end = GuestAddress(ram.size() as u64 - 1);
        assert!(matches!(
            ram.write(end, &[1, 2]),
            Err(MemoryError::Range { len: 2, .. })
        ));
        assert_eq!(ram.cells()[ram.size() - 1].get(), 0);
        assert_eq!(ram.dirty().written().count(), 0);
    }

    #[test]
    fn sizes_outside_the_range_are_refused() {
        for mib in [0, 15, 513] {
            assert!(matches!(GuestRam::new(mib), Err(MemoryError::Size { .. })));
        }
    }

    #[test]
    fn an_overlay_is_shared_both_ways_and_the_hash_sees_it() {
        let ram = GuestRam::new(16).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x1000).unwrap();
        let before = ram.hash();
        ram.overlay(0x8_0000..0x8_1000, &file).unwrap();
        assert_eq!(ram.hash(), before);
        ram.cells()[0x8_0003].set(7);
        let mut seen = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut seen, 0).unwrap();
        assert_eq!(seen, [0, 0, 0, 7]);
        std::os::unix::fs::FileExt::write_all_at(&file, &[9], 0).unwrap();
        assert_eq!(ram.cells()[0x8_0000].get(), 9);
        assert_ne!(ram.hash(), before);
    }

    #[test]
    fn an_overlay_of_half_a_page_is_refused() {
        let ram = GuestRam::new(16).unwrap();
        let file = tempfile::tempfile().unwrap();
        for range in [0x800..0x1000, 0..0x800, 0..0x200_0000, 0x1000..0x1000] {
            assert!(matches!(
                ram.overlay(range, &file),
                Err(MemoryError::Range { .. })
            ));
        }
    }

    #[test]
    fn an_image_is_copied_on_write() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x1000 + 16 * 1024 * 1024).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[5], 0x1000).unwrap();
        let ram = GuestRam::from_image(file.try_clone().unwrap(), 0x1000, 16 << 20).unwrap();
        assert_eq!(ram.cells()[0].get(), 5);
        ram.cells()[0].set(6);
        let mut seen = [0; 1];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut seen, 0x1000).unwrap();
        assert_eq!(seen, [5]);
    }
}
