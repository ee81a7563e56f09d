//! The cache of decoded blocks.
//!
//! A block is found by the guest-physical address of its first byte and the
//! mode bits that decoding depends on. All blocks lie in one vector, each as a
//! head and its ops, so that what runs after one another is close together in
//! the host's caches. It keeps a copy of its bytes, so that a
//! restored page drops a block only if the bytes differ. Nothing here is part
//! of the guest's state or visible to it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use crate::address::{PAGE_SIZE, PhysAddr};
use crate::code_map::CodeMap;
use crate::lower::undefined;
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    /// A slot in the form of an op, see [`head`].
    head: &'a Op,
    pub(crate) ops: &'a [Op],
}

impl<'a> Block<'a> {
    /// Instructions, which is at least the number of ops.
    #[inline(always)]
    pub(crate) fn count(self) -> u32 {
        u32::from(self.head.ordinal)
    }

    /// Bytes.
    #[inline(always)]
    pub(crate) fn len(self) -> u32 {
        u32::from(self.head.len) + 1
    }

    /// The block that follows at the end: a hint, to be checked by its key.
    #[inline(always)]
    pub(crate) fn link(self) -> &'a Cell<u32> {
        &self.head.link
    }

    /// Where its bytes begin in [`BlockCache::bytes`].
    fn first_byte(self) -> usize {
        let Op {
            dst,
            src,
            base,
            index,
            ..
        } = *self.head;
        u32::from_le_bytes([dst, src, base, index]) as usize
    }

    /// The second page of a crossing instruction.
    fn second_frame(self) -> Option<u32> {
        let [low, high] = self.head.offset.to_le_bytes();
        u32::from_le_bytes([low, high, self.head.seg, self.head.flags]).checked_sub(1)
    }

    /// Slots in the vector.
    fn slots(self) -> usize {
        1 + self.ops.len()
    }
}

/// The slot before a block's ops: no op, but it has the size of one and the
/// link, and so a block needs no memory of its own. `first_byte` is where its
/// bytes are kept.
#[allow(clippy::cast_possible_truncation)] // at most 64 ops, 256 bytes; halves
fn head(key: Key, new: &NewBlock, first_byte: u32) -> Op {
    let [dst, src, base, index] = first_byte.to_le_bytes();
    let mut head = Op::new(undefined, 1);
    set_key(&mut head, key);
    (head.dst, head.src, head.base, head.index) = (dst, src, base, index);
    head.scale = new.ops.len() as u8;
    head.ordinal = new.count as u8;
    head.len = (new.bytes.len() - 1) as u8;
    // Frames have 24 bits.
    let second = new.second_frame.map_or(0, |frame| frame + 1);
    let [low, high, third, fourth] = second.to_le_bytes();
    head.offset = u16::from_le_bytes([low, high]);
    (head.seg, head.flags) = (third, fourth);
    head
}

#[inline(always)]
fn key_of(head: &Op) -> Key {
    Key(u64::from(head.disp) << 32 | u64::from(head.imm))
}

