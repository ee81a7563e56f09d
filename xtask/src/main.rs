//! `cargo xtask`: set-up, guest builds and checks of this repository.

mod agent;
mod apt;
mod arguments;
mod cpu_diff;
mod cpu_golden;
mod fuzz;
mod fuzz_check;
mod guest_test;
mod initramfs;
mod kernel;
mod kvm_lane;
mod planted;
mod progress;
mod qemu;
mod replay_proof;
mod setup;
mod sh;
mod test;
#[cfg(test)]
mod unsafe_list;

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
    /// Make everything ready, then fuzz, with a live line and a summary.
    Fuzz(fuzz::Options),
    /// Install what is missing, build the guests and make their templates.
    Setup(setup::Options),
    /// Build the guest kernel.
    Kernel(kernel::Options),
    /// Build the guest agent.
    Agent(agent::Options),
    /// Pack the agent, and programs, into an initramfs.
    Initramfs(initramfs::Options),
    /// Boot the guest in QEMU and run the agent's self-test.
    GuestTest(guest_test::Options),
    /// Run the KVM engine's tests on an emulated processor with KVM.
    KvmLane(kvm_lane::Options),
    /// Run every check: formatting, lints, documentation, tests.
    Test(test::Options),
    /// Build the fuzz targets and check what is linked into them.
    FuzzCheck(fuzz_check::Options),
    /// Show that the guest's coverage finds a planted condition, and chance does
    /// not.
    Planted(planted::Options),
    /// Replay a finding 100 times: fresh processes, after other programs, in a
    /// debug build.
    ReplayProof(replay_proof::Options),
    /// Compare the CPU with the host processor, instruction by instruction.
    CpuDiff(cpu_diff::Options),
    /// Make the CPU's golden data anew from the host processor and QEMU, or compare it.
    CpuGolden(cpu_golden::Options),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return arguments::refuse(&error),
    };
    let result = match cli.command {
        Command::Fuzz(options) => return fuzz::run(&options),
        Command::Setup(options) => setup::run(&options),
        Command::ReplayProof(options) => replay_proof::run(&options),
        Command::Kernel(options) => kernel::run(&options),
        Command::Agent(options) => agent::run(&options),
        Command::Initramfs(options) => initramfs::run(&options),
        Command::GuestTest(options) => guest_test::run(&options),
        Command::KvmLane(options) => kvm_lane::run(&options),
        Command::Test(options) => test::run(&options),
        Command::FuzzCheck(options) => fuzz_check::run(&options),
        Command::Planted(options) => planted::run(&options),
        Command::CpuDiff(options) => cpu_diff::run(&options),
        Command::CpuGolden(options) => cpu_golden::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
