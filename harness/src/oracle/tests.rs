//! Traces that violate a property, and such that just do not. Traces are in
//! the form in which `latefork run --trace` prints them; those called recorded
//! are from runs of the guest kernel's flavours.

use latefork_wire::text;
use latefork_wire::trace::{Detail, KINDS};

use super::*;

mod process;
mod recorded;
mod status;
mod watched;

/// Reads what an event's `Display` wrote.
fn event(line: &str) -> Event {
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().unwrap();
    let code = KINDS.iter().position(|(word, _)| *word == kind).unwrap();
    let fields = KINDS[code].1;
    let mut bytes = [0; 32];
    bytes[0] = u8::try_from(code + 1).unwrap();
    bytes[1] = u8::MAX;
    bytes[2] = u8::MAX;
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        let value = number(value);
        let low = value.to_le_bytes()[0];
        match name {
            "thread" => bytes[1] = low,
            "op" => bytes[2] = low,
            "tid" => bytes[4..8].copy_from_slice(&value.to_le_bytes()),
            _ => {
                let at = fields.iter().position(|field| *field == name).unwrap();
                bytes[8 + 4 * at..][..4].copy_from_slice(&value.to_le_bytes());
            }
        }
    }
    Event::decode(&bytes)
}

fn number(text: &str) -> u32 {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).unwrap(),
        None => u32::try_from(text.parse::<i64>().unwrap() & 0xffff_ffff).unwrap(),
    }
}

fn trace(text: &str) -> Vec<Event> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty()).map(event).collect()
}

/// Checks a trace; the expectation is the violations' signatures.
fn check_trace(program: &str, events: &str, expected: &[&str]) {
    let program = text::parse(program).unwrap();
    let found = check(&program, &trace(events));
    let seen: Vec<String> = found.iter().map(Violation::signature).collect();
    assert_eq!(seen, expected);
}

/// One call of a program that has only it, and what it returned.
fn check_value(step: &str, issued: &str, value: i32, expected: &[&str]) {
    let status = "status=0x20000050";
    let stored = if value == 0 { "-5" } else { "0x5aa5a55a" };
    let events = format!(
        "issued thread=0 op=0 tid=9 {status} {issued} round=0 hash=7\n\
         returned thread=0 op=0 tid=9 value={value} from=9 continuations=1 status={stored} hash=7"
    );
    check_trace(step, &events, expected);
}

#[test]
fn the_reader_of_traces_reads_what_is_printed() {
    for line in RECORDED_CLEAN.lines().map(str::trim) {
        assert_eq!(event(line).to_string(), line);
    }
    assert!(matches!(
        event("end tid=0 outcome=2").detail,
        Detail::End { outcome: 2, .. }
    ));
}

/// Recorded on hardened: refusals by each rule, and two calls that work.
const ABI: &str = "t0 async index=stat64 a0=path a1=own\n\
    t0 async index=empty\n\
    t0 async index=seven args=unmapped\n\
    t0 async index=250\n\
    t0 async index=access args=unmapped\n\
    t0 async index=access a0=path:1\n";
const RECORDED_CLEAN: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=30
    issued thread=0 op=0 tid=310 status=0x20000050 args=0x20000068 index=0 buffer=0x200000a0 round=0 hash=0xd42cb001
    returned thread=0 op=0 tid=310 value=0 from=310 continuations=1 status=0 hash=0x948caf12 canaries=0
    status thread=0 op=0 tid=310 old=0x5aa5a55a new=0 hash=0x948caf12 changes=1 late=0
    issued thread=0 op=1 tid=310 status=0x20000250 args=0x20000268 index=12 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=1 tid=310 value=-22 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    issued thread=0 op=2 tid=310 status=0x20000450 args=0x30000000 index=13 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=2 tid=310 value=-22 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    issued thread=0 op=3 tid=310 status=0x20000650 args=0x20000668 index=0x10000000 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=3 tid=310 value=-22 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    issued thread=0 op=4 tid=310 status=0x20000850 args=0x30000000 index=4 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=4 tid=310 value=-14 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    issued thread=0 op=5 tid=310 status=0x20000a50 args=0x20000a68 index=4 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=5 tid=310 value=0 from=310 continuations=1 status=-2 hash=0x4f43ebc5 canaries=0
    status thread=0 op=5 tid=310 old=0x5aa5a55a new=-2 hash=0x4f43ebc5 changes=1 late=0
    end tid=0 outcome=0 tasks=1 pending=0 continuations=1 lost=0 ms=30";

#[test]
fn a_recorded_run_that_keeps_the_rules_is_clean() {
    check_trace(ABI, RECORDED_CLEAN, &[]);
}