#[allow(clippy::cast_possible_truncation)] // the halves of the key
fn set_key(head: &mut Op, Key(key): Key) {
    (head.imm, head.disp) = (key as u32, (key >> 32) as u32);
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

/// Slots below which it is not worth it to close gaps.
const FEW_SLOTS: usize = 1 << 12;

/// All blocks.
#[derive(Debug)]
pub(crate) struct BlockCache {
    /// For each block its head, then its ops. The number of a block is the
    /// place of its head; numbers that are kept as hints are always of heads.
    slots: Vec<Op>,
    /// The bytes that the blocks were decoded from.
    bytes: Vec<u8>,
    /// Slots of blocks that are no more.
    gaps: usize,
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
            slots: Vec::new(),
            bytes: Vec::new(),
            gaps: 0,
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

    /// Block `index`, which exists.
    #[inline(always)]
    pub(crate) fn block(&self, index: u32) -> Block<'_> {
        let (head, rest) = self.slots[index as usize..]
            .split_first()
            .expect("a block has a head");
        Block {
            head,
            ops: &rest[..usize::from(head.scale)],
        }
    }

    /// Whether block `index` exists and has this key.
    #[inline(always)]
    pub(crate) fn is(&self, index: u32, key: Key) -> bool {
        self.slots
            .get(index as usize)
            .is_some_and(|head| key_of(head) == key)
    }

    /// The second page of a crossing instruction.
    pub(crate) fn second_frame(&self, index: u32) -> Option<u32> {
        self.block(index).second_frame()
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
            let frame = key_of(&self.slots[stale as usize]).frame();
            self.remove(core, stale);
            self.recount(core, frame);
        }
        if self.index.len() >= MOST_BLOCKS {
            self.clear(core);
        }
        if self.gaps > self.slots.len() / 2 && self.slots.len() > FEW_SLOTS {
            self.close_gaps();
        }
        self.decoded += 1;
        let key = match new.second_frame {
            Some(_) => new.key.crossing(),
            None => new.key,
        };
        let frame = new.key.frame();
        let len = new.bytes.len() as u32;
        let first_len = len.min(PAGE_SIZE - new.key.offset());
        let granules = CodeMap::mask(new.key.offset(), first_len);
        Self::protect(core, frame, granules);
        let index = self.slots.len() as u32;
        if let Some(second) = new.second_frame {
            Self::protect(core, second, CodeMap::mask(0, len - first_len));
            self.crossing.insert((second, index));
        }
        self.slots.push(head(key, &new, self.bytes.len() as u32));
        self.bytes.extend(&new.bytes);
        self.slots.extend(new.ops);
        self.index.insert(key, index);
        self.recent[Self::slot(key)] = index;
        index
    }

    /// Moves all blocks together, in the order of their addresses. No number of
    /// a block is right after it, so all hints are forgotten.
    #[allow(clippy::cast_possible_truncation)] // bounded by MOST_BLOCKS
    fn close_gaps(&mut self) {
        let old = std::mem::take(&mut self.slots);
        let old_bytes = std::mem::take(&mut self.bytes);
        let mut moved = BTreeMap::new();
        for number in self.index.values_mut() {
            let at = *number as usize;
            let ops = usize::from(old[at].scale);
            let block = Block {
                head: &old[at],
                ops: &old[at + 1..][..ops],
            };
            let new = self.slots.len() as u32;
            moved.insert(*number, new);
            *number = new;
            let first_byte = self.bytes.len() as u32;
            let len = block.len() as usize;
            self.bytes.extend(&old_bytes[block.first_byte()..][..len]);
            self.slots.extend_from_slice(&old[at..at + block.slots()]);
            let head = &mut self.slots[new as usize];
            [head.dst, head.src, head.base, head.index] = first_byte.to_le_bytes();
        }
        self.crossing = (self.crossing.iter())
            .filter_map(|(frame, number)| Some((*frame, *moved.get(number)?)))
            .collect();
        self.gaps = 0;
        self.slots.iter().for_each(|slot| slot.link.set(0));
        self.forget_hints();
    }

    fn forget_hints(&mut self) {
        self.recent.fill(0);
        self.jumps.iter().for_each(|hint| hint.set(0));
    }

    /// How many ops the block that was decoded first has.
    #[cfg(test)]
    pub(crate) fn ops_of_first_block(&self) -> usize {
        self.block(0).ops.len()
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
        self.slots.clear();
        self.bytes.clear();
        self.gaps = 0;
        self.index.clear();
        self.crossing.clear();
        self.forget_hints();
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
            .filter(|&index| !self.is_unchanged(index, memory))
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
        let second = self.second_frame(index);
        self.gaps += self.block(index).slots();
        let head = &mut self.slots[index as usize];
        let key = key_of(head);
        set_key(head, Key::NONE);
        self.index.remove(&key);
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
            let len = self.block(index).len().min(PAGE_SIZE - key.offset());
            granules |= CodeMap::mask(key.offset(), len);
        }
        for &(_, index) in self.crossing.range((frame, 0)..(frame + 1, 0)) {
            let block = self.block(index);
            let in_first = PAGE_SIZE - key_of(block.head).offset();
            granules |= CodeMap::mask(0, block.len() - in_first);
        }
        core.code.set(frame, granules);
    }

    /// Whether memory still holds the bytes that a block was decoded from.
    fn is_unchanged(&self, index: u32, memory: &Memory<'_>) -> bool {
        let block = self.block(index);
        let key = key_of(block.head);
        let bytes = &self.bytes[block.first_byte()..][..block.len() as usize];
        let offset = key.offset() as usize;
        let (first, second) = bytes.split_at(bytes.len().min(PAGE_SIZE as usize - offset));
        let same = |frame: u32, offset: usize, bytes: &[u8]| {
            memory.page(frame).is_some_and(|(page, _)| {
                page[offset..]
                    .iter()
                    .zip(bytes)
                    .all(|(cell, byte)| cell.get() == *byte)
            })
        };
        same(key.frame(), offset, first)
            && (second.is_empty()
                || self
                    .second_frame(index)
                    .is_some_and(|frame| same(frame, 0, second)))
    }
}
