//! Memory that init, the helper and the victims share: the program, the
//! trace, the state of threads and calls. It outlives every victim, so that a
//! trace is whole however its victim ended.

use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use latefork_wire::call::DESCRIPTORS;
use latefork_wire::frame::Flavour;
use latefork_wire::layout::SHARED;
use latefork_wire::op::OpIndex;
use latefork_wire::program::{MAX_BYTES, MAX_STEPS, View};
use latefork_wire::trace::{Detail, EVENT, Event, MAX_EVENTS, NO_OP};

use crate::sys;

/// A word of shared state.
pub type Word = AtomicU32;

/// One of the program's threads.
#[repr(C)]
pub struct ThreadState {
    /// Its id at the start; 0: never started.
    pub first: Word,
    /// Its id now: the continuation's.
    pub now: Word,
    /// 0 not started, 1 running, 2 done with its steps, 3 exited.
    pub phase: Word,
    /// Cleared by the kernel at its exit.
    pub cleared: Word,
}

/// One operation that is a call.
#[repr(C)]
pub struct CallState {
    /// Resolved pointers.
    pub status: Word,
    pub args: Word,
    pub buffer: Word,
    /// 0 untouched, 1 prepared, 2 issued.
    pub phase: Word,
    /// The status when last seen, and how often it changed.
    pub seen: Word,
    pub changes: Word,
    /// Thread id that issued it.
    pub from: Word,
    /// Index of the descriptor.
    pub index: Word,
    /// Whether the buffer's bytes belong into the trace.
    pub bytes: Word,
    /// Hash of the argument block as prepared.
    pub args_hash: Word,
    /// Thread of the program.
    pub thread: Word,
    /// 1 where a helper thread of the control run still has it.
    pub control: Word,
    /// 1 while a task looks at the status or prepares the call.
    pub lock: Word,
}

impl CallState {
    /// Takes the call's status for oneself; whether nobody had it.
    pub fn try_lock(&self) -> bool {
        self.lock.swap(1, Acquire) == 0
    }

    /// Gives it back.
    pub fn unlock(&self) {
        self.lock.store(0, Release);
    }
}

/// What the FUSE server does with a file. Masks have a bit for each
/// `wire::op::FuseOps` but the first.
#[repr(C)]
pub struct FuseState {
    pub hold: Word,
    pub fail: Word,
    pub error: Word,
    pub delay: Word,
    pub delay_ticks: Word,
    /// Requests held now.
    pub held: Word,
    /// How many held requests may be answered though held.
    pub release: Word,
    /// Whether the file was touched since the last reset.
    pub used: Word,
}

/// A request to the helper.
#[repr(C)]
pub struct Command {
    /// 0 free, 1 taken.
    pub lock: Word,
    /// Counts requests, and answers.
    pub asked: Word,
    pub answered: Word,
    pub what: Word,
    pub args: [Word; 4],
    pub result: Word,
}

#[repr(C, align(4096))]
pub struct Shared {
    /// The parked victim waits while this is 0.
    pub go: Word,
    /// What init waits on: bits of `victim`.
    pub state: Word,
    /// What the victim's last thread waits on: 0 wait, 1 write finals, 2 end.
    pub finish: Word,
    pub flavour: Word,
    pub leave: Word,
    pub leader: Word,
    pub program_len: Word,
    /// Threads of the program that have steps left.
    pub live: Word,
    /// Tasks in the machine with the victim parked.
    pub baseline: Word,
    pub children: [Word; 8],
    pub child_count: Word,
    pub flags: [Word; 8],
    pub futexes: [Word; 4],
    pub fds: [[Word; 2]; 8],
    /// Handlers run, by signal, and the prepared call of each.
    pub handled: [Word; 64],
    pub handler_op: [Word; 64],
    /// Threads that are known as workers.
    pub workers: [Word; 64],
    pub worker_count: Word,
    pub timers: [Word; 8],
    pub timer_count: Word,
    /// Which calls are issued and not answered, as bits.
    pub pending: [Word; 2],
    pub threads: [ThreadState; 4],
    pub calls: [CallState; MAX_STEPS],
    pub fuse: [FuseState; 4],
    /// Files or semaphores that the program may have changed.
    pub touched: Word,
    /// A tracee was asked for.
    pub traced: Word,
    /// Set by the victim once it is parked; kept over a reset.
    pub parked: Word,
    /// Kernel limits changed: 1 threads-max, 2 pid_max, 4 fault injection.
    pub undo: Word,
    pub command: Command,
    pub saved_threads_max: Word,
    pub saved_pid_max: Word,
    pub semaphores: Word,
    /// 1: a program's sleeps are made of single ticks, so that a host that
    /// stops the machine for a while does not reorder what runs meanwhile.
    pub stepwise: Word,
    /// What the kernel had counted of each descriptor's calls when it was
    /// looked at last, as in its event block.
    pub counted: [[Word; ROW_WORDS]; DESCRIPTORS.len()],
    /// The kernel's number of events at that look.
    pub looked: [Word; DESCRIPTORS.len()],
    /// Slots used in the trace, beyond its end too.
    pub tail: Word,
    program: [Word; MAX_BYTES.div_ceil(4)],
    events: [[Word; EVENT / 4]; MAX_EVENTS],
}

