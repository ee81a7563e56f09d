//! Signals, timers, alternate stacks.

use core::sync::atomic::Ordering::Relaxed;

use latefork_wire::layout::{ALT_STACKS, STACK_STRIDE, STACKS};
use latefork_wire::op::{
    AltStack, AltStackKind, Handle, Handling, Mask, OpIndex, Send, Sender, Sig, SigWait, Target,
    Timer, TimerKind,
};
use latefork_wire::trace::Detail;

use super::{Context, calls, process};
use crate::helper::{self, Ask};
use crate::shared::{Reporter, get, set, shared};
use crate::sys::{self, Timespec};

const ALT_STRIDE: u32 = 0x4000;
const ESRCH: i32 = -3;
const CALLS: u32 = 0x100;

/// Sets what a signal does.
pub fn handle(handle: &Handle) -> i32 {
    let sig = handle.sig.number();
    let handler = on_signal as *const () as u32;
    let info = sys::SA_SIGINFO;
    let calls_op = u32::from(handle.op.number()) | CALLS;
    let (handler, flags, op) = match handle.how {
        Handling::Record => (handler, info, 0),
        Handling::Restart => (handler, info | sys::SA_RESTART, 0),
        Handling::OnStack => (handler, info | sys::SA_ONSTACK, 0),
        Handling::NoDefer => (handler, info | sys::SA_NODEFER, 0),
        Handling::Once => (handler, info | sys::SA_RESETHAND, 0),
        Handling::Call => (handler, info, calls_op),
        Handling::CallOnStack => (handler, info | sys::SA_ONSTACK, calls_op),
        Handling::Ignore => (1, 0, 0),
        Handling::Default => (0, 0, 0),
    };
    set(&shared().handler_op[sig as usize % 64], op);
    sys::sigaction(sig, handler, flags)
}

/// The handler: an event, and the prepared call where there is one.
extern "C" fn on_signal(sig: u32, info: *const [u32; 6], _context: u32) {
    let here = core::ptr::from_ref(&sig) as u32;
    let on_alt = here.wrapping_sub(ALT_STACKS) < 4 * ALT_STRIDE;
    let thread = if on_alt {
        (here - ALT_STACKS) / ALT_STRIDE
    } else if here.wrapping_sub(STACKS) < 4 * STACK_STRIDE {
        (here - STACKS) / STACK_STRIDE
    } else {
        u32::from(u8::MAX)
    };
    // SAFETY: the kernel passes a siginfo of 128 bytes.
    let words = unsafe { *info };
    let shared = shared();
    let tid = sys::gettid();
    let at = sig as usize % 64;
    let count = shared.handled[at].fetch_add(1, Relaxed) + 1;
    let reporter = Reporter {
        thread: thread as u8,
        ..Reporter::AGENT
    };
    reporter.report_as(
        tid,
        Detail::Handler {
            sig,
            code: words[2],
            value: words[5],
            on_alt: u32::from(on_alt),
            worker: u32::from(shared.is_worker(tid)),
            count,
        },
    );
    let op = get(&shared.handler_op[at]);
    if op & CALLS != 0 && thread < 4 && count <= 4 {
        let op = OpIndex::new(op as u8);
        let context = Context {
            thread: thread as u8,
            op,
        };
        calls::run_prepared(context, op);
    }
}

/// Changes the mask.
pub fn mask(mask: &Mask) -> i32 {
    sys::sigprocmask(mask.how as u32, mask.set.bits());
    0
}

/// Sends signals; the last result.
pub fn send(context: Context, send: &Send) -> i32 {
    if is_fatal(send.sig) && send.to != Target::Child {
        process::leaving(context, process::SIGNAL, send.sig.number());
    }
    let mut result = 0;
    for _ in 0..=send.more % 16 {
        result = send_one(send);
    }
    result
}

/// Whether a signal ends the process where nothing handles it.
fn is_fatal(sig: Sig) -> bool {
    !matches!(
        sig,
        Sig::Chld | Sig::Stop | Sig::Cont | Sig::Tstp | Sig::Urg
    )
}

