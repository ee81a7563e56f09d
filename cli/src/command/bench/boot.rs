//! How long a boot takes: of the same kernel, initramfs and command line, to
//! the same line on the console, on both sides.

use std::time::Duration;

use anyhow::{Result, bail};
use latefork_cpu::Instructions;
use latefork_harness::Guest;
use latefork_harness::link::Greeting;
use latefork_vmm::engine::Deadline;
use latefork_vmm::machine::{Outcome, RunLimits};
use latefork_vmm::time::VirtualTime;
use serde::Serialize;

use super::{Options, Timed, timed};
use crate::qemu::{Clock, Qemu, QemuGuest};
use crate::report;

/// What the agent says on the console when it is ready and there is no vsock.
const READY_LINE: &str = "latefork-agent: READY";
/// Instructions within which a boot must be done.
const BUDGET: u64 = 2_000_000_000;
/// The same as time.
const PATIENCE: VirtualTime = VirtualTime(BUDGET);
/// Virtual time between two looks at the console.
const TURN: VirtualTime = VirtualTime::from_millis(1);

/// Boots, in microseconds of wall time.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// vmlinux, to the agent's hello over vsock.
    pub(super) hello: Boot,
    /// vmlinux, to the agent's line on the console.
    pub(super) ready: Boot,
    /// bzImage, to the same line.
    pub(super) ready_bzimage: Boot,
    /// bzImage under QEMU's TCG, to the same line (with its firmware).
    pub(super) qemu_ready_bzimage: Option<Timed>,
}

/// One kind of boot.
#[derive(Debug, Serialize)]
pub(super) struct Boot {
    pub(super) time: Timed,
    pub(super) instructions: u64,
    pub(super) million_instructions_per_second: f64,
}

pub(super) fn measure(guest: &Guest, options: &Options, with_qemu: bool) -> Result<Report> {
    let alone = guest.clone().without_vsock();
    let compressed = alone.clone().with_kernel(&options.bzimage())?;
    let qemu_ready_bzimage = if with_qemu {
        Some(qemu_boots(&alone, options)?)
    } else {
        None
    };
    Ok(Report {
        hello: boots(options.boots, || to_hello(guest, options))?,
        ready: boots(options.boots, || to_line(&alone, options))?,
        ready_bzimage: boots(options.boots, || to_line(&compressed, options))?,
        qemu_ready_bzimage,
    })
}

fn boots(count: usize, boot: impl Fn() -> Result<u64>) -> Result<Boot> {
    let mut instructions = 0;
    let time = Timed::of(count, || {
        let (times, retired) = timed(&boot)?;
        instructions = retired;
        Ok(times)
    })?;
    let median = Duration::from_secs_f64(time.processor_us.p50 / 1e6);
    Ok(Boot {
        time,
        instructions,
        million_instructions_per_second: report::rate(instructions, median) / 1e6,
    })
}

fn to_hello(guest: &Guest, options: &Options) -> Result<u64> {
    let mut machine = options.guest.machine(guest)?;
    let limits = RunLimits::instructions(BUDGET);
    let mut greeting = Greeting::default();
    let outcome = machine.run_until(&limits, &mut |host| greeting.poll(host))?;
    if greeting.hello()?.is_none() {
        let console = machine.take_console();
        let console = String::from_utf8_lossy(&console).into_owned();
        bail!(
            "the agent was never ready ({outcome:?}): {}",
            console.trim_end()
        );
    }
    Ok(machine.retired().0)
}

fn to_line(guest: &Guest, options: &Options) -> Result<u64> {
    let mut machine = options.guest.machine(guest)?;
    let limits = RunLimits {
        instructions: Instructions(BUDGET),
        time: TURN,
        deadline: Deadline::default(),
    };
    let mut console = String::new();
    loop {
        let outcome = machine.run(&limits)?;
        console.push_str(&String::from_utf8_lossy(&machine.take_console()));
        if console.contains(READY_LINE) {
            break;
        }
        if outcome != Outcome::TimeUp || machine.now() > PATIENCE {
            bail!(
                "the agent was never ready ({outcome:?}): {}",
                console.trim_end()
            );
        }
    }
    Ok(machine.retired().0)
}

fn qemu_boots(guest: &Guest, options: &Options) -> Result<Timed> {
    Timed::of(options.boots, || {
        let mut qemu = Qemu::start(&qemu_guest(guest, options, Clock::Host))?;
        let wall = qemu.wait_for(READY_LINE)?;
        Ok((wall, qemu.processor_time()))
    })
}

/// The same guest for QEMU, which boots its bzImage.
pub(super) fn qemu_guest(guest: &Guest, options: &Options, clock: Clock) -> QemuGuest {
    QemuGuest {
        bzimage: options.bzimage(),
        initramfs: Some(options.guest.initramfs.clone()),
        command_line: guest.command_line().to_owned(),
        memory_mib: options.guest.memory,
        clock,
    }
}
