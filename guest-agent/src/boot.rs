//! Init's boot: mounts, files, FUSE, helper, victim, then what the command
//! line asks for.

use latefork_wire::frame::{Flavour, RunOptions};
use latefork_wire::program::{MAX_BYTES, Program};
use latefork_wire::text;
use latefork_wire::trace::{self, AgentFault};

use crate::helper::{FUSE_FD, KICK_READ, KICK_WRITE};
use crate::memory::{NULL_FD, SLOW_FD};
use crate::selftest::{self, Selection};
use crate::shared::{agent_error, shared};
use crate::supervise::Supervisor;
use crate::sys::{self, Fd};
use crate::{console, files, helper, kernel, link, memory, random, rt};

/// Ids from 301 to here are free while programs run.
const LAST_FREE_PID: i32 = 309;

/// Ticks for the boot's own deferred work: many grace periods.
const SETTLE_TICKS: u32 = 100;

/// Boots and never returns.
pub fn run() -> ! {
    mount_all();
    let mut room = [0; 1024];
    let cmdline = sys::read_file("/proc/cmdline", &mut room).unwrap_or(b"");
    let cmdline = core::str::from_utf8(cmdline).unwrap_or("");
    let made = memory::make_shared().and_then(|()| memory::make_cells());
    if let Err(error) = made {
        console::line(format_args!(
            "latefork-agent: cannot map its memory ({error})"
        ));
        power_off();
    }
    files::make();
    allow_failures();
    burn_pids(helper::PID as i32 - 1);
    let fuse = mount_fuse();
    start_helper(fuse);
    burn_pids(LAST_FREE_PID);
    open_slow_files(fuse.is_some());
    if let Err(error) = memory::make_victim() {
        agent_error(AgentFault::Map, error);
    }
    let mut supervisor = Supervisor::new();
    act(&mut supervisor, cmdline, fuse.is_some());
    power_off()
}

/// Does what the command line asks for; by default serves the host.
fn act(supervisor: &mut Supervisor, cmdline: &str, fuse: bool) {
    let hello = link::who(kernel::marks(), fuse);
    if let Some(paths) = option(cmdline, "latefork.run") {
        let control = option(cmdline, "latefork.flavour") == Some("control");
        let options = RunOptions {
            flavour: if control {
                Flavour::Control
            } else {
                Flavour::Async
            },
            leak_repeats: number(cmdline, "latefork.leak").unwrap_or(0) as u16,
            ..RunOptions::default()
        };
        ready(supervisor, &hello);
        for path in paths.split(',') {
            run_file(supervisor, path, &options);
        }
        return;
    }
    if option(cmdline, "latefork.serve") == Some("console") {
        ready(supervisor, &hello);
        serve_console(supervisor);
        return;
    }
    if let Some(count) = number(cmdline, "latefork.random") {
        ready(supervisor, &hello);
        let seed = number(cmdline, "latefork.seed").unwrap_or(1);
        random::run(supervisor, seed, count);
        return;
    }
    if option(cmdline, "latefork.selftest").is_some() {
        ready(supervisor, &hello);
        let selection = Selection {
            first: number(cmdline, "latefork.first").unwrap_or(1) as usize,
            only: option(cmdline, "latefork.only"),
            property: option(cmdline, "latefork.property"),
            verbose: option(cmdline, "latefork.trace").is_some(),
        };
        selftest::run(supervisor, &selection);
        return;
    }
    match link::connect() {
        Ok(fd) => {
            supervisor.park_victim();
            // What the boot freed waits for RCU: done now, not once in every
            // run that starts from the host's snapshot.
            sys::sleep_ticks(SETTLE_TICKS);
            link::serve(fd, supervisor, &hello);
        }
        Err(error) => {
            ready(supervisor, &hello);
            console::line(format_args!(
                "latefork-agent: no vsock connection to CID 2 ({error}), and no latefork.run= or latefork.selftest=1"
            ));
        }
    }
}

