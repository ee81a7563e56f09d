//! The part of the FUSE protocol that four files need.
//!
//! Layouts and numbers: `include/uapi/linux/fuse.h`, protocol 7.31. Answers
//! are never valid beyond the call that asked (all `valid` times are 0), so
//! each lookup, getattr and open comes to the server again.

use core::sync::atomic::Ordering::Relaxed;

use latefork_wire::op::FuseOps;
use latefork_wire::trace::Detail;

use crate::shared::{Reporter, SLOW_CONTENTS, get, set, shared};
use crate::sys::{self, Fd};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const RELEASEDIR: u32 = 29;
const ACCESS: u32 = 34;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const NOTIFY_INVAL_INODE: u32 = 2;

const ENOENT: i32 = -2;

/// Bytes of `fuse_in_header`.
const IN_HEADER: usize = 40;
const ROOT: u64 = 1;
/// Node of file 0.
const FIRST_FILE: u64 = 2;
const FILE_BYTES: u64 = 4096;

/// A request that waits for its answer.
#[derive(Clone, Copy)]
struct Held {
    unique: u64,
    opcode: u32,
    file: u32,
    tid: u32,
    /// READ and WRITE: where and how much.
    offset: u64,
    size: u32,
    /// When it is due on the monotonic clock, for delayed ones.
    due_ms: Option<u32>,
}

/// The server's state.
pub struct Server {
    device: Fd,
    held: [Option<Held>; 48],
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    for (offset, place) in four.iter_mut().enumerate() {
        *place = bytes.get(at + offset).copied().unwrap_or(0);
    }
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// An answer under construction.
struct Answer {
    bytes: [u8; 16 + 128],
    len: usize,
}

impl Answer {
    fn new() -> Self {
        Self {
            bytes: [0; 16 + 128],
            len: 16,
        }
    }

    fn u32(mut self, value: u32) -> Self {
        self.bytes[self.len..self.len + 4].copy_from_slice(&value.to_le_bytes());
        self.len += 4;
        self
    }

    fn u64(self, value: u64) -> Self {
        self.u32(value as u32).u32((value >> 32) as u32)
    }

    fn zeros(mut self, bytes: usize) -> Self {
        self.len += bytes;
        self
    }

    /// `fuse_attr` of a node. Mode bits let every user in.
    fn attributes(self, node: u64) -> Self {
        let (mode, size) = match node {
            ROOT => (0o040_777, 0),
            _ => (0o100_777, FILE_BYTES),
        };
        self.u64(node)
            .u64(size)
            .u64(size / 512)
            .zeros(36)
            .u32(mode)
            .u32(1)
            .u32(0)
            .u32(0)
            .u32(0)
            .u32(4096)
            .u32(0)
    }

    fn send(mut self, device: Fd, unique: u64) {
        let len = self.len as u32;
        self.bytes[..4].copy_from_slice(&len.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&unique.to_le_bytes());
        sys::write(device, &self.bytes[..self.len]);
    }
}

/// The class of an opcode that programs control, as a bit.
fn class_bit(opcode: u32) -> u32 {
    let class = match opcode {
        LOOKUP => FuseOps::Lookup,
        GETATTR => FuseOps::Getattr,
        OPEN => FuseOps::Open,
        READ => FuseOps::Read,
        WRITE => FuseOps::Write,
        FSYNC => FuseOps::Fsync,
        ACCESS => FuseOps::Access,
        _ => return 0,
    };
    1 << class as u32
}

/// The bits that a program's choice of requests means.
pub fn mask_of(ops: FuseOps) -> u32 {
    match ops {
        FuseOps::All => 0xfe,
        _ => 1 << ops as u32,
    }
}

impl Server {
    pub fn new(device: Fd) -> Self {
        Self {
            device,
            held: [None; 48],
        }
    }

    /// Takes one request from the device and answers or holds it.
    pub fn serve(&mut self, room: &mut [u8]) {
        let len = sys::read(self.device, room);
        if len < IN_HEADER as i32 {
            return;
        }
        let request = &room[..len as usize];
        let opcode = u32_at(request, 4);
        let unique = u64_at(request, 8);
        let node = u64_at(request, 16);
        let body = &request[IN_HEADER..];
        let file = match opcode {
            LOOKUP => file_by_name(body),
            _ => node.checked_sub(FIRST_FILE).map(|file| file as u32),
        }
        .filter(|file| *file < 4);
        if opcode == INIT {
            return self.answer_init(unique);
        }
        if matches!(opcode, FORGET | BATCH_FORGET | INTERRUPT) {
            return;
        }
        let Some(file) = file else {
            return self.answer_other(opcode, unique, node);
        };
        let held = Held {
            unique,
            opcode,
            file,
            tid: u32_at(request, 32),
            offset: u64_at(body, 8),
            size: u32_at(body, 16),
            due_ms: None,
        };
        self.decide(held);
    }

    /// Answers, fails, delays or holds a request on a file.
    fn decide(&mut self, mut request: Held) {
        let control = &shared().fuse[request.file as usize];
        let bit = class_bit(request.opcode);
        set(&control.used, 1);
        if get(&control.fail) & bit != 0 {
            self.fail(request, -(get(&control.error) as i32).clamp(1, 4095));
            return;
        }
        let delayed = get(&control.delay) & bit != 0;
        if get(&control.hold) & bit == 0 && !delayed {
            self.answer(request, 0);
            return;
        }
        if delayed {
            request.due_ms = Some(sys::now_ms().wrapping_add(get(&control.delay_ticks) * 10));
        }
        let Some(place) = self.held.iter_mut().find(|place| place.is_none()) else {
            self.fail(request, sys::EAGAIN);
            return;
        };
        *place = Some(request);
        control.held.fetch_add(1, Relaxed);
        sys::futex_wake(&control.held);
        report(&request, 1);
    }

