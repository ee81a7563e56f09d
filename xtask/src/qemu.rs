//! Booting a guest kernel in QEMU: an emulator that is not ours.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::apt;

pub(crate) const PROGRAM: &str = "qemu-system-i386";
pub(crate) const PACKAGE: &str = "qemu-system-x86";

/// What every guest kernel is told (see `guest-kernel/README.md`).
const COMMAND_LINE: &str = include_str!("../../guest-kernel/command-line.txt");

/// Loops of a delay in a tick of 10 ms, at an instruction a nanosecond.
const LOOPS: &str = "lpj=5000000";

/// The command line, in one line, with `more` behind.
fn command_line(more: &str) -> String {
    let words = COMMAND_LINE.split_whitespace();
    let words = words.chain([LOOPS]).chain(more.split_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

/// The machine's processor. Neither has a TSC: the guest runs on ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// With an x87 alone.
    Pentium,
    /// With FXSR and SSE.
    PentiumThree,
}

impl Processor {
    const fn name(self) -> &'static str {
        match self {
            Self::Pentium => "pentium,-tsc",
            Self::PentiumThree => "pentium3,-tsc",
        }
    }
}

/// How time passes in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Clock {
    /// One nanosecond an instruction; waiting costs nothing
    Instructions,
    /// As on the host
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
    pub(crate) processor: Processor,
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
            .args(["-M", "pc", "-accel", "tcg", "-m", "32"])
            .args(["-cpu", self.processor.name()])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-serial", "stdio", "-monitor", "none"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .arg("-append")
            .arg(command_line(&self.append))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_one_line_with_every_word_of_the_file() {
        let line = command_line("latefork.selftest=1  panic_on_warn=1");
        assert!(!line.contains('\n') && !line.contains("  "), "{line}");
        for word in ["console=ttyS0", "norandmaps", LOOPS, "latefork.selftest=1"] {
            assert!(line.split(' ').any(|there| there == word), "{line}: {word}");
        }
    }

    #[test]
    fn readme_shows_the_command_line_that_is_used() {
        let readme = include_str!("../../guest-kernel/README.md");
        for word in COMMAND_LINE.split_whitespace() {
            assert!(readme.contains(word), "{word}");
        }
    }
}
