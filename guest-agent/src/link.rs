//! The connection to the host over vsock.

use latefork_wire::Record;
use latefork_wire::call::DESCRIPTORS;
use latefork_wire::frame::{
    FRAME_HEADER, FrameHeader, FrameKind, HOST_CID, Hello, MAX_RUN, PORT, RUN_HEADER, Refusal,
    RunOptions,
};

use crate::console;
use crate::memory;
use crate::shared::shared;
use crate::supervise::Supervisor;
use crate::sys::{self, Fd};

/// Where the connection lies.
pub const VSOCK_FD: Fd = 111;

const AF_VSOCK: u32 = 40;
const SOCK_STREAM: u32 = 1;

/// Connects to the host; an error where there is no vsock device.
pub fn connect() -> Result<Fd, i32> {
    let fd = sys::call(359, &[AF_VSOCK, SOCK_STREAM, 0]);
    if fd < 0 {
        return Err(fd);
    }
    // struct sockaddr_vm: family, reserved, port, cid, flags and zeros.
    let address = [AF_VSOCK, PORT, HOST_CID, 0];
    let connected = sys::call(362, &[fd as u32, address.as_ptr() as u32, 16]);
    if connected < 0 {
        sys::close(fd);
        return Err(connected);
    }
    sys::dup2(fd, VSOCK_FD);
    sys::close(fd);
    Ok(VSOCK_FD)
}

fn send(fd: Fd, kind: FrameKind, payload: &[u8]) -> bool {
    let header = FrameHeader {
        kind,
        len: payload.len() as u32,
    }
    .encode();
    // One system call for both: struct iovec pairs.
    let parts = [
        header.as_ptr() as u32,
        header.len() as u32,
        payload.as_ptr() as u32,
        payload.len() as u32,
    ];
    let all = header.len() + payload.len();
    let sent = sys::call(146, &[fd as u32, parts.as_ptr() as u32, 2]);
    if sent < header.len() as i32 {
        return false;
    }
    let rest = sent as usize - header.len();
    all == sent as usize || sys::write_all(fd, &payload[rest..]) == 0
}

/// Says who is there.
fn hello(fd: Fd, hello: &Hello) -> bool {
    let mut bytes = [0; Hello::SIZE];
    hello.put(&mut bytes);
    send(fd, FrameKind::Hello, &bytes)
}

/// The hello of this agent.
pub fn who(marked: bool, fuse: bool) -> Hello {
    Hello {
        async_number: crate::interp::calls::ASYNC_NUMBER as u16,
        descriptors: DESCRIPTORS.len() as u8,
        marked: u8::from(marked),
        fuse: u8::from(fuse),
    }
}

static mut ROOM: [u8; FRAME_HEADER + MAX_RUN] = [0; FRAME_HEADER + MAX_RUN];

/// What was received of the host.
struct Inbox {
    room: &'static mut [u8],
    len: usize,
}

impl Inbox {
    /// Reads until `bytes` bytes are there: a frame comes whole, as a rule, and
    /// takes one system call. Whether they came.
    fn fill(&mut self, fd: Fd, bytes: usize) -> bool {
        while self.len < bytes {
            match sys::read(fd, &mut self.room[self.len..]) {
                sys::EINTR => {}
                count if count <= 0 => return false,
                count => self.len += count as usize,
            }
        }
        true
    }

    /// Drops the first `bytes` bytes.
    fn consume(&mut self, bytes: usize) {
        self.room.copy_within(bytes..self.len, 0);
        self.len -= bytes;
    }
}

/// Says who is there, then serves programs until the host hangs up.
pub fn serve(fd: Fd, supervisor: &mut Supervisor, who: &Hello) {
    // SAFETY: init has one thread, and only this function uses the room.
    let room = unsafe { &mut *core::ptr::addr_of_mut!(ROOM) };
    memory::touch_what_init_uses(room);
    let mut inbox = Inbox { room, len: 0 };
    // The hello is the mark for the host's snapshot: nothing of the agent runs
    // after it but the wait for a program.
    hello(fd, who);
    loop {
        if !inbox.fill(fd, FRAME_HEADER) {
            console::line(format_args!("latefork-agent: the host hung up"));
            return;
        }
        let mut header = [0; FRAME_HEADER];
        header.copy_from_slice(&inbox.room[..FRAME_HEADER]);
        let header = match FrameHeader::decode(header) {
            Ok(header) if header.kind == FrameKind::Run => header,
            Ok(_) => return refuse(fd, Refusal::Kind),
            Err(error) => {
                console::line(format_args!("latefork-agent: {error}"));
                return refuse(fd, error.refusal);
            }
        };
        let frame = FRAME_HEADER + header.len as usize;
        if !inbox.fill(fd, frame) {
            return;
        }
        let payload = &inbox.room[FRAME_HEADER..frame];
        let options = RunOptions::get(&payload[..RUN_HEADER]);
        supervisor.run(&payload[RUN_HEADER..], &options);
        inbox.consume(frame);
        if !send(fd, FrameKind::Trace, shared().trace()) {
            return;
        }
        supervisor.park_victim();
    }
}

/// After a refused frame nothing in the stream can be trusted: it ends.
fn refuse(fd: Fd, refusal: Refusal) {
    send(fd, FrameKind::Refused, &[refusal as u8]);
}
