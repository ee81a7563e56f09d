//! What a fuzz target of the guest does: one guest a process, one program an
//! input, and an end of the process at a finding that is not known yet.
//!
//! libFuzzer calls [`start`] once and [`run_one`] for each input, on one
//! thread; the guest is kept there. With the feature `extra-counters` the
//! guest's coverage blocks are libFuzzer's extra counters. What was seen is
//! said at the end ([`Tally`]).

mod edges;
mod exits;
mod place;
pub mod reach;
pub mod seeds;
mod settings;
pub mod stable;
mod tally;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use latefork_cpu::CpuModel;
use latefork_vmm::engine::{EngineError, EngineKind};
use latefork_vmm::layout::{COVERAGE_EVENTS, COVERAGE_EVENTS_SIZE};
use latefork_vmm::machine::MachineError;
use latefork_wire::program::Program;

use self::edges::Edges;
pub use self::exits::{CloneExits, STEPS, Step};
pub use self::place::Place;
pub use self::settings::{GuestMap, Settings, Stop};
use self::tally::News;
pub use self::tally::Tally;
use crate::guest::{Guest, GuestError};
use crate::pair::{Pair, UNCONFIRMED};
use crate::replay::sidecar::{keep_wire, write_whole};
use crate::replay::{ArtifactError, Setting, Sidecar, replay, signatures};
use crate::template::TemplateError;
use crate::verdict::{Finding, Judged, judge};

use crate::Verdict;

/// Why a fuzz target cannot run; one line.
#[derive(Debug, thiserror::Error)]
pub enum FuzzError {
    /// The environment asks for a flavour that there is not.
    #[error("LATEFORK_FLAVOUR={0}: no such flavour, ask for `hardened` or `faithful`")]
    Flavour(String),
    /// The environment asks for something that there is not.
    #[error("{name}={value}: {allowed}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: &'static str,
    },
    /// A source of seeds is malformed.
    #[error("{}: {why}", .path.display())]
    Seed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No images.
    #[error("{0}; `cargo xtask setup` makes all that fuzz targets need")]
    Guest(#[from] GuestError),
    /// The engine that was asked for cannot run here.
    #[error("LATEFORK_ENGINE: {0}")]
    Engine(#[from] EngineError),
    /// No template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A program cannot be kept, or a seed not be copied.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
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
    /// How long it took.
    pub after: Duration,
    /// How many programs ran until then, this one included.
    pub programs: u64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            title,
            signature,
            command,
            after,
            programs,
        } = self;
        let after = after.as_secs_f64();
        writeln!(f, "latefork: {title}")?;
        writeln!(
            f,
            "latefork: found after {after:.1} s and {programs} programs"
        )?;
        writeln!(f, "DEDUP_TOKEN: {signature}")?;
        write!(f, "{command}")
    }
}

/// The fuzz targets of the guest.
pub const TARGETS: [&str; 5] = [
    "hostile_args",
    "nested",
    "clone_failure",
    "lifecycle",
    EVERYTHING,
];

/// The target that takes the seeds of all.
const EVERYTHING: &str = "everything";

/// A guest that takes inputs.
#[derive(Debug)]
pub struct Session {
    target: &'static str,
    settings: Settings,
    setting: Setting,
    tally: Tally,
    edges: Option<Edges>,
    pair: Pair,
}

impl Session {
    /// Loads the template of the kernel that `settings` name, or makes it.
    ///
    /// # Errors
    ///
    /// An image is missing, or the guest does not get ready.
    pub fn open(target: &'static str, settings: Settings) -> Result<Self, FuzzError> {
        let place = &settings.place;
        let tally = Tally::new(settings.known()?);
        let guest = Guest::read(&place.kernel(), &place.initramfs())?;
        let selected = settings.engine.select(CpuModel::Fuzz)?;
        if let Some(why) = &selected.why_not_kvm {
            eprintln!("latefork: engine {}: {why}", selected.kind.name());
        }
        // What is kept is confirmed on the software engine.
        let setting = Setting::new(&guest, &place.kernel(), EngineKind::Soft.name());
        let (pair, made) = Pair::open(guest, place.template(), selected.kind, CpuModel::Fuzz)?;
        if let Some(why) = made {
            eprintln!("latefork: booted {}: {why}", place.name());
        }
        #[cfg(feature = "extra-counters")]
        let pair = with_features(pair, settings.map)?;
        let edges = settings.live.then(Edges::default);
        Ok(Self {
            target,
            settings,
            setting,
            tally,
            edges,
            pair,
        })
    }

