//! `cargo xtask initramfs`: the agent as /init, folders, devices, programs.

pub(crate) mod cpio;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::cpio::Archive;
use crate::{agent, sh};

/// What to pack.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A program to pack under /programs, in wire form or as text (`.txt`);
    /// `latefork.run=/programs/NAME` on the kernel's command line runs it
    #[arg(long = "program", value_name = "FILE")]
    programs: Vec<PathBuf>,
    /// Where the archive goes
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Packs the archive and says where it is.
pub(crate) fn run(options: &Options) -> Result<()> {
    let output = options.output.clone().unwrap_or_else(default_output);
    build(&options.programs, &output)?;
    println!("{}", output.display());
    Ok(())
}

/// Where the archive goes unless told otherwise.
pub(crate) fn default_output() -> PathBuf {
    sh::root().join("target/guest/agent/initramfs.cpio")
}

/// Packs the agent and `programs` into `output`.
pub(crate) fn build(programs: &[PathBuf], output: &Path) -> Result<()> {
    let init = agent::build()?;
    let mut archive = Archive::new();
    for folder in ["dev", "proc", "sys", "t", "f", "programs"] {
        archive.folder(folder);
    }
    // Before devtmpfs is there the kernel opens the console for /init.
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/null", 1, 3);
    archive.program("init", &read(&init)?);
    for program in programs {
        let Some(name) = program.file_name().and_then(|name| name.to_str()) else {
            bail!("{} is no name for a program", program.display());
        };
        archive.program(&format!("programs/{name}"), &read(program)?);
    }
    agent::write(output, &archive.finish())
}

/// The bytes of a file that goes into an archive.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
