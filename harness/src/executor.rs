//! Running programs: restore, send, run until the trace is whole.

use latefork_cpu::Instructions;
use latefork_vmm::engine::Deadline;
use latefork_vmm::layout::{COVERAGE_MAP, COVERAGE_SIZE};
use latefork_vmm::machine::{Machine, MachineError, Outcome, RunLimits};
use latefork_vmm::time::VirtualTime;
use latefork_wire::frame::{Flavour, FrameKind, Hello, Refusal, RunOptions};
use latefork_wire::program::Program;
use latefork_wire::trace::Event;

use crate::link::{self, LinkError, Message};
use crate::template::{Prepared, Template};

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
}

impl Executor {
    /// An executor on a template and a machine of it.
    pub fn new(prepared: Prepared, budget: Budget) -> Self {
        Self {
            machine: prepared.machine,
            template: prepared.template,
            budget,
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

    /// A hash of the whole machine as the last execution left it, brought to
    /// the end of the instruction that it stopped in.
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn hash(&mut self) -> Result<u64, MachineError> {
        self.machine.settle()?;
        self.machine.hash()
    }

    /// Runs `program` through `async`, or as the control run.
    ///
    /// # Errors
    ///
    /// The host failed; a guest that fails is an [`Ending`].
    pub fn run(&mut self, program: &Program, flavour: Flavour) -> Result<Execution, MachineError> {
        let options = RunOptions {
            flavour,
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
            return self.execute(program, options);
        }
        let mut coverage = vec![0; COVERAGE_SIZE];
        self.machine.ram().read(COVERAGE_MAP, &mut coverage)?;
        let execution = self.execute(program, options)?;
        self.machine.ram().write(COVERAGE_MAP, &coverage)?;
        Ok(execution)
    }

    fn execute(
        &mut self,
        program: &Program,
        options: &RunOptions,
    ) -> Result<Execution, MachineError> {
        self.machine.restore(self.template.snapshot())?;
        let before = self.machine.retired().0;
        let id = self.template.connection();
        let sent = link::send_run(self.machine.vsock_mut(), id, options, program);
        let (ending, events) = match sent {
            Ok(()) => self.run_until_trace()?,
            Err(error) => (Ending::AgentLost(error), Vec::new()),
        };
        let console = self.machine.take_console();
        Ok(Execution {
            ending,
            events,
            console: String::from_utf8_lossy(&console).into_owned(),
            instructions: self.machine.retired().0 - before,
        })
    }

    /// Runs until the trace is there. The kernel also ends a run to say that it
    /// has complained; it goes on after that, and so does the run.
    fn run_until_trace(&mut self) -> Result<(Ending, Vec<Event>), MachineError> {
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
                Ok(None) => return Ok((Ending::Machine(outcome), Vec::new())),
                Ok(Some(message)) => return Ok(ending_of(message)),
                Err(error) => return Ok((Ending::AgentLost(error), Vec::new())),
            }
        }
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
