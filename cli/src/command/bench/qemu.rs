//! The same agent and programs under QEMU's TCG, with `loadvm` between them.
//!
//! QEMU has no vsock here, so the programs lie in the initramfs and the agent
//! is told on the console which one to run (`latefork.serve=console`). It
//! answers with one short line: the console costs QEMU next to nothing.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use latefork_harness::Guest;
use serde::Serialize;

use super::programs::{self, BenchProgram};
use super::{Options, Spread, boot, micros};
use crate::qemu::{Clock, Qemu, QemuGuest};
use crate::report;

/// What the agent says when it waits for the first line.
const SERVING: &str = "latefork-agent: SERVING";
/// What it says after a program.
const DONE: &str = "latefork-agent: DONE";
/// Executions of each clock at most: one takes tens of milliseconds.
const EXECUTIONS: usize = 200;

/// QEMU's resets and executions.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Guest time is the host's.
    pub(super) host_clock: Executions,
    /// Guest time is retired instructions and idle time is skipped, as in our
    /// machine (`-icount shift=0,sleep=off`).
    pub(super) instruction_clock: Executions,
}

/// One way to run QEMU.
#[derive(Debug, Serialize)]
pub(super) struct Executions {
    /// `loadvm`, after a program.
    pub(super) loadvm_us: Spread,
    /// From the line typed to the line read.
    pub(super) execution_us: Spread,
    /// Programs with a reset after each.
    pub(super) per_second: f64,
}

/// Measures both ways.
pub(super) fn measure(
    guest: &Guest,
    options: &Options,
    programs: &[BenchProgram],
) -> Result<Report> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("initramfs");
    let mut initramfs = std::fs::read(&options.guest.initramfs)?;
    initramfs.resize(initramfs.len().next_multiple_of(4), 0);
    initramfs.extend(programs::archive(programs));
    std::fs::File::create(&path)?.write_all(&initramfs)?;
    let serving = guest.clone().with_arguments("latefork.serve=console");
    let run = |clock| {
        let guest = QemuGuest {
            initramfs: Some(path.clone()),
            ..boot::qemu_guest(&serving, options, clock)
        };
        executions(&guest, programs, options.resets.min(EXECUTIONS))
    };
    Ok(Report {
        host_clock: run(Clock::Host)?,
        instruction_clock: run(Clock::Instructions)?,
    })
}

fn executions(guest: &QemuGuest, programs: &[BenchProgram], count: usize) -> Result<Executions> {
    let mut qemu = Qemu::start(guest)?;
    qemu.wait_for(SERVING)?;
    let mut monitor = qemu.monitor()?;
    monitor.run("savevm bench")?;
    let (mut resets, mut runs) = (Vec::new(), Vec::new());
    let mut one = |number: usize| -> Result<(f64, f64)> {
        let started = Instant::now();
        qemu.type_line(&programs::guest_path(number))?;
        qemu.wait_for(DONE)
            .with_context(|| format!("program {}", programs[number].name))?;
        let run = micros(started.elapsed());
        Ok((run, micros(monitor.run("loadvm bench")?)))
    };
    // TCG translates its blocks in the first round, and keeps none of them
    // over a `loadvm`: there is nothing to gain by more rounds.
    one(0)?;
    let started = Instant::now();
    for number in (0..programs.len()).cycle().take(count) {
        let (run, reset) = one(number)?;
        runs.push(run);
        resets.push(reset);
    }
    let per_second = report::rate(count as u64, started.elapsed());
    let missing = "ask for one reset at least";
    Ok(Executions {
        loadvm_us: Spread::of(resets).context(missing)?,
        execution_us: Spread::of(runs).context(missing)?,
        per_second,
    })
}
