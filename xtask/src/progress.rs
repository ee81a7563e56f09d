//! What one sees of long work: bars on a terminal, plain lines elsewhere.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Lines of a failed command's output that are shown.
const TAIL: usize = 20;

/// A progress display without a known end.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    announce(&bar, what);
    bar.enable_steady_tick(Duration::from_millis(120));
    styled(bar, "{spinner} {elapsed} {wide_msg}").with_message(what.to_owned())
}

/// A progress bar over `length` bytes.
pub(crate) fn bytes_bar(what: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    announce(&bar, what);
    styled(bar, "{msg} [{bar:30}] {bytes}/{total_bytes} {eta}")
}

/// A progress bar from 0 to 100 percent.
pub(crate) fn percent_bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::new(100).with_message(what.to_owned());
    announce(&bar, what);
    styled(bar, "[{bar:30}] {pos:>3} % {wide_msg}")
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Where there is no terminal to draw on, one plain line says what goes on.
fn announce(bar: &ProgressBar, what: &str) {
    if bar.is_hidden() {
        eprintln!("{what}");
    }
}

/// Which of a command's outputs tells how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Standard output; the other is kept for errors.
    Stdout,
    /// Standard error; the other is dropped.
    Stderr,
}

/// Runs `command` to its end and gives each line of its output to `tell`, which
/// moves a bar. An exit code other than 0 is an error with the last lines.
pub(crate) fn watch(command: &mut Command, told: Told, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null());
    match told {
        Told::Stdout => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
        Told::Stderr => command.stdout(Stdio::null()).stderr(Stdio::piped()),
    };
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{program}`"))?;
    let errors = child.stderr.take().context("standard error is a pipe")?;
    let lines = match child.stdout.take() {
        Some(stdout) => {
            // Read beside, so that neither pipe fills up.
            let other = std::thread::spawn(move || all_lines(errors));
            let mut lines = follow(stdout, tell)?;
            lines.extend(other.join().unwrap_or_default());
            lines
        }
        None => follow(errors, tell)?,
    };
    let status = child.wait()?;
    if !status.success() {
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        bail!("`{program}` failed ({status}):\n{}", tail.join("\n"));
    }
    Ok(())
}

fn all_lines(input: impl Read) -> Vec<String> {
    BufReader::new(input)
        .lines()
        .map_while(Result::ok)
        .collect()
}

fn follow(input: impl Read, tell: &mut dyn FnMut(&str)) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for line in BufReader::new(input).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        tell(&line);
        lines.push(line);
    }
    Ok(lines)
}

/// Runs a cargo command that compiles, with a count of what it compiled.
pub(crate) fn cargo(what: &str, command: &mut Command) -> Result<()> {
    let bar = spinner(what);
    let mut compiled = 0_u32;
    let result = watch(command, Told::Stderr, &mut |line| {
        if let Some(name) = line.trim_start().strip_prefix("Compiling ") {
            compiled += 1;
            bar.set_message(format!("{what}: {compiled} compiled, now {name}"));
        }
    });
    bar.finish_and_clear();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_followed_line_by_line() {
        let mut seen = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo a; echo b; echo c >&2"]);
        watch(&mut command, Told::Stdout, &mut |line| {
            seen.push(line.to_owned())
        })
        .unwrap();
        assert_eq!(seen, ["a", "b"]);
    }

    #[test]
    fn a_failure_shows_the_last_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        let error = watch(&mut command, Told::Stderr, &mut |_| {}).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("why") && text.contains("`sh`"), "{text}");
    }
}
