//! The per-task table of P6, and observations.

use latefork_wire::layout::{ALT_STACKS, MAPS};
use latefork_wire::op::{AltStack, AltStackKind, Arm, Observation, Row};
use latefork_wire::trace::{Detail, hash};

use super::{Context, Flow, calls, signals};
use crate::shared::{get, set, shared};
use crate::sys::{self, CPath};
use crate::{leak, memory, rt, tasks};

/// Number of rows.
pub const ROWS: usize = Row::ALL.len();

/// All rows, as they are now.
pub fn read_all(context: Context) -> [u32; ROWS] {
    core::array::from_fn(|at| read(context, Row::ALL[at]))
}

/// Reports every row: before, and as it is now.
pub fn compare(context: Context, before: &[u32; ROWS]) {
    for (row, before) in Row::ALL.iter().zip(before) {
        report(context, *row, *before, read(context, *row));
    }
}

fn report(context: Context, row: Row, before: u32, after: u32) {
    context.reporter().report(Detail::RowSeen {
        row: row as u32,
        before,
        after,
        same: u32::from(before == after),
    });
}

fn at<T>(value: &mut T) -> u32 {
    core::ptr::from_mut(value) as u32
}

fn prctl(option: u32, argument: u32) -> u32 {
    sys::prctl(&[option, argument, 0, 0, 0]) as u32
}

fn words<const N: usize>(fill: impl FnOnce(u32)) -> u32 {
    let mut room = [0_u32; N];
    fill(room.as_mut_ptr() as u32);
    hash(room)
}

/// A row as it is now: a value, or a hash of what the kernel gives.
fn read(context: Context, row: Row) -> u32 {
    let shared = shared();
    let thread = &shared.threads[usize::from(context.thread)];
    match row {
        Row::Tid => sys::gettid(),
        Row::Pid => sys::getpid(),
        Row::ParentPid => sys::getppid(),
        Row::Ids => words::<6>(|room| {
            sys::call(209, &[room, room + 4, room + 8]);
            sys::call(211, &[room + 12, room + 16, room + 20]);
        }),
        Row::Capabilities => words::<6>(|room| {
            let header = [0x2008_0522_u32, 0];
            sys::call(184, &[header.as_ptr() as u32, room]);
        }),
        Row::SignalMask | Row::TemporaryMask => fold(sys::sigprocmask(0, 0)),
        Row::Pending => {
            let mut set = 0_u64;
            sys::call(176, &[at(&mut set), 8]);
            fold(set)
        }
        Row::AltStack => words::<3>(|room| {
            sys::call(186, &[0, room]);
        }),
        Row::ClearChildTid => get(&thread.cleared),
        Row::RobustList => words::<2>(|room| {
            sys::call(312, &[0, room, room + 4]);
        }),
        Row::ParentDeathSignal => {
            let mut sig = 0_u32;
            prctl(2, at(&mut sig));
            sig
        }
        Row::Comm => words::<4>(|room| {
            prctl(16, room);
        }),
        Row::SchedClass => sys::call(157, &[0]) as u32,
        Row::Nice => sys::call(96, &[0, 0]) as u32,
        Row::IoPriority => sys::call(290, &[1, 0]) as u32,
        Row::Seccomp => prctl(21, 0),
        Row::NoNewPrivs => prctl(39, 0),
        // KEYCTL_GET_KEYRING_ID of the thread keyring, not made.
        Row::ThreadKeyring => sys::call(288, &[0, -1_i32 as u32, 0]) as u32,
        // A kernel address: EINVAL where an area is registered, EFAULT where
        // none is (kernel/rseq.c checks in this order).
        Row::Rseq => sys::call(386, &[0xc000_1000, 32, 0, RSEQ_SIGNATURE]) as u32,
        Row::TimerSlack => prctl(30, 0),
        Row::Cwd => words::<16>(|room| {
            sys::call(183, &[room, 64]);
        }),
        Row::Umask => {
            let mask = sys::call(60, &[0o22]) as u32;
            sys::call(60, &[mask]);
            mask
        }
        Row::Descriptors => open_ends(),
        Row::Tls => tls_hash(),
        Row::Personality => sys::call(136, &[u32::MAX]) as u32,
        Row::Affinity => words::<2>(|room| {
            sys::call(242, &[0, 8, room]);
        }),
        Row::IoAccounting => characters_read(),
        Row::SemUndo => sys::call(394, &[get(&shared.semaphores), 0, 12, 0]) as u32,
        Row::ThreadTimers => get(&shared.handled[14]) + get(&shared.handled[34]),
        // waitid: any child of this thread alone, whether it ended or not.
        Row::Children => sys::call(284, &[0, 0, 0, OWN_CHILDREN, 0]) as u32,
        Row::Vfork => u32::from(vfork_parent_waits(context)),
        Row::Ldt => ldt_hash(),
    }
}

