//! What goes into the agent, and its hash.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::toolchain::Toolchain;
use crate::sh;

/// The system call number where no kernel was built yet: the first free one
/// of 6.12.
const USUAL_NUMBER: u32 = 463;

/// Source folders and files of the agent, relative to the repository.
const SOURCES: &[&str] = &[
    "guest-agent/Cargo.toml",
    "guest-agent/Cargo.lock",
    "guest-agent/src",
    "guest-agent/scenarios",
    "wire/Cargo.toml",
    "wire/src",
    "Cargo.toml",
];

/// A name for one set of inputs.
#[derive(Debug)]
pub(super) struct Key(String);

impl Key {
    /// Hashes sources, toolchain and the number.
    pub(super) fn of(toolchain: &Toolchain, number: u32) -> Result<Self> {
        let mut files = Vec::new();
        for source in SOURCES {
            collect(&sh::root().join(source), &mut files)?;
        }
        let mut hash = Sha256::new();
        hash.update(toolchain.version());
        hash.update(number.to_le_bytes());
        for file in files {
            let bytes =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.strip_prefix(sh::root()).unwrap_or(&file);
            hash.update(name.to_string_lossy().as_bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        let digest = hash.finalize();
        Ok(Self(
            digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

/// Every file below `path`, in a fixed order.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        entries.push(entry?.path());
    }
    entries.sort();
    entries.iter().try_for_each(|entry| collect(entry, files))
}

/// Where finished agents are kept.
pub(super) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("no home folder: set XDG_CACHE_HOME to a folder for caches")?;
    Ok(base.join("latefork/agent"))
}

/// The number of `async` that the kernels under `target/guest` export.
pub(super) fn async_number() -> Result<u32> {
    number_in(&sh::root().join("target/guest"))
}

fn number_in(folder: &Path) -> Result<u32> {
    let mut found: Option<(u32, PathBuf)> = None;
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(USUAL_NUMBER);
    };
    for entry in entries {
        let path = entry?.path().join("guest.json");
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let description: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON", path.display()))?;
        let number = description["syscall"]
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .with_context(|| format!("{} names no system call number", path.display()))?;
        match &found {
            Some((other, file)) if *other != number => bail!(
                "{} says that async is {number}, {} says {other}: build the kernels anew",
                path.display(),
                file.display()
            ),
            _ => found = Some((number, path)),
        }
    }
    Ok(found.map_or(USUAL_NUMBER, |(number, _)| number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(folder: &Path, name: &str, text: &str) {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("guest.json"), text).unwrap();
    }

    #[test]
    fn number_comes_from_the_kernels_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(number_in(folder.path()).unwrap(), USUAL_NUMBER);
        assert_eq!(
            number_in(Path::new("/nowhere/at/all")).unwrap(),
            USUAL_NUMBER
        );
        kernel(folder.path(), "a", r#"{"syscall": 470}"#);
        kernel(folder.path(), "b", r#"{"syscall": 470}"#);
        fs::create_dir(folder.path().join("agent")).unwrap();
        assert_eq!(number_in(folder.path()).unwrap(), 470);
        kernel(folder.path(), "c", r#"{"syscall": 471}"#);
        assert!(number_in(folder.path()).is_err());
    }

    #[test]
    fn description_without_a_number_is_an_error() {
        for text in ["{}", "not json", r#"{"syscall": "x"}"#] {
            let folder = tempfile::tempdir().unwrap();
            kernel(folder.path(), "a", text);
            assert!(number_in(folder.path()).is_err(), "{text}");
        }
    }
}
