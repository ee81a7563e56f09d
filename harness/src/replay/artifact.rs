//! Programs in files, with what is recorded of them.

use std::path::{Path, PathBuf};

use latefork_wire::program::Program;

use super::regression::{Expectations, HeaderError};
use super::sidecar::Sidecar;

/// Folders of `corpora` that hold programs; the others hold inputs of host-side
/// targets, and lists.
const CORPORA: [&str; 6] = [
    "clone_failure",
    "everything",
    "hostile_args",
    "lifecycle",
    "nested",
    "regressions",
];
/// Files larger than this are no programs: bytes.
const LARGEST: u64 = 1 << 20;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A sidecar of another version.
    #[error(
        "{}: {what} {found}, but this build reads {known}: use the commit that wrote it, or delete \
         the file to try both flavours", .path.display()
    )]
    Version {
        /// The sidecar.
        path: PathBuf,
        /// Which number: of the file's form, or of the wire form.
        what: &'static str,
        /// What stands there.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// A sidecar that makes no sense.
    #[error("{}: no sidecar of a program: {why}", .path.display())]
    Sidecar {
        /// The sidecar.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A text that is no program.
    #[error("{}: {why}", .path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Line, word and problem.
        why: String,
    },
    /// The header of a regression.
    #[error("{}: {source}", .path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Line and problem.
        source: HeaderError,
    },
    /// Too much for a program.
    #[error("{}: {bytes} bytes are no program", .path.display())]
    Oversized {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

/// What is known of a program from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// One run in all detail.
    Run(Box<Sidecar>),
    /// What every image of a flavour gives.
    Regression(Expectations),
    /// A seed of a corpus: no finding on hardened.
    Seed,
    /// Nothing.
    None,
}

/// A program from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The file.
    pub path: PathBuf,
    /// The program.
    pub program: Program,
    /// What is known of it.
    pub record: Record,
}

impl Artifact {
    /// Reads a program in text form (`*.txt`) or wire form, and what is
    /// recorded of it.
    ///
    /// # Errors
    ///
    /// The file is no program, or its record is of no use.
    pub fn read(path: &Path) -> Result<Self, ArtifactError> {
        let bytes = read(path)?;
        let sidecar = Sidecar::read(path)?;
        let path = path.to_owned();
        if !is_text(&path) {
            let program = Program::decode(&bytes);
            let record = match sidecar {
                Some(sidecar) => Record::Run(Box::new(sidecar)),
                None if is_seed(&path) => Record::Seed,
                None => Record::None,
            };
            return Ok(Self {
                path,
                program,
                record,
            });
        }
        let wrong = |why: String| ArtifactError::Text {
            path: path.clone(),
            why,
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
        let program = latefork_wire::text::parse(text).map_err(|error| wrong(error.to_string()))?;
        let expected = Expectations::parse(text).map_err(|source| ArtifactError::Header {
            path: path.clone(),
            source,
        })?;
        let record = match (sidecar, expected) {
            (Some(sidecar), _) => Record::Run(Box::new(sidecar)),
            (None, Some(expected)) => Record::Regression(expected),
            (None, None) => Record::None,
        };
        Ok(Self {
            path,
            program,
            record,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ArtifactError> {
    let failed = |source| ArtifactError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > LARGEST {
        return Err(ArtifactError::Oversized {
            path: path.to_owned(),
            bytes,
        });
    }
    std::fs::read(path).map_err(failed)
}

/// Whether the file holds the form for people.
fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "txt")
}

/// Whether the file lies in a corpus: `corpora/<target>/` or libFuzzer's own.
fn is_seed(path: &Path) -> bool {
    let above = path
        .parent()
        .and_then(Path::parent)
        .and_then(Path::file_name);
    above.is_some_and(|name| name == "corpora" || name == "corpus")
}

/// The programs that `path` stands for: itself, or all below a folder, by name.
/// Sidecars and hidden files are none, nor is what lies in those folders of
/// `corpora` that hold something else.
///
/// # Errors
///
/// A folder that cannot be read.
pub fn programs(path: &Path) -> Result<Vec<PathBuf>, ArtifactError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| ArtifactError::Read {
        path: path.to_owned(),
        source,
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    let is_corpora = path.file_name().is_some_and(|name| name == "corpora");
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        let is_sidecar = name.ends_with(".json");
        let is_other = is_corpora && !CORPORA.contains(&&*name);
        if !is_sidecar && !is_other && !name.starts_with('.') {
            found.extend(programs(&entry)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