const RSEQ_SIGNATURE: u32 = 0x5305_3053;
/// WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD.
const OWN_CHILDREN: u32 = 4 | 1 | 0x0100_0000 | 0x2000_0000;

/// Whether the thread that this child was vforked from still waits for it: such
/// a wait is uninterruptible but for a kill.
fn vfork_parent_waits(context: Context) -> bool {
    let parent = get(&shared().threads[usize::from(context.thread)].now);
    let state = || tasks::look(get(&shared().leader), parent).map(|task| task.state);
    crate::shared::in_vfork_child() && state() == Some(b'D')
}

/// The LDT's first descriptor, and the limit that the processor finds there.
fn ldt_hash() -> u32 {
    let mut descriptor = [0_u32; 2];
    // modify_ldt(0): reads into a buffer.
    let read = sys::call(123, &[0, descriptor.as_mut_ptr() as u32, 8]);
    hash([read as u32, descriptor[0], descriptor[1], rt::limit_of(7)])
}

fn fold(set: u64) -> u32 {
    set as u32 ^ (set >> 32) as u32
}

/// How many ends of the program's objects are open.
fn open_ends() -> u32 {
    let ends = shared().fds.iter().flatten();
    let open = ends.filter(|end| {
        let fd = get(end);
        fd != u32::MAX && sys::call(221, &[fd, 1]) >= 0
    });
    open.count() as u32
}

/// The GDT's TLS entries that fs and gs name.
fn tls_hash() -> u32 {
    let [.., fs, gs] = rt::segments();
    [fs, gs].iter().fold(0, |all: u32, selector| {
        let mut descriptor = [(selector & 0xffff) >> 3, 0, 0, 0];
        sys::call(244, &[descriptor.as_mut_ptr() as u32]);
        all.rotate_left(7) ^ hash(descriptor)
    })
}

/// `rchar` of /proc/thread-self/io.
fn characters_read() -> u32 {
    let mut room = [0; 64];
    let Ok(text) = sys::read_file("/proc/thread-self/io", &mut room) else {
        return u32::MAX;
    };
    text.iter()
        .skip_while(|byte| !byte.is_ascii_digit())
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number: u32, byte| {
            number.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'))
        })
}

/// Gives a row a value that is not its default; 0 or an error.
pub fn arm(context: Context, arm: &Arm) -> i32 {
    let thread = &shared().threads[usize::from(context.thread)];
    let value = u32::from(arm.value);
    match arm.row {
        Row::AltStack => signals::altstack(
            context,
            &AltStack {
                kind: AltStackKind::On,
            },
        ),
        Row::ClearChildTid => {
            set(&thread.cleared, 1);
            sys::call(258, &[thread.cleared.as_ptr() as u32]).min(0)
        }
        Row::RobustList => {
            let head = ALT_STACKS + u32::from(context.thread) * 0x4000;
            // An empty list: the head points to itself.
            memory::put_guarded(head, &head.to_le_bytes(), context.lane());
            sys::call(311, &[head, 12])
        }
        Row::ParentDeathSignal => prctl(1, 10) as i32,
        Row::Comm => {
            let name = CPath::new("armed");
            prctl(15, name.address()) as i32
        }
        Row::SchedClass => {
            // SCHED_BATCH or SCHED_IDLE.
            let parameter = 0_u32;
            let class = if value % 2 == 0 { 3 } else { 5 };
            sys::call(156, &[0, class, core::ptr::from_ref(&parameter) as u32])
        }
        Row::Nice => sys::call(97, &[0, 0, value % 20]),
        Row::IoPriority => sys::call(289, &[1, 0, 2 << 13 | (value % 8)]),
        Row::Seccomp => allow_all(),
        Row::NoNewPrivs => sys::prctl(&[38, 1, 0, 0, 0]),
        Row::ThreadKeyring => sys::call(288, &[0, -1_i32 as u32, 1]).min(0),
        Row::Rseq => {
            let area = MAPS - 0x1000;
            let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS;
            sys::map_fixed(area, 0x1000, 3, flags, -1);
            let area = area + u32::from(context.thread) * 64;
            sys::call(386, &[area, 32, 0, RSEQ_SIGNATURE])
        }
        Row::TimerSlack => prctl(29, 1000 + value) as i32,
        Row::Cwd => sys::call(12, &[CPath::new("/t/dir").address()]),
        Row::Umask => {
            sys::call(60, &[value & 0o777]);
            0
        }
        Row::Personality => sys::call(136, &[0x4_0000]).min(0),
        // struct user_desc: entry, base, limit, flags (32-bit, usable).
        Row::Ldt => {
            let descriptor = [0, 0, value + 1, 0x41_u32];
            sys::call(123, &[0x11, descriptor.as_ptr() as u32, 16])
        }
        Row::Children => super::process::keep_a_child(),
        // Takes the semaphore with SEM_UNDO.
        Row::SemUndo => {
            let operation = [0_i16, 1, 0x1000];
            let at = operation.as_ptr() as u32;
            sys::call(420, &[get(&shared().semaphores), at, 1, 0])
        }
        _ => sys::EINVAL,
    }
}