/// READY, for a machine without vsock.
fn ready(supervisor: &mut Supervisor, hello: &latefork_wire::frame::Hello) {
    supervisor.park_victim();
    console::line(format_args!(
        "latefork-agent: READY async={} mark={} fuse={} sse={}",
        hello.async_number,
        hello.marked,
        hello.fuse,
        u32::from(rt::kernel_uses_sse())
    ));
}

/// The value of `name=` on the kernel's command line.
fn option<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    cmdline
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// Bytes that a file with a program has at most.
const MAX_FILE: usize = 16 * 1024;

static mut FILE: [u8; MAX_FILE + 1] = [0; MAX_FILE + 1];

fn number(cmdline: &str, name: &str) -> Option<u32> {
    option(cmdline, name)?.parse().ok()
}

/// Runs the program in a file, text where its name ends in `.txt` and wire
/// form otherwise, and prints its trace; whether there was one.
pub fn run_file(supervisor: &mut Supervisor, path: &str, options: &RunOptions) -> bool {
    let done = run_quietly(supervisor, path, options);
    if done {
        selftest::print_trace();
    }
    done
}

/// Runs the programs in the files that lines on the console name, until there
/// is no such file: for a host without vsock that measures how long that takes.
fn serve_console(supervisor: &mut Supervisor) {
    // As before the hello: what the boot freed is not the programs' to pay for.
    sys::sleep_ticks(SETTLE_TICKS);
    console::line(format_args!("latefork-agent: SERVING"));
    let mut line = [0; 128];
    loop {
        let len = usize::try_from(sys::read(0, &mut line)).unwrap_or(0);
        let path = core::str::from_utf8(&line[..len]).unwrap_or("").trim();
        if !run_quietly(supervisor, path, &RunOptions::default()) {
            return;
        }
        let events = trace::events(shared().trace()).count();
        console::line(format_args!("latefork-agent: DONE events={events}"));
    }
}

/// The same without a word of its trace.
fn run_quietly(supervisor: &mut Supervisor, path: &str, options: &RunOptions) -> bool {
    // SAFETY: init has one thread, and only this function uses the room.
    let room = unsafe { &mut *core::ptr::addr_of_mut!(FILE) };
    let content = match sys::read_file(path, room) {
        Ok(content) => content,
        Err(error) => {
            console::line(format_args!("latefork-agent: cannot read {path} ({error})"));
            return false;
        }
    };
    let program = if path.ends_with(".txt") {
        parse(path, content)
    } else {
        let decoded = Program::decode_canonical(content);
        decoded.map_err(|error| console::line(format_args!("latefork-agent: {path}: {error}")))
    };
    let Ok(program) = program else {
        return false;
    };
    let mut bytes = [0; MAX_BYTES];
    let len = program.encode(&mut bytes);
    supervisor.run(&bytes[..len], options);
    true
}

fn parse(path: &str, content: &[u8]) -> Result<Program, ()> {
    if content.len() > MAX_FILE {
        console::line(format_args!(
            "latefork-agent: {path} is longer than {MAX_FILE} bytes"
        ));
        return Err(());
    }
    let Ok(text) = core::str::from_utf8(content) else {
        console::line(format_args!("latefork-agent: {path} is not UTF-8"));
        return Err(());
    };
    text::parse(text)
        .map_err(|error| console::line(format_args!("latefork-agent: {path}: {error}")))
}

fn mount_all() {
    for folder in ["/dev", "/proc", "/sys", "/t", "/f"] {
        sys::mkdir(folder);
    }
    let mounts = [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/t"),
        ("debugfs", "/sys/kernel/debug"),
    ];
    for (kind, target) in mounts {
        let mounted = sys::mount(kind, target, kind, "");
        if mounted < 0 {
            console::line(format_args!(
                "latefork-agent: cannot mount {kind} ({mounted})"
            ));
        }
    }
    sys::chmod("/t", 0o777);
    let null = sys::open("/dev/null", sys::O_RDWR);
    sys::dup2(null, NULL_FD);
    sys::close(null);
}

