//! Programs on Unix sockets against a guest's driver.

use std::io::{BufRead, BufReader, Read, Write};

use super::*;
use crate::vsock::packet::{Header, SHUTDOWN_BOTH};
use crate::vsock::testing::{GuestDriver, memory};
use crate::vsock::{GUEST_CID, Limits, Operation, VirtioVsock};

struct Setup {
    device: VirtioVsock,
    driver: GuestDriver<'static>,
    memory: &'static vm_memory::GuestMemoryMmap,
    bridge: UnixBridge,
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let memory: &'static _ = Box::leak(Box::new(memory()));
        let mut device = VirtioVsock::new(GUEST_CID, Limits::default());
        let mut driver = GuestDriver::new(memory);
        driver.probe(&mut device, u64::MAX);
        let folder = tempfile::tempdir().unwrap();
        let bridge = UnixBridge::bind(&folder.path().join("v.sock")).unwrap();
        Self {
            device,
            driver,
            memory,
            bridge,
            folder,
        }
    }

    /// Runs bridge and device until neither moves; returns the guest's packets.
    fn settle(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut packets = Vec::new();
        loop {
            let moved = self.bridge.poll(self.device.host_mut());
            self.device.serve(self.memory);
            let new = self.driver.receive(&mut self.device);
            if !moved && new.is_empty() {
                return packets;
            }
            packets.extend(new);
        }
    }

    /// The guest sends a packet on the stream between these ports.
    fn guest_sends(&mut self, operation: Operation, ports: (u32, u32), payload: &[u8]) {
        let header = Header {
            len: u32::try_from(payload.len()).unwrap(),
            flags: SHUTDOWN_BOTH * u32::from(operation == Operation::Shutdown),
            ..GuestDriver::header(operation, ports.0, ports.1)
        };
        self.driver.send(&mut self.device, &header, payload);
    }

    fn program(&self) -> UnixStream {
        UnixStream::connect(self.bridge.path()).unwrap()
    }

    /// A program connected to guest port 52; returns the host's port.
    fn connected(&mut self) -> (BufReader<UnixStream>, u32) {
        let mut program = self.program();
        program.write_all(b"CONNECT 52\n").unwrap();
        let packets = self.settle();
        assert_eq!(packets[0].0.op, Operation::Request as u16);
        assert_eq!(packets[0].0.dst_port, 52);
        let port = packets[0].0.src_port;
        self.guest_sends(Operation::Response, (52, port), b"");
        self.settle();
        let mut program = BufReader::new(program);
        let mut line = String::new();
        program.read_line(&mut line).unwrap();
        assert_eq!(line, format!("OK {port}\n"));
        (program, port)
    }
}

#[test]
fn a_program_connects_to_the_guest_and_both_talk() {
    let mut setup = Setup::new();
    let (mut program, port) = setup.connected();
    program.get_mut().write_all(b"to the guest").unwrap();
    let packets = setup.settle();
    assert_eq!(packets[0].1, b"to the guest");
    setup.guest_sends(Operation::ReadWrite, (52, port), b"to the program");
    setup.settle();
    let mut answer = [0; 14];
    program.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"to the program");
}

#[test]
fn a_greeting_may_come_in_pieces_with_data_behind_it() {
    let mut setup = Setup::new();
    let mut program = setup.program();
    for piece in ["CONN", "ECT 5", "2\nearly"] {
        assert_eq!(setup.settle(), []);
        program.write_all(piece.as_bytes()).unwrap();
    }
    let request = setup.settle();
    assert_eq!(request.len(), 1);
    setup.guest_sends(Operation::Response, (52, request[0].0.src_port), b"");
    assert_eq!(setup.settle()[0].1, b"early");
}

#[test]
fn bad_greetings_are_hung_up_on() {
    let long = "CONNECT ".to_owned() + &"0".repeat(40) + "52\n";
    for greeting in [
        "HELLO 52\n",
        "CONNECT\n",
        "CONNECT x\n",
        "CONNECT 1 2\n",
        &long,
    ] {
        let mut setup = Setup::new();
        let mut program = setup.program();
        program.write_all(greeting.as_bytes()).unwrap();
        assert_eq!(setup.settle(), []);
        let mut rest = Vec::new();
        // A reset instead of an end is fine too: not all was read.
        let _ = program.read_to_end(&mut rest);
        assert_eq!(rest, b"");
        assert!(setup.bridge.clients.is_empty());
    }
}

