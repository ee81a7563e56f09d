//! Guest-physical memory, lent to the CPU for one run.

use std::cell::Cell;

use crate::PhysAddr;

/// What a region does with writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Reads and writes.
    Ram,
    /// Writes are dropped.
    Rom,
}

/// A range of guest-physical memory backed by host memory.
#[derive(Clone, Copy)]
pub struct Region<'a> {
    /// The first address; a multiple of 4096.
    pub start: PhysAddr,
    /// The bytes. The length is a multiple of 4096.
    pub bytes: &'a [Cell<u8>],
    /// RAM or ROM.
    pub kind: RegionKind,
}

impl std::fmt::Debug for Region<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} {:#x}+{:#x}",
            self.kind,
            self.start.0,
            self.bytes.len()
        )
    }
}

/// All memory of a machine, lent for one run: RAM from address 0, further
/// regions, and the dirty bitmap.
///
/// An address that no region holds is memory-mapped I/O. Two regions may share
/// host memory only if both are ROM: decoded code is found by its
/// guest-physical address.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    pub(crate) ram: &'a [Cell<u8>],
    pub(crate) regions: &'a [Region<'a>],
    pub(crate) dirty: &'a [Cell<u64>],
    pub(crate) lines: &'a [Cell<u64>],
}

impl std::fmt::Debug for Memory<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory(ram {:#x}, {:?})", self.ram.len(), self.regions)
    }
}

impl<'a> Memory<'a> {
    /// `ram` is the main memory, from guest-physical address 0; only its whole
    /// pages are used. `regions` are looked at in order, after `ram`. `dirty`
    /// holds a bit for each page of `ram`, bit `n % 64` of word `n / 64` for
    /// page `n`; pages beyond its end are not tracked.
    #[must_use]
    pub fn new(ram: &'a [Cell<u8>], regions: &'a [Region<'a>], dirty: &'a [Cell<u64>]) -> Self {
        let whole = ram.len().min(1 << 31) & !4095;
        Self {
            ram: &ram[..whole],
            regions,
            dirty,
            lines: &[],
        }
    }

    /// Marks in `lines`, a word for each page of RAM, which lines of 64 bytes
    /// are written: bit `n` for bytes `64 n` to `64 n + 63`. A store of up to 8
    /// bytes marks the line of its last byte alone, so that a mark stands for
    /// the 7 bytes before its line too.
    #[must_use]
    pub fn with_lines(self, lines: &'a [Cell<u64>]) -> Self {
        Self { lines, ..self }
    }

    /// Marks the line of the byte at `last`, the last one of a store to RAM.
    #[inline(always)]
    pub(crate) fn mark_line(&self, last: usize) {
        if let Some(word) = self.lines.get(last >> 12) {
            word.set(word.get() | 1 << (last >> 6 & 63));
        }
    }

    /// Marks the lines of the bytes from `first` to `last`.
    #[inline(always)]
    pub(crate) fn mark_lines(&self, first: usize, last: usize) {
        self.mark_line(last);
        for line in first / 64..last / 64 {
            self.mark_line(line * 64);
        }
    }

    /// Marks page `frame` dirty.
    #[inline]
    pub(crate) fn mark_dirty(&self, frame: u32) {
        if let Some(word) = self.dirty.get((frame / 64) as usize) {
            word.set(word.get() | 1 << (frame % 64));
        }
    }

    /// Whether page `frame` needs no more marking.
    #[inline]
    pub(crate) fn is_dirty(&self, frame: u32) -> bool {
        self.dirty
            .get((frame / 64) as usize)
            .is_none_or(|word| word.get() >> (frame % 64) & 1 != 0)
    }

    /// The page `frame`, if host memory backs it.
    pub(crate) fn page(&self, frame: u32) -> Option<(&'a [Cell<u8>; 4096], RegionKind)> {
        let at = frame as usize * 4096;
        if let Some(page) = self.ram.get(at..at + 4096) {
            return Some((page.try_into().ok()?, RegionKind::Ram));
        }
        self.regions.iter().find_map(|region| {
            let offset = (u64::from(frame) << 12).checked_sub(region.start.0)?;
            let at = usize::try_from(offset).ok()?;
            let page = region.bytes.get(at..at.checked_add(4096)?)?;
            Some((page.try_into().ok()?, region.kind))
        })
    }
}

/// A little-endian unsigned integer in guest memory.
pub(crate) trait Word: Copy + Eq + Default {
    /// Size in bytes.
    const BYTES: u32;
    /// Size in bits.
    const BITS: u32 = Self::BYTES * 8;
    /// Reads from the start of `cells`, if it is long enough.
    fn get(cells: &[Cell<u8>], at: usize) -> Option<Self>;
    /// Writes to the start of `cells`; `None` if it is too short.
    fn put(self, cells: &[Cell<u8>], at: usize) -> Option<()>;
    /// Zero-extends to 64 bits.
    fn to_u64(self) -> u64;
    /// Keeps the low bits.
    fn low_bits(value: u64) -> Self;
    /// Zero-extends to 32 bits (a `u64` is cut).
    fn zext(self) -> u32;
    /// Keeps the low bits.
    fn cut(value: u32) -> Self;
    /// Sign-extends the low bits of `value` from this size to 32 bits.
    fn sext(value: u32) -> u32;
}

macro_rules! word {
    ($type:ty, $signed:ty, $bytes:literal) => {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_lossless
        )]
        impl Word for $type {
            const BYTES: u32 = $bytes;
            #[inline(always)]
            fn get(cells: &[Cell<u8>], at: usize) -> Option<Self> {
                let cells: &[Cell<u8>; $bytes] = cells.get(at..at + $bytes)?.try_into().ok()?;
                Some(Self::from_le_bytes(std::array::from_fn(|i| cells[i].get())))
            }
            #[inline(always)]
            fn put(self, cells: &[Cell<u8>], at: usize) -> Option<()> {
                let cells: &[Cell<u8>; $bytes] = cells.get(at..at + $bytes)?.try_into().ok()?;
                let bytes = self.to_le_bytes();
                for i in 0..$bytes {
                    cells[i].set(bytes[i]);
                }
                Some(())
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn low_bits(value: u64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn zext(self) -> u32 {
                self as u32
            }
            #[inline(always)]
            fn cut(value: u32) -> Self {
                value as Self
            }
            #[inline(always)]
            fn sext(value: u32) -> u32 {
                value as $signed as i32 as u32
            }
        }
    };
}
word!(u8, i8, 1);
word!(u16, i16, 2);
word!(u32, i32, 4);
word!(u64, i64, 8);
