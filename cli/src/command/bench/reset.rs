//! How long a reset takes after each program, and what else one execution costs.

use std::time::Instant;

use anyhow::{Context, Result};
use latefork_vmm::machine::Machine;
use latefork_vmm::snapshot::Snapshot;
use latefork_vmm::snapshot::file::SnapshotFile;
use serde::Serialize;

use super::programs::{self, BenchProgram};
use super::{Options, Spread, boot, micros};
use crate::command::snapshot::boot_until_ready;
use crate::guest::Guest;
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
    pub(super) start_us: Spread,
    /// QEMU's `loadvm` of the same guest.
    pub(super) qemu_loadvm_us: Option<Spread>,
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

/// Measures; also returns the machine, for a look at its memory.
pub(super) fn measure(
    guest: Guest,
    options: &Options,
    with_qemu: bool,
) -> Result<(Report, Machine)> {
    let programs = programs::read(&options.programs)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ready.snapshot");
    let mut booted = boot_until_ready(&guest)?;
    booted.snapshot()?.write(&path, &guest.identity(), &[])?;
    drop(booted);
    let qemu_loadvm_us = if with_qemu {
        Some(qemu_resets(&guest.without_vsock(), options)?)
    } else {
        None
    };
    let open = |guest: &Guest| -> Result<(Machine, Snapshot)> {
        let file = SnapshotFile::open(&path, &guest.identity())?;
        Ok(Machine::open(guest.new_engine()?, &guest.config(), &file)?)
    };
    let mut starts = Vec::new();
    for _ in 0..options.boots {
        let started = Instant::now();
        let (mut machine, _) = open(&guest)?;
        let id = connection(&mut machine)?;
        execute(&mut machine, id, &programs[0].frame)?;
        starts.push(micros(started.elapsed()));
    }
    let (mut machine, snapshot) = open(&guest)?;
    // The images are not part of what a running fuzzer holds.
    drop(guest);
    let totals = executions(&mut machine, &snapshot, &programs, options.resets)?;
    let report = totals.report(&programs, starts, qemu_loadvm_us)?;
    Ok((report, machine))
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
    fn report(
        self,
        programs: &[BenchProgram],
        starts: Vec<f64>,
        qemu_loadvm_us: Option<Spread>,
    ) -> Result<Report> {
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
            start_us: Spread::of(starts).context(missing)?,
            qemu_loadvm_us,
        })
    }
}

fn qemu_resets(guest: &Guest, options: &Options) -> Result<Spread> {
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
