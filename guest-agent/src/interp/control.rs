//! The control run: the plain call in a helper thread.
//!
//! Rules 1 to 4 of the ABI are applied here, and the status is stored by the
//! helper thread as the worker would: what then goes wrong is the kernel's
//! own, with no async call in it.

use core::sync::atomic::{AtomicU32, Ordering::AcqRel};

use latefork_wire::call::{ASYNC_INDEX, DESCRIPTORS};
use latefork_wire::layout::{PAGE, slot, slot_of};
use latefork_wire::resolve::{Ground, ground};
use latefork_wire::trace::AgentFault;

use super::Context;
use super::calls::{Ready, plain_number};
use crate::memory;
use crate::shared::{agent_error, get, set, shared};
use crate::{rt, sys};

/// Stacks of the helper threads, two pages each, a hole between.
const STACKS: u32 = 0x4200_0000;
const STACK_STRIDE: u32 = 4 * PAGE;
const MOST: u32 = 64;
/// Lane of the guarded copies that helper threads make.
const LANE: u32 = 7;

static MADE: AtomicU32 = AtomicU32::new(0);
static STORING: AtomicU32 = AtomicU32::new(0);

/// What a helper thread does, at the bottom of its stack.
#[repr(C)]
struct Job {
    number: u32,
    values: [u32; 6],
    status: u32,
    op: u32,
    fixed: u32,
}

/// Makes the call as the control run does; what `async` would return.
pub fn make(context: Context, ready: &Ready) -> u32 {
    // The stub counts one continuation; here it is this thread itself.
    memory::stage(
        slot_of(context.op.number()) + slot::CONTINUATIONS,
        &1_u32.to_le_bytes(),
        context.lane(),
    );
    let row = DESCRIPTORS.get(ready.index as usize);
    let Some(row) = row.filter(|row| row.plain.is_some() && row.claims <= 6) else {
        return sys::EINVAL as u32;
    };
    let mut bytes = [0; 24];
    let wanted = usize::from(row.claims) * 4;
    if wanted > 0 {
        let got = memory::get_guarded(ready.args, &mut bytes[..wanted], context.lane());
        if got != wanted as i32 {
            return sys::EFAULT as u32;
        }
    }
    let values = core::array::from_fn(|at| {
        let four = &bytes[at * 4..at * 4 + 4];
        u32::from_le_bytes([four[0], four[1], four[2], four[3]])
    });
    let nested = ready.index == u32::from(ASYNC_INDEX);
    start(Job {
        number: plain_number(ready.index).unwrap_or(20),
        values,
        status: ready.status,
        op: u32::from(context.op.number()),
        fixed: if nested { sys::EINVAL as u32 } else { 0 },
    });
    0
}

fn start(job: Job) {
    let state = &shared().calls[job.op as usize % 64];
    set(&state.control, 1);
    let number = MADE.fetch_add(1, AcqRel);
    let bottom = STACKS + number % MOST * STACK_STRIDE;
    if number >= MOST {
        // Too many helpers: this one is the caller.
        work(&job);
        return;
    }
    let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS;
    let rw = sys::PROT_READ | sys::PROT_WRITE;
    let mapped = sys::map_fixed(bottom, 2 * PAGE, rw, flags, -1);
    if mapped as u32 != bottom {
        agent_error(AgentFault::Map, mapped);
        work(&job);
        return;
    }
    // SAFETY: freshly mapped, and the stack grows towards it from above.
    unsafe { core::ptr::write(bottom as *mut Job, job) };
    let flags = sys::CLONE_VM
        | sys::CLONE_FS
        | sys::CLONE_FILES
        | sys::CLONE_SIGHAND
        | sys::CLONE_THREAD
        | sys::CLONE_SYSVSEM;
    // A worker takes no signals, so its stand-in does not either.
    let mask = sys::sigprocmask(0, u64::MAX);
    // SAFETY: the stack was mapped above, for this thread alone.
    let made = unsafe { rt::clone(flags, bottom + 2 * PAGE, helper, bottom, (0, 0)) };
    sys::sigprocmask(2, mask);
    if made < 0 {
        // As a failed delayed fork: the call goes on in this thread.
        // SAFETY: written above.
        work(unsafe { &*(bottom as *const Job) });
        return;
    }
    for _ in 0..4 {
        if get(&state.control) == 0 {
            break;
        }
        sys::sched_yield();
    }
}

extern "C" fn helper(bottom: u32) -> u32 {
    // SAFETY: `start` wrote the job there.
    work(unsafe { &*(bottom as *const Job) });
    0
}

fn work(job: &Job) {
    let value = match job.fixed {
        0 => sys::call(job.number, &job.values) as u32,
        fixed => fixed,
    };
    store(job.status, value);
    set(&shared().calls[job.op as usize % 64].control, 0);
}

fn store(status: u32, value: u32) {
    let plain = |at: u32| matches!(ground(at), Ground::Plain);
    if plain(status) && status.checked_add(3).is_some_and(plain) {
        memory::stage(status, &value.to_le_bytes(), LANE);
        return;
    }
    while STORING.swap(1, AcqRel) == 1 {
        sys::sched_yield();
    }
    memory::put_guarded(status, &value.to_le_bytes(), LANE);
    STORING.store(0, core::sync::atomic::Ordering::Release);
}
