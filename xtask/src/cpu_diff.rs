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

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use iced_x86::Code;
use latefork_cpu::conformance::{self, Setup};

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
    let mut report = compare_all(options, &mut |_| {})?;
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

/// Runs all cases of `options`.
fn compare_all(options: &Options, agreed: &mut dyn FnMut(Agreed<'_>)) -> Result<Report> {
    let subjects = subjects(options)?;
    let native = Native::start()?;
    let mut report = Report::new(options.seed, &subjects);
    std::thread::scope(|scope| -> Result<()> {
        let (sender, receiver) = sync_channel(4);
        let producer = scope.spawn(move || produce(native, options, &subjects, &sender));
        consume(options, &receiver, &mut report, agreed);
        drop(receiver);
        producer.join().expect("the producer does not panic")
    })?;
    Ok(report)
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

/// A case that both sides agree on, apart from what the manual leaves open.
struct Agreed<'a> {
    subject: Subject,
    /// The data pages when it began.
    arena: &'a [u8],
    case: &'a Case,
    encoding: &'a Encoding,
    host: &'a Outcome,
}

/// Runs the same cases on our side and compares; `agreed` gets those that are
/// the same.
fn consume(
    options: &Options,
    receiver: &Receiver<Batch>,
    report: &mut Report,
    agreed: &mut dyn FnMut(Agreed<'_>),
) {
    let mut soft = Soft::new(options.seed);
    for batch in receiver {
        let subject = batch.subject;
        soft.set_arena(&batch.arena);
        let mut arena = batch.arena.clone();
        for ((case, encoding), host) in batch.cases.iter().zip(&batch.encodings).zip(&batch.host) {
            let ours = soft.run(case);
            let verdict = compare::compare(case, encoding, host, &ours);
            for (offset, bytes) in &case.patches {
                let at = usize::from(*offset);
                arena[at..at + bytes.len()].copy_from_slice(bytes);
            }
            if compare::is_portable(&verdict) {
                agreed(Agreed {
                    subject,
                    arena: &arena,
                    case,
                    encoding,
                    host,
                });
            }
            let example = matches!(verdict, Verdict::Different)
                && report.examples(subject) < options.examples;
            report.count(subject, &verdict);
            if example {
                let differences = compare::describe(case, host, &ours);
                report.add_example(subject, case, encoding, differences);
            }
        }
    }
}

/// Cases of the conformance suite from random cases, one of each instruction
/// where the host and the CPU agree (apart from undefined flags).
///
/// # Errors
///
/// The host cannot run them.
pub(crate) fn record(count: u64, seed: u64, setup: &Arc<Setup>) -> Result<Vec<conformance::Case>> {
    let options = Options {
        count,
        code: None,
        seed,
        examples: 0,
        json: false,
    };
    let mut recorded: Vec<conformance::Case> = Vec::new();
    let mut last = None;
    compare_all(&options, &mut |agreed| {
        if last == Some(agreed.subject) || agreed.subject == Subject::RandomBytes {
            return;
        }
        let name = agreed.subject.to_string();
        let Agreed {
            arena,
            case,
            encoding,
            host,
            ..
        } = agreed;
        if let Some(case) = record::portable(&name, setup, arena, case, encoding, host) {
            recorded.push(case);
            last = Some(agreed.subject);
        }
    })?;
    Ok(recorded)
}

/// Names a `Code` in options and reports.
fn name_of(code: Code) -> String {
    format!("{code:?}")
}
