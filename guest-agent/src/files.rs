//! The files that programs use, under /t.

use latefork_wire::value::PATHS;

use crate::shared::{get, set, shared};
use crate::sys::{self, CPath};

/// Content of `/t/file`: 64 known bytes.
fn content() -> [u8; 64] {
    core::array::from_fn(|at| b'a' + (at % 26) as u8)
}

/// Makes everything under /t, and the semaphore set.
pub fn make() {
    sys::mkdir("/t/dir");
    sys::chmod("/t/dir", 0o777);
    // S_IFIFO with rights for all.
    sys::call(14, &[CPath::new("/t/fifo").address(), 0o010_666, 0]);
    sys::chmod("/t/fifo", 0o666);
    let target = CPath::new("/t/loop");
    sys::call(83, &[target.address(), CPath::new(PATHS[10]).address()]);
    let private = sys::open("/t/private", sys::O_WRONLY | sys::O_CREAT);
    sys::close(private);
    sys::chmod("/t/private", 0o600);
    set(&shared().semaphores, sys::call(393, &[0, 1, 0o666]) as u32);
    refresh();
}

/// Gives changed files and the semaphore their first state.
pub fn refresh() {
    let file = sys::open("/t/file", sys::O_WRONLY | sys::O_CREAT | sys::O_TRUNC);
    sys::write(file, &content());
    sys::close(file);
    sys::chmod("/t/file", 0o777);
    sys::call(10, &[CPath::new("/t/dir/new").address()]);
    // SETVAL: one to take.
    sys::call(394, &[get(&shared().semaphores), 0, 16, 1]);
}
