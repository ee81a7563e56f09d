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

/// Identifies a block: physical page, offset, mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

impl Key {
    /// Mode bit of blocks that hold one instruction only.
    pub(crate) const SINGLE: u8 = 0x80;
    /// No block has it.
    const NONE: Self = Self(u64::MAX);

    #[inline(always)]
    pub(crate) fn new(frame: u32, linear: u32, mode: Mode) -> Self {
        Self(u64::from(frame) << 20 | u64::from(linear & 0xfff) << 8 | u64::from(mode.0))
    }

    fn page(frame: u32) -> std::ops::Range<Self> {
        Self(u64::from(frame) << 20)..Self((u64::from(frame) + 1) << 20)
    }

    #[allow(clippy::cast_possible_truncation)] // frames have 24 bits
    fn frame(self) -> u32 {
        (self.0 >> 20) as u32
    }

    #[allow(clippy::cast_possible_truncation)] // twelve bits
    fn offset(self) -> u32 {
        (self.0 >> 8) as u32 & 0xfff
    }
}

/// A decoded block. All its bytes are in one page, except for a block of a
/// single instruction that crosses into a second page.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) key: Key,
    pub(crate) ops: Box<[Op]>,
    /// Instructions, which is at least the number of ops.
    pub(crate) count: u32,
    /// Bytes.
    pub(crate) len: u32,
    /// Where the block goes: falling through, and by a taken jump. Hints, to
    /// be checked against the key.
    pub(crate) links: [Cell<u32>; 2],
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

const RECENT: usize = 1 << 14;
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
    recent: Box<[u32]>,
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
            recent: vec![0; RECENT].into_boxed_slice(),
            decoded: 0,
        }
    }
}

impl BlockCache {
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // a hash
    fn slot(key: Key) -> usize {
        let folded = (key.0 >> 8) ^ (key.0 >> 21) ^ (key.0 << 7);
        folded as usize & (RECENT - 1)
    }

    /// The block with this key.
    #[inline]
    pub(crate) fn find(&mut self, key: Key) -> Option<u32> {
        let recent = self.recent[Self::slot(key)];
        if self
            .blocks
            .get(recent as usize)
            .is_some_and(|block| block.key == key)
        {
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
            self.remove(core, stale);
        }
        if self.index.len() >= MOST_BLOCKS {
            self.clear(core);
        }
        self.decoded += 1;
        let block = Block {
            key: new.key,
            ops: new.ops.into_boxed_slice(),
            count: new.count,
            len: new.bytes.len() as u32,
            links: [Cell::new(0), Cell::new(0)],
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
        self.index.insert(new.key, index);
        self.recent[Self::slot(new.key)] = index;
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

    /// Drops the blocks in the page at `address` whose bytes differ from
    /// memory now. `address` and `len` (up to the end of the page) only say
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
        let touched = CodeMap::mask((address.0 & 0xfff) as u32, len);
        if core.code.granules(frame) & touched == 0 {
            return;
        }
        let mut stale = Vec::new();
        let in_page = self.index.range(Key::page(frame)).map(|(_, &index)| index);
        let crossing = self
            .crossing
            .range((frame, 0)..(frame + 1, 0))
            .map(|&(_, index)| index);
        for index in in_page.chain(crossing) {
            if !self.blocks[index as usize].unchanged(memory) {
                stale.push(index);
            }
        }
        for index in stale {
            self.remove(core, index);
        }
    }

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
        }
        self.recount(core, key.frame());
    }

    /// Computes anew which granules of a page hold code.
    fn recount(&self, core: &mut Core, frame: u32) {
        let mut granules = 0;
        for (key, &index) in self.index.range(Key::page(frame)) {
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
