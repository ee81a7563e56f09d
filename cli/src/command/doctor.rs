//! `latefork doctor`: what can run on this host, and what mends the rest.

use std::io::ErrorKind;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use latefork_cpu::CpuModel;
use latefork_vmm::engine::select::{DEVICE, why_not_kvm};
use serde::Serialize;

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
        kvm(),
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

/// Whether the host's KVM runs our guest: only a probe guest shows that.
fn kvm() -> Finding {
    let Some(why) = why_not_kvm(CpuModel::Fuzz) else {
        return Finding {
            name: "engine kvm",
            verdict: Verdict::Ok,
            found: format!("passes the probe guest{}", nested()),
            mend: None,
        };
    };
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE);
    Finding {
        name: "engine kvm",
        verdict: Verdict::Absent,
        found: format!("{why}; soft runs instead"),
        mend: opened.err().and_then(|error| mend_of(error.kind())),
    }
}

/// What makes the device be there, or open.
fn mend_of(error: ErrorKind) -> Option<String> {
    let command = match error {
        ErrorKind::NotFound => "sudo modprobe kvm-intel || sudo modprobe kvm-amd",
        ErrorKind::PermissionDenied => "sudo usermod -aG kvm $USER, then log in again",
        _ => return None,
    };
    Some(command.to_owned())
}

/// Whether this host is a guest itself, where each exit costs more.
fn nested() -> &'static str {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if is_guest(&flags) {
        " (nested: this host is a guest itself, so exits are slow)"
    } else {
        ""
    }
}

fn is_guest(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_missing_or_forbidden_has_a_mend() {
        let missing = mend_of(ErrorKind::NotFound).unwrap();
        assert!(missing.contains("modprobe"), "{missing}");
        let forbidden = mend_of(ErrorKind::PermissionDenied).unwrap();
        assert!(forbidden.contains("usermod"), "{forbidden}");
        assert_eq!(mend_of(ErrorKind::OutOfMemory), None);
    }

    #[test]
    fn a_guest_shows_in_its_processors_flags() {
        assert!(is_guest(
            "processor : 0\nflags\t\t: fpu hypervisor lahf_lm\n"
        ));
        assert!(!is_guest("processor : 0\nflags\t\t: fpu lahf_lm\n"));
    }

    #[test]
    fn what_is_said_of_kvm_is_one_line() {
        let finding = kvm();
        assert_eq!(finding.found.lines().count(), 1, "{}", finding.found);
    }
}