/// A seccomp filter that allows everything: the mode is the state.
fn allow_all() -> i32 {
    sys::prctl(&[38, 1, 0, 0, 0]);
    // BPF_RET | BPF_K with SECCOMP_RET_ALLOW; struct sock_fprog.
    let filter = [0x0000_0006_u32, 0x7fff_0000];
    let program = [1_u32, filter.as_ptr() as u32];
    sys::prctl(&[22, 2, program.as_ptr() as u32, 0, 0])
}

/// Puts an observation into the trace.
pub fn observe(context: Context, what: Observation) -> Flow {
    let seen = |[a, b, c, d]: [u32; 4]| {
        context.reporter().report(Detail::Observed {
            what: what as u32,
            a,
            b,
            c,
            d,
        });
    };
    match what {
        Observation::Ids => seen([sys::gettid(), sys::getpid(), sys::getppid(), 0]),
        Observation::Tasks => {
            let found = tasks::report(context.reporter(), get(&shared().leader));
            seen([found.live, found.zombies, sys::task_count(), found.stopped]);
        }
        Observation::Memory => seen(memory_counters()),
        Observation::Table => {
            for row in Row::ALL {
                let value = read(context, *row);
                report(context, *row, value, value);
            }
        }
        Observation::ProcSelf => seen([
            opens("/proc/self/cwd"),
            opens("/proc/self/exe"),
            opens("/proc/self/fd"),
            opens("/proc/thread-self/fd"),
        ]),
        Observation::Clones => seen([clones_that_fit(), 0, 0, 0]),
        Observation::Signals => {
            let mut set = 0_u64;
            sys::call(176, &[at(&mut set), 8]);
            let mask = sys::sigprocmask(0, 0);
            seen([
                set as u32,
                (set >> 32) as u32,
                mask as u32,
                (mask >> 32) as u32,
            ]);
        }
        Observation::Calls => {
            calls::notice_statuses(context);
            seen([shared().pending_count(), get(&shared().worker_count), 0, 0]);
        }
    }
    Flow::Reported
}

fn opens(path: &str) -> u32 {
    let fd = sys::open(path, sys::O_RDONLY);
    if fd >= 0 {
        sys::close(fd);
        return 0;
    }
    fd as u32
}

/// Free bytes and bytes in the buffer cache (sysinfo), KiB of slabs that cannot
/// be reclaimed, KiB of kernel stacks.
fn memory_counters() -> [u32; 4] {
    let mut info = [0_u32; 32];
    sys::call(116, &[info.as_mut_ptr() as u32]);
    let [slabs, stacks, _] = leak::memory_kib();
    [info[5], info[7], slabs, stacks]
}

/// How many plain children still fit, at most 8. They are all ended again.
fn clones_that_fit() -> u32 {
    let mut pids = [0; 8];
    let mut made = 0;
    for pid in &mut pids {
        let child = sys::fork();
        if child == 0 {
            loop {
                sys::sleep_ticks(100);
            }
        }
        if child < 0 {
            break;
        }
        *pid = child;
        made += 1;
    }
    for pid in &pids[..made] {
        sys::kill(*pid as u32, 9);
        sys::wait4(*pid, 0);
    }
    made as u32
}
