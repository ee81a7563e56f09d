//! `latefork repro`: kept programs, run again and compared with their records.

mod bless;
mod both;
mod check;
mod oops;
mod timeline;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use latefork_harness::mutate::{self, Bias};
use latefork_harness::replay::artifact::programs;
use latefork_harness::replay::regression::FLAVOURS;
use latefork_harness::replay::{Artifact, Outcome, Record, Replay, replay};
use latefork_vmm::engine::select::EngineChoice;
use latefork_wire::program::{MAX_BYTES, Program};
use serde::Serialize;

use self::check::Check;
use crate::lab::{Lab, LabOptions, Station, Wanted};
use crate::report;

/// Edits that make a program from nothing.
const EDITS: u32 = 12;

/// Which programs, and how often.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Programs in wire or text form (`*.txt`), or folders of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    lab: LabOptions,
    /// Run on this flavour, whatever the record says
    #[arg(long, value_enum)]
    flavour: Option<FlavourChoice>,
    /// What runs the guest: soft, kvm, auto (KVM where it passes a probe), or both:
    /// each program on both, compared by verdict, signatures and trace (exit code
    /// 1 where they differ)
    #[arg(long, default_value = "soft", value_name = "ENGINE")]
    engine: Engines,
    /// How often each program is run; every run must give the same
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// Run so many random other programs before each run
    #[arg(long, value_name = "N", default_value_t = 0)]
    between: u32,
    /// Say only what differs
    #[arg(long, short)]
    quiet: bool,
    /// Print the whole trace, event by event
    #[arg(long)]
    trace: bool,
    /// Write what the programs give into the headers of regressions (`*.txt`),
    /// to be reviewed and committed
    #[arg(long, conflicts_with = "engine")]
    bless: bool,
    /// Report in JSON
    #[arg(long)]
    json: bool,
}

/// The engines that a program runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engines {
    /// One.
    One(EngineChoice),
    /// Each.
    Both,
}

impl FromStr for Engines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "both" {
            return Ok(Self::Both);
        }
        let choice = text.parse().map(Self::One);
        choice.map_err(|_| format!("`{text}` is no engine: say soft, kvm, auto or both"))
    }
}

/// Flavours of the guest kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlavourChoice {
    /// The call as it was proposed
    Faithful,
    /// With its defects mended
    Hardened,
}

impl FlavourChoice {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Faithful => "faithful",
            Self::Hardened => "hardened",
        }
    }
}

/// What came of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Comparison {
    /// As recorded.
    Reproduced,
    /// Not as recorded.
    Differs,
    /// Nothing was recorded.
    Unrecorded,
}

/// One program on one flavour.
#[derive(Debug, Serialize)]
struct Report {
    program: PathBuf,
    flavour: String,
    config: String,
    engine: String,
    image: String,
    result: Comparison,
    /// Whether it was compared with the header of a regression.
    header: bool,
    differences: Vec<String>,
    notes: Vec<String>,
    #[serde(flatten)]
    outcome: Outcome,
    details: Vec<String>,
    times: u32,
    text: String,
    timeline: Vec<String>,
    oops: Vec<String>,
}

/// How a program ended: the exit code, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worst {
    Reproduced,
    Differs,
    NotRun,
}

