//! `cargo xtask fuzz`: set up, fuzz a target, show how it goes, sum it up.

mod live;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::live::{Live, Screen};
use crate::kernel::variant::Flavour;
use crate::{progress, setup, sh};

/// What to fuzz, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The fuzz target
    #[arg(default_value = "everything")]
    target: String,
    /// Seconds, after everything is built; `90s`, `10m` and `8h` too
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = seconds)]
    time: u64,
    /// The guest kernel
    #[arg(long, value_enum, default_value_t = Flavour::Hardened)]
    flavour: Flavour,
    /// Sum up in JSON, on standard output
    #[arg(long)]
    json: bool,
    /// Further arguments for libFuzzer
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// How it went.
#[derive(Debug, Serialize)]
struct Summary {
    target: String,
    flavour: String,
    engine: String,
    seconds: f64,
    executions: u64,
    executions_per_second: u64,
    guest_edges: u64,
    corpus: u64,
    findings: Vec<live::Finding>,
    findings_folder: PathBuf,
    log: PathBuf,
}

/// Fuzzes. Exit code 1: something was found that is not known; 2: it could not
/// run.
pub(crate) fn run(options: &Options) -> ExitCode {
    match fuzz(options) {
        Ok(summary) => {
            let new = summary.findings.iter().any(|finding| !finding.known);
            ExitCode::from(u8::from(new))
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn fuzz(options: &Options) -> Result<Summary> {
    let targets = targets()?;
    if !targets.contains(&options.target) {
        bail!(
            "no fuzz target `{}`: there are {}",
            options.target,
            targets.join(", ")
        );
    }
    setup::everything()?;
    build(&[&options.target])?;
    let engine = engine()?;
    eprintln!("{engine}");
    let summary = run_target(options, engine)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print(&summary);
    }
    Ok(summary)
}

/// The names of all fuzz targets, as their manifest has them.
pub(crate) fn targets() -> Result<Vec<String>> {
    let path = sh::root().join("fuzz/Cargo.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let names = text.split("[[bin]]").skip(1).filter_map(|section| {
        let line = section.lines().find(|line| line.starts_with("name"))?;
        line.split('"').nth(1).map(str::to_owned)
    });
    Ok(names.collect())
}

/// Builds targets with libFuzzer; no name: all of them.
pub(crate) fn build(targets: &[&str]) -> Result<()> {
    let mut command = cargo_fuzz("build");
    progress::cargo("building fuzz targets", command.args(targets))
}

/// `cargo fuzz`, as users start it.
pub(crate) fn cargo_fuzz(command: &str) -> Command {
    sh::command("cargo", &["fuzz", command])
}

/// A line of `latefork doctor`.
#[derive(Deserialize)]
struct Diagnosis {
    name: String,
    verdict: String,
    found: String,
}

/// Which engine runs the guests, and why: one line.
fn engine() -> Result<String> {
    let output = sh::command("latefork", &["doctor", "--json"])
        .output()
        .context("cannot start `latefork doctor`")?;
    let found: Vec<Diagnosis> =
        serde_json::from_slice(&output.stdout).context("the JSON of `latefork doctor`")?;
    let kvm = found.iter().find(|found| found.name == "engine kvm");
    let soft = |why: &str| format!("engine soft, the deterministic software CPU ({why})");
    let asked = std::env::var("LATEFORK_ENGINE").is_ok_and(|engine| engine == "soft");
    Ok(match kvm {
        _ if asked => soft("as LATEFORK_ENGINE asks for"),
        Some(kvm) if kvm.verdict == "ok" => {
            let found = &kvm.found;
            format!("engine kvm ({found}); what it finds is confirmed on soft")
        }
        Some(kvm) => soft(&kvm.found),
        None => soft("doctor says nothing of KVM"),
    })
}

/// Runs libFuzzer and follows what it says.
fn run_target(options: &Options, engine: String) -> Result<Summary> {
    let flavour = options.flavour.to_string();
    let log = sh::root().join(format!("target/fuzz-logs/{}-{flavour}.log", options.target));
    let folder = log.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = cargo_fuzz("run")
        .arg(&options.target)
        .arg("--")
        .arg(format!("-max_total_time={}", options.time))
        .arg("-print_final_stats=1")
        .args(&options.arguments)
        .env("LATEFORK_FLAVOUR", &flavour)
        .env("LATEFORK_STOP", "never")
        .env("LATEFORK_LIVE", "on")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `cargo fuzz run`")?;
    let stderr = child.stderr.take().context("standard error is a pipe")?;
    let mut live = Live::new();
    let mut screen = Screen::new(&options.target, &flavour, options.time);
    for line in BufReader::new(stderr).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(file, "{line}")?;
        live.hear(&line);
        screen.show(&live, &line);
    }
    let status = child.wait()?;
    screen.end();
    if !status.success() && live.executions == 0 {
        bail!(
            "the target did not run: {}; all of it in {}",
            live.last_words(),
            log.display()
        );
    }
    let seconds = live.seconds();
    Ok(Summary {
        target: options.target.clone(),
        engine,
        seconds,
        executions: live.executions,
        executions_per_second: live.rate(),
        guest_edges: live.edges,
        corpus: live.corpus,
        findings_folder: sh::root().join("target/findings").join(&flavour),
        flavour,
        findings: live.findings,
        log,
    })
}

fn print(summary: &Summary) {
    println!(
        "{} on {}: {} executions in {:.0} s ({} a second), {} guest edges, {} inputs in the corpus",
        summary.target,
        summary.flavour,
        summary.executions,
        summary.seconds,
        summary.executions_per_second,
        summary.guest_edges,
        summary.corpus
    );
    let new = summary
        .findings
        .iter()
        .filter(|finding| !finding.known)
        .count();
    let known = summary.findings.len() - new;
    println!("{new} new findings, {known} known");
    for finding in summary.findings.iter().filter(|finding| !finding.known) {
        println!("  {}", finding.signature);
        if let Some(path) = &finding.kept {
            println!("    again: latefork repro {path}");
        }
    }
    if new > 0 {
        println!("findings are in {}", summary.findings_folder.display());
    }
    println!("log: {}", summary.log.display());
}

/// `90`, `90s`, `10m`, `8h`.
fn seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is no time: use seconds, or 90s, 10m, 8h"))?;
    match number.checked_mul(unit) {
        Some(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(format!("`{text}` is no time to fuzz for")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(seconds("60"), Ok(60));
        assert_eq!(seconds("8h"), Ok(8 * 3600));
        assert_eq!(seconds("10m"), Ok(600));
        for wrong in ["", "0", "x", "5d", "-1", "99999999999999999h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_manifest_names_the_targets() {
        let names = targets().unwrap();
        assert!(names.contains(&"everything".to_owned()));
        assert!(names.contains(&"vsock_device".to_owned()));
        assert!(names.len() >= 9, "{names:?}");
    }
}
