//! The hazards, by their numbers in the specification.

use latefork_wire::call::ASYNC_INDEX;
use latefork_wire::layout::{CALLS_BYTES, CALLS_READ_ONLY, KERNEL_START, STATUS_UNWRITTEN};
use latefork_wire::op::{
    ForkKind, Observation, Op, PokeTarget, PrivilegeCase, Row, Sig, Target, TimerKind,
};
use latefork_wire::resolve::{Ground, ground};
use latefork_wire::trace::Detail;
use latefork_wire::value::{Arg, Place, Scalar};

use super::{Goal, Run, block, is_nothing, is_slow, value};
use crate::fuzz::STEPS;
use crate::oracle::Issue;

const EINVAL: u32 = 22_u32.wrapping_neg();
const EFAULT: i32 = -14;
/// `HARNESS_HOW_FAILED`.
const FAILED: usize = 4;
/// Workers that count as many.
const MANY: usize = 8;

pub(super) fn goals() -> Vec<Goal> {
    let groups = [
        unwritable_status(),
        argument_blocks(),
        slow_pages(),
        sleeping_state_and_locks(),
        leaders(),
        signals(),
        task_state(),
        failed_clones(),
        many_workers(),
        strange_callers(),
        nested(),
    ];
    groups.into_iter().flatten().collect()
}

fn unwritable_status() -> Vec<Goal> {
    let lost = |name, place: fn(u32) -> bool| {
        Goal::call(format!("hazard 1: status {name}"), move |_, issue| {
            value(issue) == Some(0) && place(issue.status)
        })
    };
    vec![
        lost("unmapped", |at| {
            (0x1000..KERNEL_START).contains(&at) && is_nothing(at)
        }),
        Goal::call("hazard 1: status read-only", |run, issue| {
            let read_only = issue.status.wrapping_sub(CALLS_READ_ONLY) < CALLS_BYTES;
            let unwritten = run.final_status(issue.op) == Some(STATUS_UNWRITTEN);
            value(issue) == Some(0) && read_only && unwritten
        }),
        lost("in the kernel half", |at| {
            at >= KERNEL_START && at.checked_add(3).is_some()
        }),
        lost("in the last bytes of a page", |at| {
            ground(at) == Ground::Plain && is_nothing(at.wrapping_add(3))
        }),
        lost("across the kernel's start", |at| {
            (KERNEL_START - 3..KERNEL_START).contains(&at)
        }),
        lost("wrapping", |at| at.checked_add(3).is_none()),
    ]
}

fn argument_blocks() -> Vec<Goal> {
    let refused = |name, place: fn(u32, u32) -> bool| {
        Goal::call(format!("hazard 2: args {name}"), move |_, issue| {
            value(issue) == Some(EFAULT) && place(issue.args, block(issue))
        })
    };
    vec![
        refused("into an unmapped page", |at, len| {
            !is_nothing(at) && is_nothing(at.wrapping_add(len).wrapping_sub(1))
        }),
        refused("in the kernel half", |at, _| at >= KERNEL_START),
        refused("into the kernel half", |at, len| {
            at < KERNEL_START && at.saturating_add(len) > KERNEL_START
        }),
        refused("wrapping", |at, len| at.checked_add(len).is_none()),
        Goal::call(
            "hazard 2: args changed while they are read",
            |run, issue| {
                let poked = |op: &Op| matches!(op, Op::Poke(poke) if poke.cell == PokeTarget::Args && poke.op.number() == issue.op);
                is_slow(issue.args) && run.did(run.while_it_runs(issue), poked)
            },
        ),
        Goal::call(
            "hazard 2: args changed after they were read",
            |run, issue| {
                let poked = |op: &Op| matches!(op, Op::Poke(poke) if poke.cell == PokeTarget::Args && poke.op.number() == issue.op);
                issue.forked() && run.did(run.while_it_sleeps(issue), poked)
            },
        ),
        // The inner block, which a worker reads: the agent touches the outer one.
        Goal::call(
            "hazard 2: args unmapped while they are read",
            |run, issue| {
                let unmapped = |op: &Op| matches!(op, Op::Unmap(_));
                let gone = run.did(run.while_it_sleeps(issue), unmapped);
                let inner = run.call_of(issue.op).map(|call| call.a3);
                let slot = matches!(inner, Some(Arg::Buffer(at)) if at.place == Place::Slot);
                let refused = run.final_status(issue.op) == Some(EFAULT.cast_unsigned());
                issue.index == u32::from(ASYNC_INDEX) && slot && gone && refused
            },
        ),
    ]
}