/// Words of a descriptor's row in the kernel's event block.
pub const ROW_WORDS: usize = 32;

/// Bytes of the mapping: the state, then the slow pages' contents.
pub const SHARED_BYTES: u32 = 0x2_0000;
/// Where the slow pages' contents start.
pub const SLOW_CONTENTS: u32 = SHARED + SHARED_BYTES - 4 * 4096;
const _: () = assert!(size_of::<Shared>() + 4 * 4096 <= SHARED_BYTES as usize);

/// The shared state.
pub fn shared() -> &'static Shared {
    // SAFETY: mapped at this address before anything else runs, never
    // unmapped, and made of atomic words only.
    unsafe { &*(SHARED as *const Shared) }
}

pub fn get(word: &Word) -> u32 {
    word.load(Relaxed)
}

pub fn set(word: &Word, value: u32) {
    word.store(value, Relaxed);
}

impl Shared {
    /// Forgets the last program.
    pub fn reset(&self) {
        // SAFETY: every byte pattern is a valid word; no program runs now.
        unsafe {
            let start = core::ptr::from_ref(&self.go).cast_mut();
            let len = core::mem::offset_of!(Shared, parked) / 4;
            core::ptr::write_bytes(start, 0, len);
        }
        set(&self.tail, 0);
        for pair in &self.fds {
            set(&pair[0], u32::MAX);
            set(&pair[1], u32::MAX);
        }
    }

