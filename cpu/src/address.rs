//! Newtypes for the address spaces and for counts of instructions.

/// An address in guest-physical memory. At most 36 bits are used (PAE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

/// An address after segmentation and before paging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinearAddr(pub u32);

/// A budget or a count of retired instructions. Every iteration of a repeated
/// string instruction counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instructions(pub u64);

/// Bytes in a page of the smallest size.
pub(crate) const PAGE_SIZE: u32 = 4096;
/// Bits of an address that select a byte in its page.
pub(crate) const PAGE_OFFSET: u32 = PAGE_SIZE - 1;
