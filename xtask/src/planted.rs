//! `cargo xtask planted`: whether the guest's coverage finds what chance does
//! not.
//!
//! A condition is drawn from a committed seed: some async calls that have to go
//! a certain way, one after the other, in one program. A patch plants it in the
//! hardened kernel, which panics once all of them did. Then `everything` fuzzes
//! that kernel from nothing, in trials of the same seeds and the same number of
//! programs each: with the guest's counters as libFuzzer's features, and with
//! nothing but that taken away.

mod condition;
mod trial;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::condition::Condition;
use self::trial::{Trial, Trials};
use crate::kernel;
use crate::kernel::variant::{Config, Flavour, Variant};
use crate::sh;

/// What the condition is drawn from.
const SEED: u64 = 0x6c61_7465;
/// Calls that have to come in order.
const STEPS: usize = 3;
/// Trials of each kind.
const TRIALS: u32 = 10;
/// Programs that a trial may run.
const PROGRAMS: u32 = 8000;
/// In how many trials it has to be found with the map.
const AT_LEAST: usize = 9;
/// In how many it may be found without.
const AT_MOST: usize = 1;

/// How many trials of what.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Draw the condition from this seed
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Calls that have to come in order
    #[arg(long, default_value_t = STEPS, value_parser = clap::value_parser!(usize))]
    steps: usize,
    /// Trials with the map, and as many without
    #[arg(long, default_value_t = TRIALS)]
    trials: u32,
    /// Programs of a trial
    #[arg(long, default_value_t = PROGRAMS)]
    programs: u32,
    /// Print the patch and stop
    #[arg(long)]
    patch: bool,
}

/// Builds the kernel and the target, runs the trials and prints what they gave.
pub(crate) fn run(options: &Options) -> Result<()> {
    let condition = Condition::draw(options.seed, options.steps)?;
    if options.patch {
        print!("{}", condition.patch());
        return Ok(());
    }
    println!("planted: {condition}");
    let folder = patch_folder()?;
    std::fs::write(folder.join("0001-planted.patch"), condition.patch())
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    let variant = Variant::new(Flavour::Hardened, Config::Fuzz, Some(&folder))?;
    kernel::build(&variant)?;
    sh::run(&mut sh::command("cargo", &["fuzz", "build", "everything"]))?;
    let trials = Trials {
        kernel: variant.name(),
        programs: options.programs,
        count: options.trials,
    };
    let results = trials.run()?;
    report(&results, options)
}

fn patch_folder() -> Result<PathBuf> {
    let folder = sh::root().join("target/planted");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Prints a line a trial and the sums; an error unless they are as they must be.
fn report(results: &[Trial], options: &Options) -> Result<()> {
    println!("trial  with the guest's map      without");
    for number in 1..=options.trials {
        let of = |map| {
            let mut trials = results.iter();
            let trial = trials.find(|trial| trial.seed == number && trial.map == map);
            match trial.and_then(|trial| trial.found_after) {
                Some(programs) => format!("after {programs} programs"),
                None => format!("not in {} programs", options.programs),
            }
        };
        println!("{number:>5}  {:<24}  {}", of(true), of(false));
    }
    let found = |map| {
        let trials = results.iter().filter(|trial| trial.map == map);
        trials.filter(|trial| trial.found_after.is_some()).count()
    };
    let (with, without) = (found(true), found(false));
    let trials = options.trials;
    println!("found in {with} of {trials} trials with the map, in {without} of {trials} without");
    if trials == TRIALS {
        ensure!(
            with >= AT_LEAST && without <= AT_MOST,
            "expected at least {AT_LEAST} with the map and at most {AT_MOST} without"
        );
    }
    Ok(())
}
