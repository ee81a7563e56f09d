//! `latefork corpus expect`: what programs give on the software engine.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use latefork_harness::engines::{Sample, corpora, see};
use latefork_harness::replay::sidecar::write_whole;
use latefork_wire::program::Program;

use crate::command::run::list;
use crate::command::show::wire;
use crate::lab::{Lab, LabOptions};

/// The flavour on which the programs of a list must be clean.
const FLAVOUR: &str = "hardened";

/// Which programs.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The checkout whose corpora are run
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    root: PathBuf,
    /// A list of programs (`latefork run --list`), run too
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    #[command(flatten)]
    lab: LabOptions,
    /// Where the result goes
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the programs and writes what they gave.
pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let mut lab = Lab::new(&options.lab);
    let mut samples = Vec::new();
    let mut add = |name: String, flavour: &str, ordered: bool, program: &Program| -> Result<()> {
        let wanted = lab.flavour(flavour);
        let station = lab.open(&wanted)?;
        let seen = see(&mut station.executor, program).with_context(|| name.clone())?;
        samples.push(Sample {
            name,
            flavour: flavour.to_owned(),
            ordered,
            program: wire(program),
            seen,
        });
        Ok(())
    };
    for (artifact, flavour, ordered) in corpora(&options.root)? {
        let name = artifact.path.strip_prefix(&options.root);
        let name = name.unwrap_or(&artifact.path).display().to_string();
        add(name, flavour, ordered, &artifact.program)?;
    }
    if let Some(path) = &options.list {
        for entry in list::read(path)? {
            add(entry.name, FLAVOUR, false, &entry.program)?;
        }
    }
    write_whole(&options.output, &serde_json::to_vec(&samples)?)?;
    println!("{}: {} programs", options.output.display(), samples.len());
    Ok(ExitCode::SUCCESS)
}