    /// Answers what is released or due; ticks until the next is due.
    pub fn release(&mut self) -> Option<u32> {
        let mut next = None;
        for at in 0..self.held.len() {
            let Some(request) = self.held[at] else {
                continue;
            };
            let control = &shared().fuse[request.file as usize];
            let bit = class_bit(request.opcode);
            let free = match request.due_ms {
                Some(due) => {
                    let left = due.wrapping_sub(sys::now_ms()).cast_signed();
                    if left > 0 && get(&control.delay) & bit != 0 {
                        let left = left.cast_unsigned().div_ceil(10);
                        next = Some(next.map_or(left, |next: u32| next.min(left)));
                        false
                    } else {
                        true
                    }
                }
                None => get(&control.hold) & bit == 0 || take_one(&control.release),
            };
            if free {
                self.held[at] = None;
                control.held.fetch_sub(1, Relaxed);
                self.answer(request, 2);
            }
        }
        next
    }

    fn fail(&self, request: Held, error: i32) {
        let mut answer = Answer::new();
        answer.bytes[4..8].copy_from_slice(&error.to_le_bytes());
        answer.send(self.device, request.unique);
        report(&request, 3);
    }

    fn answer(&self, request: Held, action: u32) {
        let node = FIRST_FILE + u64::from(request.file);
        let answer = Answer::new();
        let answer = match request.opcode {
            LOOKUP => answer.u64(node).u64(0).zeros(24).attributes(node),
            GETATTR | SETATTR => answer.zeros(16).attributes(node),
            OPEN => answer.u64(u64::from(request.file)).zeros(8),
            READ => return self.answer_read(&request, action),
            WRITE => answer.u32(request.size).u32(0),
            FSYNC | ACCESS | RELEASE => answer,
            // ENOSYS to FLUSH is remembered by the kernel: closing a file asks
            // for nothing from then on.
            _ => return self.fail(request, sys::ENOSYS),
        };
        answer.send(self.device, request.unique);
        report(&request, action);
    }

    /// A page's content lies in shared memory; header and bytes go out
    /// together (writev).
    fn answer_read(&self, request: &Held, action: u32) {
        let start = request.offset.min(FILE_BYTES) as u32;
        let bytes = request.size.min(FILE_BYTES as u32 - start);
        let mut header = [0; 16];
        header[..4].copy_from_slice(&(16 + bytes).to_le_bytes());
        header[8..].copy_from_slice(&request.unique.to_le_bytes());
        let content = SLOW_CONTENTS + request.file * FILE_BYTES as u32 + start;
        let parts = [header.as_ptr() as u32, 16, content, bytes];
        sys::call(146, &[self.device as u32, parts.as_ptr() as u32, 2]);
        report(request, action);
    }

    fn answer_init(&self, unique: u64) {
        // major, minor, max_readahead, flags, background limits, max_write,
        // time_gran; the rest is 0.
        Answer::new()
            .u32(7)
            .u32(31)
            .u32(0)
            .u32(0)
            .u32(0x0020_0020)
            .u32(4096)
            .u32(1)
            .zeros(36)
            .send(self.device, unique);
    }

    /// Requests on the root and on names that do not exist.
    fn answer_other(&self, opcode: u32, unique: u64, node: u64) {
        let answer = Answer::new();
        let answer = match opcode {
            GETATTR if node == ROOT => answer.zeros(16).attributes(ROOT),
            OPENDIR => answer.zeros(16),
            STATFS => answer.zeros(80),
            ACCESS | RELEASEDIR => answer,
            _ => {
                let error = if opcode == LOOKUP {
                    ENOENT
                } else {
                    sys::ENOSYS
                };
                let mut answer = answer;
                answer.bytes[4..8].copy_from_slice(&error.to_le_bytes());
                answer
            }
        };
        answer.send(self.device, unique);
    }

    /// Drops the kernel's pages of every file that was used.
    pub fn invalidate(&self) {
        for (file, control) in shared().fuse.iter().enumerate() {
            if get(&control.used) == 0 {
                continue;
            }
            set(&control.used, 0);
            let mut answer = Answer::new().u64(FIRST_FILE + file as u64).u64(0).u64(0);
            answer.bytes[4..8].copy_from_slice(&NOTIFY_INVAL_INODE.to_le_bytes());
            answer.send(self.device, 0);
        }
    }
}

fn take_one(word: &crate::shared::Word) -> bool {
    let taken = get(word) > 0;
    if taken {
        word.fetch_sub(1, Relaxed);
    }
    taken
}

fn file_by_name(body: &[u8]) -> Option<u32> {
    match body {
        [digit @ b'0'..=b'3', 0, ..] => Some(u32::from(digit - b'0')),
        _ => None,
    }
}

/// Reports what programs control; the rest is the protocol's own affair.
fn report(request: &Held, action: u32) {
    if class_bit(request.opcode) == 0 {
        return;
    }
    Reporter::AGENT.report_as(
        request.tid,
        Detail::FuseRequest {
            file: request.file,
            opcode: request.opcode,
            action,
            held: get(&shared().fuse[request.file as usize].held),
        },
    );
}
