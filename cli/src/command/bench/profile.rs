//! Where the instructions of the mean program go.

use anyhow::{Context, Result};
use latefork_harness::Executor;
use latefork_harness::executor::Budget;
use latefork_harness::profile::{Part, Profile};
use latefork_harness::symbols::Symbols;
use latefork_harness::{Guest, Template};
use latefork_wire::program::Program;
use serde::Serialize;

use super::Options;
use super::programs::BenchProgram;

/// One part's share of the mean program, and of the empty one.
#[derive(Debug, Serialize)]
pub(super) struct Share {
    pub(super) part: &'static str,
    pub(super) instructions: u64,
    pub(super) percent: f64,
    pub(super) of_empty: u64,
}

/// Runs each program once, stopping at every so many instructions.
pub(super) fn measure(
    guest: &Guest,
    options: &Options,
    programs: &[BenchProgram],
) -> Result<Vec<Share>> {
    let path = options.guest.kernel();
    let image = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let symbols = Symbols::read(&image);
    let prepared = Template::boot(guest, options.guest.new_engine()?)?;
    let mut executor = Executor::new(prepared, Budget::default());
    let programs: Vec<Program> = programs.iter().map(|one| one.program.clone()).collect();
    let all = Profile::measure(&mut executor, &symbols, &programs)?;
    let empty = Profile::measure(&mut executor, &symbols, &[Program::default()])?;
    let shares = Part::ALL.iter().map(|part| {
        let instructions = all.mean(*part);
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let percent = 100.0 * instructions as f64 / all.mean_of_all().max(1) as f64;
        Share {
            part: part.name(),
            instructions,
            percent,
            of_empty: empty.mean(*part),
        }
    });
    Ok(shares.collect())
}
