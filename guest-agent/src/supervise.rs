//! Init's part of a run: starts the victim, watches it, ends it, and makes
//! the next one.

use core::sync::atomic::Ordering::{AcqRel, Acquire};

use latefork_wire::frame::{RunOptions, Teardown};
use latefork_wire::op::OpIndex;
use latefork_wire::program::{Ending, Setup};
use latefork_wire::trace::{AgentFault, Detail, Outcome};

use crate::helper::{self, Ask};
use crate::interp::{Context, account, calls};
use crate::shared::{Reporter, agent_error, get, set, shared};
use crate::tasks::{self, Life};
use crate::victim::{CHILD_ENDED, END_NOW, FINALS_WRITTEN, STEPS_DONE, WRITE_FINALS};
use crate::{files, leak, sys, victim};

/// Ticks that a program gets where the host names none: longer than the
/// kernel's own hung-task check needs.
const WATCHDOG_TICKS: u32 = 500;
/// Ticks that tasks on their way out get before they are listed.
const QUIET_TICKS: u32 = 4;
/// Ticks after which init looks whether a silent victim still has threads:
/// well before the kernel calls a task hung (2 s).
const LOOK_TICKS: u32 = 50;
/// Ticks for a victim to end when told, and when killed.
const END_TICKS: u32 = 100;
const KILL_TICKS: u32 = 300;

/// The agent's hold on its current victim.
pub struct Supervisor {
    victim: Option<u32>,
    /// Whether a program ran since the boot.
    used: bool,
}

/// How a victim's run ended.
struct Run {
    outcome: Outcome,
    /// Wait status, once the victim is gone.
    status: Option<u32>,
    /// Live tasks once quiet.
    tasks: u32,
    continuations: u32,
    pending: u32,
}

/// Makes the futex wait of init end when a child does.
extern "C" fn on_child(_sig: u32) {
    shared().state.fetch_or(CHILD_ENDED, AcqRel);
}

impl Supervisor {
    pub fn new() -> Self {
        // No SA_RESTART: an interrupted wait looks at its word again. The
        // restorer is the one of handlers with siginfo.
        let handler = on_child as *const () as u32;
        sys::sigaction(sys::SIGCHLD, handler, sys::SA_SIGINFO);
        shared().reset();
        Self {
            victim: None,
            used: false,
        }
    }

    /// Makes a parked victim where there is none.
    pub fn park_victim(&mut self) {
        if self.victim.is_some() {
            return;
        }
        let shared = shared();
        set(&shared.go, 0);
        set(&shared.parked, 0);
        let pid = sys::fork();
        if pid == 0 {
            victim::run();
        }
        if pid < 0 {
            agent_error(AgentFault::Fork, pid);
            return;
        }
        self.victim = Some(pid as u32);
        for _ in 0..200 {
            if shared.parked.load(Acquire) == 1 {
                return;
            }
            sys::sched_yield();
        }
        // It did not come that far without a sleep of ours.
        sys::sleep_ticks(2);
    }

    /// Runs a program; its trace lies in shared memory afterwards.
    pub fn run(&mut self, program: &[u8], options: &RunOptions) {
        let repeats = u32::from(options.leak_repeats);
        if repeats == 0 {
            let run = self.run_once(program, options);
            end(&run);
            return;
        }
        let options = RunOptions {
            teardown: Teardown::Full,
            ..*options
        };
        let mut seen = [leak::Counters::default(); 3];
        let mut run = Run::not_started();
        for counters in &mut seen {
            for _ in 0..repeats {
                run = self.run_once(program, &options);
            }
            *counters = leak::measure();
        }
        leak::report(&seen, repeats);
        end(&run);
    }

    fn run_once(&mut self, program: &[u8], options: &RunOptions) -> Run {
        self.park_victim();
        let shared = shared();
        if self.used {
            shared.reset();
            account::forget();
        }
        self.used = true;
        shared.load(program);
        set(&shared.flavour, options.flavour as u32);
        set(&shared.baseline, sys::task_count());
        let Some(victim) = self.victim else {
            return Run::not_started();
        };
        set(&shared.leader, victim);
        shared.go.store(1, core::sync::atomic::Ordering::Release);
        sys::futex_wake(&shared.go);
        let ticks = match options.watchdog_ticks {
            0 => WATCHDOG_TICKS,
            ticks => u32::from(ticks),
        };
        let mut run = self.watch(victim, ticks);
        self.settle(victim, &mut run);
        if options.teardown == Teardown::Leave && run.outcome == Outcome::Done {
            run.outcome = Outcome::LeftRunning;
            return run;
        }
        self.tear_down(victim, &mut run);
        self.clean_up();
        run
    }

