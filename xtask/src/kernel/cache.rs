//! The user's cache folder: source trees, object trees, finished images.
//!
//! ```text
//! <cache>/latefork/kernel/
//!   lock              held by whoever builds
//!   digests           sha256 of archives, by path, size and time
//!   work/<source>/    one unpacked source: tree, objects, what is patched
//!   partial/          what a build has not finished
//!   images/<key>/     finished images, never changed afterwards
//! ```
//!
//! Whoever reads or writes below these folders holds the lock. So does
//! [`Cache::prune`], which keeps the folder from growing without end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::source::Source;
use super::variant::Variant;

/// Raised when the build itself changes in a way that changes its result.
const RECIPE: &str = "3";

/// The file in an exported folder that holds its image's key.
const STAMP: &str = ".key";

/// How many images are kept, those used last: about 26 MB each.
const KEEP_IMAGES: usize = 32;
/// How many sources are kept with their object trees: about 2 GB each.
const KEEP_SOURCES: usize = 2;

/// The cache folder of guest kernels.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// A hash of everything that goes into an image.
#[derive(Debug)]
pub(crate) struct ImageKey(String);

/// Held while a build changes the cache; released when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// `$XDG_CACHE_HOME/latefork`, or the same under `~/.cache`.
pub(crate) fn folder() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .ok_or_else(|| anyhow!("no home folder: set XDG_CACHE_HOME to a folder for caches"))?;
    Ok(base.join("latefork"))
}

impl Cache {
    /// Opens the folder of kernels in [`folder`].
    pub(crate) fn open() -> Result<Self> {
        Self::at(&folder()?.join("kernel"))
    }

    /// Opens the folder `root` as a cache.
    pub(crate) fn at(root: &Path) -> Result<Self> {
        for folder in ["work", "images", "partial"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// Waits for other builds on this machine to end, and keeps them out.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.root.join("lock");
        let file =
            File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another guest kernel build to end");
            file.lock()
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Lock { _file: file })
    }

    /// Where the trees of the source called `name` live.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.root.join("work").join(name)
    }

    /// The file that remembers digests of archives.
    pub(crate) fn digests(&self) -> PathBuf {
        self.root.join("digests")
    }

    /// An empty folder on the cache's own file system, removed when dropped.
    pub(crate) fn stage(&self) -> Result<TempDir> {
        let partial = self.root.join("partial");
        TempDir::new_in(&partial).with_context(|| format!("cannot write to {}", partial.display()))
    }

    /// Whether the image `key` is finished.
    pub(crate) fn has(&self, key: &ImageKey) -> bool {
        self.image(key).is_dir()
    }

    /// Makes the folder `staged` the image `key`.
    pub(crate) fn keep(&self, staged: TempDir, key: &ImageKey) -> Result<()> {
        let image = self.image(key);
        fs::write(staged.path().join(STAMP), &key.0)?;
        fs::rename(staged.keep(), &image)
            .with_context(|| format!("cannot move the image to {}", image.display()))
    }

    /// Whether `output` already holds the image `key`.
    pub(crate) fn is_exported(&self, key: &ImageKey, output: &Path) -> bool {
        fs::read_to_string(output.join(STAMP)).is_ok_and(|stamp| stamp == key.0)
    }

    /// Makes `output` a copy of the image `key`, all of it or nothing.
    pub(crate) fn export(&self, key: &ImageKey, output: &Path) -> Result<()> {
        let parent = output.parent().context("the output has no parent folder")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let staged = TempDir::new_in(parent)?;
        let copy = staged.path().join("new");
        fs::create_dir(&copy)?;
        for entry in fs::read_dir(self.image(key))? {
            let entry = entry?;
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
        if output.exists() {
            fs::rename(output, staged.path().join("old"))?;
        }
        fs::rename(&copy, output).with_context(|| format!("cannot write {}", output.display()))?;
        used_now(&self.image(key))
    }

    /// Removes what builds that were killed left, and all but the images and
    /// sources that were used last. Needs the lock: nobody is using any then.
    pub(crate) fn prune(&self, _lock: &Lock) -> Result<()> {
        keep_newest(&self.root.join("partial"), 0)?;
        keep_newest(&self.root.join("images"), KEEP_IMAGES)?;
        keep_newest(&self.root.join("work"), KEEP_SOURCES)
    }

    fn image(&self, key: &ImageKey) -> PathBuf {
        self.root.join("images").join(&key.0)
    }
}

