//! `cargo xtask replay-proof`: that a finding comes again, 100 of 100 times.
//!
//! 50 times in fresh processes, 25 times in one process after random other
//! programs, 25 times in a debug build: always the same verdict, signatures,
//! instruction count and memory hash.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::{progress, sh};

/// What is proven without being told otherwise: it forks twice, warns, and waits
/// for FUSE.
const DEFAULT: &str = "corpora/regressions/nested-with-slow-args.txt";
/// Random programs before each run of the second part.
const BETWEEN: &str = "3";

/// What to replay, and how often.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The program
    #[arg(default_value = DEFAULT)]
    file: PathBuf,
    /// A tenth of it, in the debug build alone: part of `cargo xtask test`
    #[arg(long)]
    quick: bool,
}

/// A flavour's outcome, as `latefork repro --json` gives it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Outcome {
    flavour: String,
    verdict: String,
    signatures: Vec<String>,
    instructions: u64,
    memory_hash: String,
    differences: Vec<String>,
    times: u32,
}

/// One part: which build, in how many processes, how often in each.
struct Part {
    what: &'static str,
    build: Build,
    processes: u32,
    times: u32,
    between: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Release,
    Debug,
}

/// Replays and compares everything with the first run.
pub(crate) fn run(options: &Options) -> Result<()> {
    prove(&options.file, options.quick_or_full())
}

/// The quick form, for `cargo xtask test`.
pub(crate) fn quick() -> Result<()> {
    prove(Path::new(DEFAULT), QUICK)
}

const FULL: &[Part] = &[
    part("in fresh processes", Build::Release, 50, 1, "0"),
    part(
        "after random other programs",
        Build::Release,
        1,
        25,
        BETWEEN,
    ),
    part("in a debug build", Build::Debug, 5, 5, "0"),
];
const QUICK: &[Part] = &[
    part("in fresh processes", Build::Debug, 5, 1, "0"),
    part("after random other programs", Build::Debug, 1, 5, BETWEEN),
];

const fn part(
    what: &'static str,
    build: Build,
    processes: u32,
    times: u32,
    between: &'static str,
) -> Part {
    Part {
        what,
        build,
        processes,
        times,
        between,
    }
}

impl Options {
    const fn quick_or_full(&self) -> &'static [Part] {
        if self.quick { QUICK } else { FULL }
    }
}

fn prove(file: &Path, parts: &[Part]) -> Result<()> {
    let mut first: Option<Vec<Outcome>> = None;
    let mut total = 0;
    for part in parts {
        let binary = build(part.build)?;
        let bar = progress::spinner(part.what);
        for process in 1..=part.processes {
            bar.set_message(format!("{} {process} of {}", part.what, part.processes));
            let outcomes = replay(&binary, file, part)?;
            for outcome in &outcomes {
                if !outcome.differences.is_empty() {
                    bail!(
                        "{} {}: {}",
                        outcome.flavour,
                        part.what,
                        outcome.differences.join("; ")
                    );
                }
            }
            let known = first.get_or_insert_with(|| outcomes.clone());
            if !same(known, &outcomes) {
                bail!("{}: {outcomes:?} is not {known:?}", part.what);
            }
            total += part.times;
        }
        bar.finish_and_clear();
        println!(
            "{:>3} of {0} the same {}",
            part.processes * part.times,
            part.what
        );
    }
    for outcome in first.unwrap_or_default() {
        println!(
            "{} on {}: {}, {} instructions, memory {}, {total} of {total} times: {}",
            file.display(),
            outcome.flavour,
            outcome.verdict,
            outcome.instructions,
            outcome.memory_hash,
            outcome.signatures.join("; ")
        );
    }
    Ok(())
}

/// Whether two processes gave the same, however often each ran it.
fn same(one: &[Outcome], two: &[Outcome]) -> bool {
    let pairs = one.iter().zip(two);
    one.len() == two.len()
        && pairs.into_iter().all(|(a, b)| {
            let a = Outcome {
                times: b.times,
                ..a.clone()
            };
            a == *b
        })
}

fn build(build: Build) -> Result<PathBuf> {
    let mut arguments = vec!["build", "--package", "latefork"];
    let folder = match build {
        Build::Release => {
            arguments.push("--release");
            "target/release/latefork"
        }
        Build::Debug => "target/debug/latefork",
    };
    progress::cargo(
        "building the latefork command",
        &mut sh::command("cargo", &arguments),
    )?;
    Ok(sh::root().join(folder))
}

fn replay(binary: &Path, file: &Path, part: &Part) -> Result<Vec<Outcome>> {
    let output = Command::new(binary)
        .current_dir(sh::root())
        .args(["repro", "--json", "--times", &part.times.to_string()])
        .args(["--between", part.between])
        .arg(file)
        .output()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let gave = String::from_utf8_lossy(&output.stdout).into_owned();
        bail!(
            "{} {}: {}{said}{gave}",
            file.display(),
            part.what,
            output.status
        );
    }
    serde_json::from_slice(&output.stdout).context("repro's JSON")
}
