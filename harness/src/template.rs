//! A guest at the moment before its first program: agent connected, victim and
//! helpers parked.

use std::io::ErrorKind;
use std::path::Path;

use latefork_cpu::LinearAddr;
use latefork_vmm::engine::{Engine, EngineKind};
use latefork_vmm::machine::{Machine, MachineError, Outcome, RunLimits};
use latefork_vmm::snapshot::Snapshot;
use latefork_vmm::snapshot::file::{FileError, Identity, SnapshotFile};
use latefork_vmm::vsock::{ConnectionId, VsockHost};
use latefork_wire::Record;
use latefork_wire::frame::{Hello, PORT};

use crate::guest::Guest;
use crate::link::{Greeting, LinkError};

/// Instructions within which a guest must be ready.
const READY_BUDGET: u64 = 2_000_000_000;
/// Instructions that the agent may take after its hello until it waits for a
/// program.
const PARK_BUDGET: u64 = 20_000_000;
/// How often it is looked whether it waits already, in instructions.
const PARK_STEP: u64 = 5_000;
/// The kernel's function behind the system call.
const ASYNC_ENTRY: &str = "__ia32_sys_async";
/// Bytes of the console that an error shows.
const CONSOLE_TAIL: usize = 300;

/// Why there is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The guest did not come to its hello.
    #[error(
        "the guest's agent did not get ready: {outcome} after {instructions} instructions; the console ends with {console:?}"
    )]
    NotReady {
        /// How the boot ended.
        outcome: &'static str,
        /// Instructions retired.
        instructions: u64,
        /// The console's last bytes.
        console: String,
    },
    /// The agent's first message was another one.
    #[error("the guest's agent is of no use: {0}")]
    Agent(LinkError),
    /// A file that KVM made, for the software engine: what starts from there
    /// would replay on this host alone.
    #[error("{0}: booted on KVM, where no two boots are alike")]
    OfKvm(std::path::PathBuf),
    /// A snapshot file without what a template needs: it is not one of ours.
    #[error("{0}: no template of a guest with an agent")]
    Foreign(std::path::PathBuf),
}

/// A guest that waits for its first program.
#[derive(Clone, Debug)]
pub struct Template {
    snapshot: Snapshot,
    connection: ConnectionId,
    hello: Hello,
    async_entry: Option<LinearAddr>,
}

/// A template, the machine that stands at it, and why it had to be made.
#[derive(Debug)]
pub struct Prepared {
    /// The template.
    pub template: Template,
    /// A machine at the template's moment.
    pub machine: Machine,
    /// Why it was booted; `None` if it came from the file.
    pub made_because: Option<String>,
}

impl Template {
    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The agent's stream.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// What the agent said of itself.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The instruction at which `async` begins in the kernel; `None` where the
    /// image has no symbols.
    pub fn async_entry(&self) -> Option<LinearAddr> {
        self.async_entry
    }

    /// Boots `guest` until its agent waits for a program.
    ///
    /// # Errors
    ///
    /// The guest does not get that far, or the host failed.
    pub fn boot(guest: &Guest, engine: Box<dyn Engine>) -> Result<Prepared, TemplateError> {
        let mut machine = guest.machine(engine)?;
        let (connection, hello) = wait_for_hello(&mut machine)?;
        park(&mut machine)?;
        machine.settle()?;
        let snapshot = machine.snapshot()?;
        let template = Self {
            snapshot,
            connection,
            hello,
            async_entry: guest.address_of(ASYNC_ENTRY),
        };
        Ok(Prepared {
            template,
            machine,
            made_because: Some("asked for".to_owned()),
        })
    }

    /// The template from the file at `path`; if that is missing, stale or
    /// damaged, boots and writes it.
    ///
    /// # Errors
    ///
    /// The guest does not get ready, or the file cannot be written.
    pub fn cached(
        guest: &Guest,
        path: &Path,
        new_engine: &mut dyn FnMut() -> Box<dyn Engine>,
    ) -> Result<Prepared, TemplateError> {
        let reason = match Self::open(guest, path, new_engine()) {
            Ok(prepared) => return Ok(prepared),
            Err(error) if is_missing(&error) => "there was none".to_owned(),
            Err(error) => error.to_string(),
        };
        let prepared = Self::boot(guest, new_engine())?;
        prepared.template.write(path, &guest.identity())?;
        Ok(Prepared {
            made_because: Some(reason),
            ..prepared
        })
    }

    /// The template from the file at `path`.
    ///
    /// # Errors
    ///
    /// There is none, or it is not a whole template of `guest` on this engine.
    pub fn open(
        guest: &Guest,
        path: &Path,
        engine: Box<dyn Engine>,
    ) -> Result<Prepared, TemplateError> {
        let file = SnapshotFile::open(path, &guest.identity()).map_err(MachineError::File)?;
        let exact = engine.kind() == EngineKind::Soft;
        let (machine, snapshot) = Machine::open(engine, &guest.config(), &file)?;
        if exact && snapshot.state().engine == EngineKind::Kvm {
            return Err(TemplateError::OfKvm(path.to_owned()));
        }
        let connection = agent_connection(machine.vsock());
        let foreign = || TemplateError::Foreign(path.to_owned());
        let template = Self {
            snapshot,
            connection: connection.ok_or_else(foreign)?,
            hello: Hello::get(file.extra()),
            async_entry: guest.address_of(ASYNC_ENTRY),
        };
        Ok(Prepared {
            template,
            machine,
            made_because: None,
        })
    }

    /// Keeps the template of a guest of `identity` in the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, path: &Path, identity: &Identity) -> Result<(), TemplateError> {
        let mut hello = vec![0; Hello::SIZE];
        self.hello.put(&mut hello);
        let written = self.snapshot.write(path, identity, &hello);
        Ok(written.map_err(MachineError::File)?)
    }
}

fn is_missing(error: &TemplateError) -> bool {
    match error {
        TemplateError::Machine(MachineError::File(FileError::Io { source, .. })) => {
            source.kind() == ErrorKind::NotFound
        }
        _ => false,
    }
}

/// The stream on the agent's port: there is one at a template's moment.
fn agent_connection(host: &VsockHost) -> Option<ConnectionId> {
    host.connections()
        .find(|&id| host.ports(id).is_ok_and(|ports| ports.host == PORT))
}

fn wait_for_hello(machine: &mut Machine) -> Result<(ConnectionId, Hello), TemplateError> {
    let mut greeting = Greeting::default();
    let limits = RunLimits::instructions(READY_BUDGET);
    let outcome = machine.run_until(&limits, &mut |host| greeting.poll(host))?;
    let hello = greeting.hello().map_err(TemplateError::Agent)?;
    hello.ok_or_else(|| not_ready(machine, outcome))
}

fn not_ready(machine: &mut Machine, outcome: Outcome) -> TemplateError {
    let console = machine.take_console();
    let tail = &console[console.len().saturating_sub(CONSOLE_TAIL)..];
    TemplateError::NotReady {
        outcome: outcome.name(),
        instructions: machine.retired().0,
        console: String::from_utf8_lossy(tail).into_owned(),
    }
}

/// Runs until the guest idles: then the agent waits for a program.
fn park(machine: &mut Machine) -> Result<(), TemplateError> {
    let halted = machine.counters().halted;
    for _ in 0..PARK_BUDGET / PARK_STEP {
        let outcome = machine.run(&RunLimits::instructions(PARK_STEP))?;
        if machine.counters().halted > halted {
            return Ok(());
        }
        if outcome != Outcome::Budget {
            return Err(not_ready(machine, outcome));
        }
    }
    Err(not_ready(machine, Outcome::Budget))
}
