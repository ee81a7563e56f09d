//! What arrives in a status, and when (P3, P4); what a call leaves of its
//! caller (P6, P7).

use latefork_wire::text;

use super::{check_trace, trace};
use crate::oracle::{Violation, twin};

/// `pause` with a signal for its process, recorded on faithful.
const PAUSE: &str =
    "t0 handle sig=usr1\nt0 async index=pause\nt0 send sig=usr1\nt0 sleep ticks=2\n";
const PAUSE_ON_FAITHFUL: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=1040
    done thread=0 op=0 tid=310 value=0 second=0
    issued thread=0 op=1 tid=310 status=0x20000250 args=0x20000268 index=11 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=1 tid=311 value=0 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    done thread=0 op=2 tid=311 value=0 second=0
    handler thread=0 tid=311 sig=10 code=0 value=0 on_alt=0 worker=0 count=1
    done thread=0 op=3 tid=311 value=0 second=0
    status thread=0 op=1 tid=311 old=0x5aa5a55a new=-514 hash=0x4f43ebc5 changes=1 late=1
    thread-end thread=0 tid=311 first=310
    final thread=0 op=1 tid=311 continuations=1 status=-514 changes=1 hash=0x4f43ebc5 canaries=0 altered=0
    victim tid=0 pid=310 status=0 over=1 tasks=1 ms=1070
    end tid=0 outcome=0 tasks=1 pending=0 continuations=1 lost=0 ms=1070";

#[test]
fn a_restart_code_never_reaches_a_status() {
    check_trace(PAUSE, PAUSE_ON_FAITHFUL, &["P3 restart-code pause"]);
    let mended = PAUSE_ON_FAITHFUL.replace("-514", "-4");
    check_trace(PAUSE, &mended, &[]);
    for (status, expected) in [
        ("-511", "P3 strange-status pause"),
        ("-512", "P3 restart-code pause"),
        ("-530", "P3 restart-code pause"),
        ("-531", "P3 strange-status pause"),
        ("0", "P3 strange-status pause"),
    ] {
        let events = PAUSE_ON_FAITHFUL.replace("-514", status);
        check_trace(PAUSE, &events, &[expected]);
    }
}

/// A read that blocked, recorded on hardened.
const READ: &str = "t0 create slot=0 kind=pipe\nt0 async index=read a0=fd:0 a1=own a2=len:7\n\
    t0 feed slot=0 end=1 bytes=15\nt0 await-worker op=1 ticks=50\n";
const READ_ON_HARDENED: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=1040
    done thread=0 op=0 tid=310 value=3 second=0
    issued thread=0 op=1 tid=310 status=0x20000250 args=0x20000268 index=1 buffer=0x200002a0 round=0 hash=0x4f43ebc5
    returned thread=0 op=1 tid=311 value=0 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    done thread=0 op=2 tid=311 value=15 second=0
    worker-gone thread=0 op=3 tid=311 id=310 zombie=1
    waited thread=0 op=3 tid=311 came=1 value=310
    status thread=0 op=1 tid=311 old=0x5aa5a55a new=15 hash=0xb61abc11 changes=1 late=1
    thread-end thread=0 tid=311 first=310
    final thread=0 op=1 tid=311 continuations=1 status=15 changes=1 hash=0xb61abc11 canaries=0 altered=0
    victim tid=0 pid=310 status=0 over=1 tasks=1 ms=1050
    end tid=0 outcome=0 tasks=1 pending=0 continuations=1 lost=0 ms=1050";

/// The recorded read with one thing changed.
fn read_with(from: &str, to: &str, expected: &[&str]) {
    assert!(READ_ON_HARDENED.contains(from), "{from}");
    check_trace(READ, &READ_ON_HARDENED.replace(from, to), expected);
}

#[test]
fn a_read_gives_no_more_than_was_asked_for() {
    check_trace(READ, READ_ON_HARDENED, &[]);
    // 16 bytes were asked for.
    read_with("new=15", "new=16", &[]);
    read_with("new=15", "new=17", &["P3 strange-status read"]);
    read_with("new=15", "new=-133", &[]);
    read_with("new=15", "new=-134", &["P3 strange-status read"]);
    let shared_args = READ.replace("a2=len:7", "a2=len:7 args=shared");
    let events = READ_ON_HARDENED.replace("new=15", "new=17");
    check_trace(&shared_args, &events, &[]);
    let failing = format!("{READ}t0 fuse file=0 action=fail value=200\n");
    let events = READ_ON_HARDENED.replace("new=15", "new=-200");
    check_trace(&failing, &events, &[]);
}

