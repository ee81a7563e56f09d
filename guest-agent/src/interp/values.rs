//! From a program's values to what a register holds.

use latefork_wire::call::Call;
use latefork_wire::layout::PAGE;
use latefork_wire::op::{OpIndex, SigSet, Thread};
use latefork_wire::resolve::{Owner, Resolved, Role, address, slow_page};
use latefork_wire::value::{Arg, BIG_VALUES, DURATIONS_MS, LENGTHS, PATHS, Pointer, Scalar};

use super::Context;
use crate::memory;
use crate::shared::{Word, get, shared};

/// Data that arguments point to, read-only, the same for every program.
#[repr(C)]
struct Data {
    paths: [[u8; 24]; 16],
    times: [[i64; 2]; 8],
    signal_sets: [u64; 7],
    semaphore_ops: [[i16; 3]; 4],
    locks: [[u32; 8]; 2],
}

static DATA: Data = Data {
    paths: paths(),
    times: times(),
    signal_sets: signal_sets(),
    // sem_num, sem_op, sem_flg (SEM_UNDO is 0x1000).
    semaphore_ops: [[0, -1, 0], [0, 1, 0], [0, -1, 0x1000], [0, 1, 0x1000]],
    // struct flock64 of i386: l_type in the first half word, the rest 0: the
    // whole file. F_RDLCK is 0, F_WRLCK 1.
    locks: [[0; 8], [1, 0, 0, 0, 0, 0, 0, 0]],
};

const fn paths() -> [[u8; 24]; 16] {
    let mut all = [[0; 24]; 16];
    let mut at = 0;
    while at < 16 {
        let path = PATHS[at].as_bytes();
        let mut byte = 0;
        while byte < path.len() {
            all[at][byte] = path[byte];
            byte += 1;
        }
        at += 1;
    }
    all
}

const fn times() -> [[i64; 2]; 8] {
    let mut all = [[0; 2]; 8];
    let mut at = 0;
    while at < 8 {
        all[at] = match DURATIONS_MS[at] {
            u32::MAX => [0, 1_000_000_000],
            ms => [(ms / 1000) as i64, (ms % 1000) as i64 * 1_000_000],
        };
        at += 1;
    }
    all
}

const fn signal_sets() -> [u64; 7] {
    let mut all = [0; 7];
    let mut at = 0;
    while at < 7 {
        all[at] = SigSet::ALL[at].bits();
        at += 1;
    }
    all
}

fn at<T>(value: &T) -> u32 {
    core::ptr::from_ref(value) as u32
}

/// Cells of other operations, as they were resolved.
struct Others;

impl Resolved for Others {
    fn status_of(&self, op: OpIndex) -> u32 {
        get(&shared().call(op).status)
    }

    fn args_of(&self, op: OpIndex) -> u32 {
        get(&shared().call(op).args)
    }
}

/// The address of a pointer in `role`.
pub fn pointer(context: Context, pointer: Pointer, role: Role) -> u32 {
    let owner = Owner {
        op: context.op,
        thread: Thread::new(context.thread),
        role,
    };
    address(pointer, owner, &Others)
}

/// What an argument becomes in a register.
pub fn argument(context: Context, arg: Arg) -> u32 {
    match arg {
        Arg::Buffer(class) => pointer(context, class, Role::Buffer),
        Arg::Scalar(scalar, param) => self::scalar(context, scalar, param),
    }
}

fn scalar(context: Context, scalar: Scalar, param: u8) -> u32 {
    let index = usize::from(param);
    let number = u32::from(param);
    match scalar {
        Scalar::Int => number,
        Scalar::Minus => !number,
        Scalar::Big => BIG_VALUES[index % BIG_VALUES.len()],
        Scalar::Len => LENGTHS[index % LENGTHS.len()],
        Scalar::Fd => get(&shared().fds[index / 2 % 8][index % 2]),
        Scalar::BadFd => 200 + number,
        Scalar::Path => at(&DATA.paths[index % 16]),
        Scalar::SlowPath => on_slow_page(context, number / 16, 336, &DATA.paths[index % 16]),
        Scalar::Time => at(&DATA.times[index % 8]),
        Scalar::SlowTime => {
            let time = DATA.times[index % 8];
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&time[0].to_le_bytes());
            bytes[8..].copy_from_slice(&time[1].to_le_bytes());
            on_slow_page(context, number / 8, 464, &bytes)
        }
        Scalar::Poll => poll_descriptor(context, param),
        Scalar::Futex => shared().futexes[index % 4].as_ptr() as u32,
        Scalar::Child => word_or_none(&shared().children[index % 4]),
        Scalar::Tid => get(&shared().threads[index % 4].first),
        Scalar::IndexOf => get(&shared().call(OpIndex::new(param)).index),
        Scalar::SigSet => at(&DATA.signal_sets[index % 7]),
        Scalar::Sem => get(&shared().semaphores),
        Scalar::SemOp => at(&DATA.semaphore_ops[index % 4]),
        Scalar::Lock => at(&DATA.locks[index % 2]),
    }
}

/// A child's id; -2 (no process) where there is none, never 0 or -1, which
/// mean whole groups.
fn word_or_none(word: &Word) -> u32 {
    match get(word) {
        0 => -2_i32 as u32,
        pid => pid,
    }
}

/// Puts `bytes` on the slow page of `file`, in the operation's lane.
fn on_slow_page(context: Context, file: u32, offset: u32, bytes: &[u8]) -> u32 {
    let lane = u32::from(context.op.number() % 8);
    let at = slow_page(file) + lane * PAGE / 8 + offset;
    memory::stage(at, bytes, context.lane());
    at
}

/// A `pollfd` at the start of the own result buffer.
fn poll_descriptor(context: Context, param: u8) -> u32 {
    let index = usize::from(param);
    let fd = get(&shared().fds[index / 2 % 8][index % 2]);
    let events: u16 = if (param / 16).is_multiple_of(2) { 1 } else { 4 };
    let at = pointer(context, Pointer::default(), Role::Buffer);
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&fd.to_le_bytes());
    bytes[4..6].copy_from_slice(&events.to_le_bytes());
    memory::stage(at, &bytes, context.lane());
    at
}

/// The arguments of a call, and its result buffer (0 for none).
pub fn arguments(context: Context, call: &Call) -> ([u32; 6], u32) {
    let args = call.args_in_order().map(|arg| argument(context, arg));
    let buffer = call
        .descriptor()
        .and_then(|row| row.buffer)
        .and_then(|at| args.get(usize::from(at)).copied());
    (args, buffer.unwrap_or(0))
}