fn send_one(send: &Send) -> i32 {
    let shared = shared();
    let sig = send.sig.number();
    let leader = get(&shared.leader);
    let thread = &shared.threads[send.thread.index()];
    let (pid, tid) = match send.to {
        Target::Process | Target::Queue => (leader, 0),
        Target::Thread | Target::QueueThread => (leader, get(&thread.now)),
        Target::OldThread => (leader, get(&thread.first)),
        Target::Child => match get(&shared.child_count) {
            0 => return ESRCH,
            count => (get(&shared.children[(count - 1) as usize % 8]), 0),
        },
    };
    let to_thread = !matches!(send.to, Target::Process | Target::Queue | Target::Child);
    if pid == 0 || (to_thread && tid == 0) {
        return ESRCH;
    }
    match send.from {
        Sender::Helper => return helper::ask(Ask::Signal, [pid, tid, sig, 0]),
        Sender::HelperLater => {
            let ticks = u32::from(send.value).clamp(1, 50);
            return helper::ask(Ask::Signal, [pid, tid, sig, ticks]);
        }
        Sender::Thread => {}
    }
    // siginfo: signo, errno, SI_QUEUE, pid, uid, value.
    let mut info = [0_u32; 32];
    info[0] = sig;
    info[2] = -1_i32 as u32;
    info[3] = leader;
    info[5] = u32::from(send.value);
    let info = info.as_ptr() as u32;
    match send.to {
        Target::Queue => sys::call(178, &[pid, sig, info]),
        Target::QueueThread => sys::call(335, &[pid, tid, sig, info]),
        _ if to_thread => sys::tgkill(pid, tid, sig),
        _ => sys::kill(pid, sig),
    }
}

/// Sets the alternate stack.
pub fn altstack(context: Context, stack: &AltStack) -> i32 {
    let bottom = ALT_STACKS + u32::from(context.thread) * ALT_STRIDE;
    // stack_t: ss_sp, ss_flags, ss_size; SS_DISABLE is 2.
    let stack = match stack.kind {
        AltStackKind::On => [bottom, 0, 0x2000],
        AltStackKind::Small => [bottom, 0, 0x800],
        AltStackKind::Off => [0, 2, 0],
    };
    sys::call(186, &[stack.as_ptr() as u32, 0])
}

/// Arms or disarms timers.
pub fn timer(context: Context, timer: &Timer) -> i32 {
    let ticks = u32::from(timer.ticks).clamp(1, 50);
    match timer.kind {
        TimerKind::Real => set_real(ticks),
        TimerKind::Process => create(timer.sig, 0, ticks),
        TimerKind::Thread => {
            let tid = get(&shared().threads[usize::from(context.thread)].now);
            create(timer.sig, tid, ticks)
        }
        TimerKind::Disarm => disarm(),
    }
}

fn set_real(ticks: u32) -> i32 {
    let value = [0, 0, ticks / 100, ticks % 100 * 10_000];
    sys::call(104, &[0, value.as_ptr() as u32, 0])
}

/// timer_create and timer_settime (64-bit); SIGEV_THREAD_ID for a `tid`.
fn create(sig: Sig, tid: u32, ticks: u32) -> i32 {
    let shared = shared();
    // struct sigevent: value, signo, notify (0 SIGNAL, 4 THREAD_ID), tid.
    let mut event = [0_u32; 16];
    event[0] = 0x71;
    event[1] = sig.number();
    event[2] = if tid == 0 { 0 } else { 4 };
    event[3] = tid;
    let mut id = 0_u32;
    let made = sys::call(
        259,
        &[
            1,
            event.as_ptr() as u32,
            core::ptr::from_mut(&mut id) as u32,
        ],
    );
    if made < 0 {
        return made;
    }
    let at = shared.timer_count.fetch_add(1, Relaxed) as usize % 8;
    set(&shared.timers[at], id);
    let spec = [Timespec::ticks(0), Timespec::ticks(ticks)];
    sys::call(409, &[id, 0, spec.as_ptr() as u32, 0])
}

fn disarm() -> i32 {
    let shared = shared();
    sys::call(104, &[0, [0_u32; 4].as_ptr() as u32, 0]);
    let count = get(&shared.timer_count).min(8) as usize;
    for timer in &shared.timers[..count] {
        sys::call(263, &[get(timer)]);
    }
    set(&shared.timer_count, 0);
    0
}

/// rt_sigtimedwait (64-bit time): the signal or an error.
pub fn sigwait(wait: &SigWait) -> i32 {
    let set = wait.set.bits();
    let time = Timespec::ticks(u32::from(wait.ticks).min(50));
    sys::call(
        421,
        &[
            core::ptr::from_ref(&set) as u32,
            0,
            core::ptr::from_ref(&time) as u32,
            8,
        ],
    )
}
