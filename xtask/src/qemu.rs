//! Booting a guest kernel in QEMU: an emulator that is not ours.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::apt;

const PROGRAM: &str = "qemu-system-i386";
const PACKAGE: &str = "qemu-system-x86";

/// The command line that every guest kernel gets (see `guest-kernel/README.md`).
const APPEND: &str = "console=ttyS0 loglevel=5 norandmaps panic=-1 clocksource=jiffies lpj=5000000 \
    rcupdate.rcu_cpu_stall_suppress=1 sysctl.kernel.hung_task_check_interval_secs=1 \
    sysctl.kernel.panic_on_stackoverflow=1";

/// How time passes in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// One nanosecond an instruction; waiting costs nothing.
    Instructions,
    /// As on the host.
    Host,
}

impl Clock {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Instructions => "-icount shift=0,sleep=off",
            Self::Host => "host clock",
        }
    }
}

/// One boot.
#[derive(Debug)]
pub(crate) struct Boot<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// What is added to the kernel's command line.
    pub(crate) append: String,
    pub(crate) clock: Clock,
    /// Wall-clock limit: a backstop, not a verdict.
    pub(crate) limit: Duration,
}

/// What a boot printed, and how QEMU ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The console, without carriage returns.
    pub(crate) console: String,
    /// QEMU's exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
}

/// Installs QEMU, as root, where it is missing.
pub(crate) fn ensure() -> Result<()> {
    let mut version = Command::new(PROGRAM);
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if version.status().is_ok() {
        return Ok(());
    }
    apt::ensure(&[PACKAGE])
}

impl Boot<'_> {
    /// Runs the machine to its end; gives what the console printed.
    pub(crate) fn run(&self) -> Result<String> {
        let run = self.run_with(&[])?;
        if run.code != Some(0) {
            bail!("{PROGRAM} failed ({:?})", run.code);
        }
        Ok(run.console)
    }

    /// The same with further arguments for QEMU, some of which give its exit
    /// code a meaning.
    pub(crate) fn run_with(&self, arguments: &[&str]) -> Result<Run> {
        let mut child = self
            .command()
            .args(arguments)
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        let mut stdout = child.stdout.take().context("the console is a pipe")?;
        let (sender, receiver) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let result = stdout.read_to_end(&mut bytes);
            // The other side may have given up.
            let _ = sender.send(());
            result.map(|_| bytes)
        });
        let in_time = receiver.recv_timeout(self.limit).is_ok();
        let code = end(&mut child, in_time)?;
        let bytes = match reader.join() {
            Ok(bytes) => bytes?,
            Err(_) => bail!("the console's reader failed"),
        };
        let console = String::from_utf8_lossy(&bytes).replace('\r', "");
        if !in_time {
            let tail: Vec<_> = console.lines().rev().take(20).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            bail!(
                "the guest did not end within {} s; its last lines:\n{}",
                self.limit.as_secs(),
                tail.join("\n")
            );
        }
        Ok(Run { console, code })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args([
                "-M",
                "pc",
                "-accel",
                "tcg",
                "-cpu",
                "pentium,-tsc",
                "-m",
                "32",
            ])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-serial", "stdio", "-monitor", "none"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .arg("-append")
            .arg(format!("{APPEND} {}", self.append))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if self.clock == Clock::Instructions {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        command
    }
}

fn end(child: &mut Child, in_time: bool) -> Result<Option<i32>> {
    if !in_time {
        child.kill()?;
    }
    Ok(child.wait()?.code())
}
