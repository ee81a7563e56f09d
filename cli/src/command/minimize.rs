//! `latefork minimize`: a smaller and simpler program with the same finding.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use latefork_harness::minimize::minimize;
use latefork_harness::replay::regression::FLAVOURS;
use latefork_harness::replay::sidecar::write_whole;
use latefork_harness::replay::{Artifact, Outcome, Record, Sidecar, replay};
use latefork_vmm::engine::EngineKind;
use latefork_vmm::engine::select::EngineChoice;
use latefork_wire::program::Program;
use serde::Serialize;

use super::repro::FlavourChoice;
use super::show::wire;
use crate::lab::{Lab, LabOptions, Wanted};
use crate::report;

/// Which program, and what must stay.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A program in wire or text form (`*.txt`)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    lab: LabOptions,
    /// Where the result goes: text if it ends in `.txt`, else the wire form with
    /// a sidecar; by default FILE with `.min` behind its name
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The flavour that shows the finding; by default the recorded one, else the
    /// first that shows one
    #[arg(long, value_enum)]
    flavour: Option<FlavourChoice>,
    /// What runs the candidates: soft, kvm or auto (KVM where it passes a probe);
    /// the result is run on soft in any case
    #[arg(long, default_value = "soft", value_name = "ENGINE")]
    engine: EngineChoice,
    /// A signature that must stay, whole or in part; by default the last of the
    /// program's (a kernel's own complaints come first)
    #[arg(long, value_name = "TEXT")]
    signature: Option<String>,
    /// Keep every signature, not one
    #[arg(long, conflicts_with = "signature")]
    all: bool,
    /// Report in JSON
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    output: PathBuf,
    flavour: String,
    signatures_kept: Vec<String>,
    operations_before: usize,
    operations: usize,
    tried: u64,
    #[serde(flatten)]
    outcome: Outcome,
    text: String,
}

/// Minimises. Exit code 1: the program shows no such finding.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let artifact = Artifact::read(&options.file)?;
    let mut lab = Lab::on(&options.lab, options.engine)?;
    let Some((wanted, first)) = find(&mut lab, options, &artifact)? else {
        eprintln!("latefork: {}: no finding to keep", options.file.display());
        return Ok(ExitCode::FAILURE);
    };
    let keep = wanted_signatures(options, &first);
    if keep.is_empty() {
        eprintln!(
            "latefork: {}: shows none of that, but: {}",
            options.file.display(),
            first.signatures.join("; ")
        );
        return Ok(ExitCode::FAILURE);
    }
    let station = lab.open(&wanted)?;
    let bar = progress_bar();
    let mut tried = 0;
    let program = minimize(
        &artifact.program,
        &mut |candidate| -> Result<bool> {
            let outcome = replay(&mut station.executor, candidate)?.outcome;
            Ok(keep.iter().all(|kept| outcome.signatures.contains(kept)))
        },
        &mut |progress| {
            tried = progress.tried;
            bar.set_position(progress.tried);
            bar.set_message(format!(
                "{} kept, {} operations, {} words",
                progress.kept, progress.steps, progress.words
            ));
        },
    )?;
    bar.finish_and_clear();
    let station = lab.open(&wanted.on(EngineKind::Soft))?;
    let outcome = replay(&mut station.executor, &program)?.outcome;
    let output = output(options);
    put(
        &output,
        &program,
        &Sidecar::new(station.setting.clone(), outcome.clone()),
    )?;
    let lost: Vec<&String> = keep
        .iter()
        .filter(|kept| !outcome.signatures.contains(kept))
        .collect();
    let is_kept = lost.is_empty();
    if !is_kept {
        eprintln!("latefork: the software engine does not show {lost:?} of the result");
    }
    let report = Report {
        output,
        flavour: station.setting.flavour.clone(),
        signatures_kept: keep,
        operations_before: artifact.program.steps.len(),
        operations: program.steps.len(),
        tried,
        outcome,
        text: program.to_string(),
    };
    show(options, &report)?;
    Ok(ExitCode::from(u8::from(!is_kept)))
}

/// The guest that shows a finding, with what it shows.
fn find(
    lab: &mut Lab,
    options: &Options,
    artifact: &Artifact,
) -> Result<Option<(Wanted, Outcome)>> {
    let recorded = match (&artifact.record, options.flavour) {
        (_, Some(flavour)) => Some(lab.flavour(flavour.name())),
        (Record::Run(sidecar), None) => Some(lab.of(&sidecar.setting)),
        (_, None) => None,
    };
    let candidates = match recorded {
        Some(wanted) => vec![wanted],
        None => FLAVOURS.map(|flavour| lab.flavour(flavour)).to_vec(),
    };
    for wanted in candidates {
        let station = lab.open(&wanted)?;
        let outcome = replay(&mut station.executor, &artifact.program)?.outcome;
        if !outcome.signatures.is_empty() {
            return Ok(Some((wanted, outcome)));
        }
    }
    Ok(None)
}

fn wanted_signatures(options: &Options, outcome: &Outcome) -> Vec<String> {
    let all = outcome.signatures.iter();
    match &options.signature {
        Some(text) => all
            .filter(|one| one.contains(text))
            .take(1)
            .cloned()
            .collect(),
        None if options.all => all.cloned().collect(),
        None => all.last().cloned().into_iter().collect(),
    }
}

/// A line that moves on a terminal; nothing elsewhere.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    match ProgressStyle::with_template("{spinner} {elapsed} {pos} tried, {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn output(options: &Options) -> PathBuf {
    options.output.clone().unwrap_or_else(|| {
        let mut name = options.file.as_os_str().to_owned();
        let text = options.file.extension().is_some_and(|e| e == "txt");
        name.push(if text { ".min.txt" } else { ".min" });
        PathBuf::from(name)
    })
}

fn put(output: &Path, program: &Program, sidecar: &Sidecar) -> Result<()> {
    if output
        .extension()
        .is_some_and(|extension| extension == "txt")
    {
        write_whole(output, program.to_string().as_bytes())?;
        return Ok(());
    }
    write_whole(output, &wire(program))?;
    sidecar
        .write(output)
        .context("the program is there without its sidecar")
}

fn show(options: &Options, report: &Report) -> Result<()> {
    if options.json {
        return report::print_json(report);
    }
    println!(
        "{}: {} operations of {} left after {} candidates on {}, still: {}",
        report.output.display(),
        report.operations,
        report.operations_before,
        report.tried,
        report.flavour,
        report.signatures_kept.join("; ")
    );
    print!("{}", report.text);
    Ok(())
}