#[test]
fn a_status_comes_once_and_comes_at_all() {
    read_with(
        "changes=1 hash",
        "changes=2 hash",
        &["P3 second-status read"],
    );
    let lost: Vec<&str> = READ_ON_HARDENED
        .lines()
        .filter(|line| !line.trim().starts_with("status"))
        .collect();
    let lost = lost
        .join("\n")
        .replace("status=15 changes=1", "status=0x5aa5a55a changes=0");
    check_trace(READ, &lost, &["P3 status-lost read"]);
    // Without word of the worker's end it may come yet.
    let open = lost.replace("worker-gone", "traced");
    let open = open.replace("id=310 zombie=1", "id=310 status=0");
    check_trace(READ, &open, &[]);
    // In its own task: there at the return.
    let same = READ_ON_HARDENED.replace(
        "returned thread=0 op=1 tid=311",
        "returned thread=0 op=1 tid=310",
    );
    check_trace(READ, &same, &["P3 status-missing read"]);
    let there = same.replace(
        "continuations=1 status=0x5aa5a55a",
        "continuations=1 status=15",
    );
    check_trace(READ, &there, &[]);
}

#[test]
fn a_result_does_not_change_after_its_status() {
    let early = "new=15 hash=0x4f43ebc5";
    read_with(
        "new=15 hash=0xb61abc11",
        early,
        &["P4 result-after-status read"],
    );
    let events = READ_ON_HARDENED.replace("new=15 hash=0xb61abc11", early);
    check_trace(&format!("{READ}t1 poke op=1 cell=buffer"), &events, &[]);
}

#[test]
fn a_register_or_a_kept_row_stays() {
    let with = |line: &str, expected: &[&str]| {
        let events = READ_ON_HARDENED.replace(
            "done thread=0 op=2",
            &format!("{line}\n    done thread=0 op=2"),
        );
        check_trace(READ, &events, expected);
    };
    with(
        "register thread=0 op=1 tid=311 which=13 before=0x33 after=0",
        &["P6 register-gs read"],
    );
    // 7 is the alternate stack (recorded on faithful), 20 the directory, 0 the
    // thread id.
    let row = "thread=0 op=1 tid=311 row=7 before=0xbfe357b7";
    with(
        &format!("row {row} after=0xfeac02e5 same=0"),
        &["P6 row-altstack read"],
    );
    with(&format!("row {row} after=0xbfe357b7 same=1"), &[]);
    with(
        "row thread=0 op=1 tid=311 row=0 before=310 after=311 same=0",
        &[],
    );
    let directory = "row thread=0 op=1 tid=311 row=20 before=1 after=2 same=0";
    with(directory, &["P6 row-cwd read"]);
    // An observation compares nothing.
    with(
        "row thread=0 op=2 tid=311 row=7 before=1 after=2 same=0",
        &[],
    );
}

#[test]
fn what_threads_share_may_change_around_a_call() {
    let events = "issued thread=0 op=0 tid=9 status=0x20000050 args=0x20000068 index=11\n\
        returned thread=0 op=0 tid=10 value=0 from=9 continuations=1 status=0x5aa5a55a\n\
        row thread=0 op=0 tid=10 row=20 before=1 after=2 same=0";
    check_trace("t0 async index=pause\nt1 arm row=cwd", events, &[]);
    check_trace("t0 async index=pause", events, &["P6 row-cwd pause"]);
}

#[test]
fn a_refused_call_stays_in_its_thread() {
    let events = "issued thread=0 op=0 tid=9 status=0x20000050 args=0x20000068 index=12\n\
        returned thread=0 op=0 tid=10 value=-22 from=9 continuations=1 status=0x5aa5a55a";
    let step = "t0 async index=empty";
    check_trace(step, events, &["P6 refused-and-forked empty"]);
    check_trace(step, &events.replace("tid=10", "tid=9"), &[]);
}

