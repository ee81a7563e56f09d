//! The helper: a process outside the victim that serves FUSE and does what a
//! victim cannot do to itself (trace it, signal it later, turn the kernel's
//! own limits).

use core::fmt::Write as _;
use core::sync::atomic::Ordering::{Acquire, Release as Publish};

use latefork_wire::op::{FaultKind, KernelLimitKind, PtraceAction};
use latefork_wire::trace::{AgentFault, Detail};

use crate::console::Line;
use crate::fuse::Server;
use crate::shared::{Reporter, agent_error, get, set, shared};
use crate::sys::{self, Fd, PollFd};

/// Both ends of the pipe that wakes the helper.
pub const KICK_READ: Fd = 108;
pub const KICK_WRITE: Fd = 109;
/// /dev/fuse.
pub const FUSE_FD: Fd = 110;

/// Process id that the helper gets, and keeps, so that with pid_max at 301 none
/// is free (ids wrap to 300).
pub const PID: u32 = 300;

/// What the helper is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Ask {
    /// Look at the FUSE controls again.
    Release,
    /// Send a signal: process, thread or 0, signal and value, ticks.
    Signal,
    /// Turn a limit of the kernel: which, headroom.
    KernelLimit,
    /// Arm fault injection: kind, interval, times.
    Fault,
    /// Trace: action, thread.
    Trace,
    /// Undo limits and faults, answer everything, forget tracees and cached
    /// pages.
    Reset,
}

const ASKS: [Ask; 6] = [
    Ask::Release,
    Ask::Signal,
    Ask::KernelLimit,
    Ask::Fault,
    Ask::Trace,
    Ask::Reset,
];

/// Asks the helper and waits for its answer (at most 2 s).
pub fn ask(what: Ask, args: [u32; 4]) -> i32 {
    let command = &shared().command;
    let mut tries = 0;
    while command.lock.swap(1, Acquire) == 1 {
        sys::sleep_ticks(1);
        tries += 1;
        if tries > 200 {
            return sys::ETIMEDOUT;
        }
    }
    set(&command.what, what as u32);
    for (word, value) in command.args.iter().zip(args) {
        set(word, value);
    }
    let asked = get(&command.asked).wrapping_add(1);
    command.asked.store(asked, Publish);
    sys::write(KICK_WRITE, &[1]);
    let mut result = sys::ETIMEDOUT;
    for _ in 0..20 {
        let answered = command.answered.load(Acquire);
        if answered == asked {
            result = get(&command.result).cast_signed();
            break;
        }
        sys::futex_wait(&command.answered, answered, Some(10));
    }
    command.lock.store(0, Publish);
    result
}

/// Takes the lock from a victim that died holding it.
pub fn unlock() {
    shared().command.lock.store(0, Publish);
}

#[derive(Clone, Copy)]
struct LaterSignal {
    /// Ticks left; only those count in which the helper had nothing to do.
    ticks: u32,
    pid: u32,
    tid: u32,
    sig: u32,
}

struct Helper {
    server: Option<Server>,
    later: [Option<LaterSignal>; 8],
    /// Tasks to detach from at a reset, as many as there is room for.
    tracees: [u32; 8],
    /// Whether there is any tracee, known by number or not.
    tracing: bool,
}

static mut ROOM: [u8; 12 * 1024] = [0; 12 * 1024];

/// The helper's life. `fuse`: the device, where there is one.
pub fn run(fuse: Option<Fd>) -> ! {
    let mut helper = Helper {
        server: fuse.map(Server::new),
        later: [None; 8],
        tracees: [0; 8],
        tracing: false,
    };
    // SAFETY: this process has one thread, and only this loop uses it.
    let room = unsafe { &mut *core::ptr::addr_of_mut!(ROOM) };
    loop {
        let ticks = helper.work();
        let ms = ticks.map_or(-1, |ticks| ticks as i32 * 10);
        let mut fds = [KICK_READ, fuse.unwrap_or(-1)].map(|fd| PollFd {
            fd,
            events: 1,
            revents: 0,
        });
        if sys::poll(&mut fds, ms) == 0 {
            helper.tick();
        }
        if fds[0].revents & 1 != 0 {
            sys::read(KICK_READ, &mut room[..64]);
        }
        if fds[1].revents & 1 != 0
            && let Some(server) = &mut helper.server
        {
            server.serve(room);
        }
    }
}