/// Replays all programs. Exit code 0: all gave what is recorded of them (a
/// finding, where nothing is); 1: one did not; 2: one could not be run.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut lab = match options.engine {
        Engines::One(choice) => Lab::on(&options.lab, choice)?,
        Engines::Both => both::lab(&options.lab)?,
    };
    let mut worst = Worst::Reproduced;
    let mut reports = Vec::new();
    for file in &options.files {
        let found = match programs(file) {
            Ok(found) if found.is_empty() => {
                eprintln!("latefork: {}: no program in it", file.display());
                worst = Worst::NotRun;
                continue;
            }
            Ok(found) => found,
            Err(error) => {
                eprintln!("latefork: {error}");
                worst = Worst::NotRun;
                continue;
            }
        };
        for path in found {
            let ended = match options.engine {
                Engines::One(_) => one(&mut lab, options, &path, &mut reports),
                Engines::Both => both::compare(&mut lab, options, &path),
            };
            let ended = match ended {
                Ok(ended) => ended,
                Err(error) => {
                    eprintln!("latefork: {}: {}", path.display(), without(&error, &path));
                    Worst::NotRun
                }
            };
            worst = worst.max(ended);
        }
    }
    if options.engine == Engines::Both {
        // Each program has been reported.
    } else if options.json {
        report::print_json(&reports)?;
    } else if options.quiet {
        let differ = reports
            .iter()
            .filter(|report| report.result == Comparison::Differs);
        let differ = differ.count();
        println!("{} replays, {differ} not as recorded", reports.len());
    }
    if worst == Worst::Differs && reports.iter().any(|report| report.header) {
        eprintln!(
            "latefork: if the change is meant, `latefork repro --bless FILE` writes it into the \
             header, to be reviewed"
        );
    }
    Ok(ExitCode::from(match worst {
        Worst::Reproduced => 0,
        Worst::Differs => 1,
        Worst::NotRun => 2,
    }))
}

/// An error's text, without the path that it may begin with.
fn without(error: &anyhow::Error, path: &Path) -> String {
    let text = format!("{error:#}");
    let prefix = format!("{}: ", path.display());
    text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
}

/// Replays one file wherever its record, or the user, wants it.
fn one(lab: &mut Lab, options: &Options, path: &Path, reports: &mut Vec<Report>) -> Result<Worst> {
    let artifact = Artifact::read(path)?;
    if options.bless {
        return bless::bless(lab, options, &artifact);
    }
    let unrecorded = artifact.record == Record::None;
    let mut worst = Worst::Reproduced;
    let mut found = false;
    for (wanted, check) in plan(lab, options, &artifact.record)? {
        let station = lab.open(&wanted)?;
        let report = compare(station, options, &artifact, &check)?;
        found |= report.outcome.verdict == "finding";
        if report.result == Comparison::Differs {
            worst = Worst::Differs;
        }
        if !options.json {
            print(&report, options);
        }
        reports.push(report);
    }
    if unrecorded && !found {
        worst = worst.max(Worst::Differs);
    }
    Ok(worst)
}

/// Where to run a program, and what to compare it with.
fn plan(lab: &Lab, options: &Options, record: &Record) -> Result<Vec<(Wanted, Check)>> {
    let asked = options.flavour.map(FlavourChoice::name);
    Ok(match record {
        Record::Run(sidecar) if asked.is_none_or(|asked| asked == sidecar.setting.flavour) => {
            vec![(lab.of(&sidecar.setting), Check::Run(sidecar.clone()))]
        }
        Record::Regression(header) => {
            let mut plan = Vec::new();
            for flavour in flavours(asked) {
                let Some(expected) = header.of(flavour) else {
                    bail!(
                        "its header says nothing of {flavour}: write it with `latefork repro --bless`"
                    );
                };
                plan.push((lab.flavour(flavour), Check::Header(expected.clone())));
            }
            plan
        }
        Record::Seed => flavours(asked.or(Some("hardened")))
            .map(|flavour| {
                let check = match flavour {
                    "hardened" => Check::NoFinding,
                    _ => Check::Nothing,
                };
                (lab.flavour(flavour), check)
            })
            .collect(),
        Record::Run(_) | Record::None => flavours(asked)
            .map(|flavour| (lab.flavour(flavour), Check::Nothing))
            .collect(),
    })
}

