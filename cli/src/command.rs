//! The subcommands, one module each.

mod bench;
mod boot;
mod corpus;
mod doctor;
mod minimize;
mod prepare;
mod repro;
mod reproducer;
mod run;
mod show;
mod snapshot;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A hypervisor-level test harness for a system call that forks only when it
/// blocks.
#[derive(Debug, Parser)]
#[command(name = "latefork", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what can run on this host, what cannot, and how to mend it
    Doctor(doctor::Options),
    /// Boot a guest with its console on the terminal
    Boot(boot::Options),
    /// Run programs in a guest, each from the same moment, and judge them
    Run(run::Options),
    /// Run kept programs again and compare with what is recorded of them
    Repro(repro::Options),
    /// Make a program smaller and simpler that still shows the same
    Minimize(minimize::Options),
    /// Print a program as text, or write its wire form
    Show(show::Options),
    /// Write a program as C, for a machine without this harness
    Reproducer(reproducer::Options),
    /// Boot both flavours once and keep the moment that programs start from
    Prepare(prepare::Options),
    /// Boot a guest until its agent is ready and keep that moment in a file
    Snapshot(snapshot::Options),
    /// Write the fuzz targets' seeds; say what a corpus reaches, and whether its
    /// coverage is stable
    Corpus(corpus::Options),
    /// Measure boot, resets and executions, beside QEMU
    Bench(bench::Options),
}

impl Cli {
    /// Runs the subcommand. An error means that nothing could be done: exit code 2.
    pub(crate) fn run(self) -> Result<ExitCode> {
        // In `latefork repro FILE | head` the reader leaves first: that ends the
        // command, as any that prints. Those that also talk to other programs
        // see a broken pipe as an error.
        if !matches!(self.command, Command::Boot(_) | Command::Bench(_)) {
            sigpipe::reset();
        }
        match self.command {
            Command::Doctor(options) => doctor::run(&options),
            Command::Boot(options) => boot::run(&options),
            Command::Run(options) => run::run(&options),
            Command::Repro(options) => repro::run(&options),
            Command::Minimize(options) => minimize::run(&options),
            Command::Show(options) => show::run(&options),
            Command::Reproducer(options) => reproducer::run(&options),
            Command::Prepare(options) => prepare::run(&options),
            Command::Snapshot(options) => snapshot::run(&options),
            Command::Corpus(options) => corpus::run(&options),
            Command::Bench(options) => bench::run(options),
        }
    }
}
