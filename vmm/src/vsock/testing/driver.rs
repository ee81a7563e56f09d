//! A guest driver over plain guest memory.

use virtio_bindings::virtio_mmio;
use virtio_bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::device::MmioDevice;
use crate::virtio::DeviceStatus;
use crate::vsock::packet::{HEADER_SIZE, HOST_CID, Header, Operation, TYPE_STREAM};
use crate::vsock::{GUEST_CID, VirtioVsock};

/// Bytes of guest memory that [`memory`] makes.
pub const MEMORY_SIZE: usize = 0x6_0000;

/// Virtqueue numbers (virtio 1.2, section 5.10.2).
const RX: usize = 0;
const TX: usize = 1;
const QUEUES: usize = 3;
/// Where the rings of a queue lie, from the queue's base.
const DRIVER_AREA: u64 = 0x1000;
const DEVICE_AREA: u64 = 0x2000;
/// Buffers for packets to the guest, and for packets from it.
const RX_BUFFERS: u64 = 0x2_0000;
const RX_BUFFER_SIZE: u32 = 4096;
const TX_BUFFERS: u64 = 0x4_0000;
const TX_BUFFER_SIZE: u64 = 0x1000;

/// Guest memory for a [`GuestDriver`].
pub fn memory() -> GuestMemoryMmap {
    let ranges = [(GuestAddress(0), MEMORY_SIZE)];
    GuestMemoryMmap::from_ranges(&ranges).expect("the host has that little memory")
}

/// One entry of a descriptor table, to be written as it stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptor {
    /// Guest-physical address of the buffer.
    pub address: u64,
    /// Bytes of the buffer.
    pub len: u32,
    /// `VIRTQ_DESC_F_*`.
    pub flags: u16,
    /// The next entry, if the flags say that there is one.
    pub next: u16,
}

/// The driver: what it knows of the three queues.
#[derive(Clone, Debug)]
pub struct GuestDriver<'m> {
    memory: &'m GuestMemoryMmap,
    sizes: [u16; QUEUES],
    available: [u16; QUEUES],
    used: [u16; QUEUES],
    /// The available index when a notification was last thought about.
    announced: [u16; QUEUES],
    event_idx: bool,
    /// Notifications that the driver sent, each one an exit of the CPU.
    pub notifications: u64,
}

impl<'m> GuestDriver<'m> {
    /// A driver that has not touched the device yet.
    pub fn new(memory: &'m GuestMemoryMmap) -> Self {
        Self {
            memory,
            sizes: [0; QUEUES],
            available: [0; QUEUES],
            used: [0; QUEUES],
            announced: [0; QUEUES],
            event_idx: false,
            notifications: 0,
        }
    }

