//! What the outer system is made of: a Debian kernel with kvm-amd, and busybox.
//! Both come as packages, which are unpacked but not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{apt, kernel::cache, sh};

/// The package whose dependency is the newest kernel for machines like ours.
const META: &str = "linux-image-cloud-amd64";
const BUSYBOX: &str = "busybox-static";
/// In the order in which they must be loaded.
const MODULES: [&str; 3] = [
    "virt/lib/irqbypass.ko",
    "arch/x86/kvm/kvm.ko",
    "arch/x86/kvm/kvm-amd.ko",
];

/// The outer system's files.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) kernel: PathBuf,
    pub(super) busybox: PathBuf,
    pub(super) modules: Vec<PathBuf>,
}

impl Base {
    /// The files of the newest kernel, from the user's cache folder; downloads
    /// what is not there.
    pub(super) fn fetch() -> Result<Self> {
        let cache = cache::folder()?.join("kvm-lane");
        let package = match newest() {
            Some(package) => package,
            None => {
                // A fresh machine has no lists of packages.
                if apt::is_root()? {
                    let mut update = sh::command("apt-get", &["update"]);
                    sh::run(update.stdout(Stdio::null()))?;
                }
                newest().with_context(|| {
                    format!("no package {META} is known; renew the lists with: sudo apt-get update")
                })?
            }
        };
        let folder = cache.join(&package);
        if !folder.is_dir() {
            download(&cache, &package, &folder)?;
        }
        Self::at(&folder, &package)
    }

    fn at(folder: &Path, package: &str) -> Result<Self> {
        let version = package.trim_start_matches("linux-image-");
        let found = |path: PathBuf| {
            if path.is_file() {
                return Ok(path);
            }
            bail!(
                "{} is missing in an unpacked {package}: delete {} and try again",
                path.display(),
                folder.display()
            )
        };
        let modules = folder.join("lib/modules").join(version).join("kernel");
        Ok(Self {
            kernel: found(folder.join(format!("boot/vmlinuz-{version}")))?,
            busybox: found(folder.join("bin/busybox"))?,
            modules: MODULES
                .iter()
                .map(|name| found(modules.join(name)))
                .collect::<Result<_>>()?,
        })
    }
}

/// The kernel's package, as apt knows it.
fn newest() -> Option<String> {
    let mut command = sh::command("apt-cache", &["depends", META]);
    let output = command.stderr(Stdio::null()).output().ok()?;
    dependency(&String::from_utf8_lossy(&output.stdout))
}

/// The kernel's package in what `apt-cache depends` prints.
fn dependency(text: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
}

/// Unpacks both packages into `to`, which appears whole or not at all.
fn download(cache: &Path, package: &str, to: &Path) -> Result<()> {
    eprintln!("downloading {package} and {BUSYBOX}");
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let packages = tempfile::tempdir_in(cache)?;
    let tree = tempfile::tempdir_in(cache)?;
    let mut get = sh::command("apt-get", &["download", "--quiet", package, BUSYBOX]);
    // As root, apt would fetch as another user, who may not write here.
    get.args(["-o", "APT::Sandbox::User=root"])
        .current_dir(packages.path())
        .stdout(Stdio::null());
    sh::run(&mut get)?;
    for archive in fs::read_dir(packages.path())? {
        let (archive, into) = (archive?.path(), tree.path().to_string_lossy());
        sh::run(&mut sh::command(
            "dpkg-deb",
            &["-x", &archive.to_string_lossy(), &into],
        ))?;
    }
    for module in MODULES {
        strip(tree.path(), package, module)?;
    }
    fs::rename(tree.keep(), to).with_context(|| format!("cannot make {}", to.display()))
}

/// Takes debug information, which is most of it, out of a module.
fn strip(tree: &Path, package: &str, module: &str) -> Result<()> {
    let version = package.trim_start_matches("linux-image-");
    let path = tree
        .join("lib/modules")
        .join(version)
        .join("kernel")
        .join(module);
    sh::run(&mut sh::command(
        "strip",
        &["--strip-debug", &path.to_string_lossy()],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_the_dependency_of_the_meta_package() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-1-cloud-amd64\n";
        assert_eq!(
            dependency(text).as_deref(),
            Some("linux-image-6.1.0-1-cloud-amd64")
        );
        assert_eq!(dependency("linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Base::at(folder.path(), "linux-image-6.1.0-1-cloud-amd64").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("boot/vmlinuz-6.1.0-1-cloud-amd64 is missing"),
            "{text}"
        );
    }
}
