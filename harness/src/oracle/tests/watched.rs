//! What memory watches saw of a call's cells.

use latefork_wire::text;

use super::super::{Violation, p12};
use super::trace;
use crate::executor::{Cell, CellAccess};

const READ: &str = "t0 async index=read a0=fd:0 a1=own a2=len:1";
const EVENTS: &str = "issued thread=0 op=0 tid=9 status=0x20000050 args=0x20000068 index=1 buffer=0x200000a0\n\
     returned thread=0 op=0 tid=9 value=0 from=9 continuations=1 status=3";

/// Reads of argument bytes in this order, then so many stores of the status.
fn accesses(bytes: &[u8], stores: usize) -> Vec<CellAccess> {
    let read = bytes.iter().map(|byte| Cell::Argument(*byte));
    let stored = (0..stores).map(|_| Cell::Status);
    let cells = read.chain(stored);
    cells.map(|cell| CellAccess { op: 0, cell }).collect()
}

fn check(program: &str, events: &str, seen: &[CellAccess], expected: &[&str]) {
    let program = text::parse(program).unwrap();
    let found = p12::check(&program, &trace(events), seen);
    let signatures: Vec<String> = found.iter().map(Violation::signature).collect();
    assert_eq!(signatures, expected);
}

#[test]
fn each_word_is_read_once() {
    check(READ, EVENTS, &accesses(&[0, 4, 8], 1), &[]);
    check(READ, EVENTS, &accesses(&[0, 1, 2, 3, 4, 8], 1), &[]);
    check(
        READ,
        EVENTS,
        &accesses(&[0, 4, 8, 8], 1),
        &["P12 double-read read"],
    );
    check(READ, EVENTS, &accesses(&[], 0), &[]);
}

#[test]
fn the_status_is_stored_once() {
    check(
        READ,
        EVENTS,
        &accesses(&[0, 4, 8], 2),
        &["P3 second-status read"],
    );
}

#[test]
fn what_others_make_the_kernel_touch_is_not_judged() {
    let twice = accesses(&[0, 0], 2);
    for other in [
        "t1 poke op=0 cell=status\nt1 plain index=write a0=fd:1 a1=args-of:0 a2=len:1",
        "t1 fork kind=fork",
        "t1 async index=write a0=fd:1 a1=status-of:0",
    ] {
        check(&format!("{READ}\n{other}"), EVENTS, &twice, &[]);
    }
    let over = "t0 async index=write a0=fd:1 a1=over-args a2=len:1";
    check(over, EVENTS, &accesses(&[0, 0], 1), &[]);
    let control = format!("begin thread=0 tid=9 flavour=1\n{EVENTS}");
    check(READ, &control, &twice, &[]);
}