#[test]
fn each_wrong_value_in_it_would_be_seen() {
    let wrong = |from: &str, to: &str, expected: &[&str]| {
        assert_eq!(RECORDED_CLEAN.matches(from).count(), 1, "{from}");
        check_trace(ABI, &RECORDED_CLEAN.replace(from, to), expected);
    };
    wrong(
        "op=0 tid=310 value=0",
        "op=0 tid=310 value=-14",
        &["P1 wrong-value stat64", "P2 status-written stat64"],
    );
    wrong(
        "op=1 tid=310 value=-22",
        "op=1 tid=310 value=0",
        &["P1 wrong-value empty", "P3 status-missing empty"],
    );
    wrong(
        "op=2 tid=310 value=-22",
        "op=2 tid=310 value=-14",
        &["P1 wrong-value seven"],
    );
    wrong(
        "op=3 tid=310 value=-22",
        "op=3 tid=310 value=-512",
        &["P1 strange-value 268435456"],
    );
    wrong(
        "op=4 tid=310 value=-14",
        "op=4 tid=310 value=0",
        &["P1 wrong-value access", "P3 status-missing access"],
    );
    wrong(
        "value=-14 from=310 continuations=1 status=0x5aa5a55a",
        "value=-14 from=310 continuations=1 status=0",
        &["P2 status-written access"],
    );
    wrong(
        "op=4 tid=310 value=-14 from=310 continuations=1",
        "op=4 tid=310 value=-14 from=310 continuations=2",
        &["P5 second-continuation access"],
    );
}

#[test]
fn arguments_that_may_or_may_not_be_readable_allow_both() {
    let slot = "args=0x28000100 index=4";
    for value in [0, -14] {
        check_value("t0 async index=access args=slot", slot, value, &[]);
    }
    check_value(
        "t0 async index=access args=slot",
        slot,
        -22,
        &["P1 wrong-value access"],
    );

    let slow = "args=0x23001068 index=4";
    check_value("t0 async index=access args=slow", slow, 0, &[]);
    check_value(
        "t0 async index=access args=slow",
        slow,
        -14,
        &["P1 wrong-value access"],
    );
    let failing = "t0 async index=access args=slow\nt1 fuse file=0 action=fail value=5\n";
    check_value(failing, slow, -14, &[]);
}

#[test]
fn the_last_word_of_an_argument_block_counts() {
    // Two words before a hole, three claimed.
    let edge = "args=0x22000ff8 index=1";
    check_value("t0 async index=read args=edge:7", edge, -14, &[]);
    check_value(
        "t0 async index=read args=edge:7",
        edge,
        0,
        &["P1 wrong-value read"],
    );
    // Three words before it.
    let edge = "args=0x22000ff4 index=1";
    check_value("t0 async index=read args=edge:11", edge, 0, &[]);
    // Nothing is read where nothing is claimed.
    check_value(
        "t0 async index=pause args=kernel",
        "args=0xc0000000 index=11",
        0,
        &[],
    );
    check_value(
        "t0 async index=access args=wrap:3",
        "args=0xfffffffc index=4",
        0,
        &["P1 wrong-value access"],
    );
}

#[test]
fn injected_failures_may_make_arguments_unreadable() {
    let plain = "args=0x20000068 index=4";
    check_value("t0 async index=access fail_nth=1", plain, -14, &[]);
    check_value(
        "t0 async index=access",
        plain,
        -14,
        &["P1 wrong-value access"],
    );
}

#[test]
fn a_refused_call_must_leave_its_cells_alone() {
    let refused = |returned: &str, expected: &[&str]| {
        let events = format!(
            "issued thread=0 op=0 tid=9 status=0x20000050 args=0x20000068 index=12 buffer=0x200000a0 hash=7\n\
             returned thread=0 op=0 tid=9 value=-22 from=9 continuations=1 {returned}"
        );
        check_trace("t0 async index=empty a1=own", &events, expected);
    };
    refused("status=0x5aa5a55a hash=7 canaries=0", &[]);
    refused(
        "status=0x5aa5a55a hash=8 canaries=0",
        &["P2 buffer-written empty"],
    );
    refused(
        "status=0x5aa5a55a hash=7 canaries=2",
        &["P2 canary-damaged empty"],
    );
    refused("status=-22 hash=7 canaries=0", &["P2 status-written empty"]);
}

#[test]
fn cells_that_others_can_write_are_not_judged() {
    let events = "issued thread=0 op=0 tid=9 status=0x20000050 args=0x20000068 index=12 hash=7\n\
        returned thread=0 op=0 tid=9 value=-22 continuations=1 status=3 hash=9";
    let own = "t0 async index=empty a1=own\n";
    check_trace(own, events, &["P2 status-written empty"]);
    for other in [
        "t1 poke op=0 cell=status",
        "t1 async index=stat64 a0=path a1=own status=status-of:0",
        "t1 plain index=read a0=fd:0 a1=buffer-of:0 a2=len:1",
        "t1 plain index=read a0=fd:0 a1=own a2=len:13",
    ] {
        check_trace(&format!("{own}{other}"), events, &[]);
    }
    check_trace("t0 async index=empty repeat=1", events, &[]);
    check_trace("t0 async index=empty status=shared", events, &[]);
}