    /// Waits until the victim is done, dead, or out of time.
    fn watch(&mut self, victim: u32, ticks: u32) -> Run {
        let shared = shared();
        let start = sys::now_ms();
        let mut told = false;
        let mut run = Run::not_started();
        loop {
            let bits = shared.state.load(Acquire);
            if bits & CHILD_ENDED != 0 {
                shared.state.fetch_and(!CHILD_ENDED, AcqRel);
                run.status = reap(victim);
                if run.status.is_some() {
                    run.outcome = match bits & FINALS_WRITTEN {
                        0 => Outcome::Died,
                        _ => Outcome::Done,
                    };
                    return run;
                }
                continue;
            }
            if bits & FINALS_WRITTEN != 0 {
                run.outcome = Outcome::Done;
                return run;
            }
            if bits & STEPS_DONE != 0 && !told {
                told = true;
                drain(shared.program().setup());
                set(&shared.finish, WRITE_FINALS);
                sys::futex_wake(&shared.finish);
            }
            let passed = sys::now_ms().wrapping_sub(start) / 10;
            if passed >= ticks {
                run.outcome = Outcome::Hung;
                return run;
            }
            let slice = (ticks - passed).min(LOOK_TICKS);
            let waited = sys::futex_wait(&shared.state, bits, Some(slice));
            if waited == sys::ETIMEDOUT && program_is_gone(victim) {
                // A worker that waits for FUSE cannot be killed: Linux's own
                // rule. What was withheld is answered, then it ends.
                helper::unlock();
                release_all();
            }
        }
    }

    /// What is left of the program before its end: tasks, statuses.
    fn settle(&self, victim: u32, run: &mut Run) {
        let shared = shared();
        let phases = shared.threads.iter().map(|thread| get(&thread.phase));
        run.continuations = phases.filter(|phase| matches!(phase, 1 | 2)).count() as u32;
        if run.status.is_none() {
            run.tasks = self.count_tasks(victim, run.continuations, run.outcome);
            report_continuations(victim);
        } else {
            run.continuations = 0;
        }
        if run.outcome != Outcome::Done {
            if run.status.is_some() {
                helper::unlock();
            }
            release_all();
            if run.outcome == Outcome::Died {
                calls::write_finals();
            }
        }
        run.pending = shared.pending_count();
    }

    /// The victim's live tasks, without a leader that is a zombie. Where the
    /// machine's count is what the program's own threads and open calls
    /// explain, that is the answer; else, and where it hung, the tasks are
    /// listed.
    fn count_tasks(&self, victim: u32, continuations: u32, outcome: Outcome) -> u32 {
        let shared = shared();
        for round in 0..=QUIET_TICKS {
            let open = shared.pending_count();
            let explained = continuations + open + leaders_left(victim);
            let counted = (sys::task_count() + 1).wrapping_sub(get(&shared.baseline));
            if counted == explained && outcome != Outcome::Hung {
                return continuations + open;
            }
            // What is on its way out needs its time.
            if round < QUIET_TICKS {
                sys::sleep_ticks(1);
            }
        }
        tasks::report(Reporter::AGENT, victim).live
    }

    fn tear_down(&mut self, victim: u32, run: &mut Run) {
        let shared = shared();
        let over = run.outcome == Outcome::Done;
        if run.status.is_none() {
            let ending = shared.program().setup().ending;
            if over && ending != Ending::Kill {
                set(&shared.finish, END_NOW);
                sys::futex_wake(&shared.finish);
                run.status = await_end(victim, END_TICKS);
            }
            if run.status.is_none() {
                sys::kill(victim, 9);
                run.status = await_end(victim, KILL_TICKS);
            }
        }
        self.victim = None;
        helper::unlock();
        match run.status {
            Some(status) => Reporter::AGENT.report(Detail::Victim {
                pid: victim,
                status,
                over: u32::from(over),
                tasks: run.tasks,
                ms: sys::now_ms(),
            }),
            None => {
                tasks::report(Reporter::AGENT, victim);
                run.outcome = Outcome::Stuck;
            }
        }
    }

    /// Undoes what a program did to the machine.
    fn clean_up(&self) {
        let shared = shared();
        for child in &shared.children {
            let pid = get(child);
            if pid != 0 {
                sys::kill(pid, 9);
            }
        }
        let fuse_used = shared.fuse.iter().any(|file| get(&file.used) != 0);
        if fuse_used || get(&shared.undo) != 0 || get(&shared.traced) != 0 {
            helper::ask(Ask::Reset, [0; 4]);
        }
        if get(&shared.touched) != 0 {
            files::refresh();
        }
        reap(0);
        if get(&shared.leader) != 0 && self.victim.is_none() {
            report_survivors();
        }
    }
}

/// 1 where the victim's leader is a worker that has ended: a zombie, which
/// counts among the machine's tasks.
fn leaders_left(victim: u32) -> u32 {
    let shared = shared();
    let waits =
        shared.calls.iter().enumerate().any(|(at, call)| {
            get(&call.from) == victim && shared.is_pending(OpIndex::new(at as u8))
        });
    u32::from(shared.is_worker(victim) && !waits)
}