/// Lets fail-nth reach allocations that may sleep, of any order: the default
/// spares them. Nothing fails until a program asks for it.
fn allow_failures() {
    let settings: [(&str, &[u8]); 5] = [
        ("/sys/kernel/debug/failslab/ignore-gfp-wait", b"N"),
        ("/sys/kernel/debug/failslab/verbose", b"0"),
        ("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", b"N"),
        ("/sys/kernel/debug/fail_page_alloc/min-order", b"0"),
        ("/sys/kernel/debug/fail_page_alloc/verbose", b"0"),
    ];
    for (path, value) in settings {
        sys::write_file(path, value);
    }
}

/// Mounts FUSE at /f; the device, or nothing where the kernel has none.
fn mount_fuse() -> Option<Fd> {
    let device = sys::open("/dev/fuse", sys::O_RDWR);
    if device < 0 {
        console::line(format_args!("latefork-agent: no /dev/fuse ({device})"));
        return None;
    }
    sys::dup2(device, FUSE_FD);
    sys::close(device);
    let data = "fd=110,rootmode=40000,user_id=0,group_id=0,allow_other";
    let mounted = sys::mount("latefork", "/f", "fuse", data);
    if mounted < 0 {
        console::line(format_args!(
            "latefork-agent: cannot mount FUSE ({mounted})"
        ));
        return None;
    }
    Some(FUSE_FD)
}

/// Makes the helper; it serves `fuse` where there is one.
pub fn start_helper(fuse: Option<Fd>) {
    if let Ok(ends) = sys::pipe2(0) {
        sys::dup2(ends[0], KICK_READ);
        sys::dup2(ends[1], KICK_WRITE);
        sys::close(ends[0]);
        sys::close(ends[1]);
    }
    let pid = sys::fork();
    if pid == 0 {
        // It dies with init (PR_SET_PDEATHSIG), on a host that is no guest.
        sys::prctl(&[1, 9, 0, 0, 0]);
        helper::run(fuse);
    }
    if pid < 0 {
        agent_error(AgentFault::Helper, pid);
    }
    sys::close(KICK_READ);
    sys::close(FUSE_FD);
}

fn open_slow_files(fuse: bool) {
    if !fuse {
        return;
    }
    for (at, path) in ["/f/0", "/f/1", "/f/2", "/f/3"].iter().enumerate() {
        let fd = sys::open(path, sys::O_RDWR);
        if fd < 0 {
            agent_error(AgentFault::Fuse, fd);
            continue;
        }
        sys::dup2(fd, SLOW_FD + at as Fd);
        sys::close(fd);
    }
}

/// Makes and reaps children until one had the id `last`.
fn burn_pids(last: i32) {
    static mut STACK: [u8; 512] = [0; 512];
    let top = core::ptr::addr_of_mut!(STACK) as u32 + 512;
    for _ in 0..=last {
        let flags = sys::CLONE_VM | sys::CLONE_VFORK | sys::SIGCHLD;
        // SAFETY: the child uses the stack while this task sleeps (vfork).
        let pid = unsafe { rt::clone(flags, top & !15, end_at_once, 0, (0, 0)) };
        if pid < 0 {
            return;
        }
        sys::wait4(pid, 0);
        if pid >= last {
            return;
        }
    }
}

extern "C" fn end_at_once(_: u32) -> u32 {
    0
}

/// Ends the machine: a reset, which QEMU's -no-reboot takes as the end.
fn power_off() -> ! {
    sys::call(36, &[]);
    loop {
        sys::call(88, &[0xfee1_dead, 672_274_793, 0x0123_4567, 0]);
        sys::sleep_ticks(10);
    }
}
