//! `cargo xtask cpu-golden`: makes all golden data of the CPU anew, from the
//! host processor and from QEMU's TCG, or compares it with what is committed.

mod assembler;
mod cases;
mod host;
mod images;
mod monitor;
mod setup;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::sh;

use self::cases::Which;

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Compare with the committed files and write nothing.
    #[arg(long)]
    check: bool,
    /// Execute only those cases of the conformance suite whose start is not in
    /// the committed file: for those who write cases.
    #[arg(long, conflicts_with = "check")]
    new: bool,
    /// Only data from this source.
    #[arg(long, value_enum)]
    only: Option<Source>,
}

/// Where golden data comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Source {
    /// This computer's processor: x87 and SSE records, `conformance/user.txt`.
    Host,
    /// QEMU's TCG: `conformance/system.txt`.
    Cases,
    /// QEMU's TCG: the texts of the test images.
    Images,
}

/// A file of golden data.
struct Golden {
    /// From the root of the repository.
    path: String,
    bytes: Vec<u8>,
}

/// Makes or compares all golden data.
///
/// # Errors
///
/// A tool that is missing, a case that does not run, and with `--check` files
/// that differ.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |source| options.only.is_none_or(|only| only == source);
    let mut files = Vec::new();
    if wanted(Source::Host) {
        files.extend(host::make()?);
    }
    if wanted(Source::Cases) {
        let which = if options.new { Which::New } else { Which::All };
        files.push(cases::make(which)?);
    }
    if wanted(Source::Images) {
        files.extend(images::make()?);
    }
    let mut differing = Vec::new();
    for Golden { path, bytes } in &files {
        let place = sh::root().join(path);
        let same = std::fs::read(&place).is_ok_and(|old| old == *bytes);
        let word = match (same, options.check) {
            (true, _) => "the same",
            (false, true) => "DIFFERS",
            (false, false) => "written",
        };
        println!("{word:9} {path} ({} bytes)", bytes.len());
        if !same && options.check {
            differing.push(path.as_str());
        } else if !same {
            write_whole(&place, bytes)?;
        }
    }
    if !differing.is_empty() {
        bail!(
            "{} differ from the committed files (other versions of processor or QEMU may differ; \
             `cargo xtask cpu-golden` writes them)",
            differing.join(", ")
        );
    }
    Ok(())
}

/// Writes a file so that it is either the old one or the new one.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut fresh = PathBuf::from(path);
    fresh.as_mut_os_string().push(".new");
    std::fs::write(&fresh, bytes).with_context(|| format!("cannot write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}
