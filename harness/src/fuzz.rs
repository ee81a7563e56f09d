//! What a fuzz target of the guest does: one guest a process, one program an
//! input, and an end of the process at a finding that is not known yet.
//!
//! libFuzzer calls [`start`] once and [`run_one`] for each input, on one
//! thread; the guest is kept there. With the feature `extra-counters` the
//! guest's coverage blocks are libFuzzer's extra counters.

mod known;
mod place;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use latefork_cpu::CpuModel;
use latefork_vmm::engine::soft::SoftVcpu;
use latefork_vmm::machine::MachineError;
use latefork_wire::program::{MAX_BYTES, Program};
use xxhash_rust::xxh3::xxh3_64;

use self::known::Known;
pub use self::place::Place;
use crate::executor::Budget;
use crate::guest::{Guest, GuestError};
use crate::template::TemplateError;
use crate::verdict::{Finding, judge};
use crate::{Executor, Template, Verdict};

/// Why a fuzz target cannot run; one line.
#[derive(Debug, thiserror::Error)]
pub enum FuzzError {
    /// The environment asks for a flavour that there is not.
    #[error("LATEFORK_FLAVOUR={0}: no such flavour, ask for `hardened` or `faithful`")]
    Flavour(String),
    /// No images.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// No template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A file of the harness.
    #[error("{what} {}: {source}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// What stopped a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first finding, for people.
    pub title: String,
    /// What tells it from others.
    pub signature: String,
    /// A command that runs the program again.
    pub command: String,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            title,
            signature,
            command,
        } = self;
        writeln!(f, "latefork: {title}")?;
        writeln!(f, "DEDUP_TOKEN: {signature}")?;
        write!(f, "{command}")
    }
}

/// A guest that takes inputs.
#[derive(Debug)]
pub struct Session {
    target: &'static str,
    place: Place,
    known: Known,
    executor: Executor,
}

impl Session {
    /// Loads the template of `place`'s flavour, or makes it.
    ///
    /// # Errors
    ///
    /// An image is missing, or the guest does not get ready.
    pub fn open(target: &'static str, place: Place) -> Result<Self, FuzzError> {
        let known = Known::read(&place.known())?;
        let guest = Guest::read(&place.kernel(), &place.initramfs())?;
        let prepared = Template::cached(&guest, &place.template(), &mut || {
            Box::new(SoftVcpu::new(CpuModel::Fuzz))
        })?;
        if let Some(why) = &prepared.made_because {
            eprintln!("latefork: booted {}: {why}", place.flavour());
        }
        #[cfg(feature = "extra-counters")]
        prepared
            .machine
            .ram()
            .overlay_extra_counters()
            .map_err(MachineError::from)?;
        Ok(Self {
            target,
            place,
            known,
            executor: Executor::new(prepared, Budget::default()),
        })
    }

    /// Runs the program that `input` decodes to; what is found and not known.
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn run(&mut self, input: &[u8]) -> Result<Option<Report>, FuzzError> {
        let program = Program::decode(input);
        let judged = judge(&mut self.executor, &program)?;
        let Verdict::Finding(findings) = judged.verdict else {
            return Ok(None);
        };
        for finding in &findings {
            if self.known.is_new(&finding.signature()) {
                return self.report(finding, &program).map(Some);
            }
        }
        Ok(None)
    }

    /// Keeps the program where the command of the report finds it.
    fn report(&self, finding: &Finding, program: &Program) -> Result<Report, FuzzError> {
        let mut bytes = [0; MAX_BYTES];
        let size = program.encode(&mut bytes);
        let name = format!("{}-{:016x}", self.target, xxh3_64(&bytes[..size]));
        let path = self.place.findings().join(name);
        write_whole(&path, &bytes[..size])?;
        Ok(Report {
            title: finding.to_string(),
            signature: finding.signature(),
            command: self.place.command(&path),
        })
    }
}

/// Writes a file that is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FuzzError> {
    use std::io::Write;

    let failed = |source| FuzzError::File {
        what: "cannot write",
        path: path.to_owned(),
        source,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Copies the committed seeds that are missing into libFuzzer's corpus.
///
/// # Errors
///
/// A seed cannot be read, or the corpus cannot be written.
pub fn copy_seeds(place: &Place, target: &str) -> Result<usize, FuzzError> {
    let from = place.seeds(target);
    let Ok(seeds) = std::fs::read_dir(&from) else {
        return Ok(0);
    };
    let mut copied = 0;
    for seed in seeds {
        let seed = seed.map_err(|source| FuzzError::File {
            what: "cannot read",
            path: from.clone(),
            source,
        })?;
        let to = place.corpus(target).join(seed.file_name());
        if to.exists() {
            continue;
        }
        let bytes = std::fs::read(seed.path()).map_err(|source| FuzzError::File {
            what: "cannot read",
            path: seed.path(),
            source,
        })?;
        write_whole(&to, &bytes)?;
        copied += 1;
    }
    Ok(copied)
}

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

fn end<T>(error: &FuzzError) -> T {
    eprintln!("latefork: {error}");
    std::process::exit(2)
}

/// Makes the process's guest ready; where it cannot be, says why in one line
/// and ends the process with exit code 2.
pub fn start(target: &'static str) {
    let session = Place::from_environment().and_then(|place| {
        copy_seeds(&place, target)?;
        Session::open(target, place)
    });
    let session = session.unwrap_or_else(|error| end(&error));
    SESSION.with(|slot| *slot.borrow_mut() = Some(session));
}

/// Runs one input in the guest that [`start`] made; a finding that is not known
/// is printed and ends the process by SIGABRT, as libFuzzer expects it.
///
/// # Panics
///
/// Without [`start`] on this thread.
pub fn run_one(input: &[u8]) {
    let found = SESSION.with(|slot| {
        let mut slot = slot.borrow_mut();
        let session = slot.as_mut().expect("`start` was called on this thread");
        session.run(input).unwrap_or_else(|error| end(&error))
    });
    if let Some(report) = found {
        eprintln!("{report}");
        std::process::abort();
    }
}

/// What a target does without libFuzzer: runs the files that its arguments
/// name, in order, and stops at the first finding that is not known.
pub fn run_files(target: &'static str) {
    start(target);
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        let bytes = std::fs::read(&path).unwrap_or_else(|source| {
            end(&FuzzError::File {
                what: "cannot read",
                path: path.clone(),
                source,
            })
        });
        run_one(&bytes);
    }
}

#[cfg(test)]
mod tests;
