//! The mappings behind guest RAM: all of `vmm`'s unsafe code about memory.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;

use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap};

use super::dirty::LINE_SIZE;
use super::{DirtyPages, MemoryError};
use crate::layout::PAGE_SIZE;

/// Bytes before a line that its mark stands for as well, rounded up to what
/// copies well.
const BEFORE: usize = 8;

/// Maps `size` bytes of RAM at guest-physical 0: zeroed, or copied on write
/// from a file.
pub(super) fn map_ram(
    size: usize,
    image: Option<(File, u64)>,
    dirty: DirtyPages,
) -> Result<GuestMemoryMmap<DirtyPages>, MemoryError> {
    let kind = if image.is_some() {
        0
    } else {
        libc::MAP_ANONYMOUS
    };
    let mut builder = MmapRegionBuilder::new_with_bitmap(size, dirty)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(kind | libc::MAP_PRIVATE | libc::MAP_NORESERVE);
    if let Some((file, offset)) = image {
        builder = builder.with_file_offset(FileOffset::new(file, offset));
    }
    let refused = |source| MemoryError::Map {
        bytes: size,
        source,
    };
    let mapping = builder.build().map_err(|error| {
        refused(match error {
            MmapRegionError::Mmap(source) => source,
            other => std::io::Error::other(other),
        })
    })?;
    let region = GuestRegionMmap::new(mapping, GuestAddress(0))
        .ok_or_else(|| refused(std::io::ErrorKind::InvalidInput.into()))?;
    GuestMemoryMmap::from_regions(vec![region])
        .map_err(|error| refused(std::io::Error::other(error)))
}

/// The whole of RAM as cells.
///
/// # Panics
///
/// When `regions` is not the one region that [`map_ram`] made with this `size`.
pub(super) fn cells(regions: &GuestMemoryMmap<DirtyPages>, size: usize) -> &[Cell<u8>] {
    let region = regions
        .find_region(GuestAddress(0))
        .expect("map_ram maps guest-physical 0");
    assert_eq!(region.size(), size, "RAM is one region");
    // SAFETY: the region is a live, readable and writable mapping of `size`
    // bytes that `regions` owns, and the borrow of `regions` keeps it mapped.
    // `Cell<u8>` has the layout of `u8`, and any byte is a valid one. `Cell`
    // allows writes through other pointers in this thread; vm-memory's
    // accessors are such writes, never references held across ours, and the
    // bitmap in the region (an `Rc`) keeps the machine on one thread. Other
    // processes that map the same overlay write only while no guest runs.
    unsafe { std::slice::from_raw_parts(region.as_ptr().cast::<Cell<u8>>(), size) }
}

/// Copies a page out of its cells.
pub(super) fn copy_out(from: &[Cell<u8>], to: &mut [u8; PAGE_SIZE]) {
    assert_eq!(from.len(), PAGE_SIZE, "one page");
    // SAFETY: both are PAGE_SIZE bytes long; `to` is an exclusive borrow, so
    // it cannot be guest RAM, and the two do not overlap. No reference into
    // the cells exists while they are read, as `Cell` gives out none.
    unsafe {
        std::ptr::copy_nonoverlapping(from.as_ptr().cast::<u8>(), to.as_mut_ptr(), PAGE_SIZE);
    }
}

/// Overwrites the cells of a page.
pub(super) fn copy_in(from: &[u8; PAGE_SIZE], to: &[Cell<u8>]) {
    assert_eq!(to.len(), PAGE_SIZE, "one page");
    // SAFETY: both are PAGE_SIZE bytes long. `from` is a shared borrow of
    // plain bytes, which cells of guest RAM are never lent as, so the two do
    // not overlap. Writing through a shared `Cell` is what it is for.
    unsafe {
        std::ptr::copy_nonoverlapping(
            from.as_ptr(),
            to.as_ptr().cast::<u8>().cast_mut(),
            PAGE_SIZE,
        );
    }
}

/// Overwrites the cells of a page in the lines whose bits are set, and in the 7
/// bytes before each (`DirtyPages::lines`).
pub(super) fn copy_lines_in(from: &[u8; PAGE_SIZE], to: &[Cell<u8>], lines: u64) {
    assert_eq!(to.len(), PAGE_SIZE, "one page");
    let mut rest = lines;
    while rest != 0 {
        let first = rest.trailing_zeros() as usize;
        let run = (rest >> first).trailing_ones() as usize;
        let start = (first * LINE_SIZE).saturating_sub(BEFORE);
        let end = (first + run) * LINE_SIZE;
        let (from, to) = (&from[start..end], &to[start..end]);
        // SAFETY: both are slices of the same length, just cut to it. They do
        // not overlap, and cells may be written to, as in `copy_in`.
        unsafe {
            std::ptr::copy_nonoverlapping(
                from.as_ptr(),
                to.as_ptr().cast::<u8>().cast_mut(),
                from.len(),
            );
        }
        rest &= u64::MAX
            .checked_shl(u32::try_from(first + run).unwrap_or(64))
            .unwrap_or(0);
    }
}

/// The section in which libFuzzer looks for counters that are not its own
/// (`FuzzerExtraCounters.cpp`).
#[cfg(any(test, feature = "extra-counters"))]
#[repr(C, align(4096))]
struct ExtraCounters(std::cell::UnsafeCell<[u8; crate::layout::COVERAGE_SIZE]>);

