//! `cargo xtask setup`: all that fuzzing needs, on a fresh machine.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::Args;

use crate::kernel::variant::Flavour;
use crate::progress;
use crate::{agent, apt, initramfs, kernel, qemu, sh};

/// The cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";

/// The flavours of the guest kernel.
pub(crate) const FLAVOURS: [Flavour; 2] = [Flavour::Faithful, Flavour::Hardened];

/// How to set up.
#[derive(Debug, Args)]
pub(crate) struct Options {}

/// Does everything that is not done yet, and says what is ready.
pub(crate) fn run(_options: &Options) -> Result<()> {
    everything()?;
    println!("ready: cargo fuzz run hostile_args; cargo xtask fuzz; latefork doctor");
    Ok(())
}

/// Packages, cargo-fuzz, both kernels, the agent, the command, the templates.
pub(crate) fn everything() -> Result<()> {
    packages()?;
    cargo_fuzz()?;
    guests()?;
    command()?;
    templates()
}

/// Both flavours of the kernel, and the agent.
pub(crate) fn guests() -> Result<()> {
    for flavour in FLAVOURS {
        kernel::build_fuzz(flavour)?;
    }
    initramfs::build(&[], &initramfs::default_output())
}

/// Installs every missing Debian package at once; without the right to, says
/// the one command that does.
fn packages() -> Result<()> {
    if !kernel::packages::is_debian() {
        return kernel::packages::ensure();
    }
    let mut wanted = kernel::packages::debian();
    wanted.push(qemu::PACKAGE);
    wanted.extend(agent::packages());
    apt::ensure(&wanted)
}

/// Whether `program` with `arguments` runs and succeeds.
fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Installs cargo-fuzz unless one is there.
pub(crate) fn cargo_fuzz() -> Result<()> {
    if succeeds("cargo", &["fuzz", "--version"]) {
        return Ok(());
    }
    let version = format!("={CARGO_FUZZ}");
    let install = ["install", "cargo-fuzz", "--version", &version, "--locked"];
    progress::cargo("installing cargo-fuzz", &mut sh::command("cargo", &install))
        .with_context(|| format!("install it with `cargo {}`", install.join(" ")))
}

/// Installs the `latefork` command, which the line under a finding names.
fn command() -> Result<()> {
    let install = ["install", "--path", "cli", "--locked", "--force"];
    progress::cargo(
        "building the latefork command",
        &mut sh::command("cargo", &install),
    )
}

/// Boots each guest once and keeps the moment that programs start from.
fn templates() -> Result<()> {
    let bar = progress::spinner("making the templates");
    let result = sh::run(sh::command("latefork", &["prepare"]).stdout(Stdio::null()));
    bar.finish_and_clear();
    result.context("cargo's folder of installed programs must be in PATH")
}
