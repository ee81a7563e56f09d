//! What a build needs of the host, and how to get it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::source;
use crate::{apt, sh};

/// Debian packages of the tools.
const TOOLS: &[&str] = &[
    "build-essential",
    "bc",
    "bison",
    "flex",
    "libelf-dev",
    "xz-utils",
    "lz4",
];

/// A program of each package, for hosts without dpkg.
const PROGRAMS: &[&str] = &[
    "gcc", "make", "patch", "bc", "bison", "flex", "xz", "lz4", "tar",
];

/// Installs what is missing, as root; otherwise says how to.
pub(crate) fn ensure() -> Result<()> {
    if !starts("dpkg-query") {
        return ensure_programs();
    }
    let mut wanted = TOOLS.to_vec();
    if !source::is_given() {
        wanted.push(source::PACKAGE);
    }
    install(&wanted)
}

/// Installs QEMU's 32-bit PC, or says how to.
pub(crate) fn ensure_emulator() -> Result<()> {
    if starts("qemu-system-i386") {
        return Ok(());
    }
    if !starts("dpkg-query") {
        bail!("missing program: qemu-system-i386; install it");
    }
    install(&["qemu-system-x86"])
}

fn install(wanted: &[&str]) -> Result<()> {
    let missing = missing_packages(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::is_root()? {
        bail!(
            "missing packages; install them with: {}",
            apt::hint(&missing)
        );
    }
    apt::install(&missing)
}

fn ensure_programs() -> Result<()> {
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|name| !starts(name))
        .copied()
        .collect();
    if !missing.is_empty() {
        bail!("missing programs: {}; install them", missing.join(", "));
    }
    if !source::is_given() {
        bail!(
            "this is no Debian: set KERNEL_SOURCE to a tree or an archive of Linux {}.x",
            source::SERIES
        );
    }
    Ok(())
}

fn starts(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// The packages of `wanted` that dpkg does not call installed.
fn missing_packages<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let output = sh::command(
        "dpkg-query",
        &["-W", "-f", "${Package} ${db:Status-Status}\n"],
    )
    .args(wanted)
    .stderr(Stdio::null())
    .output()?;
    let known = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed = |name: &&&str| {
        let line = format!("{name} installed");
        known.lines().any(|known| known == line)
    };
    Ok(wanted
        .iter()
        .filter(|name| !installed(name))
        .copied()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_nobody_has_is_missing() {
        let missing = missing_packages(&["dpkg", "latefork-no-such-package"]).unwrap();
        assert_eq!(missing, ["latefork-no-such-package"]);
    }
}
