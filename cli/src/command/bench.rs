//! `latefork bench`: boot, resets and executions, measured; beside QEMU's TCG
//! where QEMU can do the same thing.

mod boot;
mod memory;
mod profile;
mod programs;
mod qemu;
mod reset;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::guest::GuestOptions;
use crate::report;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    guest: GuestOptions,
    /// The same kernel as a bzImage, which is what QEMU boots [default: beside
    /// the kernel]
    #[arg(long, value_name = "FILE")]
    bzimage: Option<PathBuf>,
    /// Programs to execute between resets, as text (`*.txt`)
    #[arg(long, value_name = "FOLDER", default_value = "bench/programs")]
    programs: PathBuf,
    /// Executions, with a reset after each (of QEMU: 200 at most)
    #[arg(long, value_name = "COUNT", default_value_t = 4000)]
    resets: usize,
    /// Boots of each engine
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    boots: usize,
    /// Leave QEMU out
    #[arg(long)]
    no_qemu: bool,
    /// Report in JSON
    #[arg(long)]
    json: bool,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    host: Host,
    boot: boot::Report,
    reset: reset::Report,
    /// Where the mean program's instructions go.
    profile: Vec<profile::Share>,
    /// QEMU's of the same agent and programs.
    qemu: Option<qemu::Report>,
    memory: memory::Report,
}

/// What it was measured on.
#[derive(Debug, Serialize)]
struct Host {
    processor: String,
    load: String,
    qemu: Option<String>,
}

/// The kernel where none is named: the one that fuzz targets run on.
const DEFAULT_KERNEL: &str = "target/guest/hardened-fuzz/vmlinux";

impl Options {
    fn bzimage(&self) -> PathBuf {
        let beside = || self.guest.kernel().with_file_name("bzImage");
        self.bzimage.clone().unwrap_or_else(beside)
    }
}

/// Measures; exit code 0 whatever the numbers are.
pub(crate) fn run(mut options: Options) -> Result<ExitCode> {
    options
        .guest
        .kernel
        .get_or_insert_with(|| DEFAULT_KERNEL.into());
    let options = &options;
    let programs = programs::read(&options.programs)?;
    // First, while this process has done nothing else.
    let (reset, memory) = reset::measure(options, &programs)?;
    let guest = options.guest.read()?;
    let qemu = match options.no_qemu {
        true => None,
        false => crate::qemu::version(),
    };
    let host = Host {
        processor: first_of("/proc/cpuinfo", "model name\t: "),
        load: first_of("/proc/loadavg", ""),
        qemu: qemu.clone(),
    };
    let profile = profile::measure(&guest, options, &programs)?;
    let boot = boot::measure(&guest, options, qemu.is_some())?;
    let measured = qemu.map(|_| qemu::measure(&guest.clone().without_vsock(), options, &programs));
    let report = Report {
        host,
        boot,
        reset,
        profile,
        qemu: measured.transpose()?,
        memory,
    };
    if options.json {
        report::print_json(&report)?;
    } else {
        table::print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// The rest of the first line of `file` that starts with `prefix`.
fn first_of(file: &str, prefix: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(prefix))
        .unwrap_or("unknown")
        .to_owned()
}

/// Durations of many runs of one thing, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    runs: usize,
    p50: f64,
    p99: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// `None` of no runs.
    fn of(mut micros: Vec<f64>) -> Option<Self> {
        micros.sort_by(f64::total_cmp);
        let at = |percent: usize| micros.get((micros.len().saturating_sub(1)) * percent / 100);
        Some(Self {
            runs: micros.len(),
            p50: *at(50)?,
            p99: *at(99)?,
            least: *micros.first()?,
            most: *micros.last()?,
        })
    }
}

/// Runs of one thing that takes so long that a busy host stretches it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Timed {
    wall_us: Spread,
    /// Time on a processor.
    processor_us: Spread,
}

impl Timed {
    /// Runs `action` `count` times; it says its wall and processor time.
    fn of(count: usize, mut action: impl FnMut() -> Result<(Duration, Duration)>) -> Result<Self> {
        let (mut walls, mut processor) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (wall, spent) = action()?;
            walls.push(micros(wall));
            processor.push(micros(spent));
        }
        let missing = "ask for one run at least";
        Ok(Self {
            wall_us: Spread::of(walls).context(missing)?,
            processor_us: Spread::of(processor).context(missing)?,
        })
    }
}

/// Runs `action` in this process; its wall and processor time, and its result.
fn timed<T>(action: impl FnOnce() -> Result<T>) -> Result<((Duration, Duration), T)> {
    let before = report::processor_time("self");
    let started = Instant::now();
    let result = action()?;
    let wall = started.elapsed();
    Ok((
        (wall, report::processor_time("self").saturating_sub(before)),
        result,
    ))
}

/// Microseconds, with their fraction.
fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