#[test]
fn a_refusal_of_the_guest_hangs_up() {
    let mut setup = Setup::new();
    let mut program = setup.program();
    program.write_all(b"CONNECT 52\n").unwrap();
    let port = setup.settle()[0].0.src_port;
    setup.guest_sends(Operation::Reset, (52, port), b"");
    setup.settle();
    let mut rest = Vec::new();
    program.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    assert_eq!(setup.device.host().connections().count(), 0);
}

#[test]
fn the_guest_reaches_a_program_that_listens() {
    let mut setup = Setup::new();
    let listener = UnixListener::bind(setup.folder.path().join("v.sock_99")).unwrap();
    setup.settle();
    setup.guest_sends(Operation::Request, (7, 99), b"");
    let answers = setup.settle();
    assert_eq!(answers[0].0.op, Operation::Response as u16);
    let (mut program, _) = listener.accept().unwrap();
    setup.guest_sends(Operation::ReadWrite, (7, 99), b"hello");
    setup.guest_sends(Operation::Shutdown, (7, 99), b"");
    setup.settle();
    let mut seen = Vec::new();
    program.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, b"hello");
    assert_eq!(setup.device.host().connections().count(), 0);
}

#[test]
fn the_guest_is_refused_where_nobody_listens() {
    let mut setup = Setup::new();
    setup.settle();
    setup.guest_sends(Operation::Request, (7, 98), b"");
    let answers = setup.settle();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0.op, Operation::Reset as u16);
    assert_eq!(setup.device.host().connections().count(), 0);
}

#[test]
fn a_program_that_accepts_nobody_holds_nobody_up() {
    let mut setup = Setup::new();
    let path = setup.folder.path().join("v.sock_97");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
    listener.listen(1).unwrap();
    setup.settle();
    let mut answers = Vec::new();
    for port in 0..8 {
        setup.guest_sends(Operation::Request, (port, 97), b"");
        answers.extend(setup.settle().iter().map(|(header, _)| header.op));
    }
    assert_eq!(answers.len(), 8);
    assert_eq!(answers[0], Operation::Response as u16);
    assert_eq!(answers[7], Operation::Reset as u16);
}

#[test]
fn a_program_that_hangs_up_shuts_the_stream_down() {
    let mut setup = Setup::new();
    let (program, port) = setup.connected();
    program
        .into_inner()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    let packets = setup.settle();
    assert_eq!(packets[0].0.op, Operation::Shutdown as u16);
    assert_eq!(packets[0].0.flags, 2);
    setup.guest_sends(Operation::Shutdown, (52, port), b"");
    let packets = setup.settle();
    assert_eq!(packets[0].0.op, Operation::Reset as u16);
    assert_eq!(setup.device.host().connections().count(), 0);
    assert_eq!(setup.device.transport().misuse().total(), 0);
}

#[test]
fn a_slow_program_holds_the_guest_back_and_loses_nothing() {
    let mut setup = Setup::new();
    let (mut program, port) = setup.connected();
    let mut sent = Vec::new();
    for turn in 0..250u32 {
        let payload = vec![turn.to_le_bytes()[0]; 1024];
        setup.guest_sends(Operation::ReadWrite, (52, port), &payload);
        sent.extend(payload);
    }
    let mut seen = Vec::new();
    while seen.len() < sent.len() {
        setup.settle();
        let mut part = [0; 1000];
        let count = program.read(&mut part).unwrap();
        seen.extend_from_slice(&part[..count]);
    }
    assert!(seen == sent);
    assert_eq!(setup.device.transport().misuse().total(), 0);
}

#[test]
fn a_path_in_use_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    let first = UnixBridge::bind(&path).unwrap();
    let error = UnixBridge::bind(&path).unwrap_err();
    assert!(matches!(error, BridgeError::InUse(ref at) if *at == path));
    assert!(path.exists());
    drop(first);
    assert!(!path.exists());

    fs::write(&path, "not a socket").unwrap();
    assert!(matches!(
        UnixBridge::bind(&path),
        Err(BridgeError::InUse(_))
    ));
    assert_eq!(fs::read(&path).unwrap(), b"not a socket");
}

#[test]
fn a_path_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["no/such/folder", &"long".repeat(40)] {
        let error = UnixBridge::bind(&folder.path().join(name)).unwrap_err();
        assert!(matches!(error, BridgeError::Listen { .. }));
    }
}
