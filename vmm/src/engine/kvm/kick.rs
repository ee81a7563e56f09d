//! Kicks: what ends a run of the guest that does not end by itself.
//!
//! Two timers of the thread send it signals. Both signals are blocked except
//! while KVM_RUN runs (KVM_SET_SIGNAL_MASK), so one that comes a moment before
//! it still ends it: no kick is lost, and no handler is needed.
//!
//! One timer counts processor time of the thread, which time in the guest is
//! part of: this is what gives a busy guest its ticks, and a slow or crowded
//! host cannot make it tick faster than it runs. The other one follows the wall
//! clock and is only there to look at the deadline.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Processor time between two kicks; as much virtual time passes at each.
pub(super) const TICK: Duration = Duration::from_millis(4);
/// Wall-clock time between two looks at the deadline.
const LOOK: Duration = Duration::from_millis(100);

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kick {
    /// The thread has used [`TICK`] of processor time.
    Tick,
    /// The wall clock: time to look at the deadline.
    Look,
}

/// The timers of one thread.
#[derive(Debug)]
pub(super) struct Kicker {
    timers: [libc::timer_t; 2],
}

thread_local! {
    static KICKER: RefCell<Weak<Kicker>> = const { RefCell::new(Weak::new()) };
}

fn signals() -> [(Kick, libc::c_int); 2] {
    let first = libc::SIGRTMIN();
    [(Kick::Tick, first + 5), (Kick::Look, first + 6)]
}

impl Kicker {
    /// This thread's timers, started if it has none.
    pub(super) fn of_this_thread() -> io::Result<Rc<Self>> {
        KICKER.with_borrow_mut(|known| {
            if let Some(kicker) = known.upgrade() {
                return Ok(kicker);
            }
            let kicker = Rc::new(Self::start()?);
            *known = Rc::downgrade(&kicker);
            Ok(kicker)
        })
    }

    fn start() -> io::Result<Self> {
        let set = kick_set();
        // SAFETY: the set is initialised, and the old one is not asked for.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        let [(_, tick), (_, look)] = signals();
        let first = start_timer(libc::CLOCK_THREAD_CPUTIME_ID, tick, TICK)?;
        let second = match start_timer(libc::CLOCK_MONOTONIC, look, LOOK) {
            Ok(timer) => timer,
            Err(error) => {
                stop_timer(first);
                return Err(error);
            }
        };
        Ok(Self {
            timers: [first, second],
        })
    }

    /// The signals that stay blocked while the guest runs: all that are
    /// blocked now but the kicks; bit 0 is signal 1.
    pub(super) fn blocked_while_running() -> io::Result<u64> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: no new set is given; the old one has room to be written to.
        let result =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: the call has succeeded, so it has written the set.
        let set = unsafe { set.assume_init() };
        let kicks = signals().map(|(_, number)| number);
        let blocked = (1..=64)
            .filter(|number| !kicks.contains(number))
            // SAFETY: the set is initialised.
            .filter(|&number| unsafe { libc::sigismember(&set, number) } == 1)
            .fold(0, |bits, number| bits | 1 << (number - 1));
        Ok(blocked)
    }

    /// Takes a kick that has come, if there is one.
    pub(super) fn take(&self) -> Option<Kick> {
        let set = kick_set();
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: set and time are initialised, and no details are asked for.
        let number = unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), &now) };
        signals()
            .into_iter()
            .find_map(|(kick, signal)| (signal == number).then_some(kick))
    }
}

impl Drop for Kicker {
    fn drop(&mut self) {
        self.timers.into_iter().for_each(stop_timer);
        // A signal that is still pending must not stay so for whoever unblocks it.
        while self.take().is_some() {}
    }
}

fn kick_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for (_, number) in signals() {
        // SAFETY: the set was initialised above, and the number is a signal's.
        unsafe { libc::sigaddset(set.as_mut_ptr(), number) };
    }
    // SAFETY: initialised above.
    unsafe { set.assume_init() }
}

fn start_timer(
    clock: libc::clockid_t,
    signal: libc::c_int,
    every: Duration,
) -> io::Result<libc::timer_t> {
    // SAFETY: all zeros is a valid `sigevent`.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    // SAFETY: it has no preconditions.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut timer = std::ptr::null_mut();
    // SAFETY: the event is initialised, and there is room for the timer's name.
    if unsafe { libc::timer_create(clock, &raw mut event, &raw mut timer) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let span = libc::timespec {
        tv_sec: 0,
        tv_nsec: libc::c_long::from(every.subsec_nanos()),
    };
    let period = libc::itimerspec {
        it_interval: span,
        it_value: span,
    };
    // SAFETY: the timer was made just now, and the period is initialised.
    if unsafe { libc::timer_settime(timer, 0, &raw const period, std::ptr::null_mut()) } != 0 {
        let error = io::Error::last_os_error();
        stop_timer(timer);
        return Err(error);
    }
    Ok(timer)
}

fn stop_timer(timer: libc::timer_t) {
    // SAFETY: the timer was made by `start_timer` and is deleted once, here.
    unsafe { libc::timer_delete(timer) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kick_that_comes_early_is_kept_until_it_is_taken() {
        std::thread::spawn(|| {
            let kicker = Kicker::of_this_thread().unwrap();
            let blocked = Kicker::blocked_while_running().unwrap();
            for (_, number) in signals() {
                assert_eq!(blocked >> (number - 1) & 1, 0, "signal {number}");
            }
            // Not a wait for a time, but for kicks: each of the two must come.
            let (mut ticks, mut looks) = (0_u32, 0_u32);
            while ticks == 0 || looks == 0 {
                match kicker.take() {
                    Some(Kick::Tick) => ticks += 1,
                    Some(Kick::Look) => looks += 1,
                    None => std::hint::spin_loop(),
                }
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_has_one_kicker_and_none_once_it_is_dropped() {
        std::thread::spawn(|| {
            let one = Kicker::of_this_thread().unwrap();
            let other = Kicker::of_this_thread().unwrap();
            assert!(Rc::ptr_eq(&one, &other));
            drop(one);
            drop(other);
            assert!(KICKER.with_borrow(|known| known.upgrade().is_none()));
        })
        .join()
        .unwrap();
    }
}
