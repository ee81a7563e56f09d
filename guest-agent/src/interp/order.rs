//! Operations that give a program its order: flags, waits, sleeps. Every wait
//! has a limit.

use core::sync::atomic::Ordering::{Acquire, Release};

use latefork_wire::op::{Await, AwaitHeld, AwaitStatus, AwaitWorker, Raise, Sleep, Yield};
use latefork_wire::trace::Detail;

use super::{Context, Flow, calls, waited};
use crate::shared::{Word, get, shared};
use crate::sys;
use crate::tasks::{self, Life};

/// Sleeps of a tick until `done` or `ticks` are over.
fn poll_ticks(ticks: u8, mut done: impl FnMut() -> bool) -> bool {
    for _ in 0..ticks {
        if done() {
            return true;
        }
        sys::sleep_ticks(1);
    }
    done()
}

/// Waits on a futex word until it satisfies `done`.
fn wait_word(word: &Word, ticks: u8, done: impl Fn(u32) -> bool) -> bool {
    for _ in 0..=ticks {
        let value = word.load(Acquire);
        if done(value) {
            return true;
        }
        sys::futex_wait(word, value, Some(1));
    }
    done(word.load(Acquire))
}

/// Waits until the server holds so many requests; how many it holds, or
/// -ETIMEDOUT.
pub fn await_held(wait: &AwaitHeld) -> i32 {
    let held = &shared().fuse[wait.file.index()].held;
    let count = u32::from(wait.count).clamp(1, 48);
    match wait_word(held, wait.ticks, |held| held >= count) {
        true => get(held) as i32,
        false => sys::ETIMEDOUT,
    }
}

/// Raises a flag.
pub fn raise(raise: &Raise) -> i32 {
    let flag = &shared().flags[usize::from(raise.flag % 8)];
    flag.fetch_add(1, Release);
    sys::futex_wake(flag);
    0
}

/// Waits for a flag.
pub fn await_flag(wait: &Await) -> i32 {
    let flag = &shared().flags[usize::from(wait.flag % 8)];
    match wait_word(flag, wait.ticks, |flag| flag > 0) {
        true => 0,
        false => sys::ETIMEDOUT,
    }
}

/// Waits for a status.
pub fn await_status(context: Context, wait: &AwaitStatus) -> Flow {
    let mut status = None;
    let came = poll_ticks(wait.ticks, || {
        status = calls::status_now(context, wait.op);
        status.is_some()
    });
    waited(context, came, status.unwrap_or(0))
}

/// Waits until the task that issued a call is gone; the group's leader stays as
/// a zombie, another is one for a moment only and can still be signalled then.
/// Without a fork that task is the continuation itself: nothing to wait for.
pub fn await_worker(context: Context, wait: &AwaitWorker) -> Flow {
    let tid = get(&shared().call(wait.op).from);
    if tid == 0 || !shared().is_worker(tid) {
        return waited(context, true, 0);
    }
    let is_leader = tid == sys::getpid();
    let mut life = Life::Lives;
    let gone = poll_ticks(wait.ticks, || {
        life = tasks::life(sys::getpid(), tid);
        life != Life::Lives && (is_leader || life != Life::Zombie)
    });
    if gone {
        context.reporter().report(Detail::WorkerGone {
            id: tid,
            zombie: u32::from(life == Life::Zombie),
        });
    }
    waited(context, gone, tid)
}

/// Sleeps.
pub fn sleep(sleep: &Sleep) -> i32 {
    let ticks = u32::from(sleep.ticks).min(50);
    match get(&shared().stepwise) {
        0 => sys::sleep_ticks(ticks),
        _ => (0..ticks).for_each(|_| sys::sleep_ticks(1)),
    }
    0
}

/// Yields.
pub fn yield_cpu(more: &Yield) -> i32 {
    for _ in 0..=more.more % 16 {
        sys::sched_yield();
    }
    0
}
