//! Objects of two descriptors, and what is done to the FUSE server.

use core::sync::atomic::Ordering::Relaxed;

use latefork_wire::op::{
    Close, Create, Drain, End, Feed, Fuse, FuseAction, NonBlock, ObjectKind, ObjectSlot,
};

use crate::fuse::mask_of;
use crate::helper::{self, Ask};
use crate::shared::{Word, get, set, shared};
use crate::sys::{self, Fd};

const NONE: u32 = u32::MAX;

fn ends(slot: ObjectSlot) -> &'static [Word; 2] {
    &shared().fds[slot.index()]
}

fn end(slot: ObjectSlot, end: End) -> Fd {
    get(&ends(slot)[end.index()]) as Fd
}

/// Makes an object; its first descriptor or an error.
pub fn create(create: &Create) -> i32 {
    let ends = ends(create.slot);
    drop_object(ends);
    if create.kind == ObjectKind::File {
        set(&shared().touched, 1);
    }
    match make(create.kind) {
        Ok([first, second]) => {
            set(&ends[0], first as u32);
            set(&ends[1], second as u32);
            first
        }
        Err(error) => error,
    }
}

fn drop_object(ends: &[Word; 2]) {
    let [first, second] = [&ends[0], &ends[1]].map(|end| end.swap(NONE, Relaxed));
    if first != NONE {
        sys::close(first as Fd);
    }
    if second != NONE && second != first {
        sys::close(second as Fd);
    }
}

fn make(kind: ObjectKind) -> Result<[Fd; 2], i32> {
    match kind {
        ObjectKind::Pipe => sys::pipe2(0),
        ObjectKind::FullPipe => full_pipe(),
        ObjectKind::StreamPair => socket_pair(1),
        ObjectKind::DatagramPair => socket_pair(2),
        ObjectKind::Fifo => one(sys::open("/t/fifo", sys::O_RDWR)),
        ObjectKind::File => one(sys::open("/t/file", sys::O_RDWR)),
        ObjectKind::EventFd => one(sys::call(328, &[0, 0])),
        ObjectKind::Epoll => one(sys::call(329, &[0])),
        ObjectKind::Folder => one(sys::open("/t/dir", sys::O_RDONLY | sys::O_DIRECTORY)),
        ObjectKind::Fuse0 => one(sys::open("/f/0", sys::O_RDWR)),
        ObjectKind::Fuse1 => one(sys::open("/f/1", sys::O_RDWR)),
        ObjectKind::Fuse2 => one(sys::open("/f/2", sys::O_RDWR)),
        ObjectKind::Fuse3 => one(sys::open("/f/3", sys::O_RDWR)),
        ObjectKind::SignalFd => {
            let set = latefork_wire::op::SigSet::Rt.bits() | latefork_wire::op::SigSet::Usr1.bits();
            let at = core::ptr::from_ref(&set) as u32;
            one(sys::call(327, &[u32::MAX, at, 8, 0]))
        }
    }
}

/// A kind with one descriptor has it at both ends.
fn one(fd: Fd) -> Result<[Fd; 2], i32> {
    if fd < 0 { Err(fd) } else { Ok([fd, fd]) }
}

fn socket_pair(kind: u32) -> Result<[Fd; 2], i32> {
    let mut ends = [0; 2];
    match sys::call(360, &[1, kind, 0, ends.as_mut_ptr() as u32]) {
        0 => Ok(ends),
        error => Err(error),
    }
}

fn full_pipe() -> Result<[Fd; 2], i32> {
    let ends = sys::pipe2(sys::O_NONBLOCK)?;
    // F_SETPIPE_SZ to one page keeps it cheap to fill.
    sys::call(221, &[ends[1] as u32, 1031, 4096]);
    while sys::write(ends[1], &[0x55; 512]) > 0 {}
    for fd in ends {
        sys::call(221, &[fd as u32, 4, 0]);
    }
    Ok(ends)
}

/// Closes one end.
pub fn close(close: &Close) -> i32 {
    let ends = ends(close.slot);
    let fd = ends[close.end.index()].swap(NONE, Relaxed);
    if fd == NONE {
        return -9;
    }
    let other = &ends[1 - close.end.index()];
    if get(other) == fd {
        set(other, NONE);
    }
    sys::close(fd as Fd)
}

/// Writes a known pattern, without waiting.
pub fn feed(feed: &Feed) -> i32 {
    let fd = end(feed.slot, feed.end);
    let pattern: [u8; 128] = core::array::from_fn(|at| at as u8 + 1);
    let len = usize::from(feed.bytes).clamp(1, 128);
    match sys::write_now(fd, &pattern[..len]) {
        sys::EOPNOTSUPP if ready(fd, 4) => sys::write(fd, &pattern[..len]),
        sys::EOPNOTSUPP => sys::EAGAIN,
        written => written,
    }
}

/// Reads and drops, without waiting.
pub fn drain(drain: &Drain) -> i32 {
    let fd = end(drain.slot, drain.end);
    let mut room = [0; 64];
    let mut all = 0;
    for _ in 0..=drain.chunks {
        let count = match sys::read_now(fd, &mut room) {
            sys::EOPNOTSUPP if ready(fd, 1) => sys::read(fd, &mut room),
            sys::EOPNOTSUPP => sys::EAGAIN,
            count => count,
        };
        match count {
            count if count > 0 => all += count,
            0 | sys::EAGAIN => break,
            error => return error,
        }
    }
    all
}

fn ready(fd: Fd, events: i16) -> bool {
    let mut fds = [sys::PollFd {
        fd,
        events,
        revents: 0,
    }];
    sys::poll(&mut fds, 0) > 0
}

/// Switches O_NONBLOCK.
pub fn nonblock(nonblock: &NonBlock) -> i32 {
    let fd = end(nonblock.slot, nonblock.end);
    let flag = if nonblock.on % 2 == 1 {
        sys::O_NONBLOCK
    } else {
        0
    };
    sys::call(221, &[fd as u32, 4, flag])
}

/// Controls the FUSE server: the masks lie in shared memory, only answers
/// need the server itself.
pub fn fuse(fuse: &Fuse) -> i32 {
    let control = &shared().fuse[fuse.file.index()];
    let mask = mask_of(fuse.on);
    match fuse.action {
        FuseAction::Hold => {
            control.hold.fetch_or(mask, Relaxed);
            return 0;
        }
        FuseAction::Fail => {
            set(&control.error, u32::from(fuse.value).max(1));
            control.fail.fetch_or(mask, Relaxed);
            return 0;
        }
        FuseAction::Delay => {
            set(&control.delay_ticks, u32::from(fuse.value).clamp(1, 50));
            control.delay.fetch_or(mask, Relaxed);
            return 0;
        }
        FuseAction::Release => {
            control.hold.fetch_and(!mask, Relaxed);
        }
        FuseAction::ReleaseOne => {
            control.release.fetch_add(1, Relaxed);
        }
        FuseAction::Answer => {
            for word in [&control.hold, &control.fail, &control.delay] {
                word.fetch_and(!mask, Relaxed);
            }
        }
    }
    helper::ask(Ask::Release, [0; 4])
}