/// Says of each thread of the program that has not ended whether its task is
/// there: signal 0 to its id.
fn report_continuations(victim: u32) {
    for (number, thread) in shared().threads.iter().enumerate() {
        let phase = get(&thread.phase);
        let id = get(&thread.now);
        if matches!(phase, 1 | 2) {
            let reporter = Reporter {
                thread: number as u8,
                ..Reporter::AGENT
            };
            reporter.report_as(
                id,
                Detail::Continuation {
                    id,
                    phase,
                    lives: u32::from(sys::tgkill(victim, id, 0) == 0),
                },
            );
        }
    }
}

/// Ticks for what was killed to be gone.
const SURVIVOR_TICKS: u32 = 10;

/// Reports processes that outlive the victim and its children. Looked for only
/// where the machine has more tasks than before the victim was made.
fn report_survivors() {
    let before = get(&shared().baseline) - 1;
    for _ in 0..SURVIVOR_TICKS {
        if sys::task_count() <= before {
            return;
        }
        sys::sleep_ticks(1);
        reap(0);
    }
    tasks::processes(helper::PID, |id, state, parent| {
        Reporter::AGENT.report(Detail::Survivor {
            id,
            state: u32::from(state),
            parent,
            tasks: tasks::list(id, |_| {}).max(0) as u32,
        });
    });
}

impl Run {
    fn not_started() -> Self {
        Self {
            outcome: Outcome::NotStarted,
            status: None,
            tasks: 0,
            continuations: 0,
            pending: 0,
        }
    }
}

fn end(run: &Run) {
    Reporter::AGENT.report(Detail::End {
        outcome: run.outcome as u32,
        tasks: run.tasks,
        pending: run.pending,
        continuations: run.continuations,
        lost: shared().lost(),
        ms: sys::now_ms(),
    });
}

/// The wait status of a process that was continued.
const CONTINUED: u32 = 0xffff;

/// A process stopped or goes on: what has become of its tasks.
fn report_job(pid: u32, status: u32) {
    let counted = tasks::report(Reporter::AGENT, pid);
    Reporter::AGENT.report(Detail::Job {
        pid,
        status,
        tasks: counted.live,
        stopped: counted.stopped,
    });
}

/// Takes what ended; the victim's status if it did. Orphans and siblings of
/// the program are reported, the helper's end is the agent's own trouble.
fn reap(victim: u32) -> Option<u32> {
    let mut found = None;
    loop {
        let (pid, status) = sys::wait4(-1, sys::WNOHANG | sys::WUNTRACED | sys::WCONTINUED);
        if pid <= 0 {
            return found;
        }
        let pid = pid as u32;
        if status & 0xff == 0x7f || status == CONTINUED {
            report_job(pid, status);
            continue;
        }
        if pid == victim {
            found = Some(status);
            continue;
        }
        let number = shared().children.iter().position(|child| get(child) == pid);
        Reporter::AGENT.report(Detail::Child {
            pid,
            status,
            number: number.map_or(u32::MAX, |number| number as u32),
        });
    }
}

fn await_end(victim: u32, ticks: u32) -> Option<u32> {
    let shared = shared();
    let start = sys::now_ms();
    loop {
        let bits = shared.state.fetch_and(!CHILD_ENDED, AcqRel) & !CHILD_ENDED;
        if let Some(status) = reap(victim) {
            return Some(status);
        }
        let passed = sys::now_ms().wrapping_sub(start) / 10;
        if passed >= ticks {
            return None;
        }
        sys::futex_wait(&shared.state, bits, Some(ticks - passed));
    }
}

/// Whether every thread of the program is dead though its process is not.
fn program_is_gone(victim: u32) -> bool {
    shared().threads.iter().all(|thread| {
        let runs = matches!(get(&thread.phase), 1 | 2);
        !runs || tasks::life(victim, get(&thread.now)) != Life::Lives
    })
}

/// Answers whatever the FUSE server holds.
fn release_all() {
    let shared = shared();
    let mut held = false;
    for file in &shared.fuse {
        for word in [&file.hold, &file.fail, &file.delay] {
            set(word, 0);
        }
        held |= get(&file.held) != 0;
    }
    if held {
        helper::ask(Ask::Release, [0; 4]);
    }
}

/// After the last step: FUSE answers, and what still runs gets its time.
fn drain(setup: Setup) {
    release_all();
    let shared = shared();
    let context = Context {
        thread: 0,
        op: OpIndex::new(0),
    };
    let rest = u32::from(setup.rest).min(50);
    for tick in 0..rest.max(2) {
        if tick >= rest && shared.pending_count() == 0 {
            break;
        }
        sys::sleep_ticks(1);
        calls::notice_statuses(context);
    }
}
