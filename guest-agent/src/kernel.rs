//! What only the guest's own kernel says (`uapi/linux/harness.h` of its harness
//! patch): by `prctl`, and in two words at the start of the vvar page, which the
//! vDSO maps into every process to be read.
//!
//! On any other Linux nothing of it is there, and the ordinary ways are taken.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use latefork_wire::layout::PAGE;

use crate::{rt, sys};

const PR_HARNESS: u32 = 0x6c66;
const SET_MARK: u32 = 0;
const GET_MARK: u32 = 1;
const READ: u32 = 2;
const TASK: u32 = 5;

/// Pages of data before the vDSO; the first is the vvar page.
const VDSO_DATA_PAGES: u32 = 4;
/// `struct harness_shown`: the id of the task that runs, and how many async
/// calls were more than synchronous.
const TASK_SHOWN: u32 = 0;
const EVENTS_SHOWN: u32 = 4;

/// Where `struct harness_shown` lies; 0: it is not shown.
static SHOWN: AtomicU32 = AtomicU32::new(0);

fn harness(what: u32, arguments: [u32; 3]) -> i32 {
    let [first, second, third] = arguments;
    sys::prctl(&[PR_HARNESS, what, first, second, third])
}

/// Whether this kernel knows the mark.
pub fn marks() -> bool {
    harness(GET_MARK, [0; 3]) >= 0
}

/// Marks the task, and all that it forks, for coverage.
pub fn mark() {
    harness(SET_MARK, [1, 0, 0]);
}

/// Copies from the coverage blocks, the map and the events behind it; whether
/// there are any.
pub fn read_blocks(into: &mut [u32], offset: u32) -> bool {
    let bytes = size_of_val(into) as u32;
    harness(READ, [into.as_mut_ptr() as u32, offset, bytes]) == 0
}

/// 0 no task has the id, 1 it lives, 2 it is a zombie; `None` where the kernel
/// does not say.
pub fn life(tid: u32) -> Option<u32> {
    u32::try_from(harness(TASK, [tid, 0, 0])).ok()
}

/// Looks where this kernel shows who runs. To be called once, early.
pub fn find_shown() {
    let Some(page) = rt::vdso().checked_sub(VDSO_DATA_PAGES * PAGE) else {
        return;
    };
    // Another kernel may have nothing before its vDSO.
    if marks() && word(page + TASK_SHOWN) == sys::call(224, &[]) as u32 {
        SHOWN.store(page, Relaxed);
    }
}

/// The id of the task that runs, as the kernel shows it.
pub fn running_task() -> Option<u32> {
    shown().map(|page| word(page + TASK_SHOWN))
}

/// A number that grows with every async call that was refused, forked, or failed
/// to fork.
pub fn events() -> Option<u32> {
    shown().map(|page| word(page + EVENTS_SHOWN))
}

fn shown() -> Option<u32> {
    let page = SHOWN.load(Relaxed);
    (page != 0).then_some(page)
}

fn word(at: u32) -> u32 {
    // SAFETY: the vvar page of this process, which nothing unmaps.
    unsafe { core::ptr::read_volatile(at as *const u32) }
}
