//! The kernel's source: Debian's package, or what `KERNEL_SOURCE` names.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use super::cache::{Cache, hex, used_now};
use super::make;
use super::variant::Config;

/// Debian's package of the source.
pub(crate) const PACKAGE: &str = "linux-source-6.12";
/// The series that the patches are written against.
pub(crate) const SERIES: &str = "6.12";

const ARCHIVE: &str = "/usr/src/linux-source-6.12.tar.xz";
/// The archive that the patches were written against and tested with.
const PINNED_VERSION: &str = "6.12.117";
const PINNED_SHA256: &str = "585a4a074597aefa2b1a68ada83a3184ba351c127544dea80618bbcceaa3961f";

/// Where the source comes from, and the hash that names it.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    digest: String,
}

/// A source tree in the cache, which patches may change.
#[derive(Debug)]
pub(crate) struct Tree {
    work: PathBuf,
    version: String,
}

/// Whether the user named a source of their own.
pub(crate) fn is_given() -> bool {
    given().is_some()
}

fn given() -> Option<OsString> {
    std::env::var_os("KERNEL_SOURCE").filter(|value| !value.is_empty())
}

impl Source {
    /// Finds the source and hashes it (an archive's hash is remembered).
    pub(crate) fn find(cache: &Cache) -> Result<Self> {
        let path = given().map_or_else(|| PathBuf::from(ARCHIVE), PathBuf::from);
        let path = path
            .canonicalize()
            .with_context(|| format!("kernel source {}", path.display()))?;
        let digest = if path.is_dir() {
            refuse_built_tree(&path)?;
            check_series(&path)?;
            digest_of_tree(&path)?
        } else {
            filter_for(&path)?;
            digest_of_archive(&path, &cache.digests())?
        };
        Ok(Self { path, digest })
    }

    /// The hash that names the source, 64 hexadecimal digits.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Unpacks (or copies) the source into the cache, once.
    ///
    /// # Errors
    /// When it is no Linux of the right series; the cache stays as it was.
    pub(crate) fn unpack(&self, cache: &Cache) -> Result<Tree> {
        let work = cache.work(&self.digest[..16]);
        if !work.is_dir() {
            let staged = cache.stage()?;
            let tree = staged.path().join("tree");
            fs::create_dir(&tree)?;
            self.copy_to(&tree)?;
            check_series(&tree)?;
            fs::rename(staged.keep(), &work)
                .with_context(|| format!("cannot move the source to {}", work.display()))?;
        }
        used_now(&work)?;
        let version = check_series(&work.join("tree"))?;
        if self.digest != PINNED_SHA256 {
            eprintln!(
                "warning: building Linux {version} (source {}), the patches are tested \
                 with Linux {PINNED_VERSION} (sha256 {PINNED_SHA256})",
                self.digest
            );
        }
        Ok(Tree { work, version })
    }

    fn copy_to(&self, tree: &Path) -> Result<()> {
        if self.path.is_dir() {
            let bar = make::spinner("copying the kernel source");
            let status = Command::new("cp")
                .args(["-a", "--no-target-directory"])
                .args([&self.path, tree])
                .status()?;
            bar.finish_and_clear();
            if !status.success() {
                bail!("cannot copy {} ({status})", self.path.display());
            }
            return Ok(());
        }
        let file = File::open(&self.path)?;
        let mut complaints = tempfile::tempfile()?;
        let bar = make::bytes_bar("unpacking the kernel source", file.metadata()?.len());
        let mut tar = Command::new("tar")
            .args(["--extract", "--strip-components=1", "--no-same-owner"])
            .arg(filter_for(&self.path)?)
            .arg("--directory")
            .arg(tree)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stderr(complaints.try_clone()?)
            .spawn()
            .context("cannot start `tar`")?;
        let mut input = tar.stdin.take().context("tar has no input")?;
        // An archive that tar refuses closes the pipe: its status says why.
        let copied = io::copy(&mut bar.wrap_read(file), &mut input);
        drop(input);
        let status = tar.wait()?;
        bar.finish_and_clear();
        if !status.success() {
            let mut text = String::new();
            complaints.rewind()?;
            complaints.read_to_string(&mut text)?;
            bail!(
                "kernel source {}: cannot unpack it: {}; get it whole",
                self.path.display(),
                text.lines().next().unwrap_or("tar failed"),
            );
        }
        copied.map(drop).context("cannot read the archive")
    }
}

impl Tree {
    /// A tree in the folder `work`, as unpacking leaves it.
    #[cfg(test)]
    pub(crate) fn at(work: &Path) -> Self {
        Self {
            work: work.to_path_buf(),
            version: PINNED_VERSION.to_owned(),
        }
    }

    /// The source files.
    pub(crate) fn root(&self) -> PathBuf {
        self.work.join("tree")
    }

    /// The unpatched text of the files that a patch has changed.
    pub(crate) fn pristine(&self) -> PathBuf {
        self.work.join("pristine")
    }

    /// The list of files in which the tree may differ from the source.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.work.join("patched")
    }

    /// The object tree of a configuration, shared by all flavours. Fuzz and sse
    /// differ in little, so that `make` need not start anew. It lies inside the
    /// tree, for then the kernel's build names its sources by relative paths,
    /// and the image does not hang on where the cache is.
    pub(crate) fn objects(&self, config: Config) -> PathBuf {
        self.root().join(match config {
            Config::Fuzz | Config::Sse => "objects-fuzz",
            Config::Lockdep => "objects-lockdep",
        })
    }

    /// The kernel's version, such as `6.12.117`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }
}

