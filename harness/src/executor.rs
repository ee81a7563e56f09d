//! Running programs: restore, send, run until the trace is whole.

mod follow;

use latefork_cpu::{Instructions, LinearAddr};
use latefork_vmm::engine::Deadline;
use latefork_vmm::layout::{COVERAGE_MAP, COVERAGE_SIZE};
use latefork_vmm::machine::{Machine, MachineError, Outcome, RunLimits};
use latefork_vmm::time::VirtualTime;
use latefork_wire::frame::{Flavour, FrameKind, Hello, Refusal, RunOptions, Teardown};
use latefork_wire::op::{Op, Sig};
use latefork_wire::program::{Ending as ProgramEnding, Program};
use latefork_wire::trace::Event;

use crate::link::{self, LinkError, Message};
use crate::template::{Prepared, Template};

pub use self::follow::{Cell, CellAccess, Watching};
use self::follow::{Follower, Hit};

/// What one execution may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Retired instructions.
    pub instructions: u64,
    /// Virtual time, idle time included.
    pub time: VirtualTime,
}

impl Default for Budget {
    /// More than the agent's watchdog lets a program live: who spends it hangs.
    fn default() -> Self {
        Self {
            instructions: 400_000_000,
            time: VirtualTime::from_secs(120),
        }
    }
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The agent sent the trace.
    Traced,
    /// The agent did not take the program.
    Refused(Refusal),
    /// The agent's stream ended, or makes no sense any more.
    AgentLost(LinkError),
    /// The machine ended first: a panic, a hang, a triple fault.
    Machine(Outcome),
}

/// What came of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// How it ended.
    pub ending: Ending,
    /// The trace; empty unless it ended in one.
    pub events: Vec<Event>,
    /// What the kernel wrote to the console.
    pub console: String,
    /// Instructions retired.
    pub instructions: u64,
}

/// A machine that runs programs, each from the same template.
#[derive(Debug)]
pub struct Executor {
    machine: Machine,
    template: Template,
    budget: Budget,
    /// The last run through `async`.
    last: Option<(Program, RunOptions)>,
    /// Whether the machine stands at its end, and not at a control run's.
    stands: bool,
}

impl Executor {
    /// An executor on a template and a machine of it.
    pub fn new(prepared: Prepared, budget: Budget) -> Self {
        Self {
            machine: prepared.machine,
            template: prepared.template,
            budget,
            last: None,
            stands: false,
        }
    }

    /// What every execution starts from.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// What the agent said of itself.
    pub fn hello(&self) -> &Hello {
        self.template.hello()
    }

    /// The machine, as the last execution left it.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// The instruction at which `async` begins in the kernel; `None` where the
    /// image has no symbols. Without it schedules are ignored.
    pub fn async_entry(&self) -> Option<LinearAddr> {
        self.template.async_entry()
    }

    /// A hash of the whole machine as the last run through `async` left it,
    /// brought to the end of the instruction that it stopped in. If a control
    /// run came after it, the program runs once more.
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn hash(&mut self) -> Result<u64, MachineError> {
        if !self.stands
            && let Some((program, options)) = self.last.take()
        {
            self.run_with(&program, &options)?;
        }
        self.machine.settle()?;
        self.machine.hash()
    }

    /// Runs `program` through `async`, or as the control run. Its end is played
    /// only where the program says something of it ([`teardown`]).
    ///
    /// # Errors
    ///
    /// The host failed; a guest that fails is an [`Ending`].
    pub fn run(&mut self, program: &Program, flavour: Flavour) -> Result<Execution, MachineError> {
        let options = RunOptions {
            flavour,
            teardown: teardown(program),
            ..RunOptions::default()
        };
        self.run_with(program, &options)
    }

    /// Runs `program` as `options` say. A control run leaves the coverage blocks
    /// as the run before it did: they are about `async`.
    ///
    /// # Errors
    ///
    /// The host failed; a guest that fails is an [`Ending`].
    pub fn run_with(
        &mut self,
        program: &Program,
        options: &RunOptions,
    ) -> Result<Execution, MachineError> {
        if options.flavour != Flavour::Control {
            return Ok(self.follow(program, options, Watching::Nothing)?.0);
        }
        let mut coverage = vec![0; COVERAGE_SIZE];
        self.machine.ram().read(COVERAGE_MAP, &mut coverage)?;
        let (execution, _) = self.follow(program, options, Watching::Nothing)?;
        self.machine.ram().write(COVERAGE_MAP, &coverage)?;
        Ok(execution)
    }

    /// As [`Self::run`] through `async`, and says what the kernel did to the
    /// cells of its calls: nothing on an engine that cannot watch.
    ///
    /// # Errors
    ///
    /// The host failed; a guest that fails is an [`Ending`].
    pub fn run_watched(
        &mut self,
        program: &Program,
    ) -> Result<(Execution, Vec<CellAccess>), MachineError> {
        let options = RunOptions {
            teardown: teardown(program),
            ..RunOptions::default()
        };
        self.follow(program, &options, Watching::Cells)
    }

