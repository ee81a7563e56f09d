//! `latefork reproducer`: a program as one C file, for any i386 machine with
//! such a kernel, without this harness.
//!
//! The file needs no C library: `gcc -m32 -march=i586 -nostdlib -static …` makes a program
//! that runs as root, or as /init. It maps memory where the harness does, serves
//! the four FUSE files itself, and prints what came of each call.

mod emit;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use latefork_harness::replay::Artifact;
use latefork_harness::replay::sidecar::write_whole;

use crate::lab::default_images;

/// Which program, and where it goes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A program in wire or text form (`*.txt`)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The C file; by default standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The system call's number; by default that of the guest kernels here
    #[arg(long, value_name = "NUMBER")]
    number: Option<u32>,
}

/// Writes the file. Exit code 1: the program does what only the harness can.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let artifact = Artifact::read(&options.file)?;
    let number = match options.number {
        Some(number) => number,
        None => number_of(&default_images())?,
    };
    let name = options
        .file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let text = match emit::c_file(&artifact.program, &name, number) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("latefork: {}: {error}", options.file.display());
            return Ok(ExitCode::FAILURE);
        }
    };
    match &options.output {
        Some(path) => write_whole(path, text.as_bytes())?,
        None => print!("{text}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The number in the header that the kernel's build wrote.
fn number_of(images: &Path) -> Result<u32> {
    let path = images.join("hardened-fuzz/abi.h");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}: build the kernel with `cargo xtask kernel --flavour hardened`, or \
             give --number",
            path.display()
        )
    })?;
    let number = text.lines().find_map(|line| {
        let rest = line.strip_prefix("#define __NR_ASYNC 0x")?;
        u32::from_str_radix(rest.trim(), 16).ok()
    });
    number.ok_or_else(|| anyhow!("{}: no __NR_ASYNC in it: give --number", path.display()))
}
