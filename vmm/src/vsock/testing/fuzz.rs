//! A hostile guest and a clumsy embedding program, made from any bytes.
//!
//! [`run_scenario`] is the body of the fuzz target `vsock_device`, and of an
//! ordinary test. It asserts what must hold whatever the two do: bounded
//! buffers, bounded work, a state that survives saving, and the same outcome
//! from the original and from its restored copy.

mod scenario;

use std::array::from_fn;
use std::cell::RefCell;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub use self::scenario::Scenario;

use self::scenario::*;
use super::driver::{Descriptor, GuestDriver, MEMORY_SIZE, memory};
use crate::device::{MmioDevice, Persist};
use crate::vsock::{ConnectionId, GUEST_CID, Limits, VirtioVsock, VsockState};

/// Small limits, so that every one of them is met.
const LIMITS: Limits = Limits {
    connections: 6,
    backlog: 2,
    receive_buffer: 4096,
    send_buffer: 6000,
    resets: 8,
};
/// Plays `scenario` against a new device; returns its last state.
///
/// # Panics
///
/// When the device breaks one of its promises.
pub fn run_scenario(scenario: &Scenario) -> VsockState {
    MEMORY.with(|memory| {
        let cleared = memory.write_slice(&[0; MEMORY_SIZE], GuestAddress(0));
        cleared.expect("the whole of the memory");
        run_in(memory, scenario)
    })
}

fn run_in(memory: &GuestMemoryMmap, scenario: &Scenario) -> VsockState {
    let mut world = World {
        device: new_device(),
        driver: GuestDriver::new(memory),
        memory,
    };
    for step in &scenario.steps {
        world.play(step);
        world.check();
    }
    world.check_twin();
    world.device.save()
}

thread_local! {
    /// Mapping memory afresh for each scenario would cost most of the time.
    static MEMORY: GuestMemoryMmap = memory();
    static IMAGES: RefCell<[Vec<u8>; 3]> = RefCell::new(from_fn(|_| vec![0; MEMORY_SIZE]));
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
        let mut twin = copy_of(&self.device);
        IMAGES.with_borrow_mut(|[before, theirs, ours]| {
            self.copy_out(before);
            for _ in 0..3 {
                twin.serve(self.memory);
            }
            self.copy_out(theirs);
            self.driver.put(0, before);
            for _ in 0..3 {
                self.device.serve(self.memory);
            }
            self.copy_out(ours);
            assert!(ours == theirs, "the copy left other memory behind");
        });
        assert_eq!(self.device.save(), twin.save());
    }

    fn copy_out(&self, image: &mut [u8]) {
        let read = self.memory.read_slice(image, GuestAddress(0));
        read.expect("the whole of the memory");
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
