//! `cargo xtask test`: every check of this repository, in order of cost.
//!
//! The first that fails ends it. What could not be run is named at the end, with
//! the reason: nothing is passed over silently.

mod smoke;

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::{agent, guest_test, kernel, kvm_lane, replay_proof, setup, sh};

/// Random programs that must be clean on hardened.
const LIST: &str = "corpora/lists/generated.list";

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct Options {}

/// A check: its name, and what it does. What it returns was not run, and why.
struct Check {
    name: &'static str,
    run: fn() -> Result<Vec<String>>,
}

const CHECKS: &[Check] = &[
    Check {
        name: "formatting",
        run: formatting,
    },
    Check {
        name: "lints",
        run: lints,
    },
    Check {
        name: "documentation",
        run: documentation,
    },
    Check {
        name: "the agent's lints",
        run: || agent::lint().map(|()| Vec::new()),
    },
    Check {
        name: "guest kernels and agent",
        run: || setup::guests().map(|()| Vec::new()),
    },
    Check {
        name: "tests of all crates",
        run: tests,
    },
    Check {
        name: "regressions on both flavours",
        run: || latefork(&["repro", "--quiet", "corpora/regressions"]),
    },
    Check {
        name: "generated programs, twice",
        run: || latefork(&["run", "--list", LIST]),
    },
    Check {
        name: "replay, 10 times",
        run: || replay_proof::quick().map(|()| Vec::new()),
    },
    Check {
        name: "the kernels' own tests in QEMU",
        run: kernels,
    },
    Check {
        name: "the agent's self-test in QEMU",
        run: || guest_test::run(&guest_test::Options::default()).map(|()| Vec::new()),
    },
    Check {
        name: "the KVM engine, on an emulated processor",
        run: || kvm_lane::run(&kvm_lane::Options::default()).map(|()| Vec::new()),
    },
    Check {
        name: "fuzz targets: what is linked, a short run of each",
        run: smoke::run,
    },
];

/// Runs every check and stops at the first that fails.
pub(crate) fn run(_options: &Options) -> Result<()> {
    let mut summary = Vec::new();
    let mut left_out = Vec::new();
    for check in CHECKS {
        eprintln!("== {}", check.name);
        let started = Instant::now();
        let not_run = (check.run)().with_context(|| check.name)?;
        let seconds = started.elapsed().as_secs_f64();
        summary.push(format!("{seconds:>7.1} s  {}", check.name));
        left_out.extend(not_run);
    }
    println!("\nall checks passed:");
    summary.iter().for_each(|line| println!("{line}"));
    match left_out.is_empty() {
        true => println!("nothing was left out"),
        false => println!("NOT RUN:"),
    }
    left_out.iter().for_each(|line| println!("  {line}"));
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<Vec<String>> {
    sh::run(&mut sh::command("cargo", arguments))?;
    Ok(Vec::new())
}

/// The same random cases in every run: to find new ones is the fuzz targets'
/// work, and what they find must not fail somebody else's change.
fn tests() -> Result<Vec<String>> {
    let mut cargo = sh::command("cargo", &["test", "--workspace"]);
    sh::run(cargo.env("PROPTEST_RNG_SEED", "2007"))?;
    Ok(Vec::new())
}

/// The command, as the tests were built.
fn latefork(arguments: &[&str]) -> Result<Vec<String>> {
    let mut cargo = sh::command("cargo", &["run", "--quiet", "--package", "latefork", "--"]);
    sh::run(cargo.args(arguments))?;
    Ok(Vec::new())
}

fn kernels() -> Result<Vec<String>> {
    for flavour in setup::FLAVOURS {
        kernel::test_fuzz(flavour)?;
    }
    Ok(Vec::new())
}

fn formatting() -> Result<Vec<String>> {
    cargo(&["fmt", "--all", "--check"])
}

fn lints() -> Result<Vec<String>> {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

fn documentation() -> Result<Vec<String>> {
    sh::run(
        sh::command("cargo", &["doc", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    Ok(Vec::new())
}
