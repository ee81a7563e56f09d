//! What becomes of the process: tasks, leaks, workers, signals, its end (P8 to
//! P11, P13).

use super::check_trace;

#[test]
fn tasks_that_nothing_explains_are_seen() {
    let end = |tasks: u32, pending: u32| {
        format!(
            "issued thread=0 op=0 tid=9 status=0x20000050 args=0x20000068 index=11\n\
             returned thread=0 op=0 tid=10 value=0 from=9 continuations=1 status=0x5aa5a55a\n\
             end outcome=0 tasks={tasks} pending={pending} continuations=1"
        )
    };
    let pause = "t0 async index=pause";
    check_trace(pause, &end(2, 1), &[]);
    check_trace(pause, &end(3, 1), &["P8 extra-tasks tasks"]);
    // A worker that is gone explains no task.
    let gone = |events: String| events.replace("end out", "worker-gone id=9 zombie=0\nend out");
    check_trace(pause, &gone(end(2, 0)), &["P8 extra-tasks tasks"]);
    check_trace(pause, &gone(end(1, 0)), &[]);
    // A thread that exits may be counted on its way.
    check_trace(&format!("{pause}\nt1 exit"), &end(3, 1), &[]);
}

#[test]
fn a_leak_grows_with_every_repetition() {
    let leak = |what: u32, seen: [u32; 3], repeats: u32, expected: &[&str]| {
        let [once, twice, thrice] = seen;
        let counts = format!("once={once} twice={twice} thrice={thrice}");
        let events = format!("leak what={what} {counts} repeats={repeats}");
        check_trace("t0 nop", &events, expected);
    };
    leak(2, [30, 36, 42], 6, &["P8 leak-task_struct repetitions"]);
    leak(2, [30, 36, 41], 6, &[]);
    // A cache that filled.
    leak(11, [300, 340, 340], 6, &[]);
    leak(9, [300, 290, 280], 6, &[]);
    // Kernel stacks and page tables, in KiB; slabs are caches.
    leak(13, [200, 248, 296], 6, &["P8 leak-stacks-kib repetitions"]);
    leak(13, [200, 240, 280], 6, &[]);
    leak(
        14,
        [80, 104, 128],
        6,
        &["P8 leak-page-tables-kib repetitions"],
    );
    leak(12, [800, 900, 1000], 6, &[]);
    leak(2, [30, 31, 32], 1, &[]);
}

#[test]
fn a_worker_that_runs_user_code_is_seen() {
    let program = "t0 handle sig=usr1\nt0 async index=pause\nt0 async index=pause\n\
        t0 send sig=usr1\n";
    let events = |handler: u32, issuer: u32, worker: u32| {
        format!(
            "issued thread=0 op=1 tid=9 status=0x20000250 args=0x20000268 index=11\n\
             returned thread=0 op=1 tid=10 value=0 from=9 continuations=1 status=0x5aa5a55a\n\
             issued thread=0 op=2 tid={issuer} status=0x20000450 args=0x20000468 index=11\n\
             handler thread=0 tid={handler} sig=10 worker={worker} count=1"
        )
    };
    check_trace(program, &events(10, 10, 0), &[]);
    check_trace(
        program,
        &events(9, 10, 0),
        &["P9 handler-in-worker handler"],
    );
    check_trace(
        program,
        &events(10, 10, 1),
        &["P9 handler-in-worker handler"],
    );
    check_trace(
        program,
        &events(10, 9, 0),
        &["P9 worker-in-user-space pause"],
    );
    // Ids may come again where few are left.
    let few = format!("{program}t0 kernel-limit which=pid-max headroom=1");
    check_trace(&few, &events(10, 9, 0), &[]);
}

#[test]
fn a_new_image_runs_alone() {
    let program = "t0 exec kind=agent";
    check_trace(program, "executed tid=310 pid=310 tasks=1", &[]);
    check_trace(
        program,
        "executed tid=310 pid=310 tasks=2",
        &["P10 survived-exec execve"],
    );
}

/// A private real-time signal that was pending before the call, recorded.
const PRIVATE: &str = "t0 mask how=block set=rt\n\
    t0 send sig=rt to=queue-thread value=5\n\
    t0 create slot=0 kind=pipe\n\
    t0 async index=read a0=fd:0 a1=own a2=len:7\n\
    t0 handle sig=rt\n\
    t0 mask how=unblock set=rt\n\
    t0 feed slot=0 end=1 bytes=15\n\
    t0 await-status op=3 ticks=50\n";
const PRIVATE_ON_FAITHFUL: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=1040
    done thread=0 op=0 tid=310 value=0 second=0
    done thread=0 op=1 tid=310 value=0 second=0
    done thread=0 op=2 tid=310 value=3 second=0
    issued thread=0 op=3 tid=310 status=0x20000650 args=0x20000668 index=1 buffer=0x200006a0 round=0 hash=0x4f43ebc5
    returned thread=0 op=3 tid=311 value=0 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    done thread=0 op=4 tid=311 value=0 second=0
    done thread=0 op=5 tid=311 value=0 second=0
    done thread=0 op=6 tid=311 value=15 second=0
    status thread=0 op=3 tid=311 old=0x5aa5a55a new=15 hash=0xb61abc11 changes=1 late=1
    waited thread=0 op=7 tid=311 came=1 value=15
    thread-end thread=0 tid=311 first=310
    final thread=0 op=3 tid=311 continuations=1 status=15 changes=1 hash=0xb61abc11 canaries=0 altered=0
    victim tid=0 pid=310 status=0 over=1 tasks=1 ms=1050
    end tid=0 outcome=0 tasks=1 pending=0 continuations=1 lost=0 ms=1050";
