//! What one execution costs: the reset after each program, the run, the verdict.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use latefork_harness::executor::Budget;
use latefork_harness::verdict::judge;
use latefork_harness::{Ending, Executor, Template, Verdict};
use latefork_vmm::snapshot::Snapshot;
use latefork_wire::frame::Flavour;
use latefork_wire::program::Program;
use serde::Serialize;

use super::programs::BenchProgram;
use super::{Options, Spread, Timed, memory, micros, timed};
use crate::report;

/// Rounds before anything is counted: the CPU decodes its blocks then.
const WARM_UP_ROUNDS: usize = 3;
/// Executions of the empty program.
const EMPTY_RUNS: usize = 500;

/// Resets and executions.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// One restore, after a program; all programs together.
    pub(super) reset_us: Spread,
    /// From the program sent to the trace received.
    pub(super) execution_us: Spread,
    /// The same with the empty program.
    pub(super) empty_us: Spread,
    pub(super) instructions_per_execution: u64,
    pub(super) instructions_of_empty: u64,
    pub(super) pages_per_reset: f64,
    pub(super) blocks_decoded_per_execution: f64,
    pub(super) throughput: Throughput,
    /// From the cached snapshot file to the first trace.
    pub(super) start: Timed,
    pub(super) programs: Vec<OneProgram>,
}

/// Executions one after the other as a fuzz target makes them: reset, run, verdict.
#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    pub(super) executions: usize,
    pub(super) per_second: f64,
    /// The same counted in time on a processor.
    pub(super) per_processor_second: f64,
    /// How many of them were not clean.
    pub(super) not_clean: usize,
}

/// One program's share.
#[derive(Debug, Serialize)]
pub(super) struct OneProgram {
    pub(super) name: String,
    pub(super) instructions: u64,
    pub(super) pages: f64,
    pub(super) blocks: f64,
    pub(super) reset_us: Spread,
    pub(super) execution_us: Spread,
}

/// What the counted executions of one program, or of all, add up to.
#[derive(Clone, Default)]
struct Totals {
    resets: Vec<f64>,
    executions: Vec<f64>,
    instructions: u64,
    pages: usize,
    blocks: u64,
}

/// Measures resets, executions and the memory that they need.
pub(super) fn measure(
    options: &Options,
    programs: &[BenchProgram],
) -> Result<(Report, memory::Report)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("ready.snapshot");
    make_snapshot(options, &path)?;
    let mut bench = Bench::open(options, &path)?;
    let each = bench.each(programs, options.resets)?;
    let mut empty = Totals::default();
    for _ in 0..EMPTY_RUNS {
        bench.one(&Program::default(), &mut empty)?;
    }
    let throughput = bench.throughput(programs, options.resets)?;
    let memory = memory::measure(bench.executor.machine());
    drop(bench);
    let start = Timed::of(options.boots, || {
        let (times, _) = timed(|| {
            let mut bench = Bench::open(options, &path)?;
            bench.one(&programs[0].program, &mut Totals::default())
        })?;
        Ok(times)
    })?;
    let all = Totals::sum(&each);
    let report = Report {
        reset_us: spread(&all.resets)?,
        execution_us: spread(&all.executions)?,
        empty_us: spread(&empty.executions)?,
        instructions_per_execution: all.instructions_per_run(),
        instructions_of_empty: empty.instructions_per_run(),
        pages_per_reset: all.per_run(all.pages as u64),
        blocks_decoded_per_execution: all.per_run(all.blocks),
        throughput,
        start,
        programs: programs
            .iter()
            .zip(&each)
            .map(|(program, totals)| totals.report(&program.name))
            .collect::<Result<_>>()?,
    };
    Ok((report, memory))
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

/// A guest at its snapshot.
struct Bench {
    executor: Executor,
    snapshot: Snapshot,
}

impl Bench {
    fn open(options: &Options, path: &Path) -> Result<Self> {
        let guest = options.guest.read()?;
        let prepared = Template::open(&guest, path, options.guest.new_engine()?)?;
        let snapshot = prepared.template.snapshot().clone();
        Ok(Self {
            executor: Executor::new(prepared, Budget::default()),
            snapshot,
        })
    }

    /// Runs all programs in turn until there were `resets` resets at least.
    fn each(&mut self, programs: &[BenchProgram], resets: usize) -> Result<Vec<Totals>> {
        let rounds = resets.div_ceil(programs.len());
        let mut totals = Vec::new();
        for round in 0..WARM_UP_ROUNDS + rounds {
            if round <= WARM_UP_ROUNDS {
                totals = vec![Totals::default(); programs.len()];
            }
            for (program, totals) in programs.iter().zip(&mut totals) {
                let run = self.one(&program.program, totals);
                run.with_context(|| format!("program {}", program.name))?;
            }
        }
        Ok(totals)
    }

    /// One program and the reset after it.
    fn one(&mut self, program: &Program, totals: &mut Totals) -> Result<()> {
        let blocks = self.blocks_decoded();
        let started = Instant::now();
        let execution = self.executor.run(program, Flavour::Async)?;
        totals.executions.push(micros(started.elapsed()));
        if execution.ending != Ending::Traced {
            bail!("it ended in {:?}", execution.ending);
        }
        totals.instructions += execution.instructions;
        totals.blocks += self.blocks_decoded() - blocks;
        let started = Instant::now();
        let restored = self.executor.machine().restore(&self.snapshot)?;
        totals.resets.push(micros(started.elapsed()));
        totals.pages += restored.pages;
        Ok(())
    }

    fn throughput(&mut self, programs: &[BenchProgram], executions: usize) -> Result<Throughput> {
        let mut not_clean = 0;
        let mut count = 0;
        let ((wall, processor), ()) = timed(|| {
            for program in programs.iter().cycle().take(executions) {
                let judged = judge(&mut self.executor, &program.program)?;
                not_clean += usize::from(judged.verdict != Verdict::Clean);
                count += 1;
            }
            Ok(())
        })?;
        Ok(Throughput {
            executions: count,
            per_second: report::rate(count as u64, wall),
            per_processor_second: report::rate(count as u64, processor),
            not_clean,
        })
    }

    fn blocks_decoded(&mut self) -> u64 {
        let engine = self.executor.machine().engine_mut();
        engine.soft().map_or(0, |cpu| cpu.blocks_decoded())
    }
}

impl Totals {
    fn sum(each: &[Self]) -> Self {
        let mut all = Self::default();
        for one in each {
            all.resets.extend(&one.resets);
            all.executions.extend(&one.executions);
            all.instructions += one.instructions;
            all.pages += one.pages;
            all.blocks += one.blocks;
        }
        all
    }

    fn instructions_per_run(&self) -> u64 {
        self.instructions / (self.resets.len() as u64).max(1)
    }

    #[allow(clippy::cast_precision_loss, reason = "a report shows a few digits")]
    fn per_run(&self, count: u64) -> f64 {
        count as f64 / (self.resets.len() as f64).max(1.0)
    }

    fn report(&self, name: &str) -> Result<OneProgram> {
        Ok(OneProgram {
            name: name.to_owned(),
            instructions: self.instructions_per_run(),
            pages: self.per_run(self.pages as u64),
            blocks: self.per_run(self.blocks),
            reset_us: spread(&self.resets)?,
            execution_us: spread(&self.executions)?,
        })
    }
}

fn spread(times: &[f64]) -> Result<Spread> {
    Spread::of(times.to_vec()).context("ask for one boot and one reset at least")
}
