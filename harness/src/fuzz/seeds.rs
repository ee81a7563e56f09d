//! The committed seeds, made from programs in text form that people review.
//!
//! Their sources are the agent's scenarios (`guest-agent/scenarios/*.txt`), each
//! of which is a seed of the target that its hazards belong to, and
//! `fuzz/seeds/<target>.txt`, in the same form. `latefork corpus seeds` writes
//! `corpora/<target>/<name>`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use latefork_wire::program::{MAX_BYTES, Program};
use latefork_wire::text::scenario::{Scenario, scenarios};

use super::{EVERYTHING, FuzzError, TARGETS};
use crate::replay::sidecar::write_whole;

/// Which target a scenario with one of these hazards belongs to; the first
/// line that fits counts.
const BY_HAZARD: [(&str, &[&str]); 4] = [
    ("nested", &["13"]),
    ("clone_failure", &["9"]),
    ("lifecycle", &["6", "7", "10", "12"]),
    ("hostile_args", &["1", "2", "3"]),
];

/// Properties of scenarios that are about arguments, where they name no hazard.
const ARGUMENTS: [&str; 2] = ["P1", "P2"];

/// A seed: a program, for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The target.
    pub target: &'static str,
    /// The name of its file.
    pub name: String,
    /// The program.
    pub program: Program,
}

impl Seed {
    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [0; MAX_BYTES];
        let size = self.program.encode(&mut bytes);
        bytes[..size].to_vec()
    }
}

/// What [`write()`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Seeds in all.
    pub seeds: usize,
    /// Files that were written anew.
    pub written: usize,
    /// Files that went, as no source makes them.
    pub removed: usize,
}

/// The seeds that the sources of the checkout at `root` make.
///
/// # Errors
///
/// A source cannot be read, is malformed, or repeats a name.
pub fn seeds(root: &Path) -> Result<Vec<Seed>, FuzzError> {
    let mut seeds = Vec::new();
    for path in texts(&root.join("guest-agent/scenarios"))? {
        add(&path, None, &mut seeds)?;
    }
    for target in TARGETS {
        let path = root.join("fuzz/seeds").join(format!("{target}.txt"));
        if path.exists() {
            add(&path, Some(target), &mut seeds)?;
        }
    }
    Ok(seeds)
}

/// Makes the target folders under `root/corpora` hold the seeds and nothing
/// else.
///
/// # Errors
///
/// As [`seeds`], or a file cannot be written or removed.
pub fn write(root: &Path) -> Result<Changes, FuzzError> {
    let seeds = seeds(root)?;
    let corpora = root.join("corpora");
    let mut changes = Changes {
        seeds: seeds.len(),
        ..Changes::default()
    };
    let mut stale = files(&corpora)?;
    for seed in &seeds {
        let path = corpora.join(seed.target).join(&seed.name);
        let bytes = seed.bytes();
        if stale.remove(&path) != Some(bytes.clone()) {
            write_whole(&path, &bytes)?;
            changes.written += 1;
        }
    }
    for path in stale.into_keys() {
        std::fs::remove_file(&path).map_err(|source| FuzzError::File {
            what: "cannot remove",
            path,
            source,
        })?;
        changes.removed += 1;
    }
    Ok(changes)
}

/// The committed seed files under `corpora`, with their bytes.
///
/// # Errors
///
/// One cannot be read.
pub fn files(corpora: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, FuzzError> {
    let mut files = BTreeMap::new();
    for target in TARGETS {
        let folder = corpora.join(target);
        if !folder.exists() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(|source| unreadable(&folder, source))? {
            let path = entry.map_err(|source| unreadable(&folder, source))?.path();
            let bytes = std::fs::read(&path).map_err(|source| unreadable(&path, source))?;
            files.insert(path, bytes);
        }
    }
    Ok(files)
}

fn texts(folder: &Path) -> Result<Vec<PathBuf>, FuzzError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| unreadable(folder, source))? {
        let path = entry.map_err(|source| unreadable(folder, source))?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, source: std::io::Error) -> FuzzError {
    FuzzError::File {
        what: "cannot read",
        path: path.to_owned(),
        source,
    }
}

fn add(path: &Path, target: Option<&'static str>, seeds: &mut Vec<Seed>) -> Result<(), FuzzError> {
    let text = std::fs::read_to_string(path).map_err(|source| unreadable(path, source))?;
    let malformed = |why: String| FuzzError::Seed {
        path: path.to_owned(),
        why,
    };
    for scenario in scenarios(&text) {
        if !is_seed(&scenario) {
            continue;
        }
        let seed = Seed {
            target: target.unwrap_or_else(|| target_of(&scenario)),
            name: scenario.name.to_owned(),
            program: scenario
                .program()
                .map_err(|error| malformed(error.to_string()))?,
        };
        if seeds.iter().any(|other| other.name == seed.name) {
            return Err(malformed(format!("a second seed named {}", seed.name)));
        }
        seeds.push(seed);
    }
    Ok(())
}

/// Control runs do not go through the call, and what needs a watchdog of its
/// own does not end by itself.
fn is_seed(scenario: &Scenario<'_>) -> bool {
    let has = |directive| scenario.words(directive).next().is_some();
    !has("flavour") && !has("watchdog")
}

fn target_of(scenario: &Scenario<'_>) -> &'static str {
    let about = |words: &[&str]| scenario.words("hazard").any(|word| words.contains(&word));
    let by_hazard = BY_HAZARD.iter().find(|(_, hazards)| about(hazards));
    if let Some((target, _)) = by_hazard {
        return target;
    }
    let hazards = scenario.words("hazard").next().is_some();
    match scenario
        .words("property")
        .any(|word| ARGUMENTS.contains(&word))
    {
        true if !hazards => "hostile_args",
        _ => EVERYTHING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "scenario one\nhazard 13\nt0 nop\nexpect end outcome=done\n\
                          scenario two\nproperty P1\nt0 nop\nt0 nop\n\
                          scenario three\nproperty P6\nhazard 8\nt0 yield\n\
                          scenario control\nflavour control\nt0 nop\n";

    #[test]
    fn sources_become_files_and_other_files_go() {
        let root = tempfile::tempdir().unwrap();
        let scenarios = root.path().join("guest-agent/scenarios");
        std::fs::create_dir_all(&scenarios).unwrap();
        std::fs::write(scenarios.join("a.txt"), SOURCE).unwrap();
        let more = root.path().join("fuzz/seeds");
        std::fs::create_dir_all(&more).unwrap();
        std::fs::write(more.join("lifecycle.txt"), "scenario four\nt0 nop\n").unwrap();
        let stale = root.path().join("corpora/nested/zero");
        write_whole(&stale, b"").unwrap();

        let changes = write(root.path()).unwrap();
        assert_eq!((changes.seeds, changes.written, changes.removed), (4, 4, 1));
        let found = files(&root.path().join("corpora")).unwrap();
        let names: Vec<_> = found
            .keys()
            .map(|path| path.strip_prefix(root.path().join("corpora")).unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "everything/three",
                "hostile_args/two",
                "lifecycle/four",
                "nested/one"
            ]
            .map(Path::new)
        );
        assert_eq!(write(root.path()).unwrap().written, 0);

        std::fs::write(more.join("nested.txt"), "scenario four\nt0 nop\n").unwrap();
        let error = write(root.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("lifecycle.txt: a second seed named four"),
            "{error}"
        );
    }
}