impl Helper {
    /// Does what is asked and due; ticks until there is more.
    fn work(&mut self) -> Option<u32> {
        let command = &shared().command;
        let asked = command.asked.load(Acquire);
        if asked != get(&command.answered) {
            let args = [0, 1, 2, 3].map(|at| get(&command.args[at]));
            let result = match ASKS.get(get(&command.what) as usize) {
                Some(what) => self.handle(*what, args),
                None => sys::EINVAL,
            };
            set(&command.result, result as u32);
            command.answered.store(asked, Publish);
            sys::futex_wake(&command.answered);
        }
        let fuse = self.server.as_mut().and_then(Server::release);
        let signals = self.send_due();
        let traced = self.attend_tracees();
        [fuse, signals, traced].into_iter().flatten().min()
    }

    fn handle(&mut self, what: Ask, args: [u32; 4]) -> i32 {
        match what {
            Ask::Release => 0,
            Ask::Signal => self.signal(args),
            Ask::KernelLimit => set_kernel_limit(args[0], args[1]),
            Ask::Fault => arm_fault(args[0], args[1], args[2]),
            Ask::Trace => self.trace(args[0], args[1]),
            Ask::Reset => self.reset(),
        }
    }

    fn signal(&mut self, [pid, tid, sig, ticks]: [u32; 4]) -> i32 {
        if ticks == 0 {
            return send(pid, tid, sig);
        }
        let later = LaterSignal {
            ticks,
            pid,
            tid,
            sig,
        };
        match self.later.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some(later);
                0
            }
            None => sys::EAGAIN,
        }
    }

    fn send_due(&mut self) -> Option<u32> {
        for place in &mut self.later {
            if let Some(later) = place.take_if(|later| later.ticks == 0) {
                send(later.pid, later.tid, later.sig);
            }
        }
        self.later.iter().any(Option::is_some).then_some(1)
    }

    /// A tick passed without anything to do.
    fn tick(&mut self) {
        for later in self.later.iter_mut().flatten() {
            later.ticks = later.ticks.saturating_sub(1);
        }
    }

    fn trace(&mut self, action: u32, tid: u32) -> i32 {
        let request = |nr: u32, data: u32| sys::call(26, &[nr, tid, 0, data]);
        let Some(action) = PtraceAction::ALL.get(action as usize) else {
            return sys::EINVAL;
        };
        let result = match action {
            // PTRACE_O_TRACECLONE, TRACEVFORK, TRACEFORK, TRACEEXIT.
            PtraceAction::Seize => request(0x4206, 0x4e),
            PtraceAction::Attach => request(16, 0),
            PtraceAction::Interrupt => request(0x4207, 0),
            PtraceAction::Continue => request(7, 0),
            PtraceAction::Syscall => request(24, 0),
            PtraceAction::Detach => request(17, 0),
        };
        match action {
            _ if result < 0 => return result,
            PtraceAction::Seize | PtraceAction::Attach => {
                self.tracing = true;
                self.remember(tid);
            }
            PtraceAction::Detach => self.forget(tid),
            _ => {}
        }
        if matches!(action, PtraceAction::Attach | PtraceAction::Interrupt) {
            return self.await_stop(tid, *action);
        }
        result
    }

    fn remember(&mut self, tid: u32) {
        if let Some(place) = self.tracees.iter_mut().find(|place| **place == 0) {
            *place = tid;
        }
    }

    fn forget(&mut self, tid: u32) {
        for place in self.tracees.iter_mut().filter(|place| **place == tid) {
            *place = 0;
        }
    }

    fn await_stop(&mut self, tid: u32, action: PtraceAction) -> i32 {
        for _ in 0..20 {
            let (found, status) = sys::wait4(tid as i32, sys::WNOHANG | sys::WALL);
            if found != 0 {
                report_traced(tid, status);
                if action == PtraceAction::Attach {
                    sys::call(26, &[7, tid, 0, 0]);
                }
                return found.min(0);
            }
            sys::sleep_ticks(1);
        }
        sys::ETIMEDOUT
    }

    /// Lets tracees go on that stopped by themselves; new ones are known too.
    fn attend_tracees(&mut self) -> Option<u32> {
        if !self.tracing {
            return None;
        }
        for _ in 0..16 {
            let (found, status) = sys::wait4(-1, sys::WNOHANG | sys::WALL);
            // No child and no tracee is left. (A program may have more tasks
            // than are known by number.)
            self.tracing = found != sys::ECHILD;
            if found <= 0 {
                break;
            }
            let tid = found as u32;
            report_traced(tid, status);
            if status & 0xff == 0x7f {
                if !self.tracees.contains(&tid) {
                    self.remember(tid);
                }
                // A signal stop hands the signal on; event stops and SIGTRAP
                // and SIGSTOP of our own making hand on nothing.
                let sig = status >> 8 & 0xff;
                let sig = if status >> 16 != 0 || sig == 5 || sig == 0x85 || sig == 19 {
                    0
                } else {
                    sig
                };
                sys::call(26, &[7, tid, 0, sig]);
            } else {
                self.forget(tid);
            }
        }
        Some(1)
    }

    fn reset(&mut self) -> i32 {
        self.later = [None; 8];
        for at in 0..self.tracees.len() {
            let tid = self.tracees[at];
            if tid != 0 {
                sys::call(26, &[17, tid, 0, 0]);
            }
        }
        self.tracees = [0; 8];
        self.tracing = false;
        undo_limits();
        if let Some(server) = &mut self.server {
            server.release();
            server.invalidate();
        }
        0
    }
}

