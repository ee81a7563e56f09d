//! Trials: runs of the fuzz target, two at a time.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::sh;

/// What stands in the signature of the planted panic.
const PLANTED: &str = "planted condition reached";
/// Bytes of the longest program, for libFuzzer.
const MAX_LEN: u32 = 2048;

/// One run of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// libFuzzer's seed.
    pub(super) seed: u32,
    /// Whether the guest's map was libFuzzer's.
    pub(super) map: bool,
    /// After how many programs the condition was reached, if it was.
    pub(super) found_after: Option<u64>,
}

/// All trials.
#[derive(Debug)]
pub(super) struct Trials {
    /// The planted kernel's name.
    pub(super) kernel: String,
    /// Programs of a trial.
    pub(super) programs: u32,
    /// Trials with the map, and without.
    pub(super) count: u32,
}

impl Trials {
    /// Runs them on all processors.
    pub(super) fn run(&self) -> Result<Vec<Trial>> {
        let workers = std::thread::available_parallelism()?.get();
        let bar = indicatif::ProgressBar::new(u64::from(self.count) * 2);
        let next = AtomicU32::new(0);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.count * 2 {
                            return;
                        }
                        let trial = self.trial(number / 2 + 1, number.is_multiple_of(2));
                        bar.inc(1);
                        let mut results = results.lock().expect("no trial panics");
                        results.push(trial);
                    }
                });
            }
        });
        bar.finish_and_clear();
        results.into_inner()?.into_iter().collect()
    }

    fn trial(&self, seed: u32, map: bool) -> Result<Trial> {
        let folder = tempfile::tempdir()?;
        let output = self
            .command(seed, map, folder.path())
            .output()
            .context("cannot start the fuzz target")?;
        let found_after = found_after(&output)
            .with_context(|| format!("trial {seed} {}", if map { "with" } else { "without" }))?;
        Ok(Trial {
            seed,
            map,
            found_after,
        })
    }

    /// The same for both kinds but for the map.
    fn command(&self, seed: u32, map: bool, folder: &Path) -> Command {
        let corpus = folder.join("corpus");
        let program = "fuzz/target/x86_64-unknown-linux-gnu/release/everything";
        let mut command = sh::command(program, &[]);
        command
            .env("LATEFORK_FLAVOUR", "hardened")
            .env("LATEFORK_KERNEL", &self.kernel)
            .env("LATEFORK_STOP", PLANTED)
            .env("LATEFORK_SEEDS", "off")
            .env("LATEFORK_MAP", if map { "on" } else { "off" })
            .arg(format!("-artifact_prefix={}/", folder.display()))
            .args(["-keep_seed=1", "-len_control=0", "-timeout=600"])
            .arg(format!("-max_len={MAX_LEN}"))
            .arg(format!("-seed={seed}"))
            .arg(format!("-runs={}", self.programs));
        let _ = std::fs::create_dir(&corpus);
        command.arg(corpus);
        command
    }
}

/// After how many programs the target stopped at the condition; `None` where
/// it came to its end.
fn found_after(output: &Output) -> Result<Option<u64>> {
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(None);
    }
    let token = |line: &str| line.starts_with("DEDUP_TOKEN: ") && line.contains(PLANTED);
    if !text.lines().any(token) {
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        bail!(
            "the target stopped elsewhere: {}",
            last.unwrap_or("silently")
        );
    }
    // "latefork: found after 12.3 s and 456 programs"
    let words: Vec<&str> = text
        .lines()
        .find_map(|line| line.strip_prefix("latefork: found after "))
        .unwrap_or("")
        .split_whitespace()
        .collect();
    match words.as_slice() {
        [_, "s", "and", programs, "programs"] => Ok(Some(programs.parse()?)),
        _ => bail!("the target does not say after how many programs it stopped"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn output(signal: i32, stderr: &str) -> Output {
        Output {
            status: ExitStatus::from_raw(signal),
            stdout: Vec::new(),
            stderr: stderr.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_find_is_the_planted_panic_and_nothing_else() {
        let planted = "latefork: found after 1.5 s and 77 programs\n\
                       DEDUP_TOKEN: P12 Kernel panic - not syncing: planted condition reached\n";
        assert_eq!(found_after(&output(6, planted)).unwrap(), Some(77));
        assert_eq!(found_after(&output(0, "Done 9 runs\n")).unwrap(), None);
        let other = "latefork: found after 1.5 s and 77 programs\nDEDUP_TOKEN: P5 x\n";
        found_after(&output(6, other)).unwrap_err();
        found_after(&output(6, "")).unwrap_err();
    }

    #[test]
    fn trials_differ_in_nothing_but_the_map() {
        let trials = Trials {
            kernel: "hardened-fuzz-planted".to_owned(),
            programs: 5,
            count: 1,
        };
        let folder = tempfile::tempdir().unwrap();
        let parts = |map| {
            let command = trials.command(3, map, folder.path());
            let own = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
            let arguments: Vec<_> = command.get_args().map(own).collect();
            let environment: Vec<_> = command
                .get_envs()
                .map(|(name, value)| (own(name), value.map(own)))
                .collect();
            (arguments, environment)
        };
        let (with, without) = (parts(true), parts(false));
        assert_eq!(with.0, without.0);
        let differ = with.1.iter().zip(&without.1).filter(|(a, b)| a != b);
        let names: Vec<&str> = differ.map(|(a, _)| a.0.as_str()).collect();
        assert_eq!(names, ["LATEFORK_MAP"]);
    }
}
