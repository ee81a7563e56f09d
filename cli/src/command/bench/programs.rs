//! The programs that are executed between resets.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use latefork_wire::program::{MAX_BYTES, Program};

/// A program, and its name in reports.
pub(super) struct BenchProgram {
    pub(super) name: String,
    pub(super) program: Program,
}

/// The programs in `folder`, by name.
pub(super) fn read(folder: &Path) -> Result<Vec<BenchProgram>> {
    let mut programs = Vec::new();
    let entries = std::fs::read_dir(folder);
    let entries = entries.with_context(|| format!("no programs in {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            programs.push(read_one(&path)?);
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    if programs.is_empty() {
        bail!("{}: no program (*.txt) in it", folder.display());
    }
    Ok(programs)
}

fn read_one(path: &Path) -> Result<BenchProgram> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let program = latefork_wire::text::parse(&text)
        .map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(BenchProgram {
        name: name.into_owned(),
        program,
    })
}

/// Where the guest finds program `number` of [`archive`].
pub(super) fn guest_path(number: usize) -> String {
    format!("/programs/{number}")
}

/// The programs in wire form as a cpio archive in the "newc" format (Linux
/// `Documentation/driver-api/early-userspace/buffer-format.rst`), to be put
/// behind an initramfs.
pub(super) fn archive(programs: &[BenchProgram]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        let mut bytes = [0; MAX_BYTES];
        let len = program.program.encode(&mut bytes);
        entry(&mut archive, &guest_path(number)[1..], &bytes[..len]);
    }
    entry(&mut archive, "TRAILER!!!", &[]);
    archive
}

/// A regular file that everybody may read.
const MODE: usize = 0o100_644;

fn entry(archive: &mut Vec<u8>, name: &str, content: &[u8]) {
    archive.extend(b"070701");
    let (links, name_size) = (1, name.len() + 1);
    for field in [
        0,
        MODE,
        0,
        0,
        links,
        0,
        content.len(),
        0,
        0,
        0,
        0,
        name_size,
        0,
    ] {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