fn has_argument(run: &Run<'_>, issue: &Issue, wanted: Scalar) -> bool {
    run.call_of(issue.op).is_some_and(|call| {
        let arguments = call.args_in_order();
        arguments
            .iter()
            .any(|arg| matches!(arg, Arg::Scalar(scalar, _) if *scalar == wanted))
    })
}

fn slow_pages() -> Vec<Goal> {
    vec![
        Goal::call("hazard 3: args on a slow page", |_, issue| {
            is_slow(issue.args) && value(issue) == Some(0)
        }),
        Goal::call("hazard 3: args onto a slow page", |_, issue| {
            let last = issue.args.wrapping_add(block(issue)).wrapping_sub(1);
            !is_slow(issue.args) && is_slow(last) && value(issue) == Some(0)
        }),
        Goal::call("hazard 3: the path on a slow page", |run, issue| {
            issue.forked() && has_argument(run, issue, Scalar::SlowPath)
        }),
        Goal::call("hazard 3: a time on a slow page", |run, issue| {
            issue.forked() && has_argument(run, issue, Scalar::SlowTime)
        }),
        Goal::call("hazard 3: the result on a slow page", |_, issue| {
            issue.forked() && is_slow(issue.buffer)
        }),
        Goal::call("hazard 3: the status on a slow page", |_, issue| {
            issue.forked() && is_slow(issue.status)
        }),
        Goal::call(
            "hazard 14: several slow pages on one stack",
            |run, issue| {
                let slow = [
                    is_slow(issue.status),
                    is_slow(issue.buffer),
                    has_argument(run, issue, Scalar::SlowPath),
                ];
                issue.forked() && slow.iter().filter(|slow| **slow).count() >= 2
            },
        ),
        Goal::call("hazard 14: a FUSE read into a slow page", |run, issue| {
            let held = |detail| matches!(detail, Detail::FuseRequest { .. });
            let asked = run
                .while_it_sleeps(issue)
                .iter()
                .any(|event| held(event.detail));
            issue.forked() && issue.index == 1 && is_slow(issue.buffer) && asked
        }),
    ]
}

/// Whether the status of `issue` came after its return, with a result.
fn finished(run: &Run<'_>, issue: &Issue) -> bool {
    let late =
        |detail| matches!(detail, Detail::Status { late: 1, new, .. } if new.cast_signed() >= 0);
    let mut events = run.trace.iter().filter(|event| event.op == issue.op);
    issue.forked() && events.any(|event| late(event.detail))
}

/// The FUSE path that a call walks.
fn slow_walk(run: &Run<'_>, op: u8) -> Option<u8> {
    let call = match run.op(op)? {
        Op::Async(call) | Op::Plain(call) => call,
        _ => return None,
    };
    match (call.index.0, call.a0) {
        (0 | 3 | 4, Arg::Scalar(Scalar::Path, path)) if (4..8).contains(&(path % 16)) => {
            Some(path % 16)
        }
        _ => None,
    }
}

