//! The connection to the host over vsock.

use latefork_wire::Record;
use latefork_wire::call::DESCRIPTORS;
use latefork_wire::frame::{
    FRAME_HEADER, FrameHeader, FrameKind, HOST_CID, Hello, MAX_RUN, PORT, RUN_HEADER, Refusal,
    RunOptions,
};

use crate::console;
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
pub fn hello(fd: Fd, hello: &Hello) -> bool {
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

fn read_exactly(fd: Fd, into: &mut [u8]) -> bool {
    let mut len = 0;
    while len < into.len() {
        match sys::read(fd, &mut into[len..]) {
            sys::EINTR => {}
            count if count <= 0 => return false,
            count => len += count as usize,
        }
    }
    true
}

static mut ROOM: [u8; MAX_RUN] = [0; MAX_RUN];

/// Serves programs until the host hangs up.
pub fn serve(fd: Fd, supervisor: &mut Supervisor) {
    // SAFETY: init has one thread, and only this function uses the room.
    let room = unsafe { &mut *core::ptr::addr_of_mut!(ROOM) };
    loop {
        let mut header = [0; FRAME_HEADER];
        if !read_exactly(fd, &mut header) {
            console::line(format_args!("latefork-agent: the host hung up"));
            return;
        }
        let header = match FrameHeader::decode(header) {
            Ok(header) if header.kind == FrameKind::Run => header,
            Ok(_) => return refuse(fd, Refusal::Kind),
            Err(error) => {
                console::line(format_args!("latefork-agent: {error}"));
                return refuse(fd, error.refusal);
            }
        };
        let payload = &mut room[..header.len as usize];
        if !read_exactly(fd, payload) {
            return;
        }
        let options = RunOptions::get(&payload[..RUN_HEADER]);
        supervisor.run(&payload[RUN_HEADER..], &options);
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