    /// Takes a program over.
    pub fn load(&self, bytes: &[u8]) {
        let len = bytes.len().min(MAX_BYTES);
        // SAFETY: lies in the shared mapping, and no program runs now.
        unsafe {
            let start = self.program.as_ptr().cast_mut().cast::<u8>();
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), start, len);
        }
        set(&self.program_len, len as u32);
    }

    /// The program.
    pub fn program(&self) -> View<'static> {
        let len = (get(&self.program_len) as usize).min(MAX_BYTES);
        // SAFETY: lies in the shared mapping, written only between programs.
        View::new(unsafe { core::slice::from_raw_parts(self.program.as_ptr().cast(), len) })
    }

    pub fn is_control(&self) -> bool {
        get(&self.flavour) == Flavour::Control as u32
    }

    pub fn call(&self, op: OpIndex) -> &CallState {
        &self.calls[op.index()]
    }

    /// Events that fit, as bytes.
    pub fn trace(&self) -> &'static [u8] {
        let count = (get(&self.tail) as usize).min(MAX_EVENTS);
        // SAFETY: lies in the shared mapping; init reads it when the victim
        // is over, or once its last event is written.
        unsafe { core::slice::from_raw_parts(self.events.as_ptr().cast(), count * EVENT) }
    }

    /// Events that did not fit.
    pub fn lost(&self) -> u32 {
        get(&self.tail).saturating_sub(MAX_EVENTS as u32)
    }

    fn append(&self, event: &Event) {
        let at = self.tail.fetch_add(1, Relaxed) as usize;
        // The last place is the end's.
        let last = matches!(event.detail, Detail::End { .. });
        let at = match at {
            at if at < MAX_EVENTS - 1 => at,
            _ if last => MAX_EVENTS - 1,
            _ => return,
        };
        let bytes = event.encode();
        for (word, chunk) in self.events[at].iter().zip(bytes.chunks_exact(4)) {
            set(
                word,
                u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]),
            );
        }
    }

    /// Remembers a thread id as a worker's.
    pub fn add_worker(&self, tid: u32) {
        let at = self.worker_count.fetch_add(1, Relaxed) as usize;
        if let Some(place) = self.workers.get(at) {
            set(place, tid);
        }
    }

    pub fn is_worker(&self, tid: u32) -> bool {
        let count = (get(&self.worker_count) as usize).min(self.workers.len());
        self.workers[..count]
            .iter()
            .any(|worker| get(worker) == tid)
    }

    /// Sets or clears the bit of a call that waits for its status.
    pub fn set_pending(&self, op: OpIndex, waits: Pending) {
        let word = &self.pending[op.index() / 32];
        let bit = 1 << (op.number() % 32);
        match waits {
            Pending::Yes => word.fetch_or(bit, Relaxed),
            Pending::No => word.fetch_and(!bit, Relaxed),
        };
    }

    /// Whether a call waits for its status.
    pub fn is_pending(&self, op: OpIndex) -> bool {
        get(&self.pending[op.index() / 32]) & 1 << (op.number() % 32) != 0
    }

    /// Calls without a status.
    pub fn pending_count(&self) -> u32 {
        self.pending.iter().map(|word| get(word).count_ones()).sum()
    }
}

/// Whether a call waits for its status.
#[derive(Clone, Copy)]
pub enum Pending {
    Yes,
    No,
}

/// Who reports an event.
#[derive(Clone, Copy)]
pub struct Reporter {
    pub thread: u8,
    pub op: u8,
}

impl Reporter {
    /// The agent itself, about no operation.
    pub const AGENT: Self = Self {
        thread: u8::MAX,
        op: NO_OP,
    };

    pub fn new(thread: u8, op: OpIndex) -> Self {
        Self {
            thread,
            op: op.number(),
        }
    }

    /// Reports in the name of task `tid`.
    pub fn report_as(self, tid: u32, detail: Detail) {
        shared().append(&Event {
            thread: self.thread,
            op: self.op,
            tid,
            detail,
        });
    }

    /// Reports in the name of the task that runs.
    pub fn report(self, detail: Detail) {
        // Asked of the kernel each time: what the agent remembers could hide a
        // worker that runs user code.
        let tid = match self.thread {
            u8::MAX => 0,
            _ => sys::gettid(),
        };
        self.report_as(tid, detail);
    }

    /// Reports an operation's result.
    pub fn done(self, value: i32) {
        self.report(Detail::Done {
            value: value as u32,
            second: 0,
        });
    }
}

static IN_CHILD: AtomicU32 = AtomicU32::new(0);

/// Stack of a vfork child; its parent sleeps meanwhile, so one is enough.
pub const VFORK_STACK: u32 = 0x4300_0000;
pub const VFORK_BYTES: u32 = 4 * latefork_wire::layout::PAGE;

/// Whether this code runs in a child that a program forked: its ids are not
/// those of the program's threads.
pub fn in_child() -> bool {
    get(&IN_CHILD) != 0 || in_vfork_child()
}

/// Whether this code runs in a vfork child. Its memory is its parent's: only
/// the stack tells.
pub fn in_vfork_child() -> bool {
    let here = 0_u32;
    (core::ptr::from_ref(&here) as u32).wrapping_sub(VFORK_STACK) < VFORK_BYTES
}

/// Says that this is a child with memory of its own.
pub fn become_child() {
    set(&IN_CHILD, 1);
}

/// Reports a failure of the agent.
pub fn agent_error(fault: latefork_wire::trace::AgentFault, value: i32) {
    Reporter::AGENT.report_as(
        sys::gettid(),
        Detail::AgentError {
            code: fault as u32,
            value: value as u32,
        },
    );
}
