//! Random conversations, honest and hostile.

use proptest::prelude::*;

use super::*;
use crate::vsock::testing::{Scenario, run_scenario};

/// One step of an honest conversation.
#[derive(Clone, Debug)]
enum Step {
    GuestSends(u16),
    GuestReads(u16),
    HostSends(u16),
    HostReads(u16),
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u16..4000).prop_map(Step::GuestSends),
        (1u16..9000).prop_map(Step::GuestReads),
        (1u16..9000).prop_map(Step::HostSends),
        (1u16..9000).prop_map(Step::HostReads),
        Just(Step::Restore),
    ]
}

/// A guest's end of a stream: an independent keeper of the same accounts.
struct Socket {
    buf_alloc: u32,
    held: usize,
    read: u32,
    sent: u32,
    host_buf_alloc: u32,
    host_read: u32,
}

struct Conversation {
    guest: Guest,
    id: ConnectionId,
    socket: Socket,
    /// Bytes so far each way: sent, and arrived in order.
    up: (u32, u32),
    down: (u32, u32),
}

/// The byte at `position` of either direction's stream.
fn byte(position: u32) -> u8 {
    position.wrapping_mul(0x9e37_79b1).to_le_bytes()[3]
}

fn bytes(from: u32, count: u32) -> Vec<u8> {
    (from..from + count).map(byte).collect()
}

impl Conversation {
    fn new() -> Self {
        let limits = Limits {
            receive_buffer: 6000,
            send_buffer: 20_000,
            ..Limits::default()
        };
        let mut guest = Guest::with(limits, ALL_FEATURES);
        guest.device.host_mut().listen(HOST_PORT).unwrap();
        let buf_alloc = 5000;
        let request = Header {
            buf_alloc,
            ..header(Operation::Request)
        };
        let answers = guest.exchange(&request, b"");
        let id = guest.device.host_mut().accept(HOST_PORT).unwrap();
        let socket = Socket {
            buf_alloc,
            held: 0,
            read: 0,
            sent: 0,
            host_buf_alloc: answers[0].0.buf_alloc,
            host_read: 0,
        };
        Self {
            guest,
            id,
            socket,
            up: (0, 0),
            down: (0, 0),
        }
    }

    fn play(&mut self, step: &Step) {
        match *step {
            Step::GuestSends(count) => self.guest_sends(count.into()),
            Step::GuestReads(count) => self.guest_reads(count.into()),
            Step::HostSends(count) => {
                let data = bytes(self.down.0, count.into());
                let host = self.guest.device.host_mut();
                let sent = host.send(self.id, &data).unwrap();
                self.down.0 += u32::try_from(sent).unwrap();
            }
            Step::HostReads(count) => self.host_reads(count.into()),
            Step::Restore => {
                use crate::device::Persist;
                let state = self.guest.device.save();
                let limits = *self.guest.device.host().limits();
                self.guest.device = VirtioVsock::new(GUEST_CID, limits);
                self.guest.device.restore(&state).unwrap();
            }
        }
        let packets = self.guest.poll();
        self.take(packets);
    }

    fn packet(&self, operation: Operation, len: u32) -> Header {
        Header {
            len,
            buf_alloc: self.socket.buf_alloc,
            fwd_cnt: self.socket.read,
            ..header(operation)
        }
    }

    fn guest_sends(&mut self, count: u32) {
        let outstanding = self.socket.sent - self.socket.host_read;
        let count = count.min(self.socket.host_buf_alloc - outstanding);
        if count == 0 {
            return;
        }
        let data = bytes(self.up.0, count);
        self.up.0 += count;
        self.socket.sent += count;
        let packet = self.packet(Operation::ReadWrite, count);
        let answers = self.guest.exchange(&packet, &data);
        self.take(answers);
    }

    fn guest_reads(&mut self, count: usize) {
        let count = count.min(self.socket.held);
        self.socket.held -= count;
        self.socket.read += u32::try_from(count).unwrap();
        let packet = self.packet(Operation::CreditUpdate, 0);
        let answers = self.guest.exchange(&packet, b"");
        self.take(answers);
    }

    fn host_reads(&mut self, count: usize) {
        let host = self.guest.device.host_mut();
        let (first, second) = host.received(self.id).unwrap();
        let data: Vec<u8> = first.iter().chain(second).copied().take(count).collect();
        host.consume(self.id, count).unwrap();
        let count = u32::try_from(data.len()).unwrap();
        assert!(data == bytes(self.up.1, count));
        self.up.1 += count;
    }

    /// The guest's socket layer takes packets.
    fn take(&mut self, packets: Vec<(Header, Vec<u8>)>) {
        for (header, payload) in packets {
            self.socket.host_buf_alloc = header.buf_alloc;
            self.socket.host_read = header.fwd_cnt;
            let count = u32::try_from(payload.len()).unwrap();
            assert!(payload == bytes(self.down.1, count));
            self.down.1 += count;
            self.socket.held += payload.len();
            assert!(self.socket.held <= self.socket.buf_alloc as usize);
            if header.op == Operation::CreditRequest as u16 {
                self.guest_reads(0);
            }
        }
    }

    /// Both sides read until nothing moves: then everything must have arrived.
    fn finish(&mut self) {
        for _ in 0..40 {
            self.play(&Step::GuestReads(u16::MAX));
            self.play(&Step::HostReads(u16::MAX));
        }
        assert_eq!(self.down.0, self.down.1);
        assert_eq!(self.up.0, self.up.1);
        assert_eq!(self.guest.device.transport().misuse().total(), 0);
    }
}

proptest! {
    #[test]
    fn honest_streams_lose_nothing_and_reorder_nothing(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut conversation = Conversation::new();
        for step in &steps {
            conversation.play(step);
        }
        conversation.finish();
    }

    #[test]
    fn hostile_guests_break_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let scenario = Scenario::from_bytes(&bytes);
        prop_assert_eq!(run_scenario(&scenario), run_scenario(&scenario));
    }
}

/// The seeds are what libFuzzer found and `cargo fuzz cmin` kept. They play
/// without a broken promise, and leave no kind of step out.
#[test]
fn the_committed_seeds_play_and_use_every_step() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpora/vsock_device");
    let mut words = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let scenario = Scenario::from_bytes(&bytes);
        run_scenario(&scenario);
        let text = scenario.to_string();
        let firsts = text.lines().filter_map(|line| line.split(' ').next());
        words.extend(firsts.map(str::to_owned));
    }
    for word in [
        "Probe",
        "Write",
        "WriteRegister",
        "Read",
        "Memory",
        "Descriptor",
        "Publish",
        "AvailableIndex",
        "Notify",
        "Packet",
        "Receive",
        "Serve",
        "Listen",
        "KeepRequests",
        "NextRequest",
        "StopListening",
        "Accept",
        "Connect",
        "Send",
        "Consume",
        "Shutdown",
        "Close",
        "Reset",
        "Restore",
    ] {
        assert!(words.contains(word), "{word} is not in {words:?}");
    }
}
