//! Features of libFuzzer that need more than a loop over inputs: several
//! processes, merging, minimising. Each is run for real, on a target of the
//! guest, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::sh;

/// The target; it has the fewest seeds.
const TARGET: &str = "nested";
/// A seed that faithful does not bear: two continuations.
const CRASHER: &str = "corpora/nested/nested-with-slow-args";
/// The property that it violates.
const SIGNATURE: &str = "P5 second-continuation async";

/// What tries a feature, in a folder of its own.
type Check = fn(&Path) -> Result<()>;

/// Runs each feature; the first that does not work is the error.
pub(super) fn check() -> Result<()> {
    let features: [(&str, Check); 4] = [
        ("-merge=1", merge),
        ("-jobs, -workers", jobs),
        ("-fork=1", fork),
        ("-minimize_crash=1", minimize_crash),
    ];
    for (name, feature) in features {
        let folder = tempfile::tempdir()?;
        feature(folder.path()).with_context(|| format!("libFuzzer's {name}"))?;
        println!("{TARGET}: {name} works");
    }
    Ok(())
}

/// The target in `folder`, which keeps what libFuzzer writes.
fn target(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(super::program(TARGET));
    command
        .args(arguments)
        .current_dir(folder)
        .env("LATEFORK_SEEDS", "off");
    command
}

fn output(command: &mut Command) -> Result<Output> {
    command.output().context("cannot start the target")
}

/// The output, if the target came to its end.
fn ended(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        last.unwrap_or("no output")
    );
    Ok(text)
}

/// A folder with a copy of the seeds.
fn seeds(folder: &Path) -> Result<PathBuf> {
    let copy = folder.join("seeds");
    std::fs::create_dir(&copy)?;
    for entry in std::fs::read_dir(sh::root().join("corpora").join(TARGET))? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    Ok(copy)
}

fn files(folder: &Path) -> Result<usize> {
    Ok(std::fs::read_dir(folder)?.count())
}

/// A merge keeps inputs with features of their own, each once.
fn merge(folder: &Path) -> Result<()> {
    let seeds = seeds(folder)?;
    let merged = folder.join("merged");
    std::fs::create_dir(&merged)?;
    std::fs::copy(sh::root().join(CRASHER), seeds.join("twice"))?;
    ended(target(folder, &["-merge=1"]).arg(&merged).arg(&seeds))?;
    let (kept, all) = (files(&merged)?, files(&seeds)?);
    ensure!(
        kept > 0 && kept < all,
        "{kept} of {all} inputs kept, two of which are the same"
    );
    Ok(())
}

/// Two processes at once, each with a log and a summary of its own.
fn jobs(folder: &Path) -> Result<()> {
    let corpus = seeds(folder)?;
    let arguments = ["-jobs=2", "-workers=2", "-runs=40", "-seed=1"];
    ended(target(folder, &arguments).arg(&corpus))?;
    for log in ["fuzz-0.log", "fuzz-1.log"] {
        let text = std::fs::read_to_string(folder.join(log))?;
        ensure!(
            text.contains(" programs in "),
            "{log} does not say what was seen"
        );
    }
    Ok(())
}

/// Child processes, whose corpora are merged.
fn fork(folder: &Path) -> Result<()> {
    let corpus = seeds(folder)?;
    let arguments = ["-fork=1", "-runs=100", "-seed=1", "-max_total_time=60"];
    let text = ended(target(folder, &arguments).arg(&corpus))?;
    ensure!(
        text.contains("INFO: exiting: 0"),
        "the children found something"
    );
    Ok(())
}

/// An input with a finding becomes smaller and keeps its signature.
fn minimize_crash(folder: &Path) -> Result<()> {
    let seed = std::fs::read(sh::root().join(CRASHER))?;
    let input = folder.join("crash");
    std::fs::write(&input, &seed)?;
    let faithful = |command: &mut Command| {
        command
            .env("LATEFORK_FLAVOUR", "faithful")
            .env("LATEFORK_STOP", SIGNATURE);
    };
    let mut command = target(folder, &["-minimize_crash=1", "-runs=400", "-seed=1"]);
    faithful(&mut command);
    ended(command.arg(&input))?;
    let smallest = std::fs::read_dir(folder)?
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("minimized-")
        })
        .min_by_key(|entry| entry.metadata().map_or(u64::MAX, |data| data.len()))
        .context("nothing smaller was written")?;
    let len = smallest.metadata()?.len();
    ensure!(len < seed.len() as u64, "{len} bytes are not fewer");
    let mut command = target(folder, &[]);
    faithful(&mut command);
    let again = output(command.arg(smallest.path()))?;
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(
        text.contains(&format!("DEDUP_TOKEN: {SIGNATURE}")),
        "what is left does not show {SIGNATURE}"
    );
    Ok(())
}
