//! The tasks of a process, from /proc.

use core::fmt::Write as _;

use latefork_wire::trace::Detail;

use crate::console::Line;
use crate::shared::Reporter;
use crate::{kernel, sys};

/// One task.
#[derive(Clone, Copy)]
pub struct TaskSeen {
    pub tid: u32,
    /// The letter of `/proc/pid/stat`.
    pub state: u8,
    /// First four bytes of its name.
    pub comm: u32,
}

/// Whether a task is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// No task has the id.
    Gone,
    Lives,
    /// A leader that waits for the end of its group, or a task on its way out.
    Zombie,
}

/// Whether task `tid` of `pid` is there: asked of the kernel, which takes a
/// hundredth of a look into /proc, where it is one of ours.
pub fn life(pid: u32, tid: u32) -> Life {
    match kernel::life(tid) {
        Some(0) => Life::Gone,
        Some(1) => Life::Lives,
        Some(_) => Life::Zombie,
        None => match look(pid, tid).map(|task| task.state) {
            None => Life::Gone,
            Some(b'Z' | b'X') => Life::Zombie,
            Some(_) => Life::Lives,
        },
    }
}

fn path(pid: u32, tid: u32) -> Line {
    let mut path = Line::new();
    let _ = write!(path, "/proc/{pid}/task/{tid}/stat");
    path
}

/// The start of a task's stat file, "tid (comm) S ppid …", and where the
/// bracket closes; a comm holds no more than 15 bytes.
fn stat(pid: u32, tid: u32, room: &mut [u8]) -> Option<(usize, &[u8])> {
    let text = sys::read_file(path(pid, tid).text(), room).ok()?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    (close + 2 < text.len()).then_some((close, text))
}

/// State and name of one task; `None` where it is gone.
pub fn look(pid: u32, tid: u32) -> Option<TaskSeen> {
    let mut room = [0; 64];
    let (close, text) = stat(pid, tid, &mut room)?;
    let open = text.iter().position(|byte| *byte == b'(')?;
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
    let mut count = 0;
    let listed = entries(folder.text(), |tid| {
        if let Some(task) = look(pid, tid) {
            count += 1;
            each(task);
        }
    });
    if listed < 0 { listed } else { count }
}

/// Calls `each` for every name in `folder` that is a number; 0 or an error.
fn entries(folder: &str, mut each: impl FnMut(u32)) -> i32 {
    let fd = sys::open(folder, sys::O_RDONLY | sys::O_DIRECTORY);
    if fd < 0 {
        return fd;
    }
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
            if let Some(number) = number(&room[at + 19..]) {
                each(number);
            }
            at += usize::from(bytes).max(1);
        }
    }
    sys::close(fd);
    0
}

fn number(name: &[u8]) -> Option<u32> {
    let digits = name.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0_u32, |number, byte| {
        number.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'))
    });
    (number > 0).then_some(number)
}

/// Tasks of a process, counted.
#[derive(Clone, Copy, Default)]
pub struct Counted {
    /// That live, the stopped ones included.
    pub live: u32,
    pub zombies: u32,
    pub stopped: u32,
}

/// Reports every task of `pid`, and counts them.
pub fn report(reporter: Reporter, pid: u32) -> Counted {
    let mut counted = Counted::default();
    list(pid, |task| {
        match task.state {
            b'Z' | b'X' => counted.zombies += 1,
            _ => counted.live += 1,
        }
        counted.stopped += u32::from(task.state == b'T');
        reporter.report(Detail::Task {
            id: task.tid,
            state: u32::from(task.state),
            leader: u32::from(task.tid == pid),
            comm: task.comm,
        });
    });
    counted
}

/// Calls `each` with every process that is no kernel thread and has an id above
/// `above`: id, state, parent.
pub fn processes(above: u32, mut each: impl FnMut(u32, u8, u32)) {
    entries("/proc", |pid| {
        if pid <= above {
            return;
        }
        let mut room = [0; 96];
        let Some((at, text)) = stat(pid, pid, &mut room) else {
            return;
        };
        let parent = number(text.get(at + 4..).unwrap_or(&[])).unwrap_or(0);
        if parent != KTHREADD {
            each(pid, text[at + 2], parent);
        }
    });
}

/// Process id of the parent of all kernel threads.
const KTHREADD: u32 = 2;
