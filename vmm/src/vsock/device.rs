//! The virtio-vsock device: its queues, between the transport and the host's end.

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ids;
use vm_memory::GuestMemory;

use super::host::{HostState, Limits, VsockHost};
use super::packet::{HEADER_LEN, HEADER_SIZE, Header, Operation};
use crate::device::{MmioDevice, Persist, StateError};
use crate::memory::GuestRam;
use crate::virtio::{
    Chain, DeviceStatus, Direction, Identity, Misuse, Popped, RegisterWrite, Transport,
    TransportState,
};

/// Queue of packets to the guest (section 5.10.2).
const RX: usize = 0;
/// Queue of packets from the guest.
const TX: usize = 1;
/// Most descriptors of the queues: to the guest, from the guest, events.
///
/// Linux fills the first with buffers of 4 KiB as soon as it starts, so a short
/// one saves boot time and memory; the third is never used by this device.
const QUEUE_SIZES: &[u16] = &[32, 64, 8];
/// Chains from the guest are held until they use this share of their ring. The
/// rest is enough for the longest packet of Linux, 64 KiB in pieces of a page,
/// so the driver never waits for what is held.
const HELD_SHARE: u16 = 4;
/// `VIRTIO_VSOCK_F_STREAM` (section 5.10.3).
const FEATURE_STREAM: u64 = 1;

/// The device, for the bus; [`Self::host`] and [`Self::host_mut`] are its other side.
#[derive(Debug)]
pub struct VirtioVsock {
    transport: Transport,
    host: VsockHost,
    work: Work,
    chain: Chain,
    payload: Vec<u8>,
}

/// What the device has still to do.
///
/// Buffers of packets from the guest are given back in bulk ([`HELD_SHARE`]):
/// each time costs the guest an interrupt and a turn of its worker thread, in
/// the middle of whatever it is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Work {
    /// Heads of chains that were taken and not given back yet.
    held: Vec<u16>,
    /// Descriptors of those chains.
    held_descriptors: u16,
    /// There may be packets from the guest: it said so, or they had to wait.
    transmit: bool,
    /// The driver was asked to notify of new buffers for packets to it.
    wants_buffers: bool,
}

/// The device's state: registers, queues, streams and their buffers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VsockState {
    transport: TransportState,
    host: HostState,
    work: Work,
}

impl VirtioVsock {
    /// A device after power-on, for a guest with the context identifier `guest_cid`.
    pub fn new(guest_cid: u64, limits: Limits) -> Self {
        let identity = Identity {
            device_id: virtio_ids::VIRTIO_ID_VSOCK,
            features: FEATURE_STREAM,
            queue_sizes: QUEUE_SIZES,
            config: guest_cid.to_le_bytes().to_vec(),
        };
        Self {
            transport: Transport::new(identity),
            host: VsockHost::new(guest_cid, limits),
            work: Work::default(),
            chain: Chain::default(),
            payload: Vec::new(),
        }
    }

    /// The host's end of the streams.
    pub fn host(&self) -> &VsockHost {
        &self.host
    }

    /// The host's end of the streams, to be used.
    pub fn host_mut(&mut self) -> &mut VsockHost {
        &mut self.host
    }

    /// The registers and queues, for reports: status, counters of misuse.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Whether the guest has broken the rings and not reset the device since.
    pub fn is_out_of_order(&self) -> bool {
        self.transport.status().has(DeviceStatus::NEEDS_RESET)
    }

    /// Whether the state is whole without what waits in guest memory: no packet
    /// of the guest lies unread, and each interrupt that is due is raised. A
    /// snapshot is taken only then.
    pub fn is_drained<M: GuestMemory>(&self, memory: &M) -> bool {
        let queues = self.transport.queues();
        let settled = queues.iter().all(|queue| queue.is_settled());
        let transmit = &queues[TX];
        let read = !self.transport.is_running()
            || !transmit.is_ready()
            || transmit.has_available(memory) == Ok(false);
        settled && read && !self.work.transmit
    }

