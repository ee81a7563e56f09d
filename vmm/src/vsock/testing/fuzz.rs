//! A hostile guest and a clumsy embedding program, made from any bytes.
//!
//! [`run_scenario`] is the body of the fuzz target `vsock_device`, and of an
//! ordinary test. It asserts what must hold whatever the two do: bounded
//! buffers, bounded work, a state that survives saving, and the same outcome
//! from the original and from its restored copy.

use std::net::Shutdown;

use arbitrary::{Arbitrary, Unstructured};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::driver::{Descriptor, GuestDriver, MEMORY_SIZE, memory};
use crate::device::{MmioDevice, Persist};
use crate::vsock::packet::{HEADER_SIZE, Header};
use crate::vsock::{ConnectionId, GUEST_CID, HOST_CID, Limits, VirtioVsock, VsockState};

/// Small limits, so that every one of them is met.
const LIMITS: Limits = Limits {
    connections: 6,
    backlog: 2,
    receive_buffer: 4096,
    send_buffer: 6000,
    resets: 8,
};
/// Steps of one scenario at most.
const MOST_STEPS: usize = 400;

/// What the guest and the embedding program do, in order.
#[derive(Debug)]
pub struct Scenario {
    steps: Vec<Step>,
}

/// A guest's or the embedding program's next step.
#[derive(Debug, Arbitrary)]
enum Step {
    Probe {
        features: Features,
    },
    Write {
        offset: u16,
        width: u8,
        value: u32,
    },
    WriteRegister {
        register: u8,
        value: u32,
    },
    Read {
        offset: u16,
        width: u8,
    },
    Memory {
        queue: u8,
        offset: u16,
        value: u32,
    },
    Descriptor {
        queue: u8,
        index: u8,
        address: Place,
        len: Length,
        flags: u8,
        next: u8,
    },
    Publish {
        queue: u8,
        head: u8,
    },
    AvailableIndex {
        queue: u8,
        index: u16,
    },
    Notify {
        queue: u8,
    },
    Packet {
        header: RawHeader,
        payload: u16,
    },
    Receive {
        refill: bool,
    },
    Serve,
    Listen {
        port: u8,
    },
    KeepRequests,
    NextRequest {
        accept: bool,
    },
    StopListening {
        port: u8,
    },
    Accept {
        port: u8,
    },
    Connect {
        port: u8,
    },
    Send {
        connection: u8,
        len: u16,
    },
    Consume {
        connection: u8,
        count: u16,
    },
    Shutdown {
        connection: u8,
        how: u8,
    },
    Close {
        connection: u8,
    },
    Reset {
        connection: u8,
    },
    Restore,
}

#[derive(Debug, Arbitrary)]
enum Features {
    Usual,
    WithoutEventIdx,
    Any(u64),
}

#[derive(Debug, Arbitrary)]
enum Place {
    Buffer(u8),
    Ring(u8, u16),
    Anywhere(u64),
}

#[derive(Debug, Arbitrary)]
enum Length {
    Header,
    Short(u8),
    Any(u32),
}

/// A header whose fields are usually, but not always, plausible.
#[derive(Debug, Arbitrary)]
struct RawHeader {
    op: u8,
    guest_port: u8,
    host_port: u8,
    flags: u8,
    credit: Credit,
    strange: Option<Strange>,
}

#[derive(Debug, Arbitrary)]
enum Credit {
    Plenty,
    Little(u8),
    Any { buf_alloc: u32, fwd_cnt: u32 },
}

#[derive(Debug, Arbitrary)]
enum Strange {
    Source(u64),
    Destination(u64),
    Kind(u16),
    Operation(u16),
    Len(u32),
    Flags(u32),
}

impl<'a> Arbitrary<'a> for Scenario {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut steps = Vec::new();
        while !input.is_empty() && steps.len() < MOST_STEPS {
            steps.push(Step::arbitrary(input)?);
        }
        Ok(Self { steps })
    }
}

impl Scenario {
    /// The scenario that `bytes` describe; any bytes describe one.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut input = Unstructured::new(bytes);
        Self::arbitrary(&mut input).unwrap_or(Self { steps: Vec::new() })
    }
}

/// Plays `scenario` against a new device; returns its last state.
///
/// # Panics
///
/// When the device breaks one of its promises.
pub fn run_scenario(scenario: &Scenario) -> VsockState {
    let memory = memory();
    let mut world = World {
        device: new_device(),
        driver: GuestDriver::new(&memory),
        memory: &memory,
    };
    for step in &scenario.steps {
        world.play(step);
        world.check();
    }
    world.check_twin();
    world.device.save()
}

fn new_device() -> VirtioVsock {
    VirtioVsock::new(GUEST_CID, LIMITS)
}

