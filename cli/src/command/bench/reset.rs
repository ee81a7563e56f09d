//! How long a reset takes after each program, and what else one execution costs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use latefork_vmm::engine::Engine;
use latefork_vmm::machine::{Machine, MachineConfig};
use latefork_vmm::snapshot::Snapshot;
use latefork_vmm::snapshot::file::{Identity, SnapshotFile};
use serde::Serialize;

use super::programs::{self, BenchProgram};
use super::{Options, Spread, Timed, boot, memory, micros, timed};
use crate::guest::{Guest, GuestOptions};
use crate::session::{connection, execute};

/// Executions before anything is counted: the CPU decodes its blocks then.
const WARM_UP_ROUNDS: usize = 3;
/// Resets of QEMU at most: one takes some milliseconds.
const QEMU_RESETS: usize = 200;

/// Resets and executions, in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) programs: usize,
    /// One restore, after a program.
    pub(super) reset_us: Spread,
    /// From the frame sent to the answer received.
    pub(super) execution_us: Spread,
    pub(super) instructions_per_execution: u64,
    pub(super) pages_per_reset: f64,
    pub(super) blocks_decoded_per_execution: f64,
    pub(super) executions_per_second: f64,
    /// From the cached snapshot file to the first answer.
    pub(super) start: Timed,
}

/// What the counted executions added up to.
#[derive(Default)]
struct Totals {
    resets: Vec<f64>,
    executions: Vec<f64>,
    instructions: u64,
    pages: usize,
    blocks: u64,
}

/// Measures resets, executions and the memory that they need.
pub(super) fn measure(options: &Options) -> Result<(Report, memory::Report)> {
    let programs = programs::read(&options.programs)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ready.snapshot");
    make_snapshot(options, &path)?;
    let (opener, identity) = Opener::new(&options.guest, &path)?;
    let (mut machine, snapshot) = opener.open(&identity)?;
    let totals = executions(&mut machine, &snapshot, &programs, options.resets)?;
    let memory = memory::measure(&machine);
    drop((machine, snapshot));
    let starts = Timed::of(options.boots, || {
        let (times, _) = timed(|| {
            let (opener, identity) = Opener::new(&options.guest, &path)?;
            let (mut machine, _) = opener.open(&identity)?;
            let id = connection(&mut machine)?;
            execute(&mut machine, id, &programs[0].frame)
        })?;
        Ok(times)
    })?;
    Ok((totals.report(&programs, starts)?, memory))
}

/// Boots in another process, so that this one holds what a fuzzer holds.
fn make_snapshot(options: &Options, path: &Path) -> Result<()> {
    let status = Command::new(std::env::current_exe()?)
        .arg("snapshot")
        .args(options.guest.arguments())
        .arg("--output")
        .arg(path)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("cannot make a snapshot to measure with ({status})");
    }
    Ok(())
}

/// What opens a snapshot, once the images were read for their identity.
struct Opener<'a> {
    engine: Box<dyn Engine>,
    config: MachineConfig,
    path: &'a Path,
}

impl<'a> Opener<'a> {
    fn new(options: &GuestOptions, path: &'a Path) -> Result<(Self, Identity)> {
        let guest = options.read()?;
        let opener = Self {
            engine: guest.new_engine()?,
            config: guest.config(),
            path,
        };
        Ok((opener, guest.identity()))
    }

    fn open(self, identity: &Identity) -> Result<(Machine, Snapshot)> {
        let file = SnapshotFile::open(self.path, identity)?;
        Ok(Machine::open(self.engine, &self.config, &file)?)
    }
}

fn executions(
    machine: &mut Machine,
    snapshot: &Snapshot,
    programs: &[BenchProgram],
    resets: usize,
) -> Result<Totals> {
    for _ in 0..WARM_UP_ROUNDS {
        let mut ignored = Totals::default();
        for program in programs {
            one(machine, snapshot, program, &mut ignored)?;
        }
    }
    let mut totals = Totals::default();
    for program in programs.iter().cycle().take(resets) {
        one(machine, snapshot, program, &mut totals)?;
    }
    Ok(totals)
}

/// One program and the reset after it.
fn one(
    machine: &mut Machine,
    snapshot: &Snapshot,
    program: &BenchProgram,
    totals: &mut Totals,
) -> Result<()> {
    let (retired, blocks) = (machine.retired().0, blocks_decoded(machine));
    let started = Instant::now();
    let id = connection(machine)?;
    execute(machine, id, &program.frame).with_context(|| format!("program {}", program.name))?;
    totals.executions.push(micros(started.elapsed()));
    totals.instructions += machine.retired().0.saturating_sub(retired);
    totals.blocks += blocks_decoded(machine) - blocks;
    let started = Instant::now();
    let restored = machine.restore(snapshot)?;
    totals.resets.push(micros(started.elapsed()));
    totals.pages += restored.pages;
    Ok(())
}

fn blocks_decoded(machine: &mut Machine) -> u64 {
    machine
        .engine_mut()
        .soft()
        .map_or(0, |cpu| cpu.blocks_decoded())
}

impl Totals {
    #[allow(clippy::cast_precision_loss, reason = "a report shows a few digits")]
    fn report(self, programs: &[BenchProgram], start: Timed) -> Result<Report> {
        let runs = self.resets.len().max(1);
        let whole: f64 = self.executions.iter().chain(&self.resets).sum();
        let missing = "ask for one boot and one reset at least";
        Ok(Report {
            programs: programs.len(),
            reset_us: Spread::of(self.resets).context(missing)?,
            execution_us: Spread::of(self.executions).context(missing)?,
            instructions_per_execution: self.instructions / runs as u64,
            pages_per_reset: self.pages as f64 / runs as f64,
            blocks_decoded_per_execution: self.blocks as f64 / runs as f64,
            executions_per_second: runs as f64 / whole * 1e6,
            start,
        })
    }
}

/// QEMU's `loadvm` of the same guest.
pub(super) fn qemu_loadvm(guest: &Guest, options: &Options) -> Result<Spread> {
    let qemu = boot::qemu_at_ready(guest, options)?;
    let mut monitor = qemu.monitor()?;
    monitor.run("savevm bench")?;
    let count = options.resets.min(QEMU_RESETS);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        times.push(micros(monitor.run("loadvm bench")?));
    }
    Spread::of(times).context("ask for one reset at least")
}
