//! `latefork snapshot`: a ready guest, kept in a file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use latefork_vmm::machine::{Machine, Outcome, RunLimits};
use latefork_vmm::snapshot::file::{FileError, SnapshotFile};
use serde::Serialize;

use crate::guest::{Guest, GuestOptions, is_ready};
use crate::report;

/// Instructions within which a guest must be ready.
const READY_BUDGET: u64 = 2_000_000_000;

/// Which guest, and where to keep it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    guest: GuestOptions,
    /// The snapshot file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/guest/ready.snapshot"
    )]
    output: PathBuf,
    /// Make the snapshot even if the file is up to date
    #[arg(long)]
    force: bool,
    /// Report in JSON
    #[arg(long)]
    json: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    /// Why it had to be made; absent if it was up to date.
    made_because: Option<String>,
    instructions: u64,
    milliseconds: f64,
    bytes_in_file: u64,
    bytes_on_disk: u64,
}

/// Makes the snapshot unless the file holds it already.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let guest = options.guest.read()?;
    let started = Instant::now();
    let (machine, made_because) = ready_machine(&guest, options)?;
    let meta = std::fs::metadata(&options.output)
        .with_context(|| format!("cannot look at {}", options.output.display()))?;
    let report = Report {
        file: options.output.clone(),
        made_because,
        instructions: machine.retired().0,
        milliseconds: report::millis(started.elapsed()),
        bytes_in_file: meta.len(),
        bytes_on_disk: std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
    };
    if options.json {
        report::print_json(&report)?;
    } else {
        println!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.made_because {
            Some(reason) => write!(f, "made ({reason}) ")?,
            None => write!(f, "up to date: ")?,
        }
        write!(
            f,
            "{}: ready after {} instructions, {:.1} ms, {} KiB on disk",
            self.file.display(),
            self.instructions,
            self.milliseconds,
            self.bytes_on_disk / 1024
        )
    }
}

/// A machine at READY: from the file, or booted and written there.
fn ready_machine(guest: &Guest, options: &Options) -> Result<(Machine, Option<String>)> {
    let identity = guest.identity();
    let reason = if options.force {
        "asked for".to_owned()
    } else {
        match SnapshotFile::open(&options.output, &identity) {
            Ok(file) => {
                let (machine, _) = Machine::open(guest.new_engine()?, &guest.config(), &file)?;
                return Ok((machine, None));
            }
            Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                "there was none".to_owned()
            }
            Err(error) => error.to_string(),
        }
    };
    let mut machine = boot_until_ready(guest)?;
    let snapshot = machine.snapshot()?;
    snapshot.write(&options.output, &identity, &[])?;
    Ok((machine, Some(reason)))
}

/// Boots until the agent has said hello and nothing is in flight.
fn boot_until_ready(guest: &Guest) -> Result<Machine> {
    let mut machine = guest.machine()?;
    let limits = RunLimits::instructions(READY_BUDGET);
    let outcome = machine.run_until(&limits, &mut is_ready)?;
    if outcome != Outcome::Stopped {
        let console = machine.take_console();
        let tail = String::from_utf8_lossy(&console);
        let last = tail.trim_end().lines().next_back().unwrap_or("(nothing)");
        bail!("the guest's agent never became ready ({outcome:?}); its console ends with: {last}");
    }
    machine.settle()?;
    Ok(machine)
}
