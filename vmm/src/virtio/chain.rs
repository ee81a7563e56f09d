//! One descriptor chain, walked and checked before anything is done with it.
//!
//! The walk reads each descriptor once, follows at most as many as the queue is
//! long, and knows after it where every byte of the chain lies. virtio-queue's
//! own iterator ends quietly at a malformed descriptor; here the reason counts.

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, Permissions};

use super::misuse::Misuse;

/// Bytes of a descriptor (section 2.7.5).
const DESCRIPTOR_SIZE: u64 = 16;

/// Which way the bytes of a chain go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the driver: all buffers are device-readable.
    FromDriver,
    /// To the driver: all buffers are device-writable.
    ToDriver,
}

impl Direction {
    fn permissions(self) -> Permissions {
        match self {
            Self::FromDriver => Permissions::Read,
            Self::ToDriver => Permissions::Write,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    address: GuestAddress,
    len: u32,
}

/// The buffers of one chain, all inside guest memory, in order.
///
/// The framing is the driver's choice (section 2.7.4): a chain reads and writes
/// as one run of bytes however it is cut.
#[derive(Debug, Default)]
pub struct Chain {
    segments: Vec<Segment>,
    len: u32,
    descriptors: u16,
}

impl Chain {
    /// Bytes in all the buffers together.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the chain has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Descriptors that the chain is made of, empty buffers too.
    pub fn descriptors(&self) -> u16 {
        self.descriptors
    }

    /// Walks the chain that starts at descriptor `head` of `queue` into `self`.
    ///
    /// # Errors
    ///
    /// The first thing wrong with the chain; it may not be used then.
    pub(super) fn walk<M: GuestMemory>(
        &mut self,
        memory: &M,
        queue: &Queue,
        head: u16,
        direction: Direction,
    ) -> Result<(), Misuse> {
        self.segments.clear();
        self.len = 0;
        let mut index = head;
        for count in 1..=queue.size() {
            self.descriptors = count;
            let descriptor = read_descriptor(memory, queue, index)?;
            self.add(memory, &descriptor, direction)?;
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
            if index >= queue.size() {
                return Err(Misuse::DescriptorNext);
            }
        }
        Err(Misuse::DescriptorCycle)
    }

    fn add<M: GuestMemory>(
        &mut self,
        memory: &M,
        descriptor: &Descriptor,
        direction: Direction,
    ) -> Result<(), Misuse> {
        if descriptor.refers_to_indirect_table() {
            return Err(Misuse::DescriptorIndirect);
        }
        if descriptor.is_write_only() != (direction == Direction::ToDriver) {
            return Err(Misuse::DescriptorDirection);
        }
        let (address, len) = (descriptor.addr(), descriptor.len());
        if len == 0 {
            return Ok(());
        }
        self.len = self.len.checked_add(len).ok_or(Misuse::DescriptorLength)?;
        if !memory.check_range(address, len as usize, direction.permissions()) {
            return Err(Misuse::DescriptorRange);
        }
        self.segments.push(Segment { address, len });
        Ok(())
    }

    /// Reads `bytes.len()` bytes that start `offset` bytes into the chain.
    ///
    /// # Errors
    ///
    /// [`Misuse::PacketTruncated`] if the chain ends before.
    pub fn read<M: GuestMemory>(
        &self,
        memory: &M,
        offset: u32,
        bytes: &mut [u8],
    ) -> Result<(), Misuse> {
        let mut rest = bytes;
        for piece in self.pieces(offset, rest.len())? {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(piece.len as usize);
            memory
                .read_slice(now, piece.address)
                .map_err(|_| Misuse::DescriptorRange)?;
            rest = later;
        }
        Ok(())
    }

    /// Writes `bytes` from `offset` bytes into the chain on.
    ///
    /// # Errors
    ///
    /// [`Misuse::ReceiveBufferSize`] if the chain ends before.
    pub fn write<M: GuestMemory>(
        &self,
        memory: &M,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), Misuse> {
        let pieces = self.pieces(offset, bytes.len());
        let mut rest = bytes;
        for piece in pieces.map_err(|_| Misuse::ReceiveBufferSize)? {
            let (now, later) = rest.split_at(piece.len as usize);
            memory
                .write_slice(now, piece.address)
                .map_err(|_| Misuse::DescriptorRange)?;
            rest = later;
        }
        Ok(())
    }

    /// The parts of the buffers that hold `len` bytes from `offset` on.
    fn pieces(
        &self,
        offset: u32,
        len: usize,
    ) -> Result<impl Iterator<Item = Segment> + '_, Misuse> {
        let room = self.len.saturating_sub(offset);
        let mut wanted = u32::try_from(len).map_err(|_| Misuse::PacketTruncated)?;
        if wanted > room {
            return Err(Misuse::PacketTruncated);
        }
        let mut skip = offset;
        Ok(self.segments.iter().filter_map(move |segment| {
            let skipped = skip.min(segment.len);
            skip -= skipped;
            let len = wanted.min(segment.len - skipped);
            wanted -= len;
            let address = segment.address.unchecked_add(u64::from(skipped));
            (len > 0).then_some(Segment { address, len })
        }))
    }
}

fn read_descriptor<M: GuestMemory>(
    memory: &M,
    queue: &Queue,
    index: u16,
) -> Result<Descriptor, Misuse> {
    let table = GuestAddress(queue.desc_table());
    let address = table
        .checked_add(u64::from(index) * DESCRIPTOR_SIZE)
        .ok_or(Misuse::RingAccess)?;
    memory.read_obj(address).map_err(|_| Misuse::RingAccess)
}