#[test]
fn at_a_limit_of_one_task_no_call_forks() {
    let events = "issued thread=0 op=0 tid=9 status=0x20000050 args=0x20000068 index=6\n\
        returned thread=0 op=0 tid=10 value=0 from=9 continuations=1 status=0";
    let step = "t0 async index=clock_nanosleep a0=int:1 a2=time:2";
    let setup = "setup privilege=user nproc=1\n";
    let expected = ["P7 forked-past-limit clock_nanosleep"];
    check_trace(&format!("{setup}{step}"), events, &expected);
    check_trace(
        &format!("{setup}{step}"),
        &events.replace("tid=10", "tid=9"),
        &[],
    );
    // At two it may.
    let two = setup.replace("nproc=1", "nproc=2");
    check_trace(&format!("{two}{step}"), events, &[]);
    let raised = format!("{setup}{step}\nt0 rlimit which=nproc value=9");
    check_trace(&raised, events, &[]);
}

#[test]
fn failed_clones_leave_room_for_as_many_as_before() {
    let program = "setup privilege=user nproc=4\nt0 observe what=clones\n\
        t0 rlimit which=nproc value=1\nt0 async index=clock_nanosleep a0=int:1 a2=time:1\n\
        t0 rlimit which=nproc value=4\nt0 observe what=clones\n";
    let run = |tid: u32, fit: u32, expected: &[&str]| {
        let events = format!(
            "observed thread=0 op=0 tid=310 what=5 a=3\n\
             issued thread=0 op=2 tid=310 status=0x20000450 args=0x20000468 index=6\n\
             returned thread=0 op=2 tid={tid} value=0 from=310 continuations=1 status=0\n\
             observed thread=0 op=4 tid={tid} what=5 a={fit}"
        );
        check_trace(program, &events, expected);
    };
    run(310, 3, &[]);
    run(310, 2, &["P7 left-behind clones"]);
    // A worker may live still.
    run(311, 2, &[]);
}

/// A missing path, through `async` and plainly; recorded on hardened.
const MISSING: &str = "t0 async index=access a0=path:1\n";
const MISSING_ON_HARDENED: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=1040
    issued thread=0 op=0 tid=310 status=0x20000050 args=0x20000068 index=4 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=0 tid=310 value=0 from=310 continuations=1 status=-2 hash=0x4f43ebc5 canaries=0
    status thread=0 op=0 tid=310 old=0x5aa5a55a new=-2 hash=0x4f43ebc5 changes=1 late=0
    thread-end thread=0 tid=310 first=310
    final thread=0 op=0 tid=310 continuations=1 status=-2 changes=1 hash=0x4f43ebc5 canaries=0 altered=0
    victim tid=0 pid=310 status=0 over=1 tasks=1 ms=1040
    end tid=0 outcome=0 tasks=1 pending=0 continuations=1 lost=0 ms=1040";
const MISSING_PLAINLY: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=1 ms=1040
    issued thread=0 op=0 tid=310 status=0x20000050 args=0x20000068 index=4 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=0 tid=310 value=0 from=310 continuations=1 status=-2 hash=0x4f43ebc5 canaries=0
    status thread=0 op=0 tid=310 old=0x5aa5a55a new=-2 hash=0x4f43ebc5 changes=1 late=0
    thread-end thread=0 tid=310 first=310
    final thread=0 op=0 tid=310 continuations=1 status=-2 changes=1 hash=0x4f43ebc5 canaries=0 altered=0
    victim tid=0 pid=310 status=0 over=1 tasks=1 ms=1040
    end tid=0 outcome=0 tasks=1 pending=0 continuations=1 lost=0 ms=1040";

#[test]
fn a_twin_gives_the_same() {
    let compare = |program: &str, events: &str, control: &str, expected: &[&str]| {
        let program = text::parse(program).unwrap();
        let found = twin::check(&program, &trace(events), &trace(control));
        let seen: Vec<String> = found.iter().map(Violation::signature).collect();
        assert_eq!(seen, expected);
    };
    let run = MISSING_ON_HARDENED;
    let differs = ["P3 twin-differs access"];
    compare(MISSING, run, MISSING_PLAINLY, &[]);
    let other = run.replace("=-2 ", "=-13 ");
    assert_ne!(other, run);
    compare(MISSING, &other, MISSING_PLAINLY, &differs);
    // Two runs through async prove nothing, nor does one that a signal may meet.
    compare(MISSING, &other, run, &[]);
    let disturbed = format!("{MISSING}t0 send sig=usr1\n");
    compare(&disturbed, &other, MISSING_PLAINLY, &[]);
    let named = MISSING.replace("path:1", "path:13");
    compare(&named, &other, MISSING_PLAINLY, &[]);
}

