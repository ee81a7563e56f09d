//! `cargo xtask`: set-up, guest builds and checks of this repository.

mod cpu_diff;
mod kernel;
mod sh;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set-up, guest builds and checks of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the guest kernel.
    Kernel(kernel::Options),
    /// Run every check: formatting, lints, documentation, tests.
    Test(test::Options),
    /// Compare the CPU with the host processor, instruction by instruction.
    CpuDiff(cpu_diff::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Kernel(options) => kernel::run(&options),
        Command::Test(options) => test::run(&options),
        Command::CpuDiff(options) => cpu_diff::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
