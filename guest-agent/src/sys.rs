//! System calls by their i386 numbers, thin.

use crate::{kernel, rt};

/// A descriptor.
pub type Fd = i32;

pub const EINTR: i32 = -4;
pub const EAGAIN: i32 = -11;
pub const EFAULT: i32 = -14;
pub const ECHILD: i32 = -10;
pub const EINVAL: i32 = -22;
pub const ENOSYS: i32 = -38;
pub const EOPNOTSUPP: i32 = -95;
pub const ETIMEDOUT: i32 = -110;

const RWF_NOWAIT: u32 = 8;

pub const PROT_NONE: u32 = 0;
pub const PROT_READ: u32 = 1;
pub const PROT_WRITE: u32 = 2;
pub const MAP_SHARED: u32 = 1;
pub const MAP_PRIVATE: u32 = 2;
pub const MAP_FIXED: u32 = 0x10;
pub const MAP_ANONYMOUS: u32 = 0x20;

pub const O_RDONLY: u32 = 0;
pub const O_WRONLY: u32 = 1;
pub const O_RDWR: u32 = 2;
pub const O_CREAT: u32 = 0o100;
pub const O_TRUNC: u32 = 0o1000;
pub const O_NONBLOCK: u32 = 0o4000;
pub const O_DIRECTORY: u32 = 0o200_000;
pub const O_CLOEXEC: u32 = 0o2_000_000;

pub const CLONE_VM: u32 = 0x100;
pub const CLONE_FS: u32 = 0x200;
pub const CLONE_FILES: u32 = 0x400;
pub const CLONE_SIGHAND: u32 = 0x800;
pub const CLONE_VFORK: u32 = 0x4000;
pub const CLONE_PARENT: u32 = 0x8000;
pub const CLONE_THREAD: u32 = 0x1_0000;
pub const CLONE_SYSVSEM: u32 = 0x4_0000;
pub const SIGCHLD: u32 = 17;

pub const WNOHANG: u32 = 1;
pub const WUNTRACED: u32 = 2;
pub const WCONTINUED: u32 = 8;
pub const WALL: u32 = 0x4000_0000;

/// Duration of a tick of the guest's clock in nanoseconds (HZ = 100).
pub const TICK_NS: u64 = 10_000_000;

/// Any call, arguments that are missing being 0.
pub fn call(nr: u32, args: &[u32]) -> i32 {
    let mut six = [0; 6];
    for (place, value) in six.iter_mut().zip(args) {
        *place = *value;
    }
    // SAFETY: pointers handed on by this file's functions outlive the call;
    // what programs make the kernel write lies in memory of their own.
    unsafe { rt::syscall(nr, six) }
}

fn ptr<T: ?Sized>(value: &T) -> u32 {
    core::ptr::from_ref(value).cast::<u8>() as u32
}

pub fn exit(code: u32) -> ! {
    loop {
        call(1, &[code]);
    }
}

pub fn exit_group(code: u32) -> ! {
    loop {
        call(252, &[code]);
    }
}

pub fn fork() -> i32 {
    call(2, &[])
}

pub fn read(fd: Fd, into: &mut [u8]) -> i32 {
    call(3, &[fd as u32, into.as_mut_ptr() as u32, into.len() as u32])
}

pub fn write(fd: Fd, from: &[u8]) -> i32 {
    call(4, &[fd as u32, from.as_ptr() as u32, from.len() as u32])
}

/// Writes all of `from`, as far as the other side takes it.
pub fn write_all(fd: Fd, mut from: &[u8]) -> i32 {
    while !from.is_empty() {
        match write(fd, from) {
            EINTR => {}
            count if count <= 0 => return if count < 0 { count } else { -5 },
            count => from = &from[count as usize..],
        }
    }
    0
}

/// A path with its terminating zero, in room of its own.
pub struct CPath {
    bytes: [u8; 128],
}

impl CPath {
    pub fn new(path: &str) -> Self {
        let mut bytes = [0; 128];
        let len = path.len().min(127);
        bytes[..len].copy_from_slice(&path.as_bytes()[..len]);
        Self { bytes }
    }

