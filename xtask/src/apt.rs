//! Installing Debian packages.

use std::process::Stdio;

use anyhow::{Result, bail};

use crate::progress::{self, Told};
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

/// Installs `packages` from a renewed list, with a bar for downloads and
/// installation.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let bar = progress::percent_bar(&format!("installing {}", packages.join(" ")));
    // The report of apt's status-fd (apt's doc/progress-reporting.md).
    let report = ["-o", "APT::Status-Fd=1"];
    for arguments in [&["update"][..], &[&INSTALL[..], packages].concat()] {
        let mut command = sh::command("apt-get", &report);
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        progress::watch(&mut command, Told::Stdout, &mut |line| {
            if let Some((percent, what)) = status(line) {
                bar.set_position(percent);
                bar.set_message(what.to_owned());
            }
        })?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// `dlstatus:1:12.5:text` and `pmstatus:package:12.5:text`: percent and text.
fn status(line: &str) -> Option<(u64, &str)> {
    let mut parts = line.splitn(4, ':');
    let kind = parts.next()?;
    let (_, percent, text) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = percent.split('.').next()?.parse().ok()?;
    matches!(kind, "dlstatus" | "pmstatus").then_some((whole, text))
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

    #[test]
    fn a_status_line_gives_percent_and_text() {
        let line = "dlstatus:3:12.75:Retrieving file 3 of 9";
        assert_eq!(status(line), Some((12, "Retrieving file 3 of 9")));
        let line = "pmstatus:bc:50.0000:Unpacking bc (amd64)";
        assert_eq!(status(line), Some((50, "Unpacking bc (amd64)")));
        assert_eq!(status("Reading package lists..."), None);
        assert_eq!(status("Get:1 http://x y"), None);
    }
}