#[test]
fn a_second_continuation_is_reported_once_a_call() {
    let events = "issued thread=0 op=0 tid=9 status=0x20000050 args=0x20000068 index=11\n\
        returned thread=0 op=0 tid=10 value=0 from=9 continuations=1 status=0x5aa5a55a\n\
        second thread=0 op=0 tid=10 second=11 continuations=2\n\
        final thread=0 op=0 tid=10 continuations=2 status=0x5aa5a55a";
    check_trace(
        "t0 async index=pause",
        events,
        &["P5 second-continuation pause"],
    );
    let one = events.replace("continuations=2", "continuations=1");
    check_trace("t0 async index=pause", &one, &[]);
}

/// A nested call whose arguments lie on a slow page (hazard 13), run on both
/// flavours: faithful forks twice, hardened refuses the inner call.
const NESTED: &str = "t0 create slot=0 kind=pipe\n\
    t0 fuse file=2 action=hold on=read\n\
    t0 prepare index=read a0=fd:0 a1=own a2=len:7 args=slow:2\n\
    t0 async index=async a0=index-of:2 a2=status-of:2 a3=args-of:2\n\
    t0 await-held file=2 count=1 ticks=50\n\
    t0 fuse file=2 action=release\n\
    t0 await-status op=3 ticks=20\n\
    t0 feed slot=0 end=1 bytes=15\n\
    t0 sleep ticks=3\n";
const RECORDED_FAITHFUL: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=30
    issued thread=0 op=3 tid=310 status=0x20000650 args=0x20000668 index=15 buffer=0 round=0 hash=0x4f43ebc5
    returned thread=0 op=3 tid=311 value=0 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    fuse tid=310 file=2 opcode=15 action=1 held=1
    fuse tid=310 file=2 opcode=15 action=2 held=0
    waited thread=0 op=6 tid=311 came=0 value=0
    thread-end thread=0 tid=311 first=310
    second thread=0 op=3 tid=311 second=312 continuations=2
    final thread=0 op=3 tid=311 continuations=2 status=0x5aa5a55a changes=0 hash=0x4f43ebc5 canaries=0 altered=0
    end tid=0 outcome=0 tasks=1 pending=1 continuations=1 lost=0 ms=280";
const RECORDED_HARDENED: &str = "begin thread=0 tid=310 pid=310 parent=1 tasks=25 flavour=0 ms=30
    issued thread=0 op=3 tid=310 status=0x20000650 args=0x20000668 index=15 buffer=0 round=0 hash=0x4f43ebc5
    fuse tid=310 file=2 opcode=15 action=1 held=1
    returned thread=0 op=3 tid=311 value=0 from=310 continuations=1 status=0x5aa5a55a hash=0x4f43ebc5 canaries=0
    fuse tid=310 file=2 opcode=15 action=2 held=0
    status thread=0 op=3 tid=311 old=0x5aa5a55a new=-22 hash=0x4f43ebc5 changes=1 late=1
    waited thread=0 op=6 tid=311 came=1 value=-22
    thread-end thread=0 tid=311 first=310
    final thread=0 op=3 tid=311 continuations=1 status=-22 changes=1 hash=0x4f43ebc5 canaries=0 altered=0
    end tid=0 outcome=0 tasks=1 pending=0 continuations=1 lost=0 ms=60";

#[test]
fn the_nested_call_on_faithful_comes_back_twice() {
    check_trace(NESTED, RECORDED_FAITHFUL, &["P5 second-continuation async"]);
    check_trace(NESTED, RECORDED_HARDENED, &[]);
}

#[test]
fn a_call_that_never_comes_back_is_seen_if_it_cannot_wait() {
    let events = |index: u32, outcome: u32| {
        format!(
            "issued thread=0 op=0 tid=9 status=0x20000050 args=0x20000068 index={index}\n\
             end tid=0 outcome={outcome}"
        )
    };
    // 2 is `hung`, 0 is `done`; 12 is the empty slot, 11 `pause`.
    check_trace(
        "t0 async index=empty",
        &events(12, 2),
        &["P5 no-continuation empty"],
    );
    check_trace("t0 async index=empty", &events(12, 0), &[]);
    check_trace("t0 async index=pause", &events(11, 2), &[]);
    let stopped = "t0 async index=empty\nt1 send sig=stop\n";
    check_trace(stopped, &events(12, 2), &[]);
}

#[test]
fn a_control_run_is_not_judged() {
    let events = "begin thread=0 tid=9 flavour=1\n\
        issued thread=0 op=0 tid=9 index=195\n\
        returned thread=0 op=0 tid=9 value=-2 continuations=2";
    check_trace("t0 async index=stat64", events, &[]);
}

#[test]
fn events_that_make_no_sense_are_passed_over() {
    let events = "returned thread=0 op=200 tid=9 value=5\n\
        final thread=0 op=63 continuations=9\nend outcome=77";
    check_trace("t0 nop", events, &[]);
}