    pub fn address(&self) -> u32 {
        self.bytes.as_ptr() as u32
    }
}

pub fn open(path: &str, flags: u32) -> Fd {
    call(5, &[CPath::new(path).address(), flags, 0o666])
}

pub fn close(fd: Fd) -> i32 {
    call(6, &[fd as u32])
}

pub fn dup2(from: Fd, to: Fd) -> i32 {
    call(63, &[from as u32, to as u32])
}

pub fn mkdir(path: &str) -> i32 {
    call(39, &[CPath::new(path).address(), 0o777])
}

pub fn chmod(path: &str, mode: u32) -> i32 {
    call(15, &[CPath::new(path).address(), mode])
}

pub fn mount(source: &str, target: &str, kind: &str, data: &str) -> i32 {
    call(
        21,
        &[
            CPath::new(source).address(),
            CPath::new(target).address(),
            CPath::new(kind).address(),
            0,
            CPath::new(data).address(),
        ],
    )
}

/// mmap at a fixed address, over what is there.
pub fn map_fixed(at: u32, bytes: u32, protection: u32, flags: u32, fd: Fd) -> i32 {
    call(
        192,
        &[at, bytes, protection, flags | MAP_FIXED, fd as u32, 0],
    )
}

pub fn munmap(at: u32, bytes: u32) -> i32 {
    call(91, &[at, bytes])
}

pub fn mprotect(at: u32, bytes: u32, protection: u32) -> i32 {
    call(125, &[at, bytes, protection])
}

/// The id of the task that runs, from the kernel.
pub fn gettid() -> u32 {
    if let Some(shown) = kernel::running_task() {
        return shown;
    }
    call(224, &[]) as u32
}

pub fn getpid() -> u32 {
    call(20, &[]) as u32
}

pub fn getppid() -> u32 {
    call(64, &[]) as u32
}

pub fn sched_yield() {
    call(158, &[]);
}

pub fn kill(pid: u32, sig: u32) -> i32 {
    call(37, &[pid, sig])
}

pub fn tgkill(pid: u32, tid: u32, sig: u32) -> i32 {
    call(270, &[pid, tid, sig])
}

/// wait4: what came, and its status.
pub fn wait4(pid: i32, options: u32) -> (i32, u32) {
    let mut status = 0_u32;
    let found = call(
        114,
        &[
            pid as u32,
            core::ptr::from_mut(&mut status) as u32,
            options,
            0,
        ],
    );
    (found, status)
}

/// A 64-bit `timespec` of so many ticks.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Timespec {
    pub seconds: i64,
    pub nanoseconds: i64,
}

impl Timespec {
    pub fn ticks(ticks: u32) -> Self {
        let all = u64::from(ticks) * TICK_NS;
        Self {
            seconds: (all / 1_000_000_000) as i64,
            nanoseconds: (all % 1_000_000_000) as i64,
        }
    }
}

/// Sleeps so many ticks, whatever signals come.
pub fn sleep_ticks(ticks: u32) {
    if ticks == 0 {
        return;
    }
    let mut time = Timespec::ticks(ticks);
    let at = core::ptr::from_mut(&mut time) as u32;
    while call(407, &[1, 0, at, at]) == EINTR {}
}

/// Milliseconds of the monotonic clock.
pub fn now_ms() -> u32 {
    let mut time = Timespec::ticks(0);
    call(403, &[1, core::ptr::from_mut(&mut time) as u32]);
    (time.seconds as u32)
        .wrapping_mul(1000)
        .wrapping_add(time.nanoseconds as u32 / 1_000_000)
}

/// Waits while `word` holds `value`; `None`: for ever.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, value: u32, ticks: Option<u32>) -> i32 {
    let time = ticks.map(Timespec::ticks);
    let at = time.as_ref().map_or(0, ptr);
    call(422, &[word.as_ptr() as u32, 0, value, at, 0, 0])
}

/// Wakes everybody who waits on `word`.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32) {
    call(422, &[word.as_ptr() as u32, 1, i32::MAX as u32, 0, 0, 0]);
}