    /// What was seen so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Runs the program that `input` decodes to; what is found and stops the
    /// target by its settings.
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn run(&mut self, input: &[u8]) -> Result<Option<Report>, FuzzError> {
        let program = Program::decode(input);
        let judged = judge(self.pair.executor(), &program)?;
        let mut events = [0; COVERAGE_EVENTS_SIZE];
        let ram = self.pair.executor().machine().ram();
        ram.read(COVERAGE_EVENTS, &mut events)
            .map_err(MachineError::from)?;
        if let Some(edges) = &mut self.edges {
            edges.look(ram).map_err(MachineError::from)?;
        }
        let judged = self.confirm(judged, &program)?;
        self.tally.count(&judged, &events);
        let Verdict::Finding(findings) = judged.verdict else {
            return Ok(None);
        };
        let mut report = None;
        for finding in &findings {
            let news = self.tally.note(&finding.signature());
            let stops = self.settings.stop.stops(&finding.signature(), news);
            if stops && report.is_none() {
                report = Some(self.report(finding, &program)?);
            } else if news == News::First {
                let path = self.keep(&program)?;
                eprintln!("{}", self.tally.line(&finding.signature()));
                eprintln!("latefork: kept as {}", path.display());
            }
        }
        Ok(report)
    }

    /// What the software engine says of a finding on KVM. One that it does not
    /// show is kept the first time, as a case for `latefork repro --engine both`.
    fn confirm(&mut self, judged: Judged, program: &Program) -> Result<Judged, FuzzError> {
        let found = signatures(judged.verdict.findings());
        let judged = self.pair.confirm(judged, program)?;
        if judged.verdict != Verdict::Inconclusive(UNCONFIRMED) {
            return Ok(judged);
        }
        for signature in found {
            let alone = format!("{signature}, on kvm alone");
            if self.tally.note(&alone) == News::First {
                let folder = self.settings.place.findings();
                let path = keep_wire(&folder, "kvm-alone", program)?;
                eprintln!("latefork: {alone}");
                eprintln!(
                    "latefork: compare: latefork repro --engine both {}",
                    path.display()
                );
            }
        }
        Ok(judged)
    }

    /// Keeps the program where the command of the report finds it.
    fn report(&mut self, finding: &Finding, program: &Program) -> Result<Report, FuzzError> {
        let path = self.keep(program)?;
        Ok(Report {
            title: finding.to_string(),
            signature: finding.signature(),
            command: self.settings.place.command(&path),
            after: self.tally.elapsed(),
            programs: self.tally.programs(),
        })
    }

    /// Keeps the program with a sidecar of what it gives.
    fn keep(&mut self, program: &Program) -> Result<PathBuf, FuzzError> {
        let outcome = replay(self.pair.exact()?, program)?.outcome;
        let sidecar = Sidecar::new(self.setting.clone(), outcome);
        let folder = self.settings.place.findings();
        Ok(sidecar.keep(&folder, self.target, program)?)
    }
}

/// Makes the coverage blocks of the guest that inputs run in libFuzzer's.
#[cfg(feature = "extra-counters")]
fn with_features(mut pair: Pair, map: GuestMap) -> Result<Pair, FuzzError> {
    if map == GuestMap::Features {
        let ram = pair.executor().machine().ram();
        ram.overlay_extra_counters().map_err(MachineError::from)?;
    }
    Ok(pair)
}

impl Drop for Session {
    /// Says what was seen: libFuzzer's own summary knows nothing of it.
    fn drop(&mut self) {
        eprint!("{}", self.tally.summary(self.target, &self.settings.place));
    }
}

/// Copies the committed seeds that are missing into libFuzzer's corpus; for
/// `everything` the seeds of every target of the guest.
///
/// # Errors
///
/// A seed cannot be read, or the corpus cannot be written.
pub fn copy_seeds(place: &Place, target: &str) -> Result<usize, FuzzError> {
    if target != EVERYTHING {
        return copy_folder(&place.seeds(target), &place.corpus(target));
    }
    let mut copied = 0;
    for other in TARGETS {
        copied += copy_folder(&place.seeds(other), &place.corpus(target))?;
    }
    Ok(copied)
}

fn copy_folder(from: &Path, to: &Path) -> Result<usize, FuzzError> {
    let Ok(seeds) = std::fs::read_dir(from) else {
        return Ok(0);
    };
    let failed = |path: &Path, source| FuzzError::File {
        what: "cannot read",
        path: path.to_owned(),
        source,
    };
    let mut copied = 0;
    for seed in seeds {
        let seed = seed.map_err(|source| failed(from, source))?;
        let to = to.join(seed.file_name());
        if to.exists() {
            continue;
        }
        let bytes = std::fs::read(seed.path()).map_err(|source| failed(&seed.path(), source))?;
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
    let session = Settings::from_environment().and_then(|settings| {
        if settings.seeds {
            copy_seeds(&settings.place, target)?;
        }
        Session::open(target, settings)
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