/// The flavour asked for, or both.
fn flavours(asked: Option<&'static str>) -> impl Iterator<Item = &'static str> {
    FLAVOURS
        .into_iter()
        .filter(move |flavour| asked.is_none_or(|asked| asked == *flavour))
}

/// Runs as often as asked and compares.
fn compare(
    station: &mut Station,
    options: &Options,
    artifact: &Artifact,
    check: &Check,
) -> Result<Report> {
    let mut seed = 0;
    disturb(station, options.between, &mut seed)?;
    let first = replay(&mut station.executor, &artifact.program)?;
    let mut differences = Vec::new();
    let mut notes = Vec::new();
    let recorded = check.apply(station, &first.outcome, &mut differences, &mut notes);
    for time in 2..=options.times {
        disturb(station, options.between, &mut seed)?;
        let again = replay(&mut station.executor, &artifact.program)?;
        if again.outcome != first.outcome {
            differences.push(format!("run {time} gave {}", line(&again.outcome)));
        }
    }
    let result = match (differences.is_empty(), recorded) {
        (false, _) => Comparison::Differs,
        (true, true) => Comparison::Reproduced,
        (true, false) => Comparison::Unrecorded,
    };
    Ok(Report::new(station, options, artifact, first, result).with(differences, notes))
}

/// Runs `count` random programs, all different.
fn disturb(station: &mut Station, count: u32, seed: &mut u32) -> Result<()> {
    for _ in 0..count {
        let program = random_program(*seed);
        *seed += 1;
        replay(&mut station.executor, &program).context("a random program")?;
    }
    Ok(())
}

/// A program made from nothing by the fuzz targets' mutator.
pub(crate) fn random_program(seed: u32) -> Program {
    let mut bytes = [0; MAX_BYTES];
    let mut size = 0;
    for edit in 0..EDITS {
        let seed = seed.wrapping_mul(EDITS).wrapping_add(edit);
        size = mutate::mutate(Bias::Everything, &mut bytes, size, MAX_BYTES, seed);
    }
    Program::decode(&bytes[..size])
}

impl Report {
    fn new(
        station: &Station,
        options: &Options,
        artifact: &Artifact,
        replay: Replay,
        result: Comparison,
    ) -> Self {
        let findings = replay.verdict.findings();
        let mut details: Vec<String> = findings.iter().map(ToString::to_string).collect();
        details.extend(replay.verdict.reason().map(str::to_owned));
        let events = &replay.execution.events;
        Self {
            program: artifact.path.clone(),
            flavour: station.setting.flavour.clone(),
            config: station.setting.config.clone(),
            engine: station.setting.engine.clone(),
            image: station.setting.image.clone(),
            result,
            header: matches!(artifact.record, Record::Regression(_)),
            differences: Vec::new(),
            notes: Vec::new(),
            outcome: replay.outcome,
            details,
            times: options.times,
            text: artifact.program.to_string(),
            timeline: match options.trace {
                true => events.iter().map(ToString::to_string).collect(),
                false => timeline::lines(&artifact.program, events),
            },
            oops: oops::lines(&replay.execution.console, &station.kernel),
        }
    }

    fn with(self, differences: Vec<String>, notes: Vec<String>) -> Self {
        Self {
            differences,
            notes,
            ..self
        }
    }
}

fn line(outcome: &Outcome) -> String {
    format!(
        "{} ({} instructions, memory {}){}{}",
        outcome.verdict,
        outcome.instructions,
        outcome.memory_hash,
        if outcome.signatures.is_empty() {
            ""
        } else {
            ": "
        },
        outcome.signatures.join("; ")
    )
}

fn print(report: &Report, options: &Options) {
    let outcome = &report.outcome;
    if options.quiet && report.result != Comparison::Differs {
        return;
    }
    let result = match report.result {
        Comparison::Reproduced => "reproduced",
        Comparison::Differs => "DIFFERS",
        Comparison::Unrecorded => "nothing recorded",
    };
    print!(
        "{} on {}: {result}: {} ({} instructions, memory {}",
        report.program.display(),
        report.flavour,
        outcome.verdict,
        outcome.instructions,
        outcome.memory_hash
    );
    match report.times {
        1 => println!(")"),
        times => println!(", {times} times)"),
    }
    let section = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            println!("  {title}");
            lines.iter().for_each(|line| println!("    {line}"));
        }
    };
    section("differences", &report.differences);
    section("notes", &report.notes);
    section("signatures", &outcome.signatures);
    if options.quiet {
        return;
    }
    section("findings", &report.details);
    let text: Vec<String> = report.text.lines().map(str::to_owned).collect();
    section("program", &text);
    section("timeline", &report.timeline);
    section("kernel", &report.oops);
}
