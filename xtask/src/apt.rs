//! Installing Debian packages.

use std::process::Stdio;

use anyhow::Result;

use crate::sh;

const INSTALL: [&str; 3] = ["install", "-y", "--no-install-recommends"];

/// The command that installs `packages`, for a person to copy.
pub(crate) fn hint(packages: &[&str]) -> String {
    format!("sudo apt-get {} {}", INSTALL.join(" "), packages.join(" "))
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> Result<bool> {
    let output = sh::command("id", &["-u"]).output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// Installs `packages` from a renewed list.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    eprintln!("installing {}", packages.join(" "));
    for arguments in [&["update"][..], &[&INSTALL[..], packages].concat()] {
        sh::run(
            sh::command("apt-get", arguments)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdout(Stdio::null()),
        )?;
    }
    Ok(())
}
