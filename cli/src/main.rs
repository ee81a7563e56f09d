//! The `latefork` command.

mod command;
mod guest;
mod lab;
mod qemu;
mod report;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match command::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("latefork: {error:#}");
            ExitCode::from(2)
        }
    }
}
