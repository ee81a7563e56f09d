//! `latefork corpus`: the seeds of the fuzz targets, and what a corpus reaches.

mod expect;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use latefork_cpu::CpuModel;
use latefork_harness::executor::Budget;
use latefork_harness::fuzz::reach::{Run, goals};
use latefork_harness::fuzz::{CloneExits, Place, seeds, stable};
use latefork_harness::verdict::{Judged, judge};
use latefork_harness::{Executor, Guest, Template};
use latefork_vmm::engine::soft::SoftVcpu;
use latefork_vmm::layout::{COVERAGE_EVENTS, COVERAGE_EVENTS_SIZE};
use latefork_wire::program::Program;

/// What to do with a corpus.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the committed seeds from their sources in text form
    Seeds {
        /// The checkout
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        root: PathBuf,
    },
    /// Say which rows of the ABI and which hazards no program reaches (exit
    /// code 1 if any), and print the error exits of copy_process() taken
    Reach(Programs),
    /// Write what the programs of the corpora and of a list give on the software
    /// engine, in JSON: the KVM engine's tests compare with it
    Expect(expect::Options),
    /// Run the programs in two shuffled orders, in two processes, and compare
    /// their coverage (exit code 1 if any differs)
    Stable {
        #[command(flatten)]
        programs: Programs,
        /// Run once in this process, in the order of this seed, and print the
        /// hash of each program's counters
        #[arg(long, value_name = "SEED", hide = true)]
        order: Option<u64>,
    },
}

/// Which programs, on which guest.
#[derive(Debug, Args)]
struct Programs {
    /// Programs in wire form, or folders of them
    #[arg(required = true, value_name = "FILE|FOLDER")]
    paths: Vec<PathBuf>,
    /// Flavour of the guest kernel
    #[arg(long, default_value = "hardened")]
    flavour: String,
}

/// Does what was asked.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    match &options.action {
        Action::Seeds { root } => write_seeds(root),
        Action::Reach(programs) => reach(programs),
        Action::Expect(options) => expect::run(options),
        Action::Stable {
            programs,
            order: Some(order),
        } => print_counters(programs, *order),
        Action::Stable {
            programs,
            order: None,
        } => compare_orders(programs),
    }
}

fn write_seeds(root: &Path) -> Result<ExitCode> {
    let changes = seeds::write(root)?;
    println!(
        "{} seeds, {} of them written, {} files removed",
        changes.seeds, changes.written, changes.removed
    );
    Ok(ExitCode::SUCCESS)
}

impl Programs {
    /// The files, folders replaced by what is in them, sorted.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for path in &self.paths {
            if !path.is_dir() {
                files.push(path.clone());
                continue;
            }
            let unreadable = || format!("cannot read {}", path.display());
            for entry in std::fs::read_dir(path).with_context(unreadable)? {
                let entry = entry.with_context(unreadable)?.path();
                let sidecar = entry.extension().is_some_and(|name| name == "json");
                if entry.is_file() && !sidecar {
                    files.push(entry);
                }
            }
        }
        files.sort();
        ensure!(!files.is_empty(), "no program in {:?}", self.paths);
        Ok(files)
    }

    fn executor(&self) -> Result<Executor> {
        let place = Place::here(Some(&self.flavour), None)?;
        let guest = Guest::read(&place.kernel(), &place.initramfs())?;
        let prepared = Template::cached(&guest, &place.template(), &mut || {
            Box::new(SoftVcpu::new(CpuModel::Fuzz))
        })?;
        Ok(Executor::new(prepared, Budget::default()))
    }
}

fn read(path: &Path) -> Result<Program> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Program::decode(&bytes))
}

fn reach(programs: &Programs) -> Result<ExitCode> {
    let files = programs.files()?;
    let mut executor = programs.executor()?;
    let mut missing = goals();
    let all = missing.len();
    let mut exits = CloneExits::default();
    for path in &files {
        let program = read(path)?;
        let Judged { execution, .. } = judge(&mut executor, &program)?;
        let mut cells = [0; COVERAGE_EVENTS_SIZE];
        executor.machine().ram().read(COVERAGE_EVENTS, &mut cells)?;
        exits.count(&cells);
        let run = Run::new(&program, &execution.events, &cells);
        missing.retain(|goal| !goal.is_reached(&run));
    }
    println!(
        "{} programs reach {} of {all} rows and hazards",
        files.len(),
        all - missing.len()
    );
    for goal in &missing {
        println!("  not reached: {}", goal.name);
    }
    print!("{exits}");
    Ok(match missing.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn print_counters(programs: &Programs, order: u64) -> Result<ExitCode> {
    let mut files = programs.files()?;
    stable::shuffle(&mut files, order);
    let mut executor = programs.executor()?;
    for path in &files {
        let counters = stable::counters(&mut executor, &read(path)?)?;
        println!("{counters:016x} {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn compare_orders(programs: &Programs) -> Result<ExitCode> {
    // Made here, so that the two find it.
    drop(programs.executor()?);
    let first = counters_in_a_process(programs, 1)?;
    let second = counters_in_a_process(programs, 2)?;
    ensure!(first.len() == second.len(), "the corpus changed meanwhile");
    let mut different = 0;
    for (path, counters) in &first {
        if second.get(path) != Some(counters) {
            println!("differs: {path}");
            different += 1;
        }
    }
    println!(
        "{} programs in two orders, in two processes: {different} with other coverage",
        first.len()
    );
    Ok(match different {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Hashes of counters by path, from a process of this program's own.
fn counters_in_a_process(programs: &Programs, order: u64) -> Result<BTreeMap<String, String>> {
    let myself = std::env::current_exe().context("cannot find this program")?;
    let output = Command::new(myself)
        .args(["corpus", "stable", "--flavour", &programs.flavour])
        .args(["--order", &order.to_string()])
        .args(&programs.paths)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot start this program again")?;
    if !output.status.success() {
        bail!("the run in order {order} failed ({})", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines
        .map(|(counters, path)| (path.to_owned(), counters.to_owned()))
        .collect())
}