fn sleeping_state_and_locks() -> Vec<Goal> {
    vec![
        Goal::call("hazard 4: a wake-up after the fork", finished),
        Goal::call(
            "hazard 4: a forced switch in a call that forks",
            |run, issue| {
                let mut points = run.program.schedule.iter();
                finished(run, issue) && points.any(|point| point.op.number() == issue.op)
            },
        ),
        Goal::call("hazard 5: two calls that want one lock", |run, issue| {
            let path = slow_walk(run, issue.op);
            let second = |other: &Issue| {
                let sleeps = run.while_it_sleeps(issue).iter();
                let mut sleeps = sleeps.filter(|event| event.op == other.op);
                let overlaps = sleeps.any(|event| matches!(event.detail, Detail::Issued { .. }));
                overlaps && finished(run, other) && slow_walk(run, other.op) == path
            };
            path.is_some() && finished(run, issue) && run.journal.issues.iter().any(second)
        }),
        Goal::call(
            "hazard 5: a plain call that wants the worker's lock",
            |run, issue| {
                let path = slow_walk(run, issue.op);
                let after = run.while_it_sleeps(issue).iter();
                let mut after = after.filter(|event| matches!(event.detail, Detail::Done { .. }));
                let plain = |op: u8| matches!(run.op(op), Some(Op::Plain(_)));
                let same = |op: u8| slow_walk(run, op) == path && plain(op);
                path.is_some() && finished(run, issue) && after.any(|event| same(event.op))
            },
        ),
        Goal::call(
            "hazard 11: a call that sleeps more than once",
            |run, issue| {
                let held = |detail| matches!(detail, Detail::FuseRequest { action: 1, .. });
                let events = run.while_it_sleeps(issue).iter();
                issue.forked() && events.filter(|event| held(event.detail)).count() >= 2
            },
        ),
    ]
}

/// The victim's process id.
fn pid(run: &Run<'_>) -> Option<u32> {
    run.trace.iter().find_map(|event| match event.detail {
        Detail::Begin { pid, .. } => Some(pid),
        _ => None,
    })
}

/// Whether the group's leader became a worker.
fn leader_left(run: &Run<'_>) -> bool {
    let mut issues = run.journal.issues.iter();
    issues.any(|issue| issue.forked() && Some(issue.tid) == pid(run))
}

fn leaders() -> Vec<Goal> {
    let with_leader = |name, wanted: fn(&Run<'_>, Detail) -> bool| {
        Goal::new(format!("hazard 6: {name}"), move |run| {
            let mut events = run.trace.iter();
            leader_left(run) && events.any(|event| wanted(run, event.detail))
        })
    };
    vec![
        with_leader("a zombie leader", |_, detail| {
            matches!(detail, Detail::WorkerGone { zombie: 1, .. })
        }),
        with_leader("/proc/self of a zombie leader", |_, detail| {
            let what = Observation::ProcSelf as u32;
            matches!(detail, Detail::Observed { what: seen, d: 0, .. } if seen == what)
        }),
        with_leader("the continuation waits for a child", |_, detail| {
            matches!(detail, Detail::Child { .. })
        }),
        with_leader("execve from the continuation", |_, detail| {
            matches!(detail, Detail::Executed { .. })
        }),
        with_leader("the process's exit status", |run, detail| {
            let code = u32::from(run.program.setup.code) << 8;
            matches!(detail, Detail::Victim { status, .. } if status == code && code != 0)
        }),
    ]
}

/// Whether a handler ran while a worker slept, of a signal that `wanted` likes.
fn handled(run: &Run<'_>, wanted: impl Fn(u32) -> bool) -> bool {
    run.journal.issues.iter().any(|issue| {
        let mut events = run.while_it_sleeps(issue).iter();
        let ran = |detail| matches!(detail, Detail::Handler { sig, worker: 0, .. } if wanted(sig));
        issue.forked() && events.any(|event| ran(event.detail))
    })
}

/// Whether the program has a step that `wanted` likes, and a call that forked.
fn beside_a_fork(run: &Run<'_>, wanted: impl Fn(&Op) -> bool) -> bool {
    let forked = run.journal.issues.iter().any(Issue::forked);
    forked && run.program.steps.iter().any(|step| wanted(&step.op))
}