/// What hardened has in addition, before operation 5 ends.
const PRIVATE_HANDLED: &str =
    "handler thread=0 tid=311 sig=34 code=-1 value=5 on_alt=0 worker=0 count=1\n    ";

#[test]
fn a_queued_signal_runs_its_handler_exactly_once() {
    let before = "done thread=0 op=5";
    let with = |handlers: usize| {
        let handlers = PRIVATE_HANDLED.repeat(handlers);
        PRIVATE_ON_FAITHFUL.replace(before, &format!("{handlers}{before}"))
    };
    check_trace(PRIVATE, PRIVATE_ON_FAITHFUL, &["P11 signal-lost rt"]);
    check_trace(PRIVATE, &with(1), &[]);
    check_trace(PRIVATE, &with(2), &["P11 signal-repeated rt"]);
    // Still blocked, or never sent for certain: nothing is due.
    let blocked = PRIVATE.replace("how=unblock", "how=block");
    check_trace(&blocked, PRIVATE_ON_FAITHFUL, &[]);
    let refused = PRIVATE_ON_FAITHFUL.replace("op=1 tid=310 value=0", "op=1 tid=310 value=-11");
    check_trace(PRIVATE, &refused, &[]);
    let taken = PRIVATE.replace("t0 create slot=0 kind=pipe", "t0 sigwait set=rt ticks=1");
    check_trace(&taken, PRIVATE_ON_FAITHFUL, &[]);
}

#[test]
fn ordinary_signals_do_not_queue() {
    let program = "t0 handle sig=usr2\nt0 mask how=block set=usr2\nt0 send sig=usr2 more=2\n\
        t0 mask how=unblock set=usr2\n";
    let run = |handlers: usize, expected: &[&str]| {
        let events = format!(
            "done thread=0 op=2 value=0\n{}end outcome=0 tasks=1 continuations=1",
            "handler thread=0 tid=9 sig=12\n".repeat(handlers)
        );
        check_trace(program, &events, expected);
    };
    run(0, &["P11 signal-lost usr2"]);
    run(1, &[]);
    run(3, &[]);
    run(4, &["P11 signal-repeated usr2"]);
}

#[test]
fn the_parent_sees_the_continuations_status() {
    let victim = |setup: &str, status: u32, over: u32, outcome: u32, expected: &[&str]| {
        let events = format!("victim pid=9 status={status} over={over}\nend outcome={outcome}");
        check_trace(setup, &events, expected);
    };
    let seven = "setup ending=exit code=7\nt0 nop";
    victim(seven, 0x700, 1, 0, &[]);
    victim(seven, 0, 1, 0, &["P13 wrong-exit victim"]);
    // Another thread's own code may be the one that counts.
    victim(&format!("{seven}\nt1 exit code=3"), 0x300, 1, 0, &[]);
    victim(seven, 0, 0, 1, &["P13 ended-early victim"]);
    victim(seven, 11, 0, 1, &[]);
    let leaves = "t0 exit-group code=9";
    victim(leaves, 0x900, 0, 1, &[]);
    victim(leaves, 0, 0, 1, &["P13 wrong-exit victim"]);
    let executes = "t0 exec kind=agent";
    let events = |status: u32| {
        format!("executed pid=9 tasks=1\nvictim pid=9 status={status} over=0\nend outcome=1")
    };
    check_trace(executes, &events(0x2a00), &[]);
    check_trace(executes, &events(0), &["P13 wrong-exit victim"]);
}

/// The continuation exits, its worker sleeps on; recorded on faithful.
const EXIT: &str = "t0 create slot=0 kind=pipe\nt0 async index=read a0=fd:0 a1=own a2=len:7\n\
    t0 exit code=7\n";
const EXIT_ON_FAITHFUL: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=1040
    done thread=0 op=0 tid=310 value=3 second=0
    issued thread=0 op=1 tid=310 status=0x20000250 args=0x20000268 index=1 buffer=0x200002a0 round=0 hash=0x4f43ebc5
    returned thread=0 op=1 tid=311 value=0 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    thread-end thread=0 tid=311 first=310
    final thread=0 op=1 tid=311 continuations=1 status=0x5aa5a55a changes=0 hash=0x4f43ebc5 canaries=0 altered=0
    victim tid=0 pid=310 status=9 over=1 tasks=1 ms=2060
    end tid=0 outcome=0 tasks=1 pending=1 continuations=0 lost=0 ms=2060";

#[test]
fn a_process_does_not_outlive_its_program() {
    check_trace(EXIT, EXIT_ON_FAITHFUL, &["P13 outlived-program victim"]);
    let ended = EXIT_ON_FAITHFUL.replace("status=9", "status=1792");
    check_trace(EXIT, &ended, &[]);
    let killed = format!("setup ending=kill\n{EXIT}");
    check_trace(&killed, EXIT_ON_FAITHFUL, &[]);
    // Who leaves by a step does not end the thread that stays.
    check_trace(&format!("{EXIT}t1 nop"), EXIT_ON_FAITHFUL, &[]);
    let withheld = format!("{EXIT}t0 fuse file=0 action=hold");
    check_trace(&withheld, EXIT_ON_FAITHFUL, &[]);
}

#[test]
fn a_child_ends_with_its_own_code() {
    let program = "t0 fork ops=1 code=5\nt0 nop\nt0 wait ticks=9";
    check_trace(program, "child op=2 pid=12 status=0x500 number=0", &[]);
    check_trace(program, "child op=2 pid=12 status=9 number=0", &[]);
    check_trace(
        program,
        "child op=2 pid=12 status=0 number=0",
        &["P13 wrong-exit child"],
    );
    let two = format!("{program}\nt0 fork ops=1 code=6");
    check_trace(&two, "child op=2 pid=12 status=0x600 number=0", &[]);
}
