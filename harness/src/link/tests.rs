//! Frames through a device and a guest's driver.

use latefork_vmm::vsock::testing::{GuestDriver, memory};
use latefork_vmm::vsock::{GUEST_CID, Header, Limits, Operation, VirtioVsock};
use latefork_wire::frame::{PORT, VERSION};

use super::*;

struct Agent {
    device: VirtioVsock,
    driver: GuestDriver<'static>,
    id: ConnectionId,
}

impl Agent {
    fn new() -> Self {
        let memory: &'static _ = Box::leak(Box::new(memory()));
        let mut device = VirtioVsock::new(GUEST_CID, Limits::default());
        let mut driver = GuestDriver::new(memory);
        driver.probe(&mut device, u64::MAX);
        device.host_mut().listen(PORT).unwrap();
        let request = GuestDriver::header(Operation::Request, 7, PORT);
        driver.send(&mut device, &request, b"");
        let id = device.host_mut().accept(PORT).unwrap();
        Self { device, driver, id }
    }

    fn says(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(1000) {
            let header = Header {
                len: u32::try_from(part.len()).unwrap(),
                ..GuestDriver::header(Operation::ReadWrite, 7, PORT)
            };
            self.driver.send(&mut self.device, &header, part);
        }
    }

    fn hear(&mut self) -> Result<Option<Message>, LinkError> {
        receive(self.device.host_mut(), self.id)
    }
}

fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&FrameHeader { kind, len }.encode()[..], payload].concat()
}

#[test]
fn messages_come_whole_and_one_at_a_time() {
    let mut agent = Agent::new();
    let event = Event::default();
    let trace = frame(FrameKind::Trace, &event.encode().repeat(100));
    assert_eq!(agent.hear(), Ok(None));
    agent.says(&frame(FrameKind::Refused, &[2]));
    agent.says(&trace[..1500]);
    assert_eq!(agent.hear(), Ok(Some(Message::Refused(Refusal::Kind))));
    assert_eq!(agent.hear(), Ok(None));
    agent.says(&trace[1500..]);
    assert_eq!(agent.hear(), Ok(Some(Message::Trace(vec![event; 100]))));
    assert_eq!(agent.hear(), Ok(None));
}

#[test]
fn a_stream_that_ends_in_the_middle_has_ended() {
    let mut agent = Agent::new();
    agent.says(&frame(FrameKind::Trace, &[0; 64])[..40]);
    assert_eq!(agent.hear(), Ok(None));
    let reset = GuestDriver::header(Operation::Reset, 7, PORT);
    agent.driver.send(&mut agent.device, &reset, b"");
    assert_eq!(agent.hear(), Err(LinkError::Ended));
}

#[test]
fn nonsense_is_refused() {
    let refused = |bytes: &[u8]| {
        let mut agent = Agent::new();
        agent.says(bytes);
        agent.hear().unwrap_err()
    };
    let run = frame(FrameKind::Run, &[0; 8]);
    assert_eq!(refused(&run), LinkError::Nonsense(FrameKind::Run));
    let refusal = frame(FrameKind::Refused, &[200]);
    assert_eq!(refused(&refusal), LinkError::Nonsense(FrameKind::Refused));
    let mut other = frame(FrameKind::Hello, &[0; 5]);
    other[2] = VERSION + 1;
    assert!(matches!(refused(&other), LinkError::Frame(_)));
    assert!(matches!(refused(b"garbage!"), LinkError::Frame(_)));
}

#[test]
fn a_run_frame_holds_options_and_program() {
    let program = latefork_wire::text::parse("t0 nop\nt1 yield\n").unwrap();
    let options = RunOptions {
        leak_repeats: 3,
        ..RunOptions::default()
    };
    let bytes = run_frame(&options, &program);
    let (header, rest) = bytes.split_first_chunk().unwrap();
    let header = FrameHeader::decode(*header).unwrap();
    assert_eq!(header.kind, FrameKind::Run);
    assert_eq!(header.len as usize, rest.len());
    assert_eq!(RunOptions::get(rest), options);
    assert_eq!(Program::decode(&rest[RUN_HEADER..]), program);
}
