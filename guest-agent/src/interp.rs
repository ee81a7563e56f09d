//! Runs a program's steps, in the victim.

pub mod account;
pub mod calls;
mod control;
mod memory_ops;
mod objects;
mod order;
mod process;
pub use process::EXECUTED;
mod registers;
mod signals;
pub mod surroundings;
mod table;
mod values;

use latefork_wire::op::{Op, OpIndex};
use latefork_wire::trace::Detail;

use crate::shared::{Reporter, shared};

/// Whether a thread goes on with its next step.
pub enum Flow {
    /// The operation's result, for the trace.
    Done(i32),
    /// The operation reported by itself.
    Reported,
    /// Skip so many of the thread's own steps: a child ran them.
    Skip(u8),
}

/// A step under way.
#[derive(Clone, Copy)]
pub struct Context {
    pub thread: u8,
    pub op: OpIndex,
}

impl Context {
    /// Reports in the name of this step.
    pub fn reporter(self) -> Reporter {
        Reporter::new(self.thread, self.op)
    }

    /// The lane for guarded copies.
    pub fn lane(self) -> u32 {
        u32::from(self.thread)
    }
}

/// Runs the steps of `thread` from `start` to before `end`.
pub fn run_steps(thread: u8, start: usize, end: usize) {
    run_some(thread, start, end, u8::MAX);
}

/// Runs at most `most` steps of `thread`.
pub fn run_some(thread: u8, start: usize, end: usize, most: u8) {
    let program = shared().program();
    let mut left = most;
    let mut skip = 0;
    for at in start..end {
        if program.thread(at).number() != thread {
            continue;
        }
        if left == 0 {
            return;
        }
        if most != u8::MAX {
            left -= 1;
        }
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let context = Context {
            thread,
            op: OpIndex::new(at as u8),
        };
        match run_op(context, &program.step(at).op, left) {
            Flow::Done(value) => context.reporter().done(value),
            Flow::Reported => {}
            Flow::Skip(steps) => skip = steps,
        }
        calls::notice_statuses(context);
    }
}

/// Runs one step of a task that runs `left` more, which is `u8::MAX` without a
/// limit.
fn run_op(context: Context, op: &Op, left: u8) -> Flow {
    match op {
        Op::Nop(_) => Flow::Reported,
        Op::Async(call) => calls::run(context, call),
        Op::Plain(call) => calls::run_plain(context, call),
        Op::Prepare(call) => {
            calls::prepare(context, call);
            Flow::Reported
        }
        Op::Privilege(privilege) => Flow::Done(surroundings::take_privilege(privilege.case)),
        Op::Rlimit(limit) => Flow::Done(surroundings::set_rlimit(limit)),
        Op::KernelLimit(limit) => Flow::Done(surroundings::set_kernel_limit(limit)),
        Op::Fault(fault) => Flow::Done(surroundings::arm_fault(fault)),
        Op::Create(create) => Flow::Done(objects::create(create)),
        Op::Close(close) => Flow::Done(objects::close(close)),
        Op::Feed(feed) => Flow::Done(objects::feed(feed)),
        Op::Drain(drain) => Flow::Done(objects::drain(drain)),
        Op::NonBlock(nonblock) => Flow::Done(objects::nonblock(nonblock)),
        Op::Fuse(fuse) => Flow::Done(objects::fuse(fuse)),
        Op::AwaitHeld(held) => Flow::Done(order::await_held(held)),
        Op::Map(map) => Flow::Done(memory_ops::map(map)),
        Op::Protect(protect) => Flow::Done(memory_ops::protect(protect)),
        Op::Unmap(unmap) => Flow::Done(memory_ops::unmap(unmap)),
        Op::Discard(discard) => Flow::Done(memory_ops::discard(discard)),
        Op::Poke(poke) => Flow::Done(memory_ops::poke(context, poke)),
        Op::Touch(touch) => Flow::Done(memory_ops::touch(context, touch)),
        Op::Handle(handle) => Flow::Done(signals::handle(handle)),
        Op::Mask(mask) => Flow::Done(signals::mask(mask)),
        Op::Send(send) => Flow::Done(signals::send(context, send)),
        Op::AltStack(stack) => Flow::Done(signals::altstack(context, stack)),
        Op::Timer(timer) => Flow::Done(signals::timer(context, timer)),
        Op::SigWait(wait) => Flow::Done(signals::sigwait(wait)),
        Op::Spawn(spawn) => Flow::Done(process::spawn(spawn)),
        Op::Fork(fork) => process::fork(context, fork, left),
        Op::Wait(wait) => process::wait(context, wait),
        Op::Exec(exec) => Flow::Done(process::exec(context, exec)),
        Op::Exit(exit) => process::exit(context, exit),
        Op::ExitGroup(exit) => process::exit_group(context, exit),
        Op::Ptrace(trace) => Flow::Done(process::ptrace(trace)),
        Op::Raise(raise) => Flow::Done(order::raise(raise)),
        Op::Await(flag) => Flow::Done(order::await_flag(flag)),
        Op::AwaitStatus(wait) => order::await_status(context, wait),
        Op::AwaitWorker(wait) => order::await_worker(context, wait),
        Op::Sleep(sleep) => Flow::Done(order::sleep(sleep)),
        Op::Yield(more) => Flow::Done(order::yield_cpu(more)),
        Op::Arm(arm) => Flow::Done(table::arm(context, arm)),
        Op::Observe(observe) => table::observe(context, observe.what),
    }
}

/// Reports a waited-for value.
fn waited(context: Context, came: bool, value: u32) -> Flow {
    context.reporter().report(Detail::Waited {
        came: u32::from(came),
        value,
    });
    Flow::Reported
}
