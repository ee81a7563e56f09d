//! The cache of decoded blocks.
//!
//! A block is found by the guest-physical address of its first byte and the
//! mode bits that decoding depends on. It keeps a copy of its bytes, so that a
//! restored page drops a block only if the bytes differ. Nothing here is part
//! of the guest's state or visible to it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use crate::address::{PAGE_SIZE, PhysAddr};
use crate::code_map::CodeMap;
use crate::memory::Memory;
use crate::op::Op;
use crate::state::{Core, Mode};

/// Bytes of the longest block.
pub(crate) const MAX_BLOCK_LEN: u32 = 256;

/// Identifies a block: physical page, offset, mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

impl Key {
    /// Mode bit of blocks that hold one instruction only.
    pub(crate) const SINGLE: u8 = 0x80;
    /// Marks blocks that cross into a second page: they are found only by
    /// those who check that page.
    const CROSSING: u64 = 1 << 63;
    /// No block has it.
    const NONE: Self = Self(u64::MAX);

    /// The key of the crossing block at the same place.
    pub(crate) fn crossing(self) -> Self {
        Self(self.0 | Self::CROSSING)
    }

    #[inline(always)]
    pub(crate) fn new(frame: u32, linear: u32, mode: Mode) -> Self {
        Self(u64::from(frame) << 20 | u64::from(linear & 0xfff) << 8 | u64::from(mode.0))
    }

    /// The keys of blocks that start in a page and end there.
    fn page(frame: u32) -> std::ops::Range<Self> {
        Self(u64::from(frame) << 20)..Self((u64::from(frame) + 1) << 20)
    }

    /// The keys of blocks in a page that may hold one of `len` bytes.
    fn reaching(frame: u32, offset: u32, len: u32) -> std::ops::Range<Self> {
        let first = offset.saturating_sub(MAX_BLOCK_LEN - 1);
        let end = offset.saturating_add(len).min(PAGE_SIZE);
        let at = |offset: u32| (u64::from(frame) << 20) + (u64::from(offset) << 8);
        Self(at(first))..Self(at(end))
    }

    /// The keys of blocks that start in a page and end in another.
    fn leaving(frame: u32) -> std::ops::Range<Self> {
        let Self(first) = Self(u64::from(frame) << 20).crossing();
        Self(first)..Self(first + (1 << 20))
    }

    #[allow(clippy::cast_possible_truncation)] // frames have 24 bits
    fn frame(self) -> u32 {
        (self.0 >> 20) as u32 & 0xff_ffff
    }

    #[allow(clippy::cast_possible_truncation)] // twelve bits
    fn offset(self) -> u32 {
        (self.0 >> 8) as u32 & 0xfff
    }
}

/// A decoded block. All its bytes are in one page, except for a block of a
/// single instruction that crosses into a second page.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Block {
    pub(crate) key: Key,
    pub(crate) ops: Box<[Op]>,
    /// Instructions, which is at least the number of ops.
    pub(crate) count: u32,
    /// Bytes.
    pub(crate) len: u32,
    /// The block that follows at the end: a hint, to be checked by its key.
    pub(crate) link: Cell<u32>,
    /// The second page of a crossing instruction.
    pub(crate) second_frame: Option<u32>,
    bytes: Box<[u8]>,
}

/// A block that is not yet in the cache.
#[derive(Debug)]
pub(crate) struct NewBlock {
    pub(crate) key: Key,
    pub(crate) ops: Vec<Op>,
    pub(crate) count: u32,
    pub(crate) second_frame: Option<u32>,
    pub(crate) bytes: Vec<u8>,
}

const RECENT: usize = 1 << RECENT_BITS;
const RECENT_BITS: u32 = 16;
const JUMPS: usize = 1 << 11;
/// More blocks than a kernel and its programs have; a guest that makes more
/// starts afresh.
const MOST_BLOCKS: usize = 1 << 17;

/// All blocks.
#[derive(Debug)]
pub(crate) struct BlockCache {
    pub(crate) blocks: Vec<Block>,
    free: Vec<u32>,
    index: BTreeMap<Key, u32>,
    /// Blocks by their second page.
    crossing: BTreeSet<(u32, u32)>,
    recent: Box<[u32; RECENT]>,
    /// The same for jumps and returns that did not go where they went last: few
    /// enough to stay in the host's first-level cache.
    jumps: Box<[Cell<u32>; JUMPS]>,
    /// Blocks decoded since creation; a measure for the host, not state.
    pub(crate) decoded: u64,
}

impl Default for BlockCache {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            free: Vec::new(),
            index: BTreeMap::new(),
            crossing: BTreeSet::new(),
            recent: vec![0; RECENT].try_into().expect("its length"),
            jumps: Box::new([const { Cell::new(0) }; JUMPS]),
            decoded: 0,
        }
    }
}