fn report_traced(tid: u32, status: u32) {
    Reporter::AGENT.report_as(tid, Detail::Traced { id: tid, status });
}

fn send(pid: u32, tid: u32, sig: u32) -> i32 {
    match tid {
        0 => sys::kill(pid, sig),
        _ => sys::tgkill(pid, tid, sig),
    }
}

const THREADS_MAX: &str = "/proc/sys/kernel/threads-max";
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// Bits of `Shared::undo`.
const UNDO_THREADS: u32 = 1;
const UNDO_PIDS: u32 = 2;
const UNDO_FAULT: u32 = 4;

fn set_kernel_limit(which: u32, headroom: u32) -> i32 {
    let shared = shared();
    if headroom == 255 {
        undo_limits();
        return 0;
    }
    if which == KernelLimitKind::ThreadsMax as u32 {
        if get(&shared.saved_threads_max) == 0 {
            set(&shared.saved_threads_max, read_number(THREADS_MAX));
        }
        set(&shared.undo, get(&shared.undo) | UNDO_THREADS);
        return write_number(THREADS_MAX, sys::task_count() + headroom);
    }
    if get(&shared.saved_pid_max) == 0 {
        set(&shared.saved_pid_max, read_number(PID_MAX));
    }
    set(&shared.undo, get(&shared.undo) | UNDO_PIDS);
    // Below 301 nothing is free: init keeps 300, and ids wrap to 300.
    write_number(PID_MAX, 301 + headroom.min(8))
}

fn undo_limits() {
    let shared = shared();
    let undo = get(&shared.undo);
    if undo & UNDO_THREADS != 0 {
        write_number(THREADS_MAX, get(&shared.saved_threads_max));
    }
    if undo & UNDO_PIDS != 0 {
        write_number(PID_MAX, get(&shared.saved_pid_max));
    }
    if undo & UNDO_FAULT != 0 {
        arm_fault(FaultKind::Off as u32, 0, 0);
    }
    set(&shared.undo, 0);
}

fn arm_fault(kind: u32, interval: u32, times: u32) -> i32 {
    let shared = shared();
    for (at, folder) in ["failslab", "fail_page_alloc"].iter().enumerate() {
        let armed = kind == at as u32;
        // First: armed without it, the next of these writes would fail itself.
        sys::write_file(debugfs(folder, "task-filter").text(), b"Y");
        let settings = [
            ("probability", if armed { 100 } else { 0 }),
            ("interval", interval.max(1)),
            ("times", times),
        ];
        for (name, value) in settings {
            let result = write_number(debugfs(folder, name).text(), value);
            if result < 0 {
                agent_error(AgentFault::Unsupported, result);
                return result;
            }
        }
    }
    set(&shared.undo, get(&shared.undo) | UNDO_FAULT);
    0
}

fn debugfs(folder: &str, name: &str) -> Line {
    let mut path = Line::new();
    let _ = write!(path, "/sys/kernel/debug/{folder}/{name}");
    path
}

fn read_number(path: &str) -> u32 {
    let mut room = [0; 16];
    let text = sys::read_file(path, &mut room).unwrap_or(b"");
    text.iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, byte| number * 10 + u32::from(byte - b'0'))
}

fn write_number(path: &str, number: u32) -> i32 {
    let mut text = Line::new();
    let _ = write!(text, "{number}");
    sys::write_file(path, text.text().as_bytes())
}
