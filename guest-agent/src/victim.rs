//! The victim: parked until a program comes, then its threads.

use core::sync::atomic::Ordering::{AcqRel, Acquire};

use latefork_wire::frame::Flavour;
use latefork_wire::layout::{STACK_BYTES, STACK_CELLS, STACK_STRIDE, STACKS};
use latefork_wire::op::Thread;
use latefork_wire::program::{Ending, Start};
use latefork_wire::trace::Detail;

use crate::shared::{Reporter, get, set, shared};
use crate::{helper, interp, kernel, memory};
use crate::{rt, sys};

/// Bits of `Shared::state`.
pub const STEPS_DONE: u32 = 1;
pub const FINALS_WRITTEN: u32 = 2;
pub const CHILD_ENDED: u32 = 4;

/// Values of `Shared::finish`.
pub const WRITE_FINALS: u32 = 1;
pub const END_NOW: u32 = 2;

/// The victim's life, in a new process.
pub fn run() -> ! {
    sys::sigaction(sys::SIGCHLD, 0, 0);
    give_segments();
    for fd in 0..3 {
        // A program never writes to the console.
        sys::dup2(memory::NULL_FD, fd);
    }
    for fd in [helper::KICK_READ, helper::FUSE_FD, crate::link::VSOCK_FD] {
        sys::close(fd);
    }
    // SAFETY: init mapped the stack of thread 0; it is used only here.
    unsafe { enter_stack(stack_top(0)) }
}

/// Continues in `parked` on another stack.
unsafe fn enter_stack(top: u32) -> ! {
    // SAFETY: the caller hands the stack over; nothing of the old one is
    // needed again.
    unsafe {
        core::arch::asm!(
            "mov esp, {top:e}",
            "xor ebp, ebp",
            // The C convention wants a multiple of 16 at a call.
            "and esp, -16",
            "call {parked}",
            "ud2",
            top = in(reg) top,
            parked = sym parked,
            options(noreturn),
        )
    }
}

extern "C" fn parked() -> ! {
    let shared = shared();
    memory::touch_what_programs_use();
    set(&shared.parked, 1);
    while shared.go.load(Acquire) == 0 {
        sys::futex_wait(&shared.go, 0, None);
    }
    kernel::mark();
    start_program();
    thread_main(0);
    sys::exit(0)
}

/// TLS entries for fs and gs, so that both hold something.
fn give_segments() {
    let mut selectors = [0; 2];
    for (at, selector) in selectors.iter_mut().enumerate() {
        // struct user_desc: entry, base, limit, flags (32-bit segment,
        // limit in pages, usable).
        let mut descriptor = [u32::MAX, 0x1000 * at as u32, 0xf_ffff, 0x51];
        let made = sys::call(243, &[descriptor.as_mut_ptr() as u32]);
        if made == 0 {
            *selector = descriptor[0] << 3 | 3;
        }
    }
    rt::set_segments(selectors[0], selectors[1]);
}

/// The top of a thread's stack, below its cells.
fn stack_top(thread: u32) -> u32 {
    STACKS + thread * STACK_STRIDE + STACK_BYTES - STACK_CELLS
}

fn start_program() {
    let shared = shared();
    let program = shared.program();
    let setup = program.setup();
    set(&shared.leader, sys::getpid());
    begin_thread(0);
    Reporter {
        thread: 0,
        ..Reporter::AGENT
    }
    .report(Detail::Begin {
        pid: get(&shared.leader),
        parent: sys::getppid(),
        tasks: get(&shared.baseline),
        flavour: match shared.is_control() {
            true => Flavour::Control as u32,
            false => Flavour::Async as u32,
        },
        ms: sys::now_ms(),
    });
    interp::surroundings::take_privilege(setup.privilege);
    if setup.nproc != 0 {
        interp::surroundings::set_nproc(u32::from(setup.nproc));
    }
    if setup.start == Start::All {
        for thread in 1..4 {
            if (0..program.len()).any(|at| program.thread(at).number() == thread) {
                spawn(Thread::new(thread), Stack::Ordinary);
            }
        }
    }
}

/// Size of a new thread's stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    Ordinary,
    /// One page, with a hole below.
    Tiny,
}

