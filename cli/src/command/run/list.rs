//! Lists of programs that must be clean on hardened, and come again exactly.
//!
//! ```text
//! # Comments, for people.
//! program everything-17
//! t0 create slot=0 kind=pipe
//! …
//! ```
//! Random programs are written out when the list is made, so that it stays the
//! same whatever becomes of the generator.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use latefork_harness::replay::sidecar::write_whole;
use latefork_harness::replay::{Outcome, Sidecar, replay};
use latefork_wire::program::Program;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::Options;
use crate::command::repro::random_program;
use crate::lab::{Lab, LabOptions, Station};
use crate::report;

/// What begins a program.
const START: &str = "program ";
/// The flavour on which the programs must be clean.
const FLAVOUR: &str = "hardened";

/// A program of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) program: Program,
}

/// What came of a list.
#[derive(Debug, Serialize)]
struct Report {
    list: std::path::PathBuf,
    flavour: &'static str,
    programs: usize,
    instructions: u64,
    /// Hash of all outcomes, in the list's order.
    digest: String,
    not_clean: Vec<String>,
    not_repeated: Vec<String>,
}

/// Runs a list. Exit code 1: a program was not clean, or did not come again.
pub(super) fn run(path: &Path, options: &Options) -> Result<ExitCode> {
    let mut lab = Lab::new(&LabOptions::default());
    let wanted = lab.flavour(FLAVOUR);
    let station = lab.open(&wanted)?;
    if let Some(count) = options.generate {
        generate(path, station, options, count)?;
    }
    let entries = read(path)?;
    let report = twice(path, station, options, &entries)?;
    if options.json {
        report::print_json(&report)?;
    } else {
        print(&report);
    }
    let good = report.not_clean.is_empty() && report.not_repeated.is_empty();
    Ok(ExitCode::from(u8::from(!good)))
}

/// The programs of the list at `path`, at least one.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let entries = parse(&text).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
    if entries.is_empty() {
        bail!("{}: no program in it", path.display());
    }
    Ok(entries)
}

fn twice(
    path: &Path,
    station: &mut Station,
    options: &Options,
    entries: &[Entry],
) -> Result<Report> {
    let mut first = Vec::new();
    let mut not_clean = Vec::new();
    for entry in entries {
        let outcome = replay(&mut station.executor, &entry.program)?.outcome;
        if outcome.verdict != "clean" {
            not_clean.push(unclean(station, options, entry, &outcome)?);
        }
        first.push(outcome);
    }
    let mut not_repeated = Vec::new();
    for (entry, before) in entries.iter().zip(&first).rev() {
        let again = replay(&mut station.executor, &entry.program)?.outcome;
        if again != *before {
            not_repeated.push(format!("{}: {before:?}, then {again:?}", entry.name));
        }
    }
    Ok(Report {
        list: path.to_owned(),
        flavour: FLAVOUR,
        programs: entries.len(),
        instructions: first.iter().map(|outcome| outcome.instructions).sum(),
        digest: digest(&first),
        not_clean,
        not_repeated,
    })
}

/// A line about a program that is not clean; one with a finding is kept.
fn unclean(
    station: &Station,
    options: &Options,
    entry: &Entry,
    outcome: &Outcome,
) -> Result<String> {
    let mut line = format!(
        "{}: {} {}",
        entry.name,
        outcome.verdict,
        outcome.signatures.join("; ")
    );
    if outcome.verdict == "finding" {
        let sidecar = Sidecar::new(station.setting.clone(), outcome.clone());
        let folder = options.findings.join(FLAVOUR);
        let kept = sidecar.keep(&folder, "list", &entry.program)?;
        let _ = write!(line, " (again: latefork repro {})", kept.display());
    }
    Ok(line)
}

fn digest(outcomes: &[Outcome]) -> String {
    let mut hasher = Xxh3::new();
    for outcome in outcomes {
        hasher.update(outcome.verdict.as_bytes());
        hasher.update(&outcome.instructions.to_le_bytes());
        hasher.update(outcome.memory_hash.as_bytes());
    }
    format!("{:016x}", hasher.digest())
}

fn print(report: &Report) {
    println!(
        "{}: {} programs on {}, {} instructions: {} clean, {} the same again, digest {}",
        report.list.display(),
        report.programs,
        report.flavour,
        report.instructions,
        report.programs - report.not_clean.len(),
        report.programs - report.not_repeated.len(),
        report.digest
    );
    let bad = report.not_clean.iter().map(|line| ("not clean", line));
    let changed = report
        .not_repeated
        .iter()
        .map(|line| ("not repeated", line));
    bad.chain(changed)
        .for_each(|(what, line)| println!("  {what}: {line}"));
}

/// Writes `count` random programs that are clean; stops at a finding, which is
/// nothing to leave out silently.
fn generate(path: &Path, station: &mut Station, options: &Options, count: usize) -> Result<()> {
    let mut text = format!(
        "# Random programs that are clean on hardened, and must stay so.\n\
         # Made by: latefork run --list {} --generate {count} --seed {}\n",
        path.display(),
        options.seed
    );
    let (mut written, mut seed) = (0, options.seed);
    while written < count {
        let entry = Entry {
            name: format!("everything-{seed}"),
            program: random_program(seed),
        };
        let outcome = replay(&mut station.executor, &entry.program)?.outcome;
        if outcome.verdict == "finding" {
            bail!("{}", unclean(station, options, &entry, &outcome)?);
        }
        if outcome.verdict == "clean" {
            let _ = write!(text, "\n{START}{}\n{}", entry.name, entry.program);
            written += 1;
        }
        seed = seed
            .checked_add(1)
            .context("there are no more random programs")?;
    }
    Ok(write_whole(path, text.as_bytes())?)
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut rest = text.lines().enumerate().peekable();
    while let Some((at, line)) = rest.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(name) = line.strip_prefix(START) else {
            return Err(format!(
                "line {}: `{line}` stands before the first `program NAME`",
                at + 1
            ));
        };
        let mut body = String::new();
        while let Some((_, line)) = rest.next_if(|(_, line)| !line.starts_with(START)) {
            body.push_str(line);
            body.push('\n');
        }
        let program = latefork_wire::text::parse(&body).map_err(|mut error| {
            error.line += at + 1;
            error.to_string()
        })?;
        entries.push(Entry {
            name: name.to_owned(),
            program,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_its_programs_by_name() {
        let entries = parse("# x\n\nprogram a\nt0 nop\n\nprogram b\n# y\nt1 yield\n").unwrap();
        let texts: Vec<_> = entries
            .iter()
            .map(|entry| entry.program.to_string())
            .collect();
        assert_eq!(texts, ["t0 nop\n", "t1 yield\n"]);
        assert_eq!(entries[1].name, "b");
    }

    #[test]
    fn what_is_no_program_is_named_by_its_line() {
        let error = parse("program a\nt0 nop\nt0 fly\n").unwrap_err();
        assert!(
            error.starts_with("line 3:") && error.contains("fly"),
            "{error}"
        );
        let error = parse("t0 nop\n").unwrap_err();
        assert!(error.starts_with("line 1:"), "{error}");
    }

    #[test]
    fn random_programs_hang_on_their_number_alone() {
        assert_eq!(random_program(3), random_program(3));
        assert_ne!(random_program(3), random_program(4));
    }
}
