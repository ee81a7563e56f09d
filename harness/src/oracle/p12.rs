//! P12, the part that the console does not tell: the kernel reads user memory
//! once where once was meant; and P3's "one value", by its stores.
//!
//! Known from memory watches, so on the software engine alone. What is read
//! twice can change in between: what was checked is not what is used (TOCTOU).
//! Judged where nothing else makes the kernel touch these cells.

use latefork_wire::op::{Observation, Op};
use latefork_wire::program::Program;
use latefork_wire::trace::Event;
use latefork_wire::value::{Arg, Place};

use super::cells::{are_private, status_is_its_own};
use super::facts::any;
use super::journal::{Issue, Journal};
use super::{Fault, Property, Violation};
use crate::executor::{Cell, CellAccess};

/// Bytes of the longest argument block.
const BYTES: u8 = 24;

/// Judges what the kernel did to the cells of the program's calls.
pub fn check(program: &Program, events: &[Event], accesses: &[CellAccess]) -> Vec<Violation> {
    let journal = Journal::new(program, events);
    if journal.is_control() {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for issue in &journal.issues {
        if journal.came_back(issue.op) > 1 {
            continue;
        }
        if let Some(fault) = double_read(program, issue, accesses) {
            violations.push(Journal::violation(Property::KernelHealth, issue, fault));
        }
        if let Some(fault) = second_store(program, issue, accesses) {
            violations.push(Journal::violation(Property::Status, issue, fault));
        }
    }
    violations
}

fn count(accesses: &[CellAccess], op: u8, cell: Cell) -> u32 {
    let same = accesses.iter().filter(|access| access.op == op);
    let times = same.filter(|access| access.cell == cell).count();
    u32::try_from(times).unwrap_or(u32::MAX)
}

fn double_read(program: &Program, issue: &Issue, accesses: &[CellAccess]) -> Option<Fault> {
    let Some(Op::Async(call)) = program
        .steps
        .get(usize::from(issue.op))
        .map(|step| &step.op)
    else {
        return None;
    };
    // A buffer over the own block is read, or written, by the call itself.
    let over = call
        .args_in_order()
        .iter()
        .any(|arg| matches!(arg, Arg::Buffer(pointer) if pointer.place != Place::Own));
    let mine = call.args.place == Place::Own && call.status.place == Place::Own;
    if !mine || over || !are_private(program, issue.op) || is_copied(program) {
        return None;
    }
    (0..BYTES).find_map(|offset| {
        let times = count(accesses, issue.op, Cell::Argument(offset));
        let word = offset / 4;
        (times > 1).then_some(Fault::DoubleRead { word, times })
    })
}

fn second_store(program: &Program, issue: &Issue, accesses: &[CellAccess]) -> Option<Fault> {
    if !status_is_its_own(program, issue.op) || is_copied(program) {
        return None;
    }
    let changes = count(accesses, issue.op, Cell::Status);
    (changes > 1).then_some(Fault::SecondStatus { changes })
}

/// Whether something else lets the kernel copy cells: a core dump, a tracer, a
/// child's copy of a page, a count of memory.
fn is_copied(program: &Program) -> bool {
    any(program, |op| match op {
        Op::Fork(_) | Op::Ptrace(_) | Op::Exec(_) | Op::Send(_) | Op::Timer(_) => true,
        Op::Observe(observe) => observe.what == Observation::Memory,
        _ => false,
    })
}
