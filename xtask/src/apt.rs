//! Installing Debian packages.

use std::process::Stdio;

use anyhow::{Result, bail};

use crate::sh;

const INSTALL: [&str; 3] = ["install", "-y", "--no-install-recommends"];

/// Installs those of `wanted` that are missing.
///
/// # Errors
/// When this process is not root: with the one command that installs them.
pub(crate) fn ensure(wanted: &[&str]) -> Result<()> {
    let missing = missing(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root()? {
        bail!("missing packages; install them with: {}", hint(&missing));
    }
    install(&missing)
}

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

/// The packages of `wanted` that dpkg does not call installed.
fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
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
        let missing = missing(&["dpkg", "latefork-no-such-package"]).unwrap();
        assert_eq!(missing, ["latefork-no-such-package"]);
    }

    #[test]
    fn the_hint_is_one_command() {
        assert_eq!(
            hint(&["bc", "flex"]),
            "sudo apt-get install -y --no-install-recommends bc flex"
        );
    }
}
