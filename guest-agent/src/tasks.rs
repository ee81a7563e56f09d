//! The tasks of a process, from /proc.

use core::fmt::Write as _;

use latefork_wire::trace::Detail;

use crate::console::Line;
use crate::shared::Reporter;
use crate::sys;

/// One task.
#[derive(Clone, Copy)]
pub struct TaskSeen {
    pub tid: u32,
    /// The letter of `/proc/pid/stat`.
    pub state: u8,
    /// First four bytes of its name.
    pub comm: u32,
}

fn path(pid: u32, tid: u32) -> Line {
    let mut path = Line::new();
    let _ = write!(path, "/proc/{pid}/task/{tid}/stat");
    path
}

/// State and name of one task; `None` where it is gone.
pub fn look(pid: u32, tid: u32) -> Option<TaskSeen> {
    let mut room = [0; 64];
    let text = sys::read_file(path(pid, tid).text(), &mut room).ok()?;
    // "tid (comm) S …"; a comm holds no more than 15 bytes.
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let mut comm = [0; 4];
    for (place, byte) in comm.iter_mut().zip(text.get(open + 1..close)?) {
        *place = *byte;
    }
    Some(TaskSeen {
        tid,
        state: *text.get(close + 2)?,
        comm: u32::from_le_bytes(comm),
    })
}

/// Calls `each` for every task of `pid`; how many there are, or an error.
pub fn list(pid: u32, mut each: impl FnMut(TaskSeen)) -> i32 {
    let mut folder = Line::new();
    let _ = write!(folder, "/proc/{pid}/task");
    let fd = sys::open(folder.text(), sys::O_RDONLY | sys::O_DIRECTORY);
    if fd < 0 {
        return fd;
    }
    let mut count = 0;
    let mut room = [0_u8; 1024];
    loop {
        let len = sys::call(220, &[fd as u32, room.as_mut_ptr() as u32, 1024]);
        if len <= 0 {
            break;
        }
        let mut at = 0;
        // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
        while at + 19 < len as usize {
            let bytes = u16::from_le_bytes([room[at + 16], room[at + 17]]);
            if let Some(tid) = number(&room[at + 19..]) {
                if let Some(task) = look(pid, tid) {
                    count += 1;
                    each(task);
                }
            }
            at += usize::from(bytes).max(1);
        }
    }
    sys::close(fd);
    count
}

fn number(name: &[u8]) -> Option<u32> {
    let digits = name.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0_u32, |number, byte| {
        number.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'))
    });
    (number > 0).then_some(number)
}

/// Reports every task of `pid`; how many live and how many zombies.
pub fn report(reporter: Reporter, pid: u32) -> (u32, u32) {
    let mut live = 0;
    let mut zombies = 0;
    list(pid, |task| {
        match task.state {
            b'Z' | b'X' => zombies += 1,
            _ => live += 1,
        }
        reporter.report(Detail::Task {
            id: task.tid,
            state: u32::from(task.state),
            leader: u32::from(task.tid == pid),
            comm: task.comm,
        });
    });
    (live, zombies)
}
