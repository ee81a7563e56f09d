//! `latefork run`: programs, each from the same template, with their verdicts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use latefork_harness::executor::Budget;
use latefork_harness::verdict::{Judged, judge};
use latefork_harness::{Ending, Executor, Guest, Template, Verdict};
use latefork_wire::program::Program;
use serde::Serialize;

use crate::guest::GuestOptions;
use crate::report;

/// Which programs, and where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Programs: text (`*.txt`) or wire form
    #[arg(required = true, value_name = "FILE")]
    programs: Vec<PathBuf>,
    #[command(flatten)]
    guest: GuestOptions,
    /// Where the ready guest is kept between runs
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/guest/template.snapshot"
    )]
    template: PathBuf,
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
    verdict: &'static str,
    signatures: Vec<String>,
    details: Vec<String>,
    instructions: u64,
    events: usize,
    memory_hash: String,
}

/// Runs the programs; exit code 1 if any has a finding.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let programs = options
        .programs
        .iter()
        .map(|path| read_program(path))
        .collect::<Result<Vec<_>>>()?;
    let guest = Guest::read(&options.guest.kernel, &options.guest.initramfs)?
        .with_memory(options.guest.memory);
    let new_engine = || options.guest.new_engine();
    // Asked for here already, so that what is missing is said in one line.
    new_engine()?;
    let prepared = Template::cached(&guest, &options.template, &mut || {
        new_engine().expect("an engine that could be made just now")
    })?;
    let mut executor = Executor::new(prepared, Budget::default());
    let mut found = false;
    for (path, program) in options.programs.iter().zip(&programs) {
        let judged = judge(&mut executor, program)?;
        found |= matches!(judged.verdict, Verdict::Finding(_));
        let hash = executor.hash()?;
        let report = Report::new(path, &judged, hash);
        if options.json {
            report::print_json(&report)?;
            continue;
        }
        println!("{report}");
        if options.trace {
            judged
                .execution
                .events
                .iter()
                .for_each(|event| println!("  {event}"));
        }
        if options.console {
            print!("{}", judged.execution.console);
        }
    }
    Ok(if found {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn read_program(path: &Path) -> Result<Program> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if path.extension().is_none_or(|extension| extension != "txt") {
        return Ok(Program::decode(&bytes));
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        bail!("{}: not text", path.display());
    };
    latefork_wire::text::parse(text).map_err(|error| anyhow!("{}: {error}", path.display()))
}

impl Report {
    fn new(path: &Path, judged: &Judged, hash: u64) -> Self {
        let (verdict, signatures, details) = describe(&judged.verdict);
        let mut details = details;
        if judged.execution.ending != Ending::Traced {
            details.push(format!("ended by {:?}", judged.execution.ending));
        }
        Self {
            program: path.to_owned(),
            verdict,
            signatures,
            details,
            instructions: judged.execution.instructions,
            events: judged.execution.events.len(),
            memory_hash: format!("{hash:016x}"),
        }
    }
}

fn describe(verdict: &Verdict) -> (&'static str, Vec<String>, Vec<String>) {
    match verdict {
        Verdict::Clean => ("clean", Vec::new(), Vec::new()),
        Verdict::Finding(findings) => {
            let signatures = findings.iter().map(|finding| finding.signature());
            let details = findings.iter().map(|finding| finding.to_string());
            ("finding", signatures.collect(), details.collect())
        }
        Verdict::BaseKernel(findings) => {
            let signatures = findings.iter().map(|finding| finding.signature());
            ("base-kernel", signatures.collect(), Vec::new())
        }
        Verdict::Resource(why) => ("resource", Vec::new(), vec![(*why).to_owned()]),
        Verdict::Inconclusive(why) => ("inconclusive", Vec::new(), vec![(*why).to_owned()]),
        Verdict::NotRun(why) => ("not-run", Vec::new(), vec![(*why).to_owned()]),
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
        for signature in &self.signatures {
            write!(f, "\n  {signature}")?;
        }
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        Ok(())
    }
}
