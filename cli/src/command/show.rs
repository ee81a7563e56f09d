//! `latefork show`: programs from wire form to text, and back.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use latefork_harness::replay::Artifact;
use latefork_harness::replay::sidecar::write_whole;
use latefork_wire::program::{MAX_BYTES, Program};

/// Which programs, and where they go.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Programs in wire or text form (`*.txt`)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write the wire form instead of the text
    #[arg(long)]
    wire: bool,
    /// Write here, not to standard output; of one program only
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Prints each program. Exit code 2 where one could not be read; the others are
/// printed all the same.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.files.len() > 1 && (options.output.is_some() || options.wire) {
        bail!(
            "--output and --wire take one program, not {}",
            options.files.len()
        );
    }
    if options.wire && options.output.is_none() && std::io::stdout().is_terminal() {
        bail!("the wire form is no text: name a file with --output");
    }
    let mut code = ExitCode::SUCCESS;
    for path in &options.files {
        match Artifact::read(path) {
            Ok(artifact) => put(options, &artifact)?,
            Err(error) => {
                eprintln!("latefork: {error}");
                code = ExitCode::from(2);
            }
        }
    }
    Ok(code)
}

fn put(options: &Options, artifact: &Artifact) -> Result<()> {
    let bytes = match options.wire {
        true => wire(&artifact.program),
        false => artifact.program.to_string().into_bytes(),
    };
    match &options.output {
        Some(path) => write_whole(path, &bytes)?,
        None => {
            if options.files.len() > 1 {
                println!("# {}", artifact.path.display());
            }
            std::io::stdout().write_all(&bytes)?;
        }
    }
    Ok(())
}

/// The canonical wire form.
pub(crate) fn wire(program: &Program) -> Vec<u8> {
    let mut bytes = [0; MAX_BYTES];
    let size = program.encode(&mut bytes);
    bytes[..size].to_vec()
}
