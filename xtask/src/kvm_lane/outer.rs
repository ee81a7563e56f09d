//! The outer machine: QEMU's emulation of a processor with SVM.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const PROGRAM: &str = "qemu-system-x86_64";
/// Exit codes that `isa-debug-exit` makes of what `exit.c` writes.
const PASSED: i32 = 33;
const FAILED: i32 = 35;
/// How much of the console an error shows, in lines.
const TAIL: usize = 30;

/// How the lane ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every program passed.
    Passed,
    /// One failed.
    Failed,
    /// The machine ended without a word: a panic, a reset, an abort of QEMU.
    Died(String),
    /// The limit passed first.
    Hung(String),
}

/// One boot of the outer machine.
#[derive(Debug)]
pub(super) struct Outer<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: PathBuf,
    /// Where the second serial line goes.
    pub(super) report: PathBuf,
    pub(super) limit: Duration,
}

impl Outer<'_> {
    /// Runs the machine to its end, or to the limit.
    pub(super) fn run(&self) -> Result<Verdict> {
        let console = self.report.with_extension("console");
        let log = File::create(&console)
            .with_context(|| format!("cannot write {}", console.display()))?;
        // A report of an earlier run must not be taken for this one's.
        fs::write(&self.report, "")?;
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        let end = Instant::now() + self.limit;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() >= end {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        Ok(verdict(status, &tail(&fs::read(&console)?)))
    }

    fn command(&self) -> Command {
        let mut report = std::ffi::OsString::from("file:");
        report.push(&self.report);
        let mut command = Command::new(PROGRAM);
        // One CPU on q35: with two, and on microvm, it hangs now and then.
        command
            .args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "EPYC"])
            .args(["-m", "1G", "-smp", "1", "-display", "none", "-nodefaults"])
            .args([
                "-no-reboot",
                "-monitor",
                "none",
                "-serial",
                "stdio",
                "-serial",
            ])
            .arg(report)
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"])
            .args(["-append", "console=ttyS0 panic=-1 quiet"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs);
        command
    }
}

fn verdict(status: Option<ExitStatus>, console: &str) -> Verdict {
    match status.map(|status| status.code()) {
        None => Verdict::Hung(console.to_owned()),
        Some(Some(PASSED)) => Verdict::Passed,
        Some(Some(FAILED)) => Verdict::Failed,
        Some(_) => Verdict::Died(console.to_owned()),
    }
}

fn tail(console: &[u8]) -> String {
    let text = String::from_utf8_lossy(console).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn only_its_own_exit_code_is_a_pass() {
        let of = |code: i32| verdict(Some(ExitStatus::from_raw(code << 8)), "x");
        assert_eq!(of(33), Verdict::Passed);
        assert_eq!(of(35), Verdict::Failed);
        let died = || Verdict::Died("x".to_owned());
        assert_eq!([of(0), of(1), of(134)], [died(), died(), died()]);
        // Ended by a signal.
        assert_eq!(verdict(Some(ExitStatus::from_raw(6)), "x"), died());
        assert_eq!(verdict(None, "x"), Verdict::Hung("x".to_owned()));
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let text: String = (0..40).map(|n| format!("{n}\r\n")).collect();
        let tail = tail(text.as_bytes());
        assert_eq!(tail.lines().count(), TAIL);
        assert!(tail.starts_with("10\n") && tail.ends_with("39"));
    }
}