fn signals() -> Vec<Goal> {
    let during = |name, wanted: fn(&Op) -> bool| {
        Goal::call(format!("hazard 7: {name}"), move |run, issue| {
            finished(run, issue) && run.did(run.while_it_sleeps(issue), wanted)
        })
    };
    vec![
        Goal::new("hazard 7: a handler while a worker sleeps", |run| {
            handled(run, |_| true)
        }),
        Goal::new("hazard 7: queued real-time signals", |run| {
            handled(run, |sig| sig >= Sig::Rt.number())
        }),
        Goal::call(
            "hazard 7: a signal to the process, blocked by the continuation",
            |run, issue| {
                let blocked = run.while_it_sleeps(issue).iter().any(|event| {
                matches!(event.detail, Detail::Observed { what, a, .. } if what == Observation::Signals as u32 && a != 0)
            });
                issue.forked() && blocked
            },
        ),
        during(
            "stop and continue",
            |op| matches!(op, Op::Send(send) if send.sig == Sig::Stop),
        ),
        Goal::new("hazard 7: a timer bound to the old thread", |run| {
            let timer = |op: &Op| matches!(op, Op::Timer(timer) if timer.kind == TimerKind::Thread);
            beside_a_fork(run, timer) && handled(run, |sig| sig == Sig::Alrm.number())
        }),
        during(
            "a timer of the process",
            |op| matches!(op, Op::Timer(timer) if timer.kind == TimerKind::Real),
        ),
        Goal::new("hazard 7: the parent-death signal", |run| {
            let armed = |op: &Op| matches!(op, Op::Arm(arm) if arm.row == Row::ParentDeathSignal);
            let child = |detail| matches!(detail, Detail::Child { .. });
            beside_a_fork(run, armed) && run.trace.iter().any(|event| child(event.detail))
        }),
        Goal::new("hazard 7: a signal to the old thread id", |run| {
            let old = |op: &Op| matches!(op, Op::Send(send) if send.to == Target::OldThread);
            beside_a_fork(run, old)
        }),
    ]
}

fn task_state() -> Vec<Goal> {
    let mut goals: Vec<Goal> = Row::ALL
        .iter()
        .map(|&row| {
            Goal::call(format!("hazard 8: {}", row.word()), move |run, issue| {
                let mut events = run.trace.iter().filter(|event| event.op == issue.op);
                let seen = |detail| matches!(detail, Detail::RowSeen { row: seen, .. } if seen == row as u32);
                issue.forked() && events.any(|event| seen(event.detail))
            })
        })
        .collect();
    goals.extend([
        Goal::call("hazard 8: registers", |run, issue| {
            let watched = run
                .call_of(issue.op)
                .is_some_and(|call| call.watch.registers());
            issue.forked() && watched
        }),
        Goal::call(
            "hazard 8: a path walk after a blocked walk",
            |run, issue| {
                let walks = |op: &Op| matches!(op, Op::Plain(call) if call.index.0 == 0);
                let walked = run.did(run.while_it_sleeps(issue), walks);
                issue.forked() && slow_walk(run, issue.op).is_some() && walked
            },
        ),
        Goal::call("hazard 8: a file closed under the worker", |run, issue| {
            let closed = |op: &Op| matches!(op, Op::Close(_));
            issue.forked() && run.did(run.while_it_sleeps(issue), closed)
        }),
        Goal::call("hazard 8: overridden credentials", |run, issue| {
            issue.forked() && issue.index == 4 && slow_walk(run, issue.op).is_some()
        }),
        Goal::new("hazard 8: a traced caller", |run| {
            beside_a_fork(run, |op| matches!(op, Op::Ptrace(_)))
        }),
    ]);
    goals
}

fn failed_clones() -> Vec<Goal> {
    let steps = STEPS.iter().enumerate();
    let steps = steps.filter(|(_, step)| step.unreachable.is_none());
    let mut goals: Vec<Goal> = steps
        .map(|(step, what)| {
            Goal::new(format!("hazard 9: fails at {}", what.name), move |run| {
                (0..32).any(|operation| run.cell(operation, FAILED + step) > 0)
            })
        })
        .collect();
    let skipped = [
        (PrivilegeCase::Root, "the initial user"),
        (PrivilegeCase::SysResource, "CAP_SYS_RESOURCE"),
        (PrivilegeCase::SysAdmin, "CAP_SYS_ADMIN"),
    ];
    goals.extend(skipped.map(|(case, name)| {
        let name = format!("hazard 9: over RLIMIT_NPROC with {name}");
        Goal::call(name, move |run, issue| {
            let setup = &run.program.setup;
            issue.forked() && setup.nproc == 1 && setup.privilege == case
        })
    }));
    goals.push(Goal::call(
        "hazard 9: just below RLIMIT_NPROC",
        |run, issue| {
            let setup = &run.program.setup;
            let limited = setup.nproc == 2 && setup.privilege == PrivilegeCase::User;
            limited && issue.forked() && run.program.steps.len() > usize::from(issue.op)
        },
    ));
    goals
}

