//! A trace as a person reads it: what each call did, in order.

use latefork_wire::program::Program;
use latefork_wire::trace::{Detail, Event, NO_OP, Outcome};

/// The events of a trace, one line each; what only a machine reads is left out
/// (hashes, canaries that are whole).
pub(super) fn lines(program: &Program, events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| {
            let what = sentence(program, event)?;
            Some(format!("{:<18} {what}", who(event)))
        })
        .collect()
}

/// Who reports, and of which operation.
fn who(event: &Event) -> String {
    let thread = match event.thread {
        u8::MAX => "agent".to_owned(),
        thread => format!("t{thread}"),
    };
    match event.op {
        NO_OP => format!("{thread} tid {}", event.tid),
        op => format!("{thread} op {op} tid {}", event.tid),
    }
}

/// The operation as text, without its thread.
fn operation(program: &Program, op: u8) -> String {
    let step = program.steps.get(usize::from(op));
    step.map_or_else(String::new, |step| {
        let text = step.to_string();
        text.split_once(' ')
            .map_or(String::new(), |(_, rest)| rest.to_owned())
    })
}

fn sentence(program: &Program, event: &Event) -> Option<String> {
    Some(match event.detail {
        Detail::Begin {
            pid, parent, tasks, ..
        } => format!("the program begins: pid {pid}, parent {parent}, {tasks} tasks"),
        Detail::Issued { round, .. } => {
            let again = if round > 0 {
                format!(" (round {round})")
            } else {
                String::new()
            };
            format!("{}{again}: entered", operation(program, event.op))
        }
        Detail::Returned {
            value,
            from,
            continuations,
            canaries,
            ..
        } => returned(event, value.cast_signed(), from, continuations, canaries),
        Detail::Status {
            new, changes, late, ..
        } => {
            let when = if late == 1 {
                "arrives"
            } else {
                "is there at the return"
            };
            let again = if changes > 1 {
                format!(", change {changes}")
            } else {
                String::new()
            };
            format!("status {} {when}{again}", new.cast_signed())
        }
        Detail::Second {
            second,
            continuations,
        } => format!("comes back AGAIN, in task {second}: continuation {continuations}"),
        Detail::Done { value, .. } => {
            format!("{}: {}", operation(program, event.op), value.cast_signed())
        }
        Detail::Handler { sig, worker, .. } => {
            let whose = if worker == 1 { ", in a WORKER" } else { "" };
            format!("handler of signal {sig} runs{whose}")
        }
        Detail::Child { pid, status, .. } => format!("child {pid} ended, status {status:#x}"),
        Detail::Victim {
            pid, status, tasks, ..
        } => format!("the process {pid} ended, status {status:#x}, with {tasks} tasks"),
        Detail::WorkerGone { id, zombie } => {
            let left = if zombie == 1 { ", a zombie leader" } else { "" };
            format!("worker {id} is gone{left}")
        }
        Detail::FuseRequest {
            file, action, held, ..
        } => fuse(file, action, held),
        Detail::End {
            outcome,
            tasks,
            pending,
            lost,
            ..
        } => {
            let outcome = Outcome::ALL.get(outcome as usize);
            let word = outcome.map_or("unknown", |outcome| outcome.word());
            let lost = if lost > 0 {
                format!(", {lost} events lost")
            } else {
                String::new()
            };
            format!(
                "the program is over: {word}, {tasks} live tasks, {pending} calls pending{lost}"
            )
        }
        // What a register or a row shows is in the event's own words.
        Detail::Bytes { .. } | Detail::Kernel { .. } | Detail::Final { .. } => return None,
        _ => {
            let text = event.to_string();
            let head = format!(" tid={}", event.tid);
            text.replacen(&head, "", 1)
        }
    })
}

fn returned(event: &Event, value: i32, from: u32, continuations: u32, canaries: u32) -> String {
    let mut text = format!("returned {value}");
    match (value, from == event.tid) {
        (0, true) => text.push_str(": same task"),
        (_, true) => {}
        (_, false) => text.push_str(&format!(": FORKED, {from} is the worker")),
    }
    if continuations > 1 {
        text.push_str(&format!(", continuation {continuations}"));
    }
    if canaries > 0 {
        text.push_str(&format!(", canaries {canaries:#x} damaged"));
    }
    text
}

fn fuse(file: u32, action: u32, held: u32) -> String {
    let what = match action {
        0 => "answered",
        1 => "held",
        2 => "answered late",
        3 => "failed",
        _ => "aborted",
    };
    let file = if file == 255 {
        "other".to_owned()
    } else {
        file.to_string()
    };
    format!("FUSE request on file {file}: {what} ({held} held)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_call_names_its_worker() {
        let program = latefork_wire::text::parse("t0 async index=read a0=fd:0 a1=own\n").unwrap();
        let event = |tid, detail| Event {
            thread: 0,
            op: 0,
            tid,
            detail,
        };
        let issued = Detail::Issued {
            status: 0,
            args: 0,
            index: 1,
            buffer: 0,
            round: 0,
            hash: 0,
        };
        let returned = Detail::Returned {
            value: 0,
            from: 40,
            continuations: 1,
            status: 0,
            hash: 0,
            canaries: 0,
        };
        let shown = lines(&program, &[event(40, issued), event(41, returned)]);
        assert_eq!(
            shown,
            [
                "t0 op 0 tid 40     async index=read a0=fd a1=own: entered",
                "t0 op 0 tid 41     returned 0: FORKED, 40 is the worker",
            ]
        );
    }
}