// SAFETY: no Rust code reads or writes the bytes; it only takes their address.
#[cfg(any(test, feature = "extra-counters"))]
unsafe impl Sync for ExtraCounters {}

// SAFETY: the section holds plain bytes without relocations. This is its only
// occupant and whole pages long, so nothing else lies on the pages that
// `extra_counters` maps anew.
#[cfg(any(test, feature = "extra-counters"))]
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static EXTRA_COUNTERS: ExtraCounters = ExtraCounters(std::cell::UnsafeCell::new(
    [0; crate::layout::COVERAGE_SIZE],
));

/// A new file of zeros in memory, mapped in place of libFuzzer's extra counters.
#[cfg(any(test, feature = "extra-counters"))]
pub(super) fn extra_counters() -> Result<File, MemoryError> {
    use std::os::fd::FromRawFd;

    let bytes = size_of::<ExtraCounters>();
    let failed = || MemoryError::Map {
        bytes,
        source: std::io::Error::last_os_error(),
    };
    // SAFETY: the name is a C string.
    let descriptor = unsafe { libc::memfd_create(c"coverage".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(failed());
    }
    // SAFETY: the descriptor was made just now, and nobody else has it.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_len(bytes as u64)
        .map_err(|source| MemoryError::Map { bytes, source })?;
    // SAFETY: the target is exactly the pages of `EXTRA_COUNTERS`, which no
    // Rust code accesses; they stay readable and writable, as the mapping keeps
    // the file, which nobody shortens, alive.
    let address = unsafe {
        libc::mmap(
            EXTRA_COUNTERS.0.get().cast(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_FIXED,
            file.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(failed());
    }
    Ok(file)
}

/// Maps `shared` over the pages of `range`, which the caller has checked.
pub(super) fn overlay(
    regions: &GuestMemoryMmap<DirtyPages>,
    range: Range<u64>,
    shared: &File,
) -> Result<(), MemoryError> {
    let region = regions
        .find_region(GuestAddress(range.start))
        .expect("the caller has checked the range");
    let len = usize::try_from(range.end - range.start).expect("the range lies in RAM");
    let start = usize::try_from(range.start).expect("the range lies in RAM");
    assert!(start + len <= region.size(), "the range lies in RAM");
    let refused = |source| MemoryError::Map { bytes: len, source };
    let file_len = shared.metadata().map_err(refused)?.len();
    if file_len < len as u64 {
        return Err(refused(std::io::ErrorKind::UnexpectedEof.into()));
    }
    // SAFETY: the target is whole pages inside a mapping that `regions` owns
    // and unmaps as a whole, so MAP_FIXED replaces only our own pages and
    // nothing leaks. Cells into the range stay valid: the pages stay readable
    // and writable, as the file was just seen to be long enough and whoever
    // lends it keeps its length.
    let address = unsafe {
        libc::mmap(
            region.as_ptr().add(start).cast(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_FIXED,
            shared.as_raw_fd(),
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(refused(std::io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{EXTRA_COUNTERS, ExtraCounters};
    use crate::layout::{COVERAGE_EVENTS, COVERAGE_MAP, COVERAGE_SIZE};
    use crate::memory::GuestRam;

    #[test]
    fn lines_are_copied_with_the_bytes_before_them() {
        let cases: [(u64, &[(usize, usize)]); 5] = [
            (0, &[]),
            (1, &[(0, 64)]),
            (0b110, &[(56, 192)]),
            (1 << 63 | 1 << 9, &[(568, 640), (4024, 4096)]),
            (u64::MAX, &[(0, 4096)]),
        ];
        for (lines, copied) in cases {
            let page = vec![Cell::new(1u8); 4096];
            super::copy_lines_in(&[2; 4096], &page, lines);
            for (at, cell) in page.iter().enumerate() {
                let inside = copied
                    .iter()
                    .any(|(start, end)| (*start..*end).contains(&at));
                assert_eq!(cell.get() == 2, inside, "byte {at} of {lines:#x}");
            }
        }
    }

    /// One test, as the process has one set of counters.
    #[test]
    fn coverage_blocks_are_libfuzzers_counters_and_the_last_machine_has_them() {
        let counters = EXTRA_COUNTERS.0.get().cast::<u8>();
        let counter = |at: usize| {
            assert!(at < size_of::<ExtraCounters>());
            // SAFETY: `at` lies in the static, whose bytes are always mapped;
            // volatile, as they change behind the compiler's back.
            unsafe { counters.add(at).read_volatile() }
        };
        assert_eq!(counters.addr() % 4096, 0);
        let one = GuestRam::new(16).unwrap();
        one.overlay_extra_counters().unwrap();
        let first = usize::try_from(COVERAGE_MAP.0).unwrap();
        let events = usize::try_from(COVERAGE_EVENTS.0).unwrap();
        one.cells()[first].set(3);
        one.cells()[events + 0xfff].set(4);
        assert_eq!((counter(0), counter(COVERAGE_SIZE - 1)), (3, 4));
        // SAFETY: as above; this is how libFuzzer clears them.
        unsafe { counters.write_bytes(0, COVERAGE_SIZE) };
        assert_eq!(one.cells()[first].get(), 0);
        assert_eq!(one.dirty().written().count(), COVERAGE_SIZE / 4096);

        let other = GuestRam::new(16).unwrap();
        other.overlay_extra_counters().unwrap();
        other.cells()[first].set(5);
        one.cells()[first].set(6);
        assert_eq!(counter(0), 5);
    }
}
