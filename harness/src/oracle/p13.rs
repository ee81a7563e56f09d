//! P13: the parent sees the continuation's exit status, at its time; never a
//! worker's 0.
//!
//! Of deaths by signals only one is judged: the agent's own kill, of a process
//! that should have ended with its program.

use latefork_wire::op::{Op, Sig};
use latefork_wire::program::{Ending, Program};
use latefork_wire::trace::{Detail, Outcome};

use super::cells::allocations_may_fail;
use super::facts::{any, is_sequential, may_leave};
use super::journal::{Journal, of_process};
use super::{Fault, Property, Violation};

/// Exit code of the image that programs execute.
const EXECUTED: u8 = 42;
/// Wait status of what the agent killed.
const SIGKILL: u32 = 9;

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let faults = journal.events.iter().filter_map(|event| {
        let (about, fault) = match event.detail {
            Detail::Victim { status, over, .. } => ("victim", victim(journal, status, over)?),
            Detail::Child { status, number, .. } => ("child", child(journal, status, number)?),
            _ => return None,
        };
        Some(of_process(Property::ExitStatus, about, fault))
    });
    faults.collect()
}

/// Bits of a wait status that hold the signal, 0 for a normal exit.
const fn is_normal(status: u32) -> bool {
    status & 0x7f == 0
}

fn compare(status: u32, code: u8) -> Option<Fault> {
    let wanted = u32::from(code) << 8;
    (status != wanted).then_some(Fault::WrongExit { status, wanted })
}

fn victim(journal: &Journal<'_>, status: u32, over: u32) -> Option<Fault> {
    let program = journal.program;
    if journal.lost != 0 {
        return None;
    }
    if over == 1 && status == SIGKILL && ends_by_itself(program) {
        return Some(Fault::OutlivedProgram);
    }
    if !is_normal(status) {
        return None;
    }
    if over == 1 {
        let told = program.setup.ending != Ending::Kill && !may_leave(program);
        return told.then(|| compare(status, program.setup.code)).flatten();
    }
    if journal.outcome != Some(Outcome::Died) {
        return None;
    }
    if !may_leave(program) {
        return Some(Fault::EndedEarly { status });
    }
    compare(status, leaving_code(journal)?)
}

/// Whether every thread is told to exit, and nothing in the program can keep the
/// process or kill it: then the agent kills only what should be gone.
fn ends_by_itself(program: &Program) -> bool {
    let interferes = |op: &Op| match op {
        Op::Fuse(_) | Op::Ptrace(_) | Op::Rlimit(_) => true,
        Op::Send(send) => matches!(send.sig, Sig::Kill | Sig::Stop | Sig::Tstp),
        _ => false,
    };
    // The group's exit is the last thread's, unless that leaves by a step.
    let leaves = any(program, |op| matches!(op, Op::Exit(_)));
    let all_exit = match program.setup.ending {
        Ending::Kill => false,
        Ending::Exit => true,
        Ending::ExitGroup => !leaves || is_sequential(program),
    };
    all_exit && !any(program, interferes) && !allocations_may_fail(program)
}

/// The code with which a program of one thread leaves, if that is certain.
fn leaving_code(journal: &Journal<'_>) -> Option<u8> {
    if !is_sequential(journal.program) {
        return None;
    }
    let executed = |detail: &Detail| matches!(detail, Detail::Executed { .. });
    if journal.events.iter().any(|event| executed(&event.detail)) {
        return Some(EXECUTED);
    }
    // An execve may come before, and end the process when it fails halfway.
    if any(journal.program, |op| matches!(op, Op::Exec(_))) {
        return None;
    }
    journal
        .program
        .steps
        .iter()
        .find_map(|step| match &step.op {
            Op::Exit(exit) | Op::ExitGroup(exit) => Some(exit.code),
            _ => None,
        })
}

/// The code of the program's children, where all have the same.
fn child(journal: &Journal<'_>, status: u32, number: u32) -> Option<Fault> {
    let code = children_code(journal.program)?;
    (is_normal(status) && number != u32::MAX)
        .then(|| compare(status, code))
        .flatten()
}

fn children_code(program: &Program) -> Option<u8> {
    if may_leave(program) {
        return None;
    }
    let mut codes = program.steps.iter().filter_map(|step| match &step.op {
        Op::Fork(fork) => Some(fork.code),
        _ => None,
    });
    let first = codes.next()?;
    codes.all(|code| code == first).then_some(first)
}