pub fn pipe2(flags: u32) -> Result<[Fd; 2], i32> {
    let mut ends = [0; 2];
    match call(331, &[ends.as_mut_ptr() as u32, flags]) {
        0 => Ok(ends),
        error => Err(error),
    }
}

pub fn memfd_create(name: &str) -> Fd {
    call(356, &[CPath::new(name).address(), 0])
}

pub fn ftruncate(fd: Fd, bytes: u32) -> i32 {
    call(194, &[fd as u32, bytes, 0])
}

pub fn pwrite(fd: Fd, from: u32, bytes: u32, offset: u32) -> i32 {
    call(181, &[fd as u32, from, bytes, offset, 0])
}

pub fn pread(fd: Fd, into: u32, bytes: u32, offset: u32) -> i32 {
    call(180, &[fd as u32, into, bytes, offset, 0])
}

/// Writes what there is room for now, without waiting; `EOPNOTSUPP` where the
/// file cannot say.
pub fn write_now(fd: Fd, from: &[u8]) -> i32 {
    let part = [from.as_ptr() as u32, from.len() as u32];
    call(
        379,
        &[fd as u32, ptr(&part), 1, u32::MAX, u32::MAX, RWF_NOWAIT],
    )
}

/// Reads what is there now, without waiting; `EOPNOTSUPP` where the file cannot
/// say.
pub fn read_now(fd: Fd, into: &mut [u8]) -> i32 {
    let part = [into.as_mut_ptr() as u32, into.len() as u32];
    call(
        378,
        &[fd as u32, ptr(&part), 1, u32::MAX, u32::MAX, RWF_NOWAIT],
    )
}

pub fn prctl(args: &[u32; 5]) -> i32 {
    call(172, args)
}

/// poll on descriptors; the number that is ready.
pub fn poll(fds: &mut [PollFd], ms: i32) -> i32 {
    call(168, &[fds.as_mut_ptr() as u32, fds.len() as u32, ms as u32])
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: Fd,
    pub events: i16,
    pub revents: i16,
}

/// `rt_sigaction`'s argument.
#[repr(C)]
pub struct SigAction {
    pub handler: u32,
    pub flags: u32,
    pub restorer: u32,
    pub mask: u64,
}

pub const SA_SIGINFO: u32 = 4;
pub const SA_RESTORER: u32 = 0x0400_0000;
pub const SA_ONSTACK: u32 = 0x0800_0000;
pub const SA_RESTART: u32 = 0x1000_0000;
pub const SA_NODEFER: u32 = 0x4000_0000;
pub const SA_RESETHAND: u32 = 0x8000_0000;

pub fn sigaction(sig: u32, handler: u32, flags: u32) -> i32 {
    let action = SigAction {
        handler,
        flags: flags | SA_RESTORER,
        restorer: rt::restorer(),
        mask: 0,
    };
    call(174, &[sig, ptr(&action), 0, 8])
}

/// Changes the mask (0 block, 1 unblock, 2 set); gives the old one.
pub fn sigprocmask(how: u32, set: u64) -> u64 {
    let mut old = 0_u64;
    call(
        175,
        &[how, ptr(&set), core::ptr::from_mut(&mut old) as u32, 8],
    );
    old
}

/// Tasks in the whole machine.
pub fn task_count() -> u32 {
    // struct sysinfo of i386: 64 bytes; procs at 40.
    let mut info = [0_u16; 64];
    call(116, &[info.as_mut_ptr() as u32]);
    u32::from(info[20])
}

/// Writes `text` to the file at `path`.
pub fn write_file(path: &str, text: &[u8]) -> i32 {
    let fd = open(path, O_WRONLY);
    if fd < 0 {
        return fd;
    }
    let written = write(fd, text);
    close(fd);
    written.min(0)
}

/// Reads the file at `path` into `room`; how much there was.
pub fn read_file<'a>(path: &str, room: &'a mut [u8]) -> Result<&'a [u8], i32> {
    let fd = open(path, O_RDONLY);
    if fd < 0 {
        return Err(fd);
    }
    let mut len = 0;
    while len < room.len() {
        let count = read(fd, &mut room[len..]);
        if count <= 0 {
            break;
        }
        len += count as usize;
    }
    close(fd);
    Ok(&room[..len])
}
