//! `cargo xtask test`: every check of this repository, in order of cost.

use anyhow::Result;
use clap::Args;

use crate::kernel::variant::Flavour;
use crate::{agent, guest_test, initramfs, kernel, sh};

const FLAVOURS: [Flavour; 2] = [Flavour::Faithful, Flavour::Hardened];

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct Options {}

/// Runs every check and stops at the first that fails.
pub(crate) fn run(_options: &Options) -> Result<()> {
    sh::run(&mut sh::command("cargo", &["fmt", "--all", "--check"]))?;
    sh::run(&mut sh::command(
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    ))?;
    sh::run(
        sh::command("cargo", &["doc", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    agent::lint()?;
    build_guests()?;
    sh::run(&mut sh::command("cargo", &["test", "--workspace"]))?;
    for flavour in FLAVOURS {
        kernel::test_fuzz(flavour)?;
    }
    guest_test::run(&guest_test::Options::default())
}

/// Both flavours and the agent: tests boot them.
fn build_guests() -> Result<()> {
    for flavour in FLAVOURS {
        kernel::build_fuzz(flavour)?;
    }
    initramfs::build(&[], &initramfs::default_output())
}
