//! `cargo xtask test`: every check of this repository, in order of cost.

use anyhow::Result;
use clap::Args;

use crate::{guest_test, sh};

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
    sh::run(&mut sh::command("cargo", &["test", "--workspace"]))?;
    guest_test::run(&guest_test::Options::default())
}
