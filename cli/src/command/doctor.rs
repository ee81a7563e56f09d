//! `latefork doctor`: what can run on this host, and what mends the rest.

mod kvm;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use self::kvm::Facts;
use crate::report;

/// How to report.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Report in JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// The command that mends it, if something is to mend.
    mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// It is there and works.
    Ok,
    /// It is missing, and something else takes its place.
    Absent,
    /// It is missing, and something cannot run.
    Missing,
}

/// Looks at everything; exit code 0 if guests can run here, else 1.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let findings = [
        soft_engine(),
        kvm::finding(&Facts::of_host()),
        file(
            "guest kernel",
            "target/guest/faithful-fuzz/vmlinux",
            "cargo xtask kernel --flavour faithful",
        ),
        file(
            "agent",
            "target/guest/agent/initramfs.cpio",
            "cargo xtask initramfs",
        ),
        qemu(),
    ];
    if options.json {
        report::print_json(&findings)?;
    } else {
        findings.iter().for_each(print);
    }
    let can_run = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Missing);
    Ok(if can_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(finding: &Finding) {
    let mark = match finding.verdict {
        Verdict::Ok => "ok     ",
        Verdict::Absent => "absent ",
        Verdict::Missing => "MISSING",
    };
    print!("{mark}  {}: {}", finding.name, finding.found);
    match &finding.mend {
        Some(mend) => println!(" -- mend: {mend}"),
        None => println!(),
    }
}

fn soft_engine() -> Finding {
    Finding {
        name: "engine soft",
        verdict: Verdict::Ok,
        found: "runs everywhere".into(),
        mend: None,
    }
}

fn file(name: &'static str, path: &str, mend: &str) -> Finding {
    match std::fs::metadata(path) {
        Ok(meta) => Finding {
            name,
            verdict: Verdict::Ok,
            found: format!("{path} ({} KiB)", meta.len() / 1024),
            mend: None,
        },
        Err(error) => Finding {
            name,
            verdict: Verdict::Missing,
            found: format!("{path}: {error}"),
            mend: Some(mend.into()),
        },
    }
}

/// QEMU is only what `bench` compares with.
fn qemu() -> Finding {
    match crate::qemu::version() {
        Some(version) => Finding {
            name: "QEMU (for bench)",
            verdict: Verdict::Ok,
            found: version,
            mend: None,
        },
        None => Finding {
            name: "QEMU (for bench)",
            verdict: Verdict::Absent,
            found: "not installed; bench goes without the comparison".into(),
            mend: Some("apt-get install qemu-system-x86 qemu-utils".into()),
        },
    }
}
