//! P11: a signal reaches a thread that can handle it; each queued one runs its
//! handler exactly once; a stopped process resumes completely.
//!
//! Too many runs are judged in every program, for signals that only its own
//! steps cause. Too few only in programs of one thread, by going through its
//! steps: what is sent, blocked and handled at each.

use latefork_wire::op::{
    Handling, MaskHow, ObjectKind, Op, Row, Send, Sender, Sig, SigSet, Target, TimerKind,
};
use latefork_wire::program::Program;
use latefork_wire::trace::Detail;

use super::cells::allocations_may_fail;
use super::facts::{any, is_sequential, may_leave};
use super::journal::{Journal, of_process};
use super::{Fault, Property, Violation};

/// Signals that nothing but a program's own steps cause.
const JUDGED: [Sig; 4] = [Sig::Usr1, Sig::Usr2, Sig::Rt, Sig::Rt2];

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let faults = JUDGED.iter().filter_map(|sig| {
        let seen = handled(journal, *sig);
        let fault = repeated(journal, *sig, seen).or_else(|| lost(journal, *sig, seen))?;
        Some(of_process(Property::Signals, sig.word(), fault))
    });
    let mut violations: Vec<Violation> = faults.collect();
    if let Some(fault) = stays_stopped(journal) {
        violations.push(of_process(Property::Signals, "process", fault));
    }
    violations
}

/// A wait status that means: the process was continued.
const CONTINUED: u32 = 0xffff;

/// Tasks that are still stopped when their process has been continued, in a
/// program that stops it once.
fn stays_stopped(journal: &Journal<'_>) -> Option<Fault> {
    let stops = journal.program.steps.iter().map(|step| match &step.op {
        Op::Send(send) if matches!(send.sig, Sig::Stop | Sig::Tstp) => times(send),
        _ => 0,
    });
    if stops.sum::<u32>() > 1 || any(journal.program, |op| matches!(op, Op::Ptrace(_))) {
        return None;
    }
    journal.events.iter().find_map(|event| match event.detail {
        Detail::Job {
            status: CONTINUED,
            stopped,
            ..
        } if stopped > 0 => Some(Fault::StayedStopped { stopped }),
        _ => None,
    })
}

fn handled(journal: &Journal<'_>, signal: Sig) -> u32 {
    let of_signal =
        |detail: &Detail| matches!(detail, Detail::Handler { sig, .. } if *sig == signal.number());
    let runs = journal
        .events
        .iter()
        .filter(|event| of_signal(&event.detail));
    u32::try_from(runs.count()).unwrap_or(u32::MAX)
}

fn times(send: &Send) -> u32 {
    u32::from(send.more % 16) + 1
}

/// More runs than signals.
fn repeated(journal: &Journal<'_>, sig: Sig, seen: u32) -> Option<Fault> {
    let program = journal.program;
    // A parent's death sends SIGUSR1.
    let armed = |op: &Op| matches!(op, Op::Arm(arm) if arm.row == Row::ParentDeathSignal);
    if sig == Sig::Usr1 && any(program, armed) {
        return None;
    }
    let sent = program.steps.iter().map(|step| match &step.op {
        Op::Send(send) if send.sig == sig => times(send),
        Op::Timer(timer) if timer.sig == sig && timer.kind != TimerKind::Disarm => 1,
        _ => 0,
    });
    let sent = sent.sum();
    (seen > sent).then_some(Fault::SignalRepeated { sent, seen })
}

/// Fewer runs than were due by the program's last step.
fn lost(journal: &Journal<'_>, sig: Sig, seen: u32) -> Option<Fault> {
    let program = journal.program;
    if !journal.is_whole() || !is_sequential(program) || may_leave(program) || is_disturbed(program)
    {
        return None;
    }
    let due = Walk::new(sig).through(journal)?;
    (seen < due).then_some(Fault::SignalLost { due, seen })
}

/// Whether signals may be taken, ignored or held in ways that the walk does
/// not follow.
fn is_disturbed(program: &Program) -> bool {
    let disturbs = |op: &Op| match op {
        Op::SigWait(_) | Op::Ptrace(_) | Op::Rlimit(_) | Op::Timer(_) => true,
        Op::Create(create) => create.kind == ObjectKind::SignalFd,
        // ppoll and rt_sigsuspend change the mask while they run.
        Op::Async(call) | Op::Plain(call) => matches!(call.index.value(), 15 | 16 | 18),
        Op::Send(send) => matches!(send.sig, Sig::Stop | Sig::Tstp | Sig::Cont),
        _ => false,
    };
    any(program, disturbs) || allocations_may_fail(program)
}

/// One signal's way through a sequential program.
struct Walk {
    sig: Sig,
    handled: bool,
    blocked: bool,
    pending: u32,
    due: u32,
}

impl Walk {
    fn new(sig: Sig) -> Self {
        Self {
            sig,
            handled: false,
            blocked: false,
            pending: 0,
            due: 0,
        }
    }

    /// How many runs are due at the end; `None` where that is not certain.
    fn through(mut self, journal: &Journal<'_>) -> Option<u32> {
        for (at, step) in journal.program.steps.iter().enumerate() {
            match &step.op {
                Op::Handle(handle) if handle.sig == self.sig => {
                    let plain = matches!(
                        handle.how,
                        Handling::Record
                            | Handling::Restart
                            | Handling::OnStack
                            | Handling::NoDefer
                    );
                    if !plain {
                        return None;
                    }
                    self.handled = true;
                }
                Op::Mask(mask) => self.mask(mask.how, mask.set),
                Op::Send(send) if send.sig == self.sig => {
                    self.send(send, done(journal, at)?)?;
                }
                _ => {}
            }
            self.deliver()?;
        }
        Some(self.due)
    }

    fn mask(&mut self, how: MaskHow, set: SigSet) {
        let named = set.bits() >> (self.sig.number() - 1) & 1 == 1;
        self.blocked = match how {
            MaskHow::Block => self.blocked || named,
            MaskHow::Unblock => self.blocked && !named,
            MaskHow::Set => named,
        };
    }

    /// Real-time signals queue, others do not. A result is the last one's.
    fn send(&mut self, send: &Send, result: u32) -> Option<()> {
        let sure = result == 0
            && send.from != Sender::HelperLater
            && !matches!(send.to, Target::OldThread | Target::Child);
        if !sure {
            return None;
        }
        match self.sig {
            Sig::Rt | Sig::Rt2 => self.pending += times(send),
            // A handler may run between two of several.
            _ => self.pending = 1,
        }
        Some(())
    }

    fn deliver(&mut self) -> Option<()> {
        if self.blocked || self.pending == 0 {
            return Some(());
        }
        self.due += self.pending;
        self.pending = 0;
        self.handled.then_some(())
    }
}

/// The result of step `at`, as the trace has it.
fn done(journal: &Journal<'_>, at: usize) -> Option<u32> {
    journal.events.iter().find_map(|event| match event.detail {
        Detail::Done { value, .. } if usize::from(event.op) == at => Some(value),
        _ => None,
    })
}
