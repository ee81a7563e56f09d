//! What a build needs of the host, and how to get it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::source;
use crate::apt;

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
    apt::ensure(&debian())
}

/// Debian's packages of all that a build needs.
pub(crate) fn debian() -> Vec<&'static str> {
    let mut wanted = TOOLS.to_vec();
    if !source::is_given() {
        wanted.push(source::PACKAGE);
    }
    wanted
}

/// Whether this host has Debian's package manager.
pub(crate) fn is_debian() -> bool {
    starts("dpkg-query")
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