    /// Runs `program` through `async` and lets `look` see the machine after
    /// every `every` instructions, and at the end.
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn sample(
        &mut self,
        program: &Program,
        every: Instructions,
        look: &mut dyn FnMut(&mut Machine),
    ) -> Result<(), MachineError> {
        let options = RunOptions {
            teardown: teardown(program),
            ..RunOptions::default()
        };
        self.stands = false;
        self.machine.restore(self.template.snapshot())?;
        let id = self.template.connection();
        let last = self.machine.retired().0 + self.budget.instructions;
        let sent = link::send_run(self.machine.vsock_mut(), id, &options, program);
        let mut goes_on = sent.is_ok();
        look(&mut self.machine);
        while goes_on && self.machine.retired().0 < last {
            let limits = RunLimits::instructions(every.0);
            let mut came = false;
            let outcome = self.machine.run_until(&limits, &mut |host| {
                came = !matches!(link::receive(host, id), Ok(None));
                came
            })?;
            look(&mut self.machine);
            goes_on = !came && (outcome == Outcome::Budget || is_mere_complaint(outcome));
        }
        Ok(())
    }

    fn follow(
        &mut self,
        program: &Program,
        options: &RunOptions,
        watching: Watching,
    ) -> Result<(Execution, Vec<CellAccess>), MachineError> {
        self.stands = options.flavour == Flavour::Async;
        if self.stands {
            self.last = Some((program.clone(), *options));
        }
        self.machine.restore(self.template.snapshot())?;
        let before = self.machine.retired().0;
        let id = self.template.connection();
        let sent = link::send_run(self.machine.vsock_mut(), id, options, program);
        let mut accesses = Vec::new();
        let (ending, events) = match sent {
            Ok(()) => {
                let entry = self.template.async_entry();
                let mut follower = Follower::start(&mut self.machine, program, entry, watching);
                let came = self.run_until_trace(&mut follower);
                if let Some(follower) = follower {
                    accesses = follower.stop(&mut self.machine);
                }
                came?
            }
            Err(error) => (Ending::AgentLost(error), Vec::new()),
        };
        let console = self.machine.take_console();
        let execution = Execution {
            ending,
            events,
            console: String::from_utf8_lossy(&console).into_owned(),
            instructions: self.machine.retired().0 - before,
        };
        Ok((execution, accesses))
    }

    /// Runs until the trace is there. The kernel also ends a run to say that it
    /// has complained; it goes on after that, and so does the run.
    fn run_until_trace(
        &mut self,
        follower: &mut Option<Follower<'_>>,
    ) -> Result<(Ending, Vec<Event>), MachineError> {
        let id = self.template.connection();
        let last = self.machine.retired().0 + self.budget.instructions;
        let end = self.machine.now() + self.budget.time;
        loop {
            let limits = RunLimits {
                instructions: Instructions(last.saturating_sub(self.machine.retired().0)),
                time: self.machine.now().until(end),
                deadline: Deadline::default(),
            };
            let mut said = Ok(None);
            let outcome = self.machine.run_until(&limits, &mut |host| {
                said = link::receive(host, id);
                !matches!(said, Ok(None))
            })?;
            match said {
                Ok(None) if is_mere_complaint(outcome) => {}
                Ok(None) if attend(follower.as_mut(), &mut self.machine, outcome) => {}
                Ok(None) => return Ok((Ending::Machine(outcome), Vec::new())),
                Ok(Some(message)) => return Ok(ending_of(message)),
                Err(error) => return Ok((Ending::AgentLost(error), Vec::new())),
            }
        }
    }
}

/// Indexes of calls that end by a signal alone, which no worker takes.
const PAUSE: u32 = 11;
const RT_SIGSUSPEND: u32 = 18;

/// Whether the victim's end is played out. That takes as long as many a program,
/// so it is done where the program says how it ends, or has to do with its end,
/// or makes a call that only the end can end: that is what P10 and P13 are about.
/// A program that dies is cleaned up anyway.
pub fn teardown(program: &Program) -> Teardown {
    let setup = &program.setup;
    let says = setup.ending != ProgramEnding::ExitGroup || setup.code != 0;
    let ends = program.steps.iter().any(|step| match &step.op {
        Op::Exit(_) | Op::ExitGroup(_) | Op::Exec(_) | Op::Ptrace(_) => true,
        Op::Send(send) => matches!(send.sig, Sig::Stop | Sig::Tstp),
        Op::Async(call) => matches!(call.index.value(), PAUSE | RT_SIGSUSPEND),
        _ => false,
    });
    match says || ends {
        true => Teardown::Full,
        false => Teardown::Leave,
    }
}

/// Serves what the follower waits for; whether the run goes on.
fn attend(follower: Option<&mut Follower<'_>>, machine: &mut Machine, outcome: Outcome) -> bool {
    match (follower, outcome) {
        (Some(follower), Outcome::Breakpoint { address }) => {
            follower.at_breakpoint(machine, address);
            true
        }
        (
            Some(follower),
            Outcome::Watch {
                watch,
                address,
                access,
            },
        ) => {
            let hit = Hit {
                watch,
                address,
                access,
            };
            follower.at_watch(machine, &hit);
            true
        }
        _ => false,
    }
}

/// Bit of a write to the panic port that stands for a panic; without it the
/// kernel has warned and goes on (`HARNESS_PORT_PANIC`, `HARNESS_PORT_COMPLAINT`
/// of the guest kernel's harness patch).
const PANIC: u8 = 1;

fn is_mere_complaint(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Panic { event } if event & PANIC == 0)
}

fn ending_of(message: Message) -> (Ending, Vec<Event>) {
    match message {
        Message::Trace(events) => (Ending::Traced, events),
        Message::Refused(refusal) => (Ending::Refused(refusal), Vec::new()),
        Message::Hello(_) => {
            let error = LinkError::Nonsense(FrameKind::Hello);
            (Ending::AgentLost(error), Vec::new())
        }
    }
}