/// Another thread awaits a status before its call is prepared; recorded on
/// hardened.
#[test]
fn what_is_seen_before_the_call_is_no_status() {
    let program = "t2 async index=stat64 a0=path a1=own args=slot:2\nt0 await-status op=0\n";
    let early = "status thread=2 op=0 tid=312 old=0 new=0x5aa5a55a hash=1 changes=1 late=1\n";
    let events = "issued thread=2 op=0 tid=312 status=0x20000050 args=0x28020100 index=0 buffer=0x200000a0 hash=1
        returned thread=2 op=0 tid=312 value=-14 from=312 continuations=1 status=0x5aa5a55a hash=1
        final thread=2 op=0 tid=312 continuations=1 status=0x5aa5a55a changes=2 hash=1";
    check_trace(program, &format!("{early}{events}"), &[]);
    let written = "status thread=2 op=0 tid=312 old=0x5aa5a55a new=3 hash=1 changes=2 late=1";
    let expected = ["P2 status-written stat64"];
    check_trace(program, &format!("{early}{events}\n{written}"), &expected);
}

/// A result on a FUSE page, then death, recorded on hardened.
const SLOW_STAT: &str =
    "t0 async a0=path a1=slow:1 watch=registers\nt0 fuse file=1 on=read\nt0 send sig=kill\n";
const SLOW_STAT_ON_HARDENED: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=1040
    issued thread=0 op=0 tid=310 status=0x20000050 args=0x20000068 index=0 buffer=0x230050a0 round=0 hash=0xd42cb001
    result thread=0 op=0 tid=310 when=0 at=0x230050a0 bytes=0 hash=0x811c9dc5
    fuse tid=310 file=1 opcode=15 action=0 held=0
    returned thread=0 op=0 tid=311 value=0 from=310 continuations=1 status=0 hash=0xd42cb001 canaries=0
    result thread=0 op=0 tid=311 when=1 at=0x230050a0 bytes=160 hash=0x96b72a12
    status thread=0 op=0 tid=311 old=0x5aa5a55a new=0 hash=0xd42cb001 changes=1 late=0
    result thread=0 op=0 tid=311 when=2 at=0x230050a0 bytes=160 hash=0x96b72a12
    done thread=0 op=1 tid=311 value=0 second=0
    leaving thread=0 op=2 tid=311 how=3 code=9
    final thread=0 op=0 tid=1 continuations=1 status=0 changes=1 hash=0xd42cb001 canaries=0 altered=0
    result thread=0 op=0 tid=1 when=3 at=0x230050a0 bytes=160 hash=0xea6207e5
    victim tid=0 pid=310 status=9 over=0 tasks=0 ms=1040
    end tid=0 outcome=1 tasks=0 pending=0 continuations=0 lost=0 ms=1040";

#[test]
fn what_a_dead_victim_took_along_is_no_late_result() {
    check_trace(SLOW_STAT, SLOW_STAT_ON_HARDENED, &[]);
    // Init has a mapping of its own, alive or not.
    let alive = SLOW_STAT_ON_HARDENED.replace("outcome=1", "outcome=0");
    check_trace(SLOW_STAT, &alive, &[]);
    let seen_alike = |trace: &str| trace.replace("tid=1 when=3", "tid=311 when=3");
    check_trace(SLOW_STAT, &seen_alike(SLOW_STAT_ON_HARDENED), &[]);
    check_trace(
        SLOW_STAT,
        &seen_alike(&alive),
        &["P4 result-after-status stat64"],
    );
}

/// An argument block over the call's own status, recorded on hardened.
const REFUSED_ON_HARDENED: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=1040
    issued thread=0 op=0 tid=310 status=0x20000050 args=0x20000053 index=234 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=0 tid=310 value=-22 from=310 continuations=1 status=0xc8a5a55a hash=0x4f43ebc5 canaries=6
    thread-end thread=0 tid=310 first=310
    final thread=0 op=0 tid=310 continuations=1 status=0xc8a5a55a changes=0 hash=0x4f43ebc5 canaries=6 altered=0
    continuation thread=0 tid=310 id=310 phase=2 lives=1
    end tid=0 outcome=5 tasks=1 pending=0 continuations=1 lost=0 ms=1040";

#[test]
fn a_status_under_the_argument_block_is_the_agents_writing() {
    let over = "t0 async index=234 args=over-status:75 a0=bad-fd\n";
    check_trace(over, REFUSED_ON_HARDENED, &[]);
    let own = "t0 async index=234 a0=bad-fd\n";
    check_trace(own, REFUSED_ON_HARDENED, &["P2 status-written 234"]);
}
