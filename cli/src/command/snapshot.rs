//! `latefork snapshot`: a ready guest, kept in a file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use latefork_harness::Template;
use latefork_harness::template::Prepared;
use serde::Serialize;

use crate::guest::GuestOptions;
use crate::report;

/// Which guest, and where to keep it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    guest: GuestOptions,
    /// The snapshot file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/guest/template.snapshot"
    )]
    output: PathBuf,
    /// Make the snapshot even if the file is up to date
    #[arg(long)]
    force: bool,
    /// Report in JSON
    #[arg(long)]
    json: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    /// Why it had to be made; absent if it was up to date.
    made_because: Option<String>,
    instructions: u64,
    milliseconds: f64,
    bytes_in_file: u64,
    bytes_on_disk: u64,
}

/// Makes the snapshot unless the file holds it already.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let prepared = prepare(options)?;
    let meta = std::fs::metadata(&options.output)
        .with_context(|| format!("cannot look at {}", options.output.display()))?;
    let report = Report {
        file: options.output.clone(),
        made_because: prepared.made_because,
        instructions: prepared.machine.retired().0,
        milliseconds: report::millis(started.elapsed()),
        bytes_in_file: meta.len(),
        bytes_on_disk: std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
    };
    if options.json {
        report::print_json(&report)?;
    } else {
        println!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

fn prepare(options: &Options) -> Result<Prepared> {
    let guest = options.guest.read()?;
    if options.force {
        let prepared = Template::boot(&guest, options.guest.new_engine()?)?;
        prepared
            .template
            .write(&options.output, &guest.identity())?;
        return Ok(prepared);
    }
    options.guest.template(&guest, &options.output)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.made_because {
            Some(reason) => write!(f, "made ({reason}) ")?,
            None => write!(f, "up to date: ")?,
        }
        write!(
            f,
            "{}: ready after {} instructions, {:.1} ms, {} KiB on disk",
            self.file.display(),
            self.instructions,
            self.milliseconds,
            self.bytes_on_disk / 1024
        )
    }
}