    /// Initialises the device as section 3.1.1 says, accepting the device's
    /// features `accepted` only, and fills the first queue with buffers.
    pub fn probe(&mut self, device: &mut VirtioVsock, accepted: u64) {
        write(device, virtio_mmio::VIRTIO_MMIO_STATUS, 0);
        let mut status = 0;
        for bit in [DeviceStatus::ACKNOWLEDGE, DeviceStatus::DRIVER] {
            status |= u32::from(bit.0);
            write(device, virtio_mmio::VIRTIO_MMIO_STATUS, status);
        }
        let features = accepted & offered(device);
        self.event_idx = features >> 29 & 1 == 1;
        for half in [1u32, 0] {
            let word = u32::try_from(features >> (32 * half) & 0xffff_ffff).unwrap_or(0);
            write(device, virtio_mmio::VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            write(device, virtio_mmio::VIRTIO_MMIO_DRIVER_FEATURES, word);
        }
        status |= u32::from(DeviceStatus::FEATURES_OK.0);
        write(device, virtio_mmio::VIRTIO_MMIO_STATUS, status);
        for queue in 0..QUEUES {
            self.set_up(device, queue);
        }
        status |= u32::from(DeviceStatus::DRIVER_OK.0);
        write(device, virtio_mmio::VIRTIO_MMIO_STATUS, status);
        for index in 0..self.sizes[RX] {
            self.offer_buffer(index);
        }
        self.notify(device, RX);
        device.serve(self.memory);
    }

    /// Configures and enables one queue, with its rings cleared.
    pub fn set_up(&mut self, device: &mut VirtioVsock, queue: usize) {
        let number = u32::try_from(queue).unwrap_or(u32::MAX);
        write(device, virtio_mmio::VIRTIO_MMIO_QUEUE_SEL, number);
        let max = read(device, virtio_mmio::VIRTIO_MMIO_QUEUE_NUM_MAX);
        self.sizes[queue] = u16::try_from(max).unwrap_or(0);
        self.available[queue] = 0;
        self.used[queue] = 0;
        self.announced[queue] = 0;
        let base = Self::base(queue);
        let cleared = [0; 0x4000];
        self.put(base, &cleared);
        write(device, virtio_mmio::VIRTIO_MMIO_QUEUE_NUM, max);
        let areas = [
            (virtio_mmio::VIRTIO_MMIO_QUEUE_DESC_LOW, base),
            (virtio_mmio::VIRTIO_MMIO_QUEUE_AVAIL_LOW, base + DRIVER_AREA),
            (virtio_mmio::VIRTIO_MMIO_QUEUE_USED_LOW, base + DEVICE_AREA),
        ];
        for (register, address) in areas {
            write(device, register, u32::try_from(address).unwrap_or(0));
            write(device, register + 4, 0);
        }
        write(device, virtio_mmio::VIRTIO_MMIO_QUEUE_READY, 1);
    }

    /// Whether [`Self::probe`] found queues.
    pub fn is_set_up(&self) -> bool {
        self.sizes.iter().all(|&size| size > 1)
    }

    /// Where the descriptor table of `queue` lies.
    pub fn base(queue: usize) -> u64 {
        0x4000 * (queue as u64 + 1)
    }

    /// Writes entry `index` of a descriptor table.
    pub fn describe(&self, queue: usize, index: u16, entry: Descriptor) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&entry.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&entry.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&entry.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&entry.next.to_le_bytes());
        self.put(Self::base(queue) + u64::from(index) * 16, &bytes);
    }

    /// Makes the chain that starts at `head` available.
    pub fn publish(&mut self, queue: usize, head: u16) {
        let ring = Self::base(queue) + DRIVER_AREA;
        let slot = self.available[queue] % self.sizes[queue].max(1);
        self.put(ring + 4 + u64::from(slot) * 2, &head.to_le_bytes());
        self.available[queue] = self.available[queue].wrapping_add(1);
        self.set_available_index(queue, self.available[queue]);
    }

    /// Writes the index of the available ring, and nothing else.
    pub fn set_available_index(&self, queue: usize, index: u16) {
        let ring = Self::base(queue) + DRIVER_AREA;
        self.put(ring + 2, &index.to_le_bytes());
    }

    /// Notifies the device, if the device wants to be: after new chains.
    pub fn notify(&mut self, device: &mut VirtioVsock, queue: usize) {
        if self.is_wanted(queue) {
            self.notifications += 1;
            let number = u32::try_from(queue).unwrap_or(u32::MAX);
            write(device, virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY, number);
        }
    }

    /// Sections 2.7.7 and 2.7.10: whether the device wants to hear of the chains
    /// published since this was last asked.
    fn is_wanted(&mut self, queue: usize) -> bool {
        let ring = Self::base(queue) + DEVICE_AREA;
        let new = self.available[queue];
        let old = std::mem::replace(&mut self.announced[queue], new);
        if !self.event_idx {
            return u32::from(self.get_u16(ring)) & VRING_USED_F_NO_NOTIFY == 0;
        }
        let event = self.get_u16(ring + 4 + u64::from(self.sizes[queue]) * 8);
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    /// Sends one packet, header and payload in a descriptor each as Linux does,
    /// and lets the device serve its rings.
    pub fn send(&mut self, device: &mut VirtioVsock, header: &Header, payload: &[u8]) {
        self.queue_packet(header, payload);
        self.notify(device, TX);
        device.serve(self.memory);
    }

    /// Makes one packet available without telling the device.
    pub fn queue_packet(&mut self, header: &Header, payload: &[u8]) {
        assert!(payload.len() as u64 <= TX_BUFFER_SIZE - HEADER_SIZE as u64);
        let slot = self.available[TX] % (self.sizes[TX] / 2);
        let address = TX_BUFFERS + u64::from(slot) * TX_BUFFER_SIZE;
        self.put(address, &header.to_bytes());
        self.put(address + HEADER_SIZE as u64, payload);
        let next = if payload.is_empty() {
            0
        } else {
            VRING_DESC_F_NEXT
        };
        let first = Descriptor {
            address,
            len: u32::try_from(HEADER_SIZE).unwrap_or(0),
            flags: u16::try_from(next).unwrap_or(0),
            next: slot * 2 + 1,
        };
        let second = Descriptor {
            address: address + HEADER_SIZE as u64,
            len: u32::try_from(payload.len()).unwrap_or(0),
            ..Descriptor::default()
        };
        self.describe(TX, slot * 2, first);
        self.describe(TX, slot * 2 + 1, second);
        self.publish(TX, slot * 2);
    }

    /// Takes the packets that the device has sent, gives the buffers back, and
    /// acknowledges the interrupt.
    pub fn receive(&mut self, device: &mut VirtioVsock) -> Vec<(Header, Vec<u8>)> {
        let packets = self.receive_without_refill(device);
        for _ in &packets {
            self.offer_buffer(self.available[RX] % self.sizes[RX]);
        }
        if !packets.is_empty() {
            self.notify(device, RX);
            device.serve(self.memory);
        }
        packets
    }

    /// The same, but keeps the buffers.
    pub fn receive_without_refill(&mut self, device: &mut VirtioVsock) -> Vec<(Header, Vec<u8>)> {
        let status = read(device, virtio_mmio::VIRTIO_MMIO_INTERRUPT_STATUS);
        write(device, virtio_mmio::VIRTIO_MMIO_INTERRUPT_ACK, status);
        let ring = Self::base(RX) + DEVICE_AREA;
        let mut packets = Vec::new();
        // A ring that was written over may say anything: one round is enough.
        for _ in 0..self.sizes[RX] {
            if self.used[RX] == self.get_u16(ring + 2) {
                break;
            }
            let slot = u64::from(self.used[RX] % self.sizes[RX]);
            let mut entry = [0; 8];
            self.get(ring + 4 + slot * 8, &mut entry);
            let [head, _, _, _, len @ ..] = entry;
            packets.extend(self.packet_in(head.into(), u32::from_le_bytes(len)));
            self.used[RX] = self.used[RX].wrapping_add(1);
        }
        if self.used[RX] == self.given_back(RX) {
            self.ask_for_interrupt(RX);
        }
        packets
    }

    fn packet_in(&self, head: u16, len: u32) -> Option<(Header, Vec<u8>)> {
        let address = RX_BUFFERS + u64::from(head) * u64::from(RX_BUFFER_SIZE);
        if head >= self.sizes[RX] || len > RX_BUFFER_SIZE {
            return None;
        }
        let payload = (len as usize).checked_sub(HEADER_SIZE)?;
        let (mut header, mut payload) = ([0; HEADER_SIZE], vec![0; payload]);
        self.get(address, &mut header);
        self.get(address + HEADER_SIZE as u64, &mut payload);
        Some((Header::from_bytes(&header), payload))
    }

    /// Puts one buffer of 4 KiB, header and payload in one descriptor as Linux
    /// does, into the first queue.
    pub fn offer_buffer(&mut self, index: u16) {
        let entry = Descriptor {
            address: RX_BUFFERS + u64::from(index) * u64::from(RX_BUFFER_SIZE),
            len: RX_BUFFER_SIZE,
            flags: u16::try_from(VRING_DESC_F_WRITE).unwrap_or(0),
            next: 0,
        };
        self.describe(RX, index, entry);
        self.publish(RX, index);
    }

    /// How many chains of `queue` the device has given back, wrapping.
    pub fn given_back(&self, queue: usize) -> u16 {
        self.get_u16(Self::base(queue) + DEVICE_AREA + 2)
    }

    /// Asks for an interrupt when the next chain of `queue` comes back.
    pub fn ask_for_interrupt(&mut self, queue: usize) {
        self.used[queue] = self.given_back(queue);
        let ring = Self::base(queue) + DRIVER_AREA;
        let event = ring + 4 + u64::from(self.sizes[queue]) * 2;
        self.put(event, &self.used[queue].to_le_bytes());
    }

    /// Without `EVENT_IDX`: asks for no interrupt at all on `queue`.
    pub fn refuse_interrupts(&self, queue: usize) {
        let ring = Self::base(queue) + DRIVER_AREA;
        let flags = u16::try_from(VRING_AVAIL_F_NO_INTERRUPT).unwrap_or(0);
        self.put(ring, &flags.to_le_bytes());
    }

    /// A header as the guest's socket layer writes it.
    pub fn header(operation: Operation, guest_port: u32, host_port: u32) -> Header {
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: guest_port,
            dst_port: host_port,
            kind: TYPE_STREAM,
            op: operation as u16,
            buf_alloc: 0x4_0000,
            ..Header::default()
        }
    }

    /// Writes guest memory.
    pub fn put(&self, address: u64, bytes: &[u8]) {
        let written = self.memory.write_slice(bytes, GuestAddress(address));
        written.expect("the driver's own memory");
    }

    fn get(&self, address: u64, bytes: &mut [u8]) {
        let read = self.memory.read_slice(bytes, GuestAddress(address));
        read.expect("the driver's own memory");
    }

    fn get_u16(&self, address: u64) -> u16 {
        let mut bytes = [0; 2];
        self.get(address, &mut bytes);
        u16::from_le_bytes(bytes)
    }
}

/// Reads a register.
pub fn read(device: &mut VirtioVsock, register: u32) -> u32 {
    let mut bytes = [0; 4];
    device.read(register.into(), &mut bytes);
    u32::from_le_bytes(bytes)
}

/// Writes a register.
pub fn write(device: &mut VirtioVsock, register: u32, value: u32) {
    device.write(register.into(), &value.to_le_bytes());
}

fn offered(device: &mut VirtioVsock) -> u64 {
    let mut features = 0;
    for half in [0u32, 1] {
        write(device, virtio_mmio::VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
        let word = read(device, virtio_mmio::VIRTIO_MMIO_DEVICE_FEATURES);
        features |= u64::from(word) << (32 * half);
    }
    features
}