const THREAD_FLAGS: u32 = sys::CLONE_VM
    | sys::CLONE_FS
    | sys::CLONE_FILES
    | sys::CLONE_SIGHAND
    | sys::CLONE_THREAD
    | sys::CLONE_SYSVSEM;
const CLONE_PARENT_SETTID: u32 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u32 = 0x20_0000;

/// Starts one of the program's threads, once; its id or an error.
pub fn spawn(thread: Thread, stack: Stack) -> i32 {
    let shared = shared();
    let number = u32::from(thread.number());
    let state = &shared.threads[thread.index()];
    if state.phase.compare_exchange(0, 1, AcqRel, Acquire).is_err() {
        return sys::EAGAIN;
    }
    if stack == Stack::Tiny {
        let bottom = STACKS + number * STACK_STRIDE;
        sys::munmap(bottom, STACK_BYTES - latefork_wire::layout::PAGE);
    }
    shared.live.fetch_add(1, AcqRel);
    set(&state.cleared, 1);
    let flags = THREAD_FLAGS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    let tids = (state.now.as_ptr() as u32, state.cleared.as_ptr() as u32);
    // SAFETY: the thread's own stack, which no other thread uses.
    let made = unsafe { rt::clone(flags, stack_top(number), started, number, tids) };
    if made < 0 {
        set(&state.phase, 0);
        shared.live.fetch_sub(1, AcqRel);
    }
    made
}

extern "C" fn started(thread: u32) -> u32 {
    let number = (thread % 4) as u8;
    set(&shared().threads[usize::from(number)].first, sys::gettid());
    thread_main(number);
    0
}

fn begin_thread(thread: u8) {
    let shared = shared();
    let state = &shared.threads[usize::from(thread)];
    let tid = sys::gettid();
    set(&state.first, tid);
    set(&state.now, tid);
    set(&state.phase, 1);
    shared.live.fetch_add(1, AcqRel);
}

/// Runs a thread's steps, then takes part in the program's end.
fn thread_main(thread: u8) {
    let steps = shared().program().len();
    interp::run_steps(thread, 0, steps);
    end_thread(thread, Leave::Stay);
}

/// Whether the thread stays for the program's end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It waits until the agent ends the program.
    Stay,
    /// It exits now, by a step of its own.
    Exit,
}

/// A thread has no more steps.
pub fn end_thread(thread: u8, leave: Leave) {
    let shared = shared();
    let state = &shared.threads[usize::from(thread)];
    Reporter {
        thread,
        ..Reporter::AGENT
    }
    .report(Detail::ThreadEnd {
        first: get(&state.first),
    });
    set(&state.phase, if leave == Leave::Stay { 2 } else { 3 });
    let last = shared.live.fetch_sub(1, AcqRel) == 1;
    if leave == Leave::Exit {
        if last {
            finals_if_quiet();
        }
        return;
    }
    if last {
        finals_if_quiet();
    }
    end_as_told(last);
}

/// The last thread writes the finals at once where nothing is open, else when
/// the agent has drained FUSE.
fn finals_if_quiet() {
    let shared = shared();
    let held = shared.fuse.iter().any(|file| get(&file.held) != 0);
    let rest = shared.program().setup().rest;
    if shared.pending_count() == 0 && !held && rest == 0 {
        interp::calls::write_finals();
        announce(FINALS_WRITTEN);
        return;
    }
    announce(STEPS_DONE);
    while get(&shared.finish) == 0 {
        sys::futex_wait(&shared.finish, 0, None);
    }
    interp::calls::write_finals();
    announce(FINALS_WRITTEN);
}

fn announce(bit: u32) {
    let shared = shared();
    shared.state.fetch_or(bit, AcqRel);
    sys::futex_wake(&shared.state);
}

fn end_as_told(last: bool) {
    let shared = shared();
    loop {
        let finish = get(&shared.finish);
        if finish == END_NOW {
            break;
        }
        sys::futex_wait(&shared.finish, finish, None);
    }
    let setup = shared.program().setup();
    let code = u32::from(setup.code);
    match setup.ending {
        Ending::ExitGroup if last => sys::exit_group(code),
        Ending::Exit => sys::exit(code),
        // The agent kills it, or another thread ends the group.
        Ending::ExitGroup | Ending::Kill => loop {
            sys::sleep_ticks(100);
        },
    }
}
