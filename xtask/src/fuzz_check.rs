//! `cargo xtask fuzz-check`: that fuzz targets are what they claim to be.
//!
//! In a target of the guest only the guest's counters may be libFuzzer's
//! features, and what runs the guest must run at full speed: so the program
//! that `cargo fuzz` links holds no counter, no AddressSanitizer and no
//! overflow check of `cpu`, `vmm`, `wire` or `harness`. A target of host code
//! holds all three; it shows that the search would find them.

mod calls;
mod counters;
mod features;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use object::{Object, ObjectSymbol};

use crate::sh;

/// Targets of the guest.
const GUEST: [&str; 5] = [
    "hostile_args",
    "nested",
    "clone_failure",
    "lifecycle",
    "everything",
];
/// Targets of host code.
const HOST: [&str; 4] = ["vsock_device", "loader", "snapshot_file", "cpu_any_bytes"];
/// Crates that run the guest.
const CRATES: [&str; 4] = ["cpu", "vmm", "wire", "harness"];

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Check the programs that are there, without building them first
    #[arg(long)]
    built: bool,
    /// Only print what is in this program
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Then run each target for this many inputs, its seeds first
    #[arg(long, value_name = "RUNS", default_value_t = 0)]
    smoke: u32,
    /// Then try libFuzzer's features that need several processes
    #[arg(long)]
    features: bool,
}

/// What was found in a program.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    /// Counters of edges in all.
    edges: usize,
    /// Places of those that belong to the crates that run the guest.
    host_edges: Vec<String>,
    /// Symbols of AddressSanitizer.
    sanitizer: usize,
    /// Functions of those crates with overflow checks.
    checked: Vec<String>,
}

/// Builds the targets and looks into them.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(path) = &options.program {
        println!("{:#?}", contents(path)?);
        return Ok(());
    }
    if !options.built {
        sh::run(&mut sh::command("cargo", &["fuzz", "build"]))?;
    }
    linked()?;
    if options.smoke > 0 {
        for target in GUEST.into_iter().chain(HOST) {
            smoke(target, options.smoke)?;
        }
    }
    if options.features {
        features::check()?;
    }
    Ok(())
}

/// Looks into the programs that are there.
pub(crate) fn linked() -> Result<()> {
    for target in GUEST {
        check_guest_target(target, &contents(&program(target))?)?;
    }
    for target in HOST {
        check_host_target(target, &contents(&program(target))?)?;
    }
    Ok(())
}

/// Where `cargo fuzz build` leaves a target.
fn program(target: &str) -> PathBuf {
    sh::root()
        .join("fuzz/target/x86_64-unknown-linux-gnu/release")
        .join(target)
}

fn contents(path: &Path) -> Result<Contents> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("{}", path.display()))?;
    let sanitizer = file
        .symbols()
        .filter(|symbol| symbol.name().is_ok_and(|name| name.starts_with("__asan_")))
        .count();
    let edges = counters::edges(&file).with_context(|| format!("{}", path.display()))?;
    Ok(Contents {
        edges: edges.len(),
        host_edges: counters::of_crates(path, &edges, &CRATES)?,
        sanitizer,
        checked: calls::with_overflow_checks(&file, &CRATES)?,
    })
}

fn check_guest_target(target: &str, contents: &Contents) -> Result<()> {
    let Contents {
        edges,
        host_edges,
        sanitizer,
        checked,
    } = contents;
    let some = |places: &[String]| places[..places.len().min(5)].join(", ");
    ensure!(
        host_edges.is_empty(),
        "{target}: {} counters of the host's own code, such as {}",
        host_edges.len(),
        some(host_edges)
    );
    ensure!(
        *sanitizer == 0,
        "{target}: linked with AddressSanitizer ({sanitizer} symbols)"
    );
    ensure!(
        checked.is_empty(),
        "{target}: {} functions with overflow checks, such as {}",
        checked.len(),
        some(checked)
    );
    println!("{target}: {edges} counters, none of cpu, vmm, wire or harness");
    Ok(())
}

/// A target of host code keeps what a guest target must not have: without this
/// the check above could be blind.
fn check_host_target(target: &str, contents: &Contents) -> Result<()> {
    let Contents {
        edges,
        host_edges,
        sanitizer,
        checked,
    } = contents;
    ensure!(
        !host_edges.is_empty() && *sanitizer > 0 && !checked.is_empty(),
        "{target}: {} counters of host code, {sanitizer} symbols of AddressSanitizer, \
         {} functions with overflow checks: a target of host code needs all three",
        host_edges.len(),
        checked.len()
    );
    println!(
        "{target}: {edges} counters, {} of host code",
        host_edges.len()
    );
    Ok(())
}

/// Runs a target on its seeds and some mutants.
fn smoke(target: &str, runs: u32) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let seeds = sh::root().join("corpora").join(target);
    let mut command = sh::command("cargo", &["fuzz", "run", target]);
    command.arg(folder.path());
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.args(["--", "-seed=1", "-close_fd_mask=0", "-verbosity=0"]);
    command.arg(format!("-runs={runs}"));
    sh::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Contents {
        Contents {
            edges: 68,
            host_edges: Vec::new(),
            sanitizer: 0,
            checked: Vec::new(),
        }
    }

    #[test]
    fn each_thing_that_a_guest_target_must_not_have_is_refused() {
        check_guest_target("nested", &clean()).unwrap();
        let found = || vec!["cpu/src/run.rs:1".to_owned()];
        let bad = [
            Contents {
                host_edges: found(),
                ..clean()
            },
            Contents {
                sanitizer: 1,
                ..clean()
            },
            Contents {
                checked: found(),
                ..clean()
            },
        ];
        for contents in &bad {
            check_guest_target("nested", contents).unwrap_err();
            check_host_target("loader", contents).unwrap_err();
        }
        let all = Contents {
            host_edges: found(),
            sanitizer: 1,
            checked: found(),
            ..clean()
        };
        check_host_target("loader", &all).unwrap();
    }
}
