//! Where the arena lies; `native/runner.c` has the same table.
//!
//! The arena is four physical pages: two writable ones, one read-only, one of
//! code. Both sides show them at the same linear addresses, so that page
//! faults agree to the bit.

/// Bytes of a page.
pub(crate) const PAGE: u32 = 4096;
/// Bytes of the pages that hold data: two writable, then one read-only.
pub(crate) const DATA_BYTES: usize = 3 * PAGE as usize;
/// The page with the instruction under test; the next page is not mapped.
pub(crate) const CODE_BASE: u32 = 0x2000_0000;
/// Addresses the native runner needs for itself, with a margin on both sides.
pub(crate) const RUNNER: std::ops::Range<u32> = 0x0BFF_0000..0x0E10_0000;
/// From here on the host kernel has placed a stack and its vDSO; the
/// generator also keeps away from the top, where an access could wrap.
pub(crate) const HIGH: u32 = 0xE000_0000;

/// What may be done with a mapped page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Readable and writable, not executable.
    ReadWrite,
    /// Readable, not executable.
    ReadOnly,
    /// Readable and executable.
    Execute,
}

/// A run of pages that is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    /// Linear address of the first page.
    pub(crate) base: u32,
    /// The first page of the arena that is seen here.
    pub(crate) page: u32,
    /// How many pages follow each other.
    pub(crate) pages: u32,
    /// What may be done there.
    pub(crate) access: Access,
}

/// Everything that is mapped for the instruction under test.
pub(crate) const MAPPINGS: [Mapping; 6] = [
    map(0x1000_1000, 0, 2, Access::ReadWrite),
    map(0x1000_4000, 2, 1, Access::ReadOnly),
    map(CODE_BASE, 3, 1, Access::Execute),
    // Low copies, which 16-bit addresses reach; the last one lies across
    // the 64-KiB border.
    map(0x0000_4000, 0, 2, Access::ReadWrite),
    map(0x0000_7000, 2, 1, Access::ReadOnly),
    map(0x0000_F000, 0, 2, Access::ReadWrite),
];

const fn map(base: u32, page: u32, pages: u32, access: Access) -> Mapping {
    Mapping {
        base,
        page,
        pages,
        access,
    }
}

/// The offset in the arena that `address` shows, if it is mapped.
pub(crate) fn arena_offset(address: u32) -> Option<u32> {
    MAPPINGS.iter().find_map(|mapping| {
        let offset = address.wrapping_sub(mapping.base);
        (offset < mapping.pages * PAGE).then(|| mapping.page * PAGE + offset)
    })
}

/// Whether an access to `len` bytes at `address` could touch memory that
/// belongs to the native runner or to the host kernel's own mappings.
pub(crate) fn is_forbidden(address: u32, len: u32) -> bool {
    let end = address.saturating_add(len);
    end >= HIGH || (address < RUNNER.end && end > RUNNER.start)
}