#[derive(Debug)]
struct World<'m> {
    device: VirtioVsock,
    driver: GuestDriver<'m>,
    memory: &'m GuestMemoryMmap,
}

impl World<'_> {
    fn play(&mut self, step: &Step) {
        match *step {
            Step::Probe { ref features } => self.probe(features),
            Step::Write {
                offset,
                width,
                value,
            } => {
                let bytes = value.to_le_bytes();
                self.device
                    .write(u64::from(offset % 0x140), &bytes[..width_of(width)]);
            }
            Step::WriteRegister { register, value } => {
                let offset = u64::from(register % 0x40) * 4;
                self.device.write(offset, &value.to_le_bytes());
            }
            Step::Read { offset, width } => {
                let mut bytes = [0; 4];
                self.device
                    .read(u64::from(offset % 0x140), &mut bytes[..width_of(width)]);
            }
            Step::Notify { queue } => {
                self.device.write(0x50, &u32::from(queue % 4).to_le_bytes());
            }
            Step::Serve => self.device.serve(self.memory),
            Step::Restore => self.restore(),
            Step::Memory { .. }
            | Step::Descriptor { .. }
            | Step::Publish { .. }
            | Step::AvailableIndex { .. }
            | Step::Packet { .. }
            | Step::Receive { .. } => self.play_rings(step),
            _ => self.play_host(step),
        }
    }

    fn probe(&mut self, features: &Features) {
        let accepted = match *features {
            Features::Usual => u64::MAX,
            Features::WithoutEventIdx => !(1 << 29),
            Features::Any(features) => features,
        };
        self.driver.probe(&mut self.device, accepted);
    }

    fn play_rings(&mut self, step: &Step) {
        match *step {
            Step::Memory {
                queue,
                offset,
                value,
            } => {
                let address = GuestDriver::base(queue_of(queue)) + u64::from(offset);
                self.driver.put(address, &value.to_le_bytes());
            }
            Step::Descriptor {
                queue,
                index,
                ref address,
                ref len,
                flags,
                next,
            } => {
                let entry = Descriptor {
                    address: place(address),
                    len: length(len),
                    flags: u16::from(flags % 8),
                    next: u16::from(next % 66),
                };
                self.driver
                    .describe(queue_of(queue), u16::from(index % 64), entry);
            }
            Step::Publish { queue, head } => {
                self.driver.publish(queue_of(queue), u16::from(head % 66));
            }
            Step::AvailableIndex { queue, index } => {
                self.driver.set_available_index(queue_of(queue), index);
            }
            Step::Packet {
                ref header,
                payload,
            } => self.send_packet(header, payload),
            Step::Receive { refill: true } if self.driver.is_set_up() => {
                self.driver.receive(&mut self.device);
            }
            _ if self.driver.is_set_up() => {
                self.driver.receive_without_refill(&mut self.device);
            }
            _ => {}
        }
    }

    fn send_packet(&mut self, raw: &RawHeader, payload: u16) {
        if !self.driver.is_set_up() {
            return;
        }
        let payload = vec![0x5a; usize::from(payload % 2048)];
        let mut header = raw.build();
        let data = header.op == 5;
        if data && !matches!(raw.strange, Some(Strange::Len(_))) {
            header.len = u32::try_from(payload.len()).unwrap_or(0);
        }
        self.driver.send(&mut self.device, &header, &payload);
    }

    fn play_host(&mut self, step: &Step) {
        let chosen = |connection: u8| self.connection(connection);
        let id = match *step {
            Step::Send { connection, .. }
            | Step::Consume { connection, .. }
            | Step::Shutdown { connection, .. }
            | Step::Close { connection }
            | Step::Reset { connection } => chosen(connection),
            _ => None,
        };
        let host = self.device.host_mut();
        // What is refused is part of the game: each call must only stay sound.
        let _ = match (step, id) {
            (&Step::Listen { port }, _) => host.listen(port_of(port)),
            (&Step::Connect { port }, _) => host.connect(port_of(port)).map(|_| ()),
            (&Step::Send { len, .. }, Some(id)) => {
                host.send(id, &vec![0xa5; usize::from(len)]).map(|_| ())
            }
            (&Step::Consume { count, .. }, Some(id)) => host.consume(id, count.into()),
            (&Step::Shutdown { how, .. }, Some(id)) => host.shutdown(id, how_of(how)),
            (Step::Close { .. }, Some(id)) => host.close(id),
            (Step::Reset { .. }, Some(id)) => host.reset(id),
            (Step::KeepRequests, _) => {
                host.keep_requests();
                Ok(())
            }
            (&Step::NextRequest { accept }, _) => match host.next_request() {
                Some(id) if accept => host.answer(id),
                Some(id) => host.reset(id),
                None => Ok(()),
            },
            (&Step::StopListening { port }, _) => {
                host.stop_listening(port_of(port));
                Ok(())
            }
            (&Step::Accept { port }, _) => {
                host.accept(port_of(port));
                Ok(())
            }
            _ => Ok(()),
        };
    }

    fn connection(&self, choice: u8) -> Option<ConnectionId> {
        let all: Vec<ConnectionId> = self.device.host().connections().collect();
        all.get(usize::from(choice) % all.len().max(1)).copied()
    }

    /// The device goes on as a restored copy of itself.
    fn restore(&mut self) {
        self.device = copy_of(&self.device);
    }

    fn check(&self) {
        let host = self.device.host();
        let limits = host.limits();
        assert!(host.connections().count() <= limits.connections);
        for id in host.connections() {
            let (first, second) = host.received(id).expect("a listed connection");
            assert!(first.len() + second.len() <= limits.receive_buffer as usize);
            assert!(host.unsent(id).expect("a listed connection") <= limits.send_buffer);
        }
        for queue in self.device.transport().queues() {
            assert!(queue.is_settled() || !self.device.transport().is_running());
        }
    }

    /// A restored copy does with the same memory what the original does.
    fn check_twin(&mut self) {
        let image = self.image();
        let mut twin = copy_of(&self.device);
        for _ in 0..3 {
            twin.serve(self.memory);
        }
        let (state, after) = (twin.save(), self.image());
        self.driver.put(0, &image);
        for _ in 0..3 {
            self.device.serve(self.memory);
        }
        assert_eq!(self.device.save(), state);
        assert!(self.image() == after);
    }

    fn image(&self) -> Vec<u8> {
        let mut image = vec![0; MEMORY_SIZE];
        let read = self.memory.read_slice(&mut image, GuestAddress(0));
        read.expect("the whole of the memory");
        image
    }
}

