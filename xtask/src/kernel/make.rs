//! Running the kernel's own build, with progress, in a way whose result hangs
//! on its inputs only.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use indicatif::ProgressStyle;

use super::source::Tree;
pub(crate) use crate::progress::{bytes_bar, spinner};

/// Runs a make target that has nothing to show.
pub(crate) fn quietly(tree: &Tree, objects: &Path, target: &str) -> Result<()> {
    let output = command(tree, objects)
        .arg(target)
        .stdin(Stdio::null())
        .output()
        .context("cannot start `make`")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("`make {target}` failed:\n{}", text.trim_end());
    }
    Ok(())
}

/// Builds `vmlinux` and `bzImage`.
///
/// # Errors
/// With the last lines that the build wrote; the whole text is in the named
/// log.
pub(crate) fn build(tree: &Tree, objects: &Path) -> Result<()> {
    let log = objects.join("build.log");
    let errors = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut make = command(tree, objects)
        .arg(format!("-j{}", thread::available_parallelism()?))
        .args(["vmlinux", "bzImage"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("cannot start `make`")?;
    let bar = spinner("building the guest kernel");
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {pos} steps {wide_msg}") {
        bar.set_style(style);
    }
    let output = make.stdout.take().context("make has no output")?;
    for line in BufReader::new(output).lines() {
        bar.set_message(line?.trim().to_owned());
        bar.inc(1);
    }
    bar.finish_and_clear();
    if !make.wait()?.success() {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("the build failed; all of it in {}:\n{tail}", log.display());
    }
    Ok(())
}

/// `make` with everything pinned that would otherwise get into the image:
/// time, user, host, build count, folders, locale and the caller's flags.
fn command(tree: &Tree, objects: &Path) -> Command {
    let root = tree.root();
    let flags = format!(
        "-ffile-prefix-map={}=. -ffile-prefix-map=../=",
        objects.display()
    );
    let mut make = Command::new("make");
    make.arg("--directory")
        .arg(&root)
        .arg(format!("O={}", objects.display()))
        .args(["ARCH=i386", "LOCALVERSION=", "CROSS_COMPILE=", "W="])
        .arg(format!("KCFLAGS={flags}"))
        .arg(format!("KAFLAGS={flags}"))
        .env("KBUILD_BUILD_TIMESTAMP", "Fri Feb 9 22:33:01 UTC 2007")
        .env("KBUILD_BUILD_USER", "latefork")
        .env("KBUILD_BUILD_HOST", "latefork")
        .env("KBUILD_BUILD_VERSION", "1")
        .env("LC_ALL", "C")
        .env_remove("MAKEFLAGS")
        .env_remove("CFLAGS")
        .env_remove("KCONFIG_CONFIG");
    make
}