impl BlockCache {
    /// Where `recent` has a key: Fibonacci hashing.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // a few bits
    fn slot(key: Key) -> usize {
        (key.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - RECENT_BITS)) as usize
    }

    /// Whether block `index` exists and has this key.
    #[inline(always)]
    pub(crate) fn is(&self, index: u32, key: Key) -> bool {
        self.blocks
            .get(index as usize)
            .is_some_and(|block| block.key == key)
    }

    /// The block with this key, if it was looked up not long ago.
    #[inline(always)]
    pub(crate) fn recent(&self, key: Key) -> Option<u32> {
        let index = self.recent[Self::slot(key)];
        self.is(index, key).then_some(index)
    }

    /// The block with this key, if it was jumped to not long ago.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // a few bits
    pub(crate) fn jumped_to(&self, key: Key) -> Option<u32> {
        let slot = &self.jumps[(key.0 >> 8 ^ key.0 >> 19) as usize % JUMPS];
        let known = slot.get();
        if self.is(known, key) {
            return Some(known);
        }
        let recent = self.recent(key)?;
        slot.set(recent);
        Some(recent)
    }

    /// The block with this key.
    #[inline]
    pub(crate) fn find(&mut self, key: Key) -> Option<u32> {
        if let Some(recent) = self.recent(key) {
            return Some(recent);
        }
        let index = *self.index.get(&key)?;
        self.recent[Self::slot(key)] = index;
        Some(index)
    }

    /// Puts a block in, in place of a `stale` one with the same key, and tells
    /// `core` that its pages hold code.
    #[allow(clippy::cast_possible_truncation)] // bounded by MOST_BLOCKS and the page
    pub(crate) fn insert(&mut self, core: &mut Core, new: NewBlock, stale: Option<u32>) -> u32 {
        if let Some(stale) = stale {
            let frame = self.blocks[stale as usize].key.frame();
            self.remove(core, stale);
            self.recount(core, frame);
        }
        if self.index.len() >= MOST_BLOCKS {
            self.clear(core);
        }
        self.decoded += 1;
        let key = if new.second_frame.is_some() {
            new.key.crossing()
        } else {
            new.key
        };
        let block = Block {
            key,
            ops: new.ops.into_boxed_slice(),
            count: new.count,
            len: new.bytes.len() as u32,
            link: Cell::new(0),
            second_frame: new.second_frame,
            bytes: new.bytes.into_boxed_slice(),
        };
        let frame = new.key.frame();
        let first_len = block.len.min(PAGE_SIZE - new.key.offset());
        let granules = CodeMap::mask(new.key.offset(), first_len);
        Self::protect(core, frame, granules);
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.blocks.len() as u32,
        };
        if let Some(second) = new.second_frame {
            Self::protect(core, second, CodeMap::mask(0, block.len - first_len));
            self.crossing.insert((second, index));
        }
        if index as usize == self.blocks.len() {
            self.blocks.push(block);
        } else {
            self.blocks[index as usize] = block;
        }
        self.index.insert(key, index);
        self.recent[Self::slot(key)] = index;
        index
    }

    fn protect(core: &mut Core, frame: u32, granules: u64) {
        let before = core.code.granules(frame);
        if before == 0 {
            core.tlb.clear_write_tags_of(frame);
        }
        core.code.set(frame, before | granules);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self, core: &mut Core) {
        self.blocks.clear();
        self.free.clear();
        self.index.clear();
        self.crossing.clear();
        core.code.clear();
    }

    /// Drops the blocks whose bytes differ from memory now, of those that hold
    /// one of the `len` bytes from `address` (at most up to the end of the page),
    /// where something was written.
    #[allow(clippy::cast_possible_truncation)] // frames have 24 bits
    pub(crate) fn written(
        &mut self,
        core: &mut Core,
        memory: &Memory<'_>,
        address: PhysAddr,
        len: u32,
    ) {
        let frame = (address.0 >> 12) as u32;
        let offset = (address.0 & 0xfff) as u32;
        if core.code.granules(frame) & CodeMap::mask(offset, len) == 0 {
            return;
        }
        let starting = self.index.range(Key::reaching(frame, offset, len));
        let leaving = self.index.range(Key::leaving(frame));
        let crossing = self.crossing.range((frame, 0)..(frame + 1, 0));
        let stale: Vec<u32> = (starting.chain(leaving).map(|(_, &index)| index))
            .chain(crossing.map(|&(_, index)| index))
            .filter(|&index| !self.blocks[index as usize].unchanged(memory))
            .collect();
        for &index in &stale {
            self.remove(core, index);
        }
        if !stale.is_empty() {
            self.recount(core, frame);
        }
    }

    /// Takes a block out; its first page is still to be recounted.
    fn remove(&mut self, core: &mut Core, index: u32) {
        let block = &mut self.blocks[index as usize];
        let key = std::mem::replace(&mut block.key, Key::NONE);
        block.ops = Box::default();
        let second = block.second_frame.take();
        self.index.remove(&key);
        self.free.push(index);
        if let Some(second) = second {
            self.crossing.remove(&(second, index));
            self.recount(core, second);
            self.recount(core, key.frame());
        }
    }

    /// Computes anew which granules of a page hold code.
    fn recount(&self, core: &mut Core, frame: u32) {
        let mut granules = 0;
        let starting = self
            .index
            .range(Key::page(frame))
            .chain(self.index.range(Key::leaving(frame)));
        for (key, &index) in starting {
            let len = self.blocks[index as usize]
                .len
                .min(PAGE_SIZE - key.offset());
            granules |= CodeMap::mask(key.offset(), len);
        }
        for &(_, index) in self.crossing.range((frame, 0)..(frame + 1, 0)) {
            let block = &self.blocks[index as usize];
            granules |= CodeMap::mask(0, block.len - (PAGE_SIZE - block.key.offset()));
        }
        core.code.set(frame, granules);
    }
}

impl Block {
    /// Whether memory still holds the bytes that were decoded.
    fn unchanged(&self, memory: &Memory<'_>) -> bool {
        let offset = self.key.offset() as usize;
        let in_first = self.bytes.len().min(PAGE_SIZE as usize - offset);
        let same = |frame: u32, offset: usize, bytes: &[u8]| {
            memory.page(frame).is_some_and(|(page, _)| {
                page[offset..]
                    .iter()
                    .zip(bytes)
                    .all(|(cell, byte)| cell.get() == *byte)
            })
        };
        same(self.key.frame(), offset, &self.bytes[..in_first])
            && self
                .second_frame
                .is_none_or(|second| same(second, 0, &self.bytes[in_first..]))
    }
}