/// A new device with the state of `device`, by way of its serial form.
fn copy_of(device: &VirtioVsock) -> VirtioVsock {
    let state = device.save();
    let bytes = postcard::to_stdvec(&state).expect("a state has a serial form");
    let read: VsockState = postcard::from_bytes(&bytes).expect("the form reads back");
    let mut copy = new_device();
    copy.restore(&read).expect("a state that was just saved");
    assert_eq!(copy.save(), state);
    copy
}

impl RawHeader {
    fn build(&self) -> Header {
        let (buf_alloc, fwd_cnt) = match self.credit {
            Credit::Plenty => (0x4_0000, 0),
            Credit::Little(room) => (room.into(), 0),
            Credit::Any { buf_alloc, fwd_cnt } => (buf_alloc, fwd_cnt),
        };
        let mut header = Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: port_of(self.guest_port),
            dst_port: match self.host_port % 8 {
                // The first ports that the host's end picks for itself.
                own @ 4..8 => (1 << 30) + u32::from(own - 4),
                port => port.into(),
            },
            len: 0,
            kind: 1,
            op: u16::from(self.op % 7) + 1,
            flags: u32::from(self.flags % 4),
            buf_alloc,
            fwd_cnt,
        };
        match self.strange {
            Some(Strange::Source(cid)) => header.src_cid = cid,
            Some(Strange::Destination(cid)) => header.dst_cid = cid,
            Some(Strange::Kind(kind)) => header.kind = kind,
            Some(Strange::Operation(op)) => header.op = op,
            Some(Strange::Len(len)) => header.len = len,
            Some(Strange::Flags(flags)) => header.flags = flags,
            None => {}
        }
        header
    }
}

fn place(place: &Place) -> u64 {
    match *place {
        Place::Buffer(slot) => 0x2_0000 + u64::from(slot) * 0x400,
        Place::Ring(queue, offset) => GuestDriver::base(queue_of(queue)) + u64::from(offset),
        Place::Anywhere(address) => address,
    }
}

fn length(length: &Length) -> u32 {
    match *length {
        Length::Header => u32::try_from(HEADER_SIZE).unwrap_or(0),
        Length::Short(len) => len.into(),
        Length::Any(len) => len,
    }
}

fn queue_of(choice: u8) -> usize {
    usize::from(choice % 3)
}

fn port_of(choice: u8) -> u32 {
    u32::from(choice % 4)
}

fn width_of(choice: u8) -> usize {
    [1, 2, 4, 3][usize::from(choice % 4)]
}

fn how_of(choice: u8) -> Shutdown {
    match choice % 3 {
        0 => Shutdown::Read,
        1 => Shutdown::Write,
        _ => Shutdown::Both,
    }
}
