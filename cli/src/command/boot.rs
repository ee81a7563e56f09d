//! `latefork boot`: a guest with its console on the terminal.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use latefork_cpu::Instructions;
use latefork_harness::link::Greeting;
use latefork_vmm::engine::Deadline;
use latefork_vmm::machine::{Machine, Outcome, RunLimits};
use latefork_vmm::time::VirtualTime;
use latefork_vmm::vsock::UnixBridge;
use latefork_wire::frame::PORT;
use serde::Serialize;

use crate::guest::GuestOptions;
use crate::report::{self, resident_kib};

/// Virtual time between two looks at the console and the sockets.
const TURN: VirtualTime = VirtualTime::from_millis(2);

/// A guest that retires less than this in a turn waits for something.
const IDLE_INSTRUCTIONS: u64 = 20_000;

/// How often a bridge may move data after the guest has ended.
const LAST_TURNS: u32 = 1000;

/// What to boot and when to stop.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    guest: GuestOptions,
    /// Stop at a milestone
    #[arg(long, value_enum, value_name = "MILESTONE")]
    until: Option<Until>,
    /// Stop after this many instructions
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000_000)]
    instructions: u64,
    /// Stop after this much virtual time, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time: u64,
    /// Let programs talk to the guest's vsock ports through a Unix socket at
    /// this path (Firecracker's convention: `CONNECT <port>`; the guest's
    /// connections to port P go to PATH_P)
    #[arg(long, value_name = "PATH")]
    vsock_uds: Option<PathBuf>,
    /// Report in JSON on standard output; the console goes to standard error
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// The agent has connected and said hello
    Ready,
}

/// How the boot went.
#[derive(Debug, Serialize)]
struct Report {
    outcome: &'static str,
    detail: String,
    engine: &'static str,
    instructions: u64,
    virtual_ms: f64,
    wall_ms: f64,
    million_instructions_per_second: f64,
    exits: Exits,
    unclaimed_accesses: u64,
    guest_memory_mib: usize,
    resident_kib: u64,
}

#[derive(Debug, Serialize)]
struct Exits {
    port: u64,
    mmio: u64,
    halted: u64,
    interrupts: u64,
}

/// Boots; exit code 0 when the milestone was reached (or none was asked for
/// and the guest ended by itself), else 1.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let guest = options.guest.read()?;
    let mut machine = options.guest.machine(&guest)?;
    let mut bridge = options
        .vsock_uds
        .as_deref()
        .map(UnixBridge::bind)
        .transpose()?;
    if bridge.is_some() && options.until.is_none() {
        // Nobody here waits for the agent, so whoever is on the socket may.
        machine.vsock_mut().stop_listening(PORT);
    }
    let mut console = Console::new(options.json);
    let started = Instant::now();
    let mut greeting = Greeting::default();
    let outcome = drive(
        &mut machine,
        options,
        &mut console,
        bridge.as_mut(),
        &mut greeting,
    )?;
    if let Some(bridge) = &mut bridge {
        // What the guest sent last still reaches the programs.
        (0..LAST_TURNS).find(|_| !bridge.poll(machine.vsock_mut()));
    }
    let report = Report::new(&mut machine, outcome, started.elapsed());
    console.finish()?;
    if options.json {
        report::print_json(&report)?;
    } else {
        eprintln!("{report}");
    }
    let reached = match options.until {
        Some(Until::Ready) => matches!(greeting.hello(), Ok(Some(_))),
        None => !matches!(outcome, Outcome::TripleFault | Outcome::Unsupported { .. }),
    };
    Ok(if reached {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs in turns, so that the console and sockets are served meanwhile.
fn drive(
    machine: &mut Machine,
    options: &Options,
    console: &mut Console,
    mut bridge: Option<&mut UnixBridge>,
    greeting: &mut Greeting,
) -> Result<Outcome> {
    let end = VirtualTime::from_secs(options.time);
    loop {
        let before = machine.retired();
        let moved = bridge
            .as_mut()
            .map(|bridge| bridge.poll(machine.vsock_mut()));
        let left = options.instructions.saturating_sub(machine.retired().0);
        let limits = RunLimits {
            instructions: Instructions(left),
            time: TURN,
            deadline: Deadline::default(),
        };
        let outcome = machine.run_until(&limits, &mut |host| {
            options.until == Some(Until::Ready) && greeting.poll(host)
        })?;
        console.print(&machine.take_console())?;
        if outcome != Outcome::TimeUp || machine.now() >= end {
            return Ok(outcome);
        }
        // Programs on the sockets live in real time; an idle guest, whose time
        // passes in no time, must not run away from them.
        let idle = machine.retired().0 - before.0 < IDLE_INSTRUCTIONS;
        if idle && moved == Some(false) {
            std::thread::sleep(Duration::from_nanos(TURN.0));
        }
    }
}

/// Where the guest's console goes.
struct Console {
    to_stderr: bool,
    at_line_start: bool,
}

impl Console {
    fn new(to_stderr: bool) -> Self {
        Self {
            to_stderr,
            at_line_start: true,
        }
    }

    fn print(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(last) = bytes.last() else {
            return Ok(());
        };
        self.at_line_start = *last == b'\n';
        if self.to_stderr {
            std::io::stderr().write_all(bytes)?;
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()?;
        }
        Ok(())
    }

    /// Ends a line that the guest has left open, so that the report has its own.
    fn finish(&mut self) -> Result<()> {
        if !self.at_line_start && std::io::stdout().is_terminal() {
            self.print(b"\n")?;
        }
        Ok(())
    }
}

impl Report {
    fn new(machine: &mut Machine, outcome: Outcome, wall: Duration) -> Self {
        let counters = machine.counters();
        let unclaimed = machine.devices().unclaimed();
        let instructions = machine.retired().0;
        Self {
            outcome: outcome.name(),
            detail: format!("{outcome:?}"),
            engine: machine.engine().kind().name(),
            instructions,
            virtual_ms: report::millis(Duration::from_nanos(machine.now().0)),
            wall_ms: report::millis(wall),
            million_instructions_per_second: report::rate(instructions, wall) / 1e6,
            exits: Exits {
                port: counters.port,
                mmio: counters.mmio,
                halted: counters.halted,
                interrupts: counters.interrupts,
            },
            unclaimed_accesses: unclaimed.port_reads
                + unclaimed.port_writes
                + unclaimed.mmio_reads
                + unclaimed.mmio_writes,
            guest_memory_mib: machine.ram().size() >> 20,
            resident_kib: resident_kib(),
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "latefork: {} on {}: {} instructions in {:.1} ms ({:.0} million a second), {:.1} ms of guest time, {} KiB resident",
            self.detail,
            self.engine,
            self.instructions,
            self.wall_ms,
            self.million_instructions_per_second,
            self.virtual_ms,
            self.resident_kib,
        )
    }
}
