//! `latefork repro --engine both`: a program on both engines. Where they differ
//! in verdict, signatures or trace, that is a finding.

use std::path::Path;

use anyhow::Result;
use latefork_harness::engines::{Seen, see};
use latefork_harness::replay::Artifact;
use latefork_vmm::engine::EngineKind;
use latefork_vmm::engine::select::EngineChoice;
use serde::Serialize;

use super::{Options, Worst, plan};
use crate::lab::{Lab, LabOptions};
use crate::report;

/// A program on one flavour.
#[derive(Debug, Serialize)]
struct Report<'a> {
    program: &'a Path,
    flavour: &'a str,
    soft: Vec<Seen>,
    kvm: Vec<Seen>,
    differences: Vec<String>,
}

/// A lab, if KVM can run here: else one line says why not.
pub(super) fn lab(options: &LabOptions) -> Result<Lab> {
    Lab::on(options, EngineChoice::Only(EngineKind::Kvm))?;
    Ok(Lab::new(options))
}

/// Runs the program wherever its record wants it, on both engines.
pub(super) fn compare(lab: &mut Lab, options: &Options, path: &Path) -> Result<Worst> {
    let artifact = Artifact::read(path)?;
    let mut worst = Worst::Reproduced;
    for (wanted, _) in plan(lab, options, &artifact.record)? {
        let mut seen = |kind| -> Result<(String, Vec<Seen>)> {
            let station = lab.open(&wanted.on(kind))?;
            let runs = (0..options.times).map(|_| see(&mut station.executor, &artifact.program));
            let runs = runs.collect::<Result<_, _>>()?;
            Ok((station.setting.flavour.clone(), runs))
        };
        let (flavour, soft) = seen(EngineKind::Soft)?;
        let (_, kvm) = seen(EngineKind::Kvm)?;
        let report = Report {
            program: path,
            flavour: &flavour,
            differences: differences(&soft, &kvm),
            soft,
            kvm,
        };
        if !report.differences.is_empty() {
            worst = Worst::Differs;
        }
        if options.json {
            report::print_json(&report)?;
        } else {
            report.print(options);
        }
    }
    Ok(worst)
}

/// What differs, each difference once, with the first run that shows it.
fn differences(soft: &[Seen], kvm: &[Seen]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (run, (soft, kvm)) in (1..).zip(soft.iter().zip(kvm)) {
        for difference in soft.differences("soft", kvm, "kvm") {
            if !found.iter().any(|known| known.ends_with(&difference)) {
                found.push(format!("run {run}: {difference}"));
            }
        }
    }
    found
}

impl Report<'_> {
    fn print(&self, options: &Options) {
        if options.quiet && self.differences.is_empty() {
            return;
        }
        let result = match self.differences.is_empty() {
            true => "the same on soft and kvm",
            false => "DIVERGES",
        };
        let verdict = self.soft.first().map_or("", |seen| &seen.verdict);
        println!(
            "{} on {}: {result}: {verdict} on soft, {} runs each",
            self.program.display(),
            self.flavour,
            self.soft.len()
        );
        for line in &self.differences {
            println!("  {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_said_once_with_its_first_run() {
        let seen = |verdict: &str| Seen {
            verdict: verdict.to_owned(),
            signatures: Vec::new(),
            trace: Vec::new(),
        };
        let soft = [seen("clean"), seen("clean"), seen("clean")];
        assert_eq!(differences(&soft, &soft), [""; 0]);
        let kvm = [seen("clean"), seen("finding"), seen("finding")];
        assert_eq!(
            differences(&soft, &kvm),
            ["run 2: verdict clean on soft, finding on kvm"]
        );
    }
}