    /// Serves both rings: takes what the guest sent, sends what the host's end
    /// has, raises the interrupt if the driver wants one.
    ///
    /// One call takes at most as many chains as each ring is long, whatever the
    /// rings say.
    pub fn serve<M: GuestMemory>(&mut self, memory: &M) {
        if !self.transport.is_running() {
            return;
        }
        if let Err(misuse) = self.try_serve(memory) {
            self.transport.fail(misuse);
        }
    }

    fn try_serve<M: GuestMemory>(&mut self, memory: &M) -> Result<(), Misuse> {
        let mut budget = u32::from(QUEUE_SIZES[TX]);
        self.serve_transmit(memory, &mut budget)?;
        self.serve_receive(memory)?;
        if self.work.transmit {
            // Packets waited for room to answer them; there may be some now.
            self.serve_transmit(memory, &mut budget)?;
            self.serve_receive(memory)?;
        }
        for queue in [RX, TX] {
            if self.transport.queue_mut(queue).settle(memory)? {
                self.transport.signal_used();
            }
        }
        Ok(())
    }

    /// Takes packets from the guest.
    fn serve_transmit<M: GuestMemory>(
        &mut self,
        memory: &M,
        budget: &mut u32,
    ) -> Result<(), Misuse> {
        if !self.work.transmit || !self.transport.queues()[TX].is_ready() {
            return Ok(());
        }
        while *budget > 0 {
            if !self.host.can_answer() {
                return Ok(());
            }
            let queue = self.transport.queue_mut(TX);
            match queue.pop(memory, Direction::FromDriver, &mut self.chain)? {
                Popped::Nothing => break,
                Popped::Chain { head } => {
                    if let Err(misuse) = self.take_packet(memory) {
                        self.transport.note(misuse);
                    }
                    self.hold(head, self.chain.descriptors());
                }
                Popped::Malformed { head, misuse } => {
                    self.transport.note(misuse);
                    // How many descriptors it uses is not known.
                    self.hold(head, QUEUE_SIZES[TX]);
                }
            };
            self.give_back(memory)?;
            *budget -= 1;
        }
        let queue = self.transport.queue_mut(TX);
        queue.enable_notification(memory)?;
        // The guest stands still, so more can only lie there if its rings
        // overlap each other. That waits for the next call.
        self.work.transmit = queue.has_available(memory)?;
        Ok(())
    }

    fn hold(&mut self, head: u16, descriptors: u16) {
        self.work.held.push(head);
        let all = self.work.held_descriptors.saturating_add(descriptors);
        self.work.held_descriptors = all;
    }

    /// Gives back the chains that are held, once they are enough.
    fn give_back<M: GuestMemory>(&mut self, memory: &M) -> Result<(), Misuse> {
        let queue = self.transport.queue_mut(TX);
        if self.work.held_descriptors < queue.size() / HELD_SHARE {
            return Ok(());
        }
        self.work.held_descriptors = 0;
        for head in self.work.held.drain(..) {
            queue.complete(memory, head, 0)?;
        }
        Ok(())
    }

    /// Takes the packet in `self.chain`.
    fn take_packet<M: GuestMemory>(&mut self, memory: &M) -> Result<(), Misuse> {
        let mut bytes = [0; HEADER_SIZE];
        self.chain.read(memory, 0, &mut bytes)?;
        let header = Header::from_bytes(&bytes);
        let there = self.chain.len() - HEADER_LEN;
        self.payload.clear();
        let fits = header.len <= self.host.limits().receive_buffer;
        if header.op == Operation::ReadWrite as u16 && fits {
            if header.len > there {
                return Err(Misuse::PacketTruncated);
            }
            self.payload.resize(header.len as usize, 0);
            self.chain.read(memory, HEADER_LEN, &mut self.payload)?;
        }
        self.host.deliver(&header, &self.payload)
    }

