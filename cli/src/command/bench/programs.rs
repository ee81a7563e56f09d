//! The programs that are executed between resets.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use latefork_wire::program::Program;

use crate::session::run_frame;

/// A program, ready to be sent.
pub(super) struct BenchProgram {
    pub(super) name: String,
    pub(super) frame: Vec<u8>,
}

/// The programs in `folder`, by name; the empty program if there is no such folder.
pub(super) fn read(folder: &Path) -> Result<Vec<BenchProgram>> {
    if !folder.is_dir() {
        return Ok(vec![BenchProgram {
            name: "(empty)".into(),
            frame: run_frame(&Program::default()),
        }]);
    }
    let mut programs = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
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
        frame: run_frame(&program),
    })
}
