//! Threads, children, exec, exit, ptrace.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use latefork_wire::op::{Exec, ExecKind, Exit, Fork, ForkKind, OpIndex, Ptrace, Spawn, Wait};
use latefork_wire::trace::Detail;

use super::{Context, Flow, run_some};
use crate::helper::{self, Ask};
use crate::shared::{VFORK_BYTES, VFORK_STACK, get, set, shared};
use crate::sys::{self, CPath};
use crate::victim::{self, Leave, Stack};
use crate::{rt, shared};

/// Name under which the agent's image runs when a victim executes it.
pub const EXECUTED: &str = "lf-executed";

static CHILD_OPS: AtomicU32 = AtomicU32::new(0);
static CHILD_CODE: AtomicU32 = AtomicU32::new(0);

/// Starts a thread.
pub fn spawn(spawn: &Spawn) -> i32 {
    let stack = if spawn.tiny % 2 == 1 {
        Stack::Tiny
    } else {
        Stack::Ordinary
    };
    victim::spawn(spawn.thread, stack).min(0)
}

/// Makes a child; its steps are skipped here. A child's child takes none of the
/// steps that the child leaves to its parent: each step is one process's.
pub fn fork(context: Context, fork: &Fork, left: u8) -> Flow {
    CHILD_OPS.store(u32::from(fork.ops.min(left)), Relaxed);
    CHILD_CODE.store(u32::from(fork.code), Relaxed);
    let made = match fork.kind {
        ForkKind::Fork => sys::fork(),
        ForkKind::Sibling => sys::call(120, &[sys::CLONE_PARENT | sys::SIGCHLD]),
        ForkKind::Vfork => vfork(context),
    };
    if made == 0 {
        run_child(context);
    }
    set(
        &shared().threads[usize::from(context.thread)].now,
        sys::gettid(),
    );
    if made > 0 {
        remember_child(made);
    }
    context.reporter().done(made.min(0));
    Flow::Skip(fork.ops)
}

/// vfork as the kernel knows it, on a stack of the child's own: two returns
/// from one function would share a frame.
fn vfork(context: Context) -> i32 {
    let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS;
    let rw = sys::PROT_READ | sys::PROT_WRITE;
    let mapped = sys::map_fixed(VFORK_STACK, VFORK_BYTES, rw, flags, -1);
    if mapped as u32 != VFORK_STACK {
        return mapped;
    }
    let argument = u32::from(context.thread) | u32::from(context.op.number()) << 8;
    let flags = sys::CLONE_VM | sys::CLONE_VFORK | sys::SIGCHLD;
    // SAFETY: mapped above, for this child alone.
    unsafe {
        rt::clone(
            flags,
            VFORK_STACK + VFORK_BYTES,
            vfork_child,
            argument,
            (0, 0),
        )
    }
}

extern "C" fn vfork_child(argument: u32) -> u32 {
    run_child(Context {
        thread: argument as u8,
        op: OpIndex::new((argument >> 8) as u8),
    })
}

/// The child's life: the steps that follow, then its exit code.
fn run_child(context: Context) -> ! {
    if !shared::in_vfork_child() {
        shared::become_child();
    }
    let ops = CHILD_OPS.load(Relaxed) as u8;
    let end = shared().program().len();
    if ops > 0 {
        run_some(context.thread, context.op.index() + 1, end, ops.min(254));
    }
    sys::exit_group(CHILD_CODE.load(Relaxed))
}

/// Makes a child that does nothing until it is killed; 0 or an error.
pub fn keep_a_child() -> i32 {
    let made = sys::fork();
    if made == 0 {
        loop {
            sys::sleep_ticks(100);
        }
    }
    if made > 0 {
        remember_child(made);
    }
    made.min(0)
}

fn remember_child(pid: i32) {
    let number = shared().child_count.fetch_add(1, Relaxed);
    set(&shared().children[number as usize % 8], pid as u32);
}

/// Waits for any child.
pub fn wait(context: Context, wait: &Wait) -> Flow {
    for _ in 0..=wait.ticks {
        let (pid, status) = sys::wait4(-1, sys::WNOHANG);
        if pid < 0 {
            return Flow::Done(pid);
        }
        if pid > 0 {
            let pid = pid as u32;
            let children = &shared().children;
            let number = children.iter().position(|child| get(child) == pid);
            context.reporter().report(Detail::Child {
                pid,
                status,
                number: number.map_or(u32::MAX, |number| number as u32),
            });
            return Flow::Reported;
        }
        sys::sleep_ticks(1);
    }
    Flow::Done(sys::ETIMEDOUT)
}

/// Ways of `leaving` events.
pub const EXIT: u32 = 0;
pub const EXIT_GROUP: u32 = 1;
pub const EXECVE: u32 = 2;
pub const SIGNAL: u32 = 3;

/// Reports what may be this thread's last step.
pub fn leaving(context: Context, how: u32, code: u32) {
    context.reporter().report(Detail::Leaving { how, code });
}

/// Executes; returns only an error.
pub fn exec(context: Context, exec: &Exec) -> i32 {
    leaving(context, EXECVE, exec.kind as u32);
    let path = CPath::new(match exec.kind {
        ExecKind::Agent => "/init",
        ExecKind::Missing => "/t/missing",
        ExecKind::NoProgram => "/t/file",
    });
    let name = CPath::new(EXECUTED);
    let argv = [name.address(), 0];
    let envp = [0_u32];
    sys::call(
        11,
        &[path.address(), argv.as_ptr() as u32, envp.as_ptr() as u32],
    )
}

/// Ends the thread, or the child that runs this step.
pub fn exit(context: Context, exit: &Exit) -> Flow {
    let code = u32::from(exit.code);
    leaving(context, EXIT, code);
    if shared::in_child() {
        sys::exit_group(code);
    }
    victim::end_thread(context.thread, Leave::Exit);
    sys::exit(code)
}

/// Ends the victim.
pub fn exit_group(context: Context, exit: &Exit) -> Flow {
    leaving(context, EXIT_GROUP, u32::from(exit.code));
    sys::exit_group(u32::from(exit.code))
}

/// Lets the helper trace a thread.
pub fn ptrace(trace: &Ptrace) -> i32 {
    let tid = get(&shared().threads[trace.thread.index()].now);
    if tid == 0 {
        return -3;
    }
    set(&shared().traced, 1);
    helper::ask(Ask::Trace, [trace.action as u32, tid, 0, 0])
}
