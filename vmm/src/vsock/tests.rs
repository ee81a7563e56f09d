//! The device against a driver of our own.

mod framing;
mod hostile;
mod random;
mod registers;
mod state;
mod streams;

use vm_memory::GuestMemoryMmap;

use super::packet::Header;
use super::testing::{GuestDriver, memory};
use super::{ConnectionId, GUEST_CID, Limits, Operation, VirtioVsock};

/// Feature bits that the driver of a test is willing to accept.
const ALL_FEATURES: u64 = u64::MAX;
const WITHOUT_EVENT_IDX: u64 = !(1 << 29);
/// A port of guest programs, and one of the embedding program.
const GUEST_PORT: u32 = 1024;
const HOST_PORT: u32 = 52;

/// A guest whose driver has initialised the device.
struct Guest {
    device: VirtioVsock,
    driver: GuestDriver<'static>,
    memory: &'static GuestMemoryMmap,
}

impl Guest {
    fn new() -> Self {
        Self::with(Limits::default(), ALL_FEATURES)
    }

    fn with(limits: Limits, features: u64) -> Self {
        let mut guest = Self::without_driver(limits);
        guest.driver.probe(&mut guest.device, features);
        assert!(guest.device.transport().is_running());
        guest
    }

    fn without_driver(limits: Limits) -> Self {
        let memory: &'static GuestMemoryMmap = Box::leak(Box::new(memory()));
        Self {
            device: VirtioVsock::new(GUEST_CID, limits),
            driver: GuestDriver::new(memory),
            memory,
        }
    }

    /// A guest with one open stream, opened by the guest.
    fn connected() -> (Self, ConnectionId) {
        let mut guest = Self::new();
        let id = guest.connect();
        (guest, id)
    }

    /// Opens a stream from the guest; returns the host's end of it.
    fn connect(&mut self) -> ConnectionId {
        if !self.device.host().is_listening(HOST_PORT) {
            self.device.host_mut().listen(HOST_PORT).unwrap();
        }
        let answers = self.exchange(&header(Operation::Request), b"");
        assert_eq!(operations(&answers), [Operation::Response]);
        self.device.host_mut().accept(HOST_PORT).unwrap()
    }

    /// Sends a packet; returns what comes back.
    fn exchange(&mut self, header: &Header, payload: &[u8]) -> Vec<(Header, Vec<u8>)> {
        self.driver.send(&mut self.device, header, payload);
        self.driver.receive(&mut self.device)
    }

    /// Sends data on the stream of [`Self::connect`]; returns what comes back.
    fn send_data(&mut self, data: &[u8]) -> Vec<(Header, Vec<u8>)> {
        let len = u32::try_from(data.len()).unwrap();
        let header = Header {
            len,
            ..header(Operation::ReadWrite)
        };
        self.exchange(&header, data)
    }

    /// What the host has to say now.
    fn poll(&mut self) -> Vec<(Header, Vec<u8>)> {
        self.device.serve(self.memory);
        self.driver.receive(&mut self.device)
    }
}

fn header(operation: Operation) -> Header {
    GuestDriver::header(operation, GUEST_PORT, HOST_PORT)
}

fn operations(packets: &[(Header, Vec<u8>)]) -> Vec<Operation> {
    let known = packets.iter().map(|(header, _)| header.op);
    known
        .map(|number| Operation::from_number(number).unwrap())
        .collect()
}
