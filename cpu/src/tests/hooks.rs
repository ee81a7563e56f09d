//! Breakpoints, watches, edges, interrupt windows.

use std::sync::{Arc, Mutex};

use super::{CODE, DATA, Machine};
use crate::registers::gpr::{EAX, ECX};
use crate::{Exit, LinearAddr, PhysAddr, WatchKind, WatchRange, flags};

/// mov ecx, 3; l: add eax, ecx; mov [0x10004], eax; dec ecx; jnz l; hlt
const LOOP: &[u8] = &[
    0xb9, 3, 0, 0, 0, 0x01, 0xc8, 0xa3, 4, 0, 1, 0, 0x49, 0x75, 0xf6, 0xf4,
];

#[test]
fn a_breakpoint_stops_before_its_instruction_each_time() {
    let mut machine = Machine::new(LOOP);
    let address = LinearAddr(CODE + 7);
    machine.cpu.add_breakpoint(address);
    for (n, sum) in [3, 5, 6].into_iter().enumerate() {
        assert_eq!(machine.run(100), Exit::Breakpoint { address });
        let state = machine.state();
        assert_eq!((state.gpr[EAX], state.eip), (sum, CODE + 7));
        assert_eq!(state.retired, 2 + 4 * n as u64);
    }
    assert_eq!(machine.run(100), Exit::Halted);
    assert!(machine.cpu.remove_breakpoint(address));
    assert!(!machine.cpu.remove_breakpoint(address));
}

#[test]
fn breakpoints_do_not_change_the_course() {
    let mut plain = Machine::new(LOOP);
    assert_eq!(plain.run(100), Exit::Halted);
    let mut stopped = Machine::new(LOOP);
    stopped.cpu.add_breakpoint(LinearAddr(CODE + 12));
    while stopped.run(100) != Exit::Halted {}
    assert_eq!(plain.state(), stopped.state());
}

#[test]
fn a_watch_stops_after_the_access() {
    for range in [
        WatchRange::Linear(LinearAddr(DATA + 6), 1),
        WatchRange::Physical(PhysAddr(u64::from(DATA) + 6), 1),
    ] {
        let mut machine = Machine::new(LOOP);
        assert_eq!(machine.cpu.add_watch(range, WatchKind::Read), 0);
        let watch = machine.cpu.add_watch(range, WatchKind::Write);
        let hit = Exit::Watch {
            watch,
            address: LinearAddr(DATA + 4),
            write: true,
        };
        assert_eq!(machine.run(100), hit);
        let state = machine.state();
        assert_eq!(
            (state.eip, state.retired, machine.read(DATA + 4)),
            (CODE + 12, 3, 3)
        );
        assert_eq!(machine.run(100), hit);
        assert!(machine.cpu.remove_watch(watch));
        assert_eq!(machine.run(100), Exit::Halted);
    }
}

#[test]
fn edges_are_the_taken_jumps() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut machine = Machine::new(LOOP);
    let sink = Arc::clone(&seen);
    machine
        .cpu
        .set_edge_callback(Some(Box::new(move |from, to, retired| {
            sink.lock().unwrap().push((from.0, to.0, retired));
        })));
    assert_eq!(machine.run(100), Exit::Halted);
    let edge = |retired| (CODE + 13, CODE + 5, retired);
    assert_eq!(*seen.lock().unwrap(), [edge(5), edge(9)]);
}

#[test]
fn an_asserted_line_waits_for_if_and_the_shadow() {
    // nop; sti; nop; nop; hlt
    let mut machine = Machine::new(&[0x90, 0xfb, 0x90, 0x90, 0xf4]);
    machine.cpu.set_interrupt_line(true);
    assert_eq!(machine.run(100), Exit::InterruptWindow);
    let state = machine.state();
    assert_eq!((state.eip, state.retired), (CODE + 3, 3));
    assert_ne!(state.eflags & flags::IF, 0);
    machine.cpu.set_interrupt_line(false);
    assert_eq!(machine.run(100), Exit::Halted);
    assert_eq!(machine.run(100), Exit::Halted);
    machine.cpu.set_interrupt_line(true);
    assert_eq!(machine.run(100), Exit::InterruptWindow);
    assert_eq!(machine.state().gpr[ECX], 0);
}

#[test]
fn the_shadow_survives_the_end_of_a_budget() {
    let mut machine = Machine::new(&[0xfb, 0x90, 0xf4]);
    assert_eq!(machine.run(1), Exit::Budget);
    machine.cpu.set_interrupt_line(true);
    assert_eq!(machine.run(100), Exit::InterruptWindow);
    assert_eq!(machine.state().eip, CODE + 2);
}