fn many_workers() -> Vec<Goal> {
    let under = |name, wanted: fn(&Op) -> bool| {
        Goal::call(format!("hazard 10: {name}"), move |run, issue| {
            issue.forked() && run.did(run.while_it_sleeps(issue), wanted)
        })
    };
    let ends = |name, wanted: fn(&Op) -> bool| {
        Goal::new(format!("hazard 10: {name}"), move |run| {
            let died = |detail| matches!(detail, Detail::Victim { over: 0, .. });
            let died = run.trace.iter().any(|event| died(event.detail));
            let open = |issue: &&Issue| issue.forked() && !finished(run, issue);
            let open = run.journal.issues.iter().any(|issue| open(&issue));
            died && open && beside_a_fork(run, wanted)
        })
    };
    vec![
        Goal::new("hazard 10: many workers, then the end", |run| {
            let issues = run.journal.issues.iter();
            let open = issues.filter(|issue| issue.forked() && !finished(run, issue));
            open.count() >= MANY
        }),
        ends("exit_group with a worker", |op| {
            matches!(op, Op::ExitGroup(_))
        }),
        ends(
            "SIGKILL with a worker",
            |op| matches!(op, Op::Send(send) if send.sig == Sig::Kill),
        ),
        ends(
            "a core dump with a worker",
            |op| matches!(op, Op::Send(send) if send.sig == Sig::Quit),
        ),
        under("a descriptor closed under the worker", |op| {
            matches!(op, Op::Close(_))
        }),
        under("a descriptor replaced under the worker", |op| {
            matches!(op, Op::Create(_))
        }),
        under("memory unmapped under the worker", |op| {
            matches!(op, Op::Unmap(_))
        }),
        under("memory protected under the worker", |op| {
            matches!(op, Op::Protect(_))
        }),
    ]
}

fn strange_callers() -> Vec<Goal> {
    vec![
        Goal::call("hazard 12: a vfork child", |run, issue| {
            let before = &run.program.steps[..usize::from(issue.op).min(run.program.steps.len())];
            let vforked = before.iter().rev().zip(1_u8..).any(|(step, distance)| {
                matches!(step.op, Op::Fork(fork) if fork.kind == ForkKind::Vfork && fork.ops >= distance)
            });
            vforked && issue.forked() && Some(issue.tid) != pid(run)
        }),
        Goal::call(
            "hazard 12: a handler on the alternate stack",
            |run, issue| {
                let prepared = matches!(run.op(issue.op), Some(Op::Prepare(_)));
                let on_alt = |detail| matches!(detail, Detail::Handler { on_alt: 1, .. });
                prepared && issue.forked() && run.trace.iter().any(|event| on_alt(event.detail))
            },
        ),
        Goal::call("hazard 12: a thread with a tiny stack", |run, issue| {
            let tiny = |op: &Op| matches!(op, Op::Spawn(spawn) if spawn.tiny % 2 == 1 && spawn.thread.number() == issue.thread);
            issue.forked() && run.program.steps.iter().any(|step| tiny(&step.op))
        }),
    ]
}

fn nested() -> Vec<Goal> {
    let nested = |issue: &Issue| issue.index == u32::from(ASYNC_INDEX);
    vec![
        Goal::call("hazard 13: nested, refused at once", move |run, issue| {
            nested(issue) && !issue.forked() && run.final_status(issue.op) == Some(EINVAL)
        }),
        Goal::call(
            "hazard 13: nested, the inner args on a slow page",
            move |run, issue| {
                nested(issue) && issue.forked() && run.final_status(issue.op) == Some(EINVAL)
            },
        ),
        Goal::call(
            "hazard 13: nested, the inner args unreadable",
            move |run, issue| {
                let fault = EFAULT.cast_unsigned();
                nested(issue) && run.final_status(issue.op) == Some(fault)
            },
        ),
        Goal::call("hazard 13: nested twice", move |run, issue| {
            let inner = run.call_of(issue.op).and_then(|call| match call.a0 {
                Arg::Scalar(Scalar::IndexOf, op) => run.call_of(op),
                _ => None,
            });
            nested(issue) && inner.is_some_and(|call| call.index.0 == ASYNC_INDEX)
        }),
    ]
}
