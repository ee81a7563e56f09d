//! What is linked into the fuzz targets, and a short run of each under libFuzzer.
//!
//! It shows that the targets build, start, take their seeds and mutate. It does
//! not repeat exactly (libFuzzer orders seeds by folder and clock), so what it
//! finds in the guest is kept and named, and fails nothing: lists and
//! regressions are the checks that repeat.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{fuzz, fuzz_check, setup, sh};

/// Targets of the host's own code; the others run the guest.
const HOST_SIDE: [&str; 4] = ["cpu_any_bytes", "loader", "snapshot_file", "vsock_device"];
/// Mutated inputs of a target of the guest, and of the host's code.
const RUNS: (u32, u32) = (100, 2000);

/// Runs each target; gives what was not run, or found, and why.
pub(super) fn run() -> Result<Vec<String>> {
    if let Err(error) = setup::cargo_fuzz() {
        return Ok(vec![format!("fuzz targets: {error:#}")]);
    }
    fuzz::build(&[])?;
    fuzz_check::linked()?;
    let mut notes = Vec::new();
    for target in fuzz::targets()? {
        notes.extend(one(&target).with_context(|| format!("fuzz target {target}"))?);
    }
    Ok(notes)
}

fn one(target: &str) -> Result<Vec<String>> {
    let seeds = sh::root().join("corpora").join(target);
    let count = std::fs::read_dir(&seeds).map_or(0, Iterator::count);
    let is_host = HOST_SIDE.contains(&target);
    let runs = if is_host { RUNS.1 } else { RUNS.0 };
    let corpus = tempfile::tempdir()?;
    let mut command = fuzz::cargo_fuzz("run");
    command.arg(target).arg(corpus.path());
    if count > 0 {
        command.arg(&seeds);
    }
    let output = command
        .args(["--", "-seed=1", "-print_final_stats=1"])
        .arg(format!("-runs={}", u64::from(runs) + count as u64))
        .env("LATEFORK_STOP", "never")
        .env_remove("LATEFORK_FLAVOUR")
        .stdin(Stdio::null())
        .output()
        .context("cannot start `cargo fuzz run`")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    if !output.status.success() {
        let tail = &lines[lines.len().saturating_sub(30)..];
        bail!("{}:\n{}", output.status, tail.join("\n"));
    }
    let executed = executed(&lines).context("libFuzzer gave no count of executions")?;
    if executed < u64::from(runs) {
        bail!("only {executed} executions of {runs}");
    }
    println!("{target}: {executed} executions");
    Ok(found(target, &lines))
}

fn executed(lines: &[&str]) -> Option<u64> {
    let mark = "stat::number_of_executed_units:";
    let count = lines.iter().find_map(|line| line.strip_prefix(mark))?;
    count.trim().parse().ok()
}

/// Findings that the target kept: where they are.
fn found(target: &str, lines: &[&str]) -> Vec<String> {
    let kept = lines
        .iter()
        .filter_map(|line| line.strip_prefix("latefork: kept as "));
    kept.map(|path| format!("(found by {target}, not judged here: latefork repro {path})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_and_findings_are_read_from_the_log() {
        let lines = [
            "latefork: kept as /a/b",
            "stat::number_of_executed_units: 1234",
        ];
        assert_eq!(executed(&lines), Some(1234));
        assert_eq!(executed(&lines[..1]), None);
        assert_eq!(found("x", &lines).len(), 1);
    }

    #[test]
    fn targets_of_host_code_are_targets() {
        let targets = fuzz::targets().unwrap();
        for name in HOST_SIDE {
            assert!(targets.contains(&name.to_owned()), "{name}");
        }
    }
}
