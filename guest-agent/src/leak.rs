//! The leak check: counters after N, 2N and 3N repetitions in one boot.

use latefork_wire::trace::Detail;

use crate::shared::Reporter;
use crate::sys;

/// Slab caches that a program's end must give back: the objects of tasks.
const CACHES: [&[u8]; 10] = [
    b"task_struct ",
    b"signal_cache ",
    b"sighand_cache ",
    b"files_cache ",
    b"fs_cache ",
    b"mm_struct ",
    b"vm_area_struct ",
    b"cred_jar ",
    b"pid ",
    b"filp ",
];

/// Lines of /proc/meminfo, in KiB.
const MEMORY: [&[u8]; 3] = [b"SUnreclaim:", b"KernelStack:", b"PageTables:"];

/// Number of counters: tasks, free KiB, the caches, lines of /proc/meminfo.
const COUNT: usize = 2 + CACHES.len() + MEMORY.len();

/// What is counted.
#[derive(Clone, Copy, Default)]
pub struct Counters([u32; COUNT]);

/// Lets what is on its way out go, then counts.
pub fn measure() -> Counters {
    // Several grace periods, then the pages and objects kept for reuse.
    sys::sleep_ticks(20);
    sys::write_file("/proc/sys/vm/drop_caches", b"3");
    for cache in CACHES {
        shrink(cache);
    }
    sys::sleep_ticks(5);
    let mut counters = [0; COUNT];
    counters[0] = sys::task_count();
    // sysinfo: free memory in bytes is the sixth word.
    let mut info = [0_u32; 32];
    sys::call(116, &[info.as_mut_ptr() as u32]);
    counters[1] = info[5] / 1024;
    count_objects(&mut counters[2..]);
    counters[2 + CACHES.len()..].copy_from_slice(&memory_kib());
    Counters(counters)
}

fn shrink(cache: &[u8]) {
    let mut path = [0; 64];
    let name = &cache[..cache.len() - 1];
    let parts: [&[u8]; 3] = [b"/sys/kernel/slab/", name, b"/shrink"];
    let mut at = 0;
    for part in parts {
        path[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    if let Ok(path) = core::str::from_utf8(&path[..at]) {
        sys::write_file(path, b"1");
    }
}

/// What /proc/meminfo says of slabs, kernel stacks and page tables, in KiB.
pub fn memory_kib() -> [u32; 3] {
    let mut room = [0; 2048];
    let text = sys::read_file("/proc/meminfo", &mut room).unwrap_or(b"");
    let mut found = [0; 3];
    for line in text.split(|byte| *byte == b'\n') {
        for (place, name) in found.iter_mut().zip(MEMORY) {
            if line.starts_with(name) {
                *place = first_number(&line[name.len()..]);
            }
        }
    }
    found
}

static mut ROOM: [u8; 16 * 1024] = [0; 16 * 1024];

/// Active objects of each cache, from /proc/slabinfo.
fn count_objects(counters: &mut [u32]) {
    // SAFETY: init has one thread.
    let room = unsafe { &mut *core::ptr::addr_of_mut!(ROOM) };
    let Ok(text) = sys::read_file("/proc/slabinfo", room) else {
        return;
    };
    for line in text.split(|byte| *byte == b'\n') {
        let cache = CACHES.iter().position(|cache| line.starts_with(cache));
        if let Some(cache) = cache {
            counters[cache] = first_number(&line[CACHES[cache].len()..]);
        }
    }
}

fn first_number(text: &[u8]) -> u32 {
    text.iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number: u32, byte| {
            number.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'))
        })
}

/// Whether a counter is one of tasks or objects, not of memory.
fn is_counted(what: usize) -> bool {
    what == 0 || (2..2 + CACHES.len()).contains(&what)
}

fn grows([once, twice, thrice]: [u32; 3], repeats: u32) -> bool {
    let least = (repeats / 2).max(2);
    twice.saturating_sub(once).min(thrice.saturating_sub(twice)) >= least
}

/// Reports each counter. A leak grows by as much from 2N to 3N as from N to
/// 2N; what grows once is a cache that filled.
pub fn report(seen: &[Counters; 3], repeats: u32) {
    for what in 0..COUNT {
        let [once, twice, thrice] = [0, 1, 2].map(|at: usize| seen[at].0[what]);
        Reporter::AGENT.report(Detail::Leak {
            what: what as u32,
            once,
            twice,
            thrice,
            repeats,
            grows: u32::from(is_counted(what) && grows([once, twice, thrice], repeats)),
        });
    }
}
