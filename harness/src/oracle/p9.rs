//! P9: a worker never runs user code.
//!
//! A task is a worker from the moment its call came back in another one. Every
//! event of a thread holds the id that the kernel gave for its task when it was
//! made, so that any of them shows who runs. Ids are not used again within a
//! program, unless it narrows their range.

use latefork_wire::op::Op;
use latefork_wire::trace::Detail;

use super::facts::any;
use super::journal::{Journal, of_process};
use super::{Fault, Property, Violation};

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    if any(journal.program, |op| matches!(op, Op::KernelLimit(_))) {
        return Vec::new();
    }
    let mut workers: Vec<u32> = Vec::new();
    let mut violations: Vec<Violation> = Vec::new();
    for event in journal.events {
        let tid = event.tid;
        let is_worker = workers.contains(&tid);
        let fault = match event.detail {
            Detail::Handler { sig, worker, .. } => {
                (is_worker || worker == 1).then_some(Fault::HandlerInWorker { sig })
            }
            // What the agent itself reports of a task is not said by the task.
            _ if event.thread == u8::MAX => None,
            // Of a thread that is there, or is not: its last id.
            Detail::Continuation { .. } => None,
            _ => is_worker.then_some(Fault::WorkerInUserSpace { tid }),
        };
        if let Detail::Returned { from, .. } = event.detail
            && from != tid
            && from != 0
        {
            workers.push(from);
        }
        let Some(fault) = fault else {
            continue;
        };
        let issue = journal.issues.iter().find(|issue| issue.op == event.op);
        let property = Property::WorkerStaysInKernel;
        let violation = match issue {
            Some(issue) => Journal::violation(property, issue, fault),
            None => of_process(property, about(&fault), fault),
        };
        if !violations.contains(&violation) {
            violations.push(violation);
        }
    }
    violations
}

fn about(fault: &Fault) -> &'static str {
    match fault {
        Fault::HandlerInWorker { .. } => "handler",
        _ => "thread",
    }
}