impl ImageKey {
    /// Hashes the source, the patches, the configuration and the tools.
    pub(crate) fn of(variant: &Variant, source: &Source) -> Result<Self> {
        let mut hash = Sha256::new();
        let mut add = |label: &str, bytes: &[u8]| {
            hash.update(label.as_bytes());
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add("recipe", RECIPE.as_bytes());
        add("source", source.digest().as_bytes());
        add("name", variant.name().as_bytes());
        for tool in ["gcc", "ld"] {
            add(tool, first_line(tool)?.as_bytes());
        }
        for (label, files) in [
            ("patch", variant.patches()?),
            ("config", variant.fragments()),
        ] {
            for file in files {
                let bytes =
                    fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
                add(label, &bytes);
            }
        }
        Ok(Self(hex(&hash.finalize())))
    }
}

/// Notes that `folder` was used, for [`Cache::prune`].
pub(crate) fn used_now(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("cannot write to {}", folder.display()))
}

/// Removes all but the `count` entries of `folder` that were used last.
fn keep_newest(folder: &Path, count: usize) -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        entries.push((entry.metadata()?.modified()?, entry.path()));
    }
    entries.sort();
    entries.truncate(entries.len().saturating_sub(count));
    for (_, path) in entries {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// What `tool --version` says first.
fn first_line(tool: &str) -> Result<String> {
    let output = Command::new(tool)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot start `{tool} --version`"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_replaces_the_whole_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("cache")).unwrap();
        let output = folder.path().join("target/guest/x");
        fs::create_dir_all(&output).unwrap();
        fs::write(output.join("stale"), "").unwrap();

        let key = ImageKey("k".into());
        let staged = cache.stage().unwrap();
        fs::write(staged.path().join("bzImage"), "image").unwrap();
        assert!(!cache.has(&key));
        cache.keep(staged, &key).unwrap();
        assert!(cache.has(&key));

        assert!(!cache.is_exported(&key, &output));
        cache.export(&key, &output).unwrap();
        assert!(cache.is_exported(&key, &output));
        assert!(!output.join("stale").exists());
        assert_eq!(fs::read(output.join("bzImage")).unwrap(), b"image");
    }

    #[test]
    fn only_what_was_used_last_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let lock = cache.lock().unwrap();
        for number in 0..KEEP_IMAGES + 3 {
            let staged = cache.stage().unwrap();
            cache.keep(staged, &ImageKey(number.to_string())).unwrap();
        }
        // The first one is the oldest, unless it was used again.
        let age = |number: usize, hours: u64| {
            let path = cache.image(&ImageKey(number.to_string()));
            let time = SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
            File::open(path).unwrap().set_modified(time).unwrap();
        };
        for number in 0..KEEP_IMAGES + 3 {
            age(number, 1000 - number as u64);
        }
        let first = ImageKey("0".into());
        cache.export(&first, &folder.path().join("out/x")).unwrap();
        let killed = cache.stage().unwrap().keep();

        cache.prune(&lock).unwrap();
        assert!(!killed.exists());
        assert!(cache.has(&first));
        let gone: Vec<_> = (0..KEEP_IMAGES + 3)
            .filter(|number| !cache.has(&ImageKey(number.to_string())))
            .collect();
        assert_eq!(gone, [1, 2, 3]);
    }

    #[test]
    fn a_stage_that_is_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let path = cache.stage().unwrap().path().to_path_buf();
        assert!(!path.exists());
    }
}
