//! QEMU's TCG with a ROM of ours, and the processor's state by its monitor.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::qemu;

/// How long a case may take; QEMU needs a part of a second.
const LIMIT: Duration = Duration::from_secs(30);
/// Ends an answer: the echo of a command that does not exist.
const MARK: &str = "end-of-answer";

/// A machine that runs, or has stopped, with its monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// How the machine came to rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rest {
    /// At a HLT.
    Halted,
    /// In a triple fault.
    Shutdown,
}

impl Monitor {
    /// Starts a machine whose firmware is `image`; writes to port E9 go to the
    /// file `port`.
    pub(super) fn start(image: &Path, port: &Path) -> Result<Self> {
        let mut debug_console = std::ffi::OsString::from("file:");
        debug_console.push(port);
        let mut child = Command::new(qemu::PROGRAM)
            .args([
                "-M",
                "pc",
                "-cpu",
                "qemu32,+nx",
                "-accel",
                "tcg",
                "-m",
                "16",
            ])
            .args([
                "-display",
                "none",
                "-nodefaults",
                "-no-reboot",
                "-no-shutdown",
            ])
            .args(["-monitor", "stdio", "-global", "isa-debugcon.iobase=0xe9"])
            .arg("-debugcon")
            .arg(debug_console)
            .arg("-bios")
            .arg(image)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", qemu::PROGRAM))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok(Self {
                child,
                stdin,
                stdout: BufReader::new(stdout),
            }),
            _ => bail!("QEMU's monitor has no pipes"),
        }
    }

    /// Asks the monitor; the lines of its answer.
    pub(super) fn ask(&mut self, command: &str) -> Result<Vec<String>> {
        writeln!(self.stdin, "{command}\n{MARK}")?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line)? == 0 {
                bail!("QEMU ended after `{command}`: {}", lines.join("; "));
            }
            let line = line.trim_end();
            // Not the echo, which the line editor writes again and again.
            if line == format!("unknown command: '{MARK}'") {
                return Ok(lines);
            }
            lines.push(line.to_owned());
        }
    }

    /// Waits until the processor halts with nothing that could wake it.
    pub(super) fn wait(&mut self) -> Result<(Rest, State)> {
        let begin = Instant::now();
        loop {
            let status = self.ask("info status")?.join(" ");
            let state = State::parse(&self.ask("info registers")?);
            if status.contains("shutdown") {
                return Ok((Rest::Shutdown, state));
            }
            if state.get("HLT").is_ok_and(|halted| halted == 1) {
                return Ok((Rest::Halted, state));
            }
            if begin.elapsed() > LIMIT {
                bail!(
                    "QEMU runs on after {} s, at EIP {:x}",
                    LIMIT.as_secs(),
                    state.get("EIP")?
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to do here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `info registers` prints: numbers by name.
#[derive(Debug)]
pub(super) struct State(BTreeMap<String, Vec<String>>);

impl State {
    fn parse(lines: &[String]) -> Self {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in lines {
            let mut last = None;
            for word in line.replace(" =", "=").split_whitespace() {
                if let Some((name, value)) = word.split_once('=') {
                    values.insert(name.to_owned(), vec![value.to_owned()]);
                    last = Some(name.to_owned());
                } else if let Some(list) = last.as_ref().and_then(|name| values.get_mut(name)) {
                    list.push(word.to_owned());
                }
            }
        }
        Self(values)
    }

    /// The first number behind `NAME=`.
    pub(super) fn get(&self, name: &str) -> Result<u32> {
        let words = self.0.get(name).into_iter().flatten();
        let first = words.into_iter().find(|word| !word.is_empty());
        let word = first.with_context(|| format!("QEMU shows no {name}"))?;
        u32::from_str_radix(word, 16).with_context(|| format!("QEMU shows {name}={word}"))
    }
}