    /// Sends packets to the guest, as long as it has buffers for them.
    fn serve_receive<M: GuestMemory>(&mut self, memory: &M) -> Result<(), Misuse> {
        if !self.transport.queues()[RX].is_ready() {
            return Ok(());
        }
        for _ in 0..QUEUE_SIZES[RX] {
            if !self.host.has_packet() {
                break;
            }
            let queue = self.transport.queue_mut(RX);
            let (head, len) = match queue.pop(memory, Direction::ToDriver, &mut self.chain)? {
                Popped::Nothing => break,
                Popped::Chain { head } => (head, self.give_packet(memory)),
                Popped::Malformed { head, misuse } => (head, Err(misuse)),
            };
            let len = len.unwrap_or_else(|misuse| {
                self.transport.note(misuse);
                0
            });
            self.transport.queue_mut(RX).complete(memory, head, len)?;
        }
        let waits = self.host.has_packet();
        let starved = waits && !self.transport.queues()[RX].has_available(memory)?;
        self.ask_for_buffers(memory, starved)
    }

    /// Has the driver notify of new buffers only while packets wait for them.
    fn ask_for_buffers<M: GuestMemory>(&mut self, memory: &M, starved: bool) -> Result<(), Misuse> {
        if self.work.wants_buffers == starved {
            return Ok(());
        }
        self.work.wants_buffers = starved;
        let queue = self.transport.queue_mut(RX);
        match starved {
            true => queue.enable_notification(memory),
            false => queue.disable_notification(memory),
        }
    }

    /// Writes the next packet into `self.chain`; returns its length.
    fn give_packet<M: GuestMemory>(&mut self, memory: &M) -> Result<u32, Misuse> {
        let room = self.chain.len().checked_sub(HEADER_LEN);
        let room = room.ok_or(Misuse::ReceiveBufferSize)?;
        let header = self.host.next_packet(room, &mut self.payload);
        let header = header.ok_or(Misuse::ReceiveBufferSize)?;
        self.chain.write(memory, 0, &header.to_bytes())?;
        self.chain.write(memory, HEADER_LEN, &self.payload)?;
        Ok(HEADER_LEN + header.len)
    }
}

impl MmioDevice for VirtioVsock {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        self.transport.read(offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match self.transport.write(offset, data) {
            RegisterWrite::Done => {}
            // New buffers are looked for whenever there is something to send.
            RegisterWrite::Notify(queue) => self.work.transmit |= queue == TX,
            RegisterWrite::Started => {
                self.work = Work {
                    transmit: true,
                    wants_buffers: true,
                    ..Work::default()
                };
            }
            RegisterWrite::Disabled(TX) => {
                self.work.held.clear();
                self.work.held_descriptors = 0;
            }
            RegisterWrite::Disabled(_) => {}
            RegisterWrite::Reset => {
                self.work = Work::default();
                self.host.guest_is_gone();
            }
        }
    }

    fn process(&mut self, memory: &GuestRam) {
        self.serve(memory.regions());
    }

    fn interrupt_level(&self) -> bool {
        self.transport.interrupt_level()
    }
}

impl Persist for VirtioVsock {
    type State = VsockState;

    fn save(&self) -> VsockState {
        VsockState {
            transport: self.transport.save(),
            host: self.host.save(),
            work: self.work.clone(),
        }
    }

    fn restore(&mut self, state: &VsockState) -> Result<(), StateError> {
        let refuse = |reason| StateError {
            device: "virtio-vsock",
            reason,
        };
        if state.work.held.len() > usize::from(QUEUE_SIZES[TX]) {
            return Err(refuse(format!("{} chains held", state.work.held.len())));
        }
        let before = self.transport.save();
        self.transport.restore(&state.transport).map_err(refuse)?;
        if let Err(reason) = self.host.restore(&state.host) {
            self.transport
                .restore(&before)
                .expect("a state that was just saved");
            return Err(refuse(reason));
        }
        self.work.clone_from(&state.work);
        Ok(())
    }
}
