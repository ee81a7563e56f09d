//! `latefork run`: programs, each from the same template, with their verdicts.
//!
//! What has a finding is kept, with a sidecar that says what it gave and where.

pub(super) mod list;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use latefork_harness::pair::Pair;
use latefork_harness::replay::{Artifact, Replay, Setting, Sidecar};
use latefork_harness::{Ending, Verdict};
use latefork_vmm::engine::EngineKind;
use serde::Serialize;

use crate::guest::GuestOptions;
use crate::report;

/// Which programs, and where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Programs: text (`*.txt`) or wire form
    #[arg(required_unless_present = "list", value_name = "FILE")]
    programs: Vec<PathBuf>,
    /// Run the programs of a list instead, twice, the second time from the last
    /// to the first: all must be clean, and give the same again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["programs", "kernel", "template"])]
    list: Option<PathBuf>,
    /// Write N random programs that are clean on hardened to the list first
    #[arg(long, value_name = "N", requires = "list")]
    generate: Option<usize>,
    /// The first random program's number
    #[arg(long, value_name = "N", requires = "generate", default_value_t = 0)]
    seed: u32,
    #[command(flatten)]
    guest: GuestOptions,
    /// Where the ready guest is kept between runs
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/guest/template.snapshot"
    )]
    template: PathBuf,
    /// Where programs with findings are kept, in a folder for each flavour
    #[arg(long, value_name = "FOLDER", default_value = "target/findings")]
    findings: PathBuf,
    /// Print each trace
    #[arg(long)]
    trace: bool,
    /// Print what the kernel wrote to its console
    #[arg(long)]
    console: bool,
    /// Report in JSON
    #[arg(long)]
    json: bool,
}

/// What came of one program.
#[derive(Debug, Serialize)]
struct Report {
    program: PathBuf,
    verdict: String,
    signatures: Vec<String>,
    details: Vec<String>,
    instructions: u64,
    events: usize,
    memory_hash: String,
    /// Where the program is kept, if it has a finding.
    kept: Option<PathBuf>,
}

/// Runs the programs; exit code 1 if any has a finding, 2 if one could not be
/// read.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if let Some(list) = &options.list {
        return list::run(list, options);
    }
    let guest = options.guest.read()?;
    // What is kept is what the software engine gives, whoever found it.
    let setting = Setting::new(&guest, options.guest.kernel(), EngineKind::Soft.name());
    let kind = options.guest.new_engine()?.kind();
    let (template, model) = (options.template.clone(), options.guest.model());
    let opened = Pair::open(guest, template, kind, model);
    let (mut pair, _) =
        opened.with_context(|| format!("cannot boot {}", options.guest.kernel().display()))?;
    let mut worst = 0;
    for path in &options.programs {
        let artifact = match Artifact::read(path) {
            Ok(artifact) => artifact,
            Err(error) => {
                eprintln!("latefork: {error}");
                worst = 2;
                continue;
            }
        };
        let ran = pair.replay(&artifact.program)?;
        let kept = keep(options, &setting, &artifact, &ran)?;
        worst = worst.max(u8::from(kept.is_some()));
        print(options, &Report::new(path, &ran, kept), &ran)?;
    }
    Ok(ExitCode::from(worst))
}

/// Keeps a program that has a finding, unless it is a kept one.
fn keep(
    options: &Options,
    setting: &Setting,
    artifact: &Artifact,
    ran: &Replay,
) -> Result<Option<PathBuf>> {
    if !matches!(ran.verdict, Verdict::Finding(_)) {
        return Ok(None);
    }
    if Sidecar::path_of(&artifact.path).exists() {
        return Ok(Some(artifact.path.clone()));
    }
    let folder = options.findings.join(&setting.flavour);
    let sidecar = Sidecar::new(setting.clone(), ran.outcome.clone());
    Ok(Some(sidecar.keep(&folder, "run", &artifact.program)?))
}

fn print(options: &Options, report: &Report, ran: &Replay) -> Result<()> {
    if options.json {
        return report::print_json(report);
    }
    println!("{report}");
    if options.trace {
        let events = &ran.execution.events;
        events.iter().for_each(|event| println!("  {event}"));
    }
    if options.console {
        print!("{}", ran.execution.console);
    }
    Ok(())
}

impl Report {
    fn new(path: &Path, ran: &Replay, kept: Option<PathBuf>) -> Self {
        let findings = match &ran.verdict {
            Verdict::Finding(findings) => findings.as_slice(),
            _ => &[],
        };
        let mut details: Vec<String> = findings.iter().map(ToString::to_string).collect();
        details.extend(ran.verdict.reason().map(str::to_owned));
        if ran.execution.ending != Ending::Traced {
            details.push(format!("ended by {:?}", ran.execution.ending));
        }
        let outcome = ran.outcome.clone();
        Self {
            program: path.to_owned(),
            verdict: outcome.verdict,
            signatures: outcome.signatures,
            details,
            instructions: outcome.instructions,
            events: ran.execution.events.len(),
            memory_hash: outcome.memory_hash,
            kept,
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} ({} instructions, {} events, memory {})",
            self.program.display(),
            self.verdict,
            self.instructions,
            self.events,
            self.memory_hash
        )?;
        for line in self.signatures.iter().chain(&self.details) {
            write!(f, "\n  {line}")?;
        }
        match &self.kept {
            Some(kept) => write!(f, "\n  again: latefork repro {}", kept.display()),
            None => Ok(()),
        }
    }
}