/// tar's option for the compression that the file's name tells.
fn filter_for(archive: &Path) -> Result<&'static str> {
    match archive.extension().and_then(|found| found.to_str()) {
        Some("xz" | "txz") => Ok("--xz"),
        Some("gz" | "tgz") => Ok("--gzip"),
        Some("bz2") => Ok("--bzip2"),
        Some("zst") => Ok("--zstd"),
        Some("tar") => Ok("--no-auto-compress"),
        _ => Err(anyhow!(
            "kernel source {}: neither a folder nor a .tar, .tar.xz, .tar.gz, .tar.bz2 or .tar.zst",
            archive.display()
        )),
    }
}

/// The version in the tree's Makefile, when it is of our series.
fn check_series(tree: &Path) -> Result<String> {
    let path = tree.join("Makefile");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{} is no Linux source", tree.display()))?;
    let field = |name: &str| {
        text.lines()
            .take(20)
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .ok_or_else(|| anyhow!("{} has no {name}: this is no Linux source", path.display()))
    };
    let series = format!("{}.{}", field("VERSION")?, field("PATCHLEVEL")?);
    if series != SERIES {
        bail!("the kernel source is Linux {series}, the patches need {SERIES}.x");
    }
    Ok(format!("{series}.{}", field("SUBLEVEL")?))
}

fn refuse_built_tree(tree: &Path) -> Result<()> {
    if tree.join(".config").exists() || tree.join("include/config").exists() {
        bail!(
            "KERNEL_SOURCE {} was built in: run `make mrproper` there first",
            tree.display()
        );
    }
    Ok(())
}

/// The archive's sha256, read again only when its size or time changes.
fn digest_of_archive(archive: &Path, memory: &Path) -> Result<String> {
    let metadata = fs::metadata(archive)?;
    let label = format!(
        "{} {} {}",
        archive.display(),
        metadata.len(),
        modified(&metadata)?
    );
    let known = fs::read_to_string(memory).unwrap_or_default();
    let found = known.lines().find_map(|line| line.strip_prefix(&label));
    if let Some(digest) = found {
        return Ok(digest.trim().to_owned());
    }
    let mut hash = Sha256::new();
    let mut file =
        File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
    }
    let digest = hex(&hash.finalize());
    let partial = memory.with_extension(std::process::id().to_string());
    fs::write(&partial, format!("{label} {digest}\n"))?;
    fs::rename(&partial, memory)?;
    Ok(digest)
}

/// A hash over names, sizes and times of a tree's files.
fn digest_of_tree(tree: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut folders = vec![tree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let mut entries = fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                if entry.file_name() != ".git" {
                    folders.push(path);
                }
                continue;
            }
            let metadata = entry.metadata()?;
            hash.update(path.strip_prefix(tree)?.as_os_str().as_encoded_bytes());
            hash.update([0]);
            hash.update(metadata.len().to_le_bytes());
            hash.update(modified(&metadata)?.to_le_bytes());
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Nanoseconds since 1970 at which a file was written.
fn modified(metadata: &fs::Metadata) -> Result<u128> {
    Ok(metadata.modified()?.duration_since(UNIX_EPOCH)?.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(version: &str, patchlevel: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("VERSION = {version}\nPATCHLEVEL = {patchlevel}\nSUBLEVEL = 9\n");
        fs::write(folder.path().join("Makefile"), text).unwrap();
        folder
    }

    #[test]
    fn only_the_right_series_is_taken() {
        assert_eq!(check_series(tree("6", "12").path()).unwrap(), "6.12.9");
        check_series(tree("6", "13").path()).unwrap_err();
        check_series(tree("6", "").path()).unwrap_err();
        check_series(tempfile::tempdir().unwrap().path()).unwrap_err();
    }

    #[test]
    fn a_tree_that_was_built_in_is_refused() {
        let folder = tree("6", "12");
        refuse_built_tree(folder.path()).unwrap();
        fs::write(folder.path().join(".config"), "").unwrap();
        refuse_built_tree(folder.path()).unwrap_err();
    }

    #[test]
    fn a_changed_file_changes_the_hash_of_a_tree() {
        let folder = tree("6", "12");
        let before = digest_of_tree(folder.path()).unwrap();
        fs::write(folder.path().join("new"), "x").unwrap();
        assert_ne!(digest_of_tree(folder.path()).unwrap(), before);
    }

    #[test]
    fn a_changed_archive_is_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a.tar");
        let memory = folder.path().join("digests");
        fs::write(&archive, "abc").unwrap();
        let digest = digest_of_archive(&archive, &memory).unwrap();
        assert!(digest.starts_with("ba7816bf8f01cfea"));
        assert_eq!(digest_of_archive(&archive, &memory).unwrap(), digest);
        fs::write(&archive, "abcd").unwrap();
        assert_ne!(digest_of_archive(&archive, &memory).unwrap(), digest);
    }

    #[test]
    fn an_archive_of_unknown_kind_is_refused() {
        filter_for(Path::new("linux.zip")).unwrap_err();
        assert_eq!(filter_for(Path::new("linux.tar.xz")).unwrap(), "--xz");
    }
}
