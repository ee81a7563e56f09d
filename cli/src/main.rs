//! The `latefork` command.

mod command;
mod guest;
mod lab;
mod qemu;
mod report;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

fn main() -> ExitCode {
    let outcome = match command::Cli::try_parse() {
        Ok(command) => command.run(),
        // A value out of range is bad input as any other: one line.
        Err(error) if error.kind() == ErrorKind::ValueValidation => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Err(anyhow::anyhow!("{}", line.trim_start_matches("error: ")))
        }
        Err(error) => error.exit(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("latefork: {error:#}");
        ExitCode::from(2)
    })
}
