//! `cargo xtask cpu-diff`: random instructions on the host processor and on
//! `latefork-cpu`, compared.
//!
//! The host runs 32-bit user code in compatibility mode (`native`, with the
//! C program in `native/`); our side runs the same bytes in ring 3 with the
//! same memory (`soft`). `generate` makes the cases, `compare` judges them,
//! `report` counts.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "registers and encodings: to keep the low bits is the meaning"
)]

mod aim;
mod codes;
mod compare;
mod encode;
mod generate;
mod layout;
mod native;
mod record;
mod report;
pub(crate) mod rng;
mod soft;
mod special;
mod sse;
mod undefined;
mod values;
mod wire;
mod x87;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use iced_x86::Code;

use self::compare::Verdict;
use self::encode::Encoding;
use self::generate::Generator;
use self::native::Native;
use self::report::{Report, Subject};
use self::soft::Soft;
use self::wire::{Case, Outcome};

/// Cases that go to the native runner at a time.
const BATCH: u64 = 400;
/// Random bytes get the share of this many `Code`s.
const RANDOM_SHARE: u64 = 40;

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many cases to run, spread evenly over all instructions.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Only this `Code` of iced-x86, for example `Shld_rm32_r32_CL`; a
    /// trailing `*` stands for anything. `random` runs random bytes only.
    #[arg(long)]
    code: Option<String>,
    /// Seed of the random generator; the same seed gives the same cases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many differing cases of an instruction to print.
    #[arg(long, default_value_t = 2)]
    examples: usize,
    /// Write one case of each instruction, with what the host did, to this
    /// file: data for the conformance suite.
    #[arg(long)]
    record: Option<std::path::PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Cases of one subject, with the host's answers.
struct Batch {
    subject: Subject,
    arena: Vec<u8>,
    cases: Vec<Case>,
    encodings: Vec<Encoding>,
    host: Vec<Outcome>,
}

/// Runs the comparison.
///
/// # Errors
///
/// A difference without an explanation, or an instruction without cases.
pub(crate) fn run(options: &Options) -> Result<()> {
    let subjects = subjects(options)?;
    let native = Native::start()?;
    let mut report = Report::new(options.seed, &subjects);
    std::thread::scope(|scope| -> Result<()> {
        let (sender, receiver) = sync_channel(4);
        let plan = subjects.clone();
        let producer = scope.spawn(move || produce(native, options, &plan, &sender));
        let recorded = consume(options, &receiver, &mut report);
        if let Some(path) = &options.record {
            write_whole(path, &recorded)?;
        }
        drop(receiver);
        producer.join().expect("the producer does not panic")
    })?;
    report.print(options.json)?;
    if report.differences() > 0 {
        bail!(
            "{} cases differ without an explanation",
            report.differences()
        );
    }
    let missing = report.never_ran();
    if !missing.is_empty() {
        bail!("no case could be made of {}", missing.join(", "));
    }
    Ok(())
}

fn subjects(options: &Options) -> Result<Vec<Subject>> {
    let all = codes::user_codes().into_iter().map(Subject::Code);
    let all: Vec<Subject> = all.chain([Subject::RandomBytes]).collect();
    let Some(wanted) = &options.code else {
        return Ok(all);
    };
    let chosen: Vec<Subject> = all
        .into_iter()
        .filter(|subject| match wanted.strip_suffix('*') {
            Some(prefix) => subject.to_string().starts_with(prefix),
            None => subject.to_string() == *wanted,
        })
        .collect();
    if chosen.is_empty() {
        bail!("--code {wanted}: no user-mode instruction of the CPU has this name");
    }
    Ok(chosen)
}

/// Makes cases and runs them on the host.
fn produce(
    mut native: Native,
    options: &Options,
    subjects: &[Subject],
    sender: &SyncSender<Batch>,
) -> Result<()> {
    let mut generator = Generator::new(options.seed);
    let weight = |subject: &Subject| match subject {
        Subject::Code(_) => 1,
        Subject::RandomBytes => RANDOM_SHARE.min(subjects.len() as u64),
    };
    let shares: u64 = subjects.iter().map(weight).sum();
    for subject in subjects {
        let mut left = (options.count * weight(subject)).div_ceil(shares);
        while left > 0 {
            let size = left.min(BATCH);
            left -= size;
            let mut batch = make(&mut generator, *subject, size);
            if batch.cases.is_empty() {
                break;
            }
            batch.host = on_host(&mut native, &batch)?;
            if sender.send(batch).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn make(generator: &mut Generator, subject: Subject, size: u64) -> Batch {
    let arena = generator.arena();
    let (mut cases, mut encodings) = (Vec::new(), Vec::new());
    for _ in 0..size {
        let made = match subject {
            Subject::Code(code) => generator.case(code),
            Subject::RandomBytes => Some(generator.any_case()),
        };
        if let Some((case, encoding)) = made {
            cases.push(case);
            encodings.push(encoding);
        }
    }
    Batch {
        subject,
        arena,
        cases,
        encodings,
        host: Vec::new(),
    }
}

/// Runs a batch natively; names the case that kills the runner, if one does.
fn on_host(native: &mut Native, batch: &Batch) -> Result<Vec<Outcome>> {
    let error = match native.run(&batch.arena, &batch.cases) {
        Ok(outcomes) => return Ok(outcomes),
        Err(error) => error,
    };
    for (case, encoding) in batch.cases.iter().zip(&batch.encodings) {
        if native
            .run(&batch.arena, std::slice::from_ref(case))
            .is_err()
        {
            let bytes = x87::hex_in_order(&case.code);
            let at = case.registers.eip;
            return Err(error)
                .with_context(|| format!("{} ({bytes}) at {at:#x}", encoding.instruction));
        }
    }
    Err(error.context("a batch, but none of its cases alone"))
}

/// Runs the same cases on our side and compares.
fn consume(options: &Options, receiver: &Receiver<Batch>, report: &mut Report) -> String {
    let mut soft = Soft::new(options.seed);
    let mut recorded = String::new();
    let mut last = None;
    for batch in receiver {
        soft.set_arena(&batch.arena);
        let mut arena = batch.arena.clone();
        for ((case, encoding), host) in batch.cases.iter().zip(&batch.encodings).zip(&batch.host) {
            let ours = soft.run(case);
            let verdict = compare::compare(case, encoding, host, &ours);
            for (offset, bytes) in &case.patches {
                let at = usize::from(*offset);
                arena[at..at + bytes.len()].copy_from_slice(bytes);
            }
            if options.record.is_some()
                && last != Some(batch.subject)
                && matches!(verdict, Verdict::Same)
                && record::is_portable(case, encoding, host)
            {
                let name = batch.subject.to_string();
                if let Some(text) = record::text(&name, &arena, case, encoding, host) {
                    recorded.push_str(&text);
                    recorded.push('\n');
                    last = Some(batch.subject);
                }
            }
            let example = matches!(verdict, Verdict::Different)
                && report.examples(batch.subject) < options.examples;
            report.count(batch.subject, &verdict);
            if example {
                let differences = compare::describe(case, host, &ours);
                report.add_example(batch.subject, case, encoding, differences);
            }
        }
    }
    recorded
}

/// Writes a file so that it is either the old one or the new one.
fn write_whole(path: &std::path::Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).with_context(|| format!("cannot write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Names a `Code` in options and reports.
fn name_of(code: Code) -> String {
    format!("{code:?}")
}
