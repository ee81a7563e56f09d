//! The self-test's console: TAP, with each scenario's own part of it.

use anyhow::{Result, bail};

/// How a scenario ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every expectation held.
    Passed,
    /// One did not.
    Failed,
    /// The machine ended in it.
    Ended,
}

/// One scenario, with what the console printed meanwhile.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) verdict: Verdict,
    pub(super) console: String,
}

/// Scenarios over one or more boots.
#[derive(Debug, Default)]
pub(super) struct Report {
    scenarios: Vec<Scenario>,
    planned: Option<usize>,
}

impl Report {
    pub(super) fn scenarios(&self) -> &[Scenario] {
        &self.scenarios
    }

    /// Number of the scenario that comes next, from 1.
    pub(super) fn next(&self) -> usize {
        self.scenarios.len() + 1
    }

    /// Whether as many scenarios ended as the plan says.
    pub(super) fn is_complete(&self) -> bool {
        self.planned == Some(self.scenarios.len())
    }

    /// Takes one boot's console in.
    pub(super) fn add(&mut self, console: &str) -> Result<()> {
        let mut open: Option<Scenario> = None;
        for line in console.lines() {
            if let Some(plan) = line.strip_prefix("1..") {
                let plan = plan.trim().parse()?;
                if self.planned.is_some_and(|planned| planned != plan) {
                    bail!("two boots plan different numbers of scenarios");
                }
                self.planned = Some(plan);
            } else if let Some(begun) = line.strip_prefix("# begin ") {
                let name = begun.split_whitespace().nth(1).unwrap_or("?");
                open = Some(Scenario {
                    name: name.to_owned(),
                    verdict: Verdict::Ended,
                    console: String::new(),
                });
            } else if let Some(scenario) = &mut open {
                scenario.console.push_str(line);
                scenario.console.push('\n');
                let verdict = if line.starts_with("ok ") {
                    Verdict::Passed
                } else if line.starts_with("not ok ") {
                    Verdict::Failed
                } else {
                    continue;
                };
                scenario.verdict = verdict;
                self.scenarios.extend(open.take());
            }
        }
        self.scenarios.extend(open);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "boot\nTAP version 13\n1..3\n# begin 1 one\n#   trace\nok 1 - one\n\
                        # begin 2 two\nBUG: x\n";

    #[test]
    fn scenario_that_ends_the_machine_is_kept_and_the_next_one_goes_on() {
        let mut report = Report::default();
        report.add(BOOT).unwrap();
        assert_eq!(report.next(), 3);
        assert!(!report.is_complete());
        report
            .add("1..3\n# begin 3 three\nnot ok 3 - three # why\n# 1 failed\n")
            .unwrap();
        assert!(report.is_complete());
        let verdicts: Vec<_> = report.scenarios().iter().map(|s| s.verdict).collect();
        assert_eq!(verdicts, [Verdict::Passed, Verdict::Ended, Verdict::Failed]);
        assert!(report.scenarios()[1].console.contains("BUG: x"));
        assert_eq!(report.scenarios()[2].name, "three");
    }

    #[test]
    fn boots_of_different_agents_are_refused() {
        let mut report = Report::default();
        report.add("1..3\n").unwrap();
        assert!(report.add("1..4\n").is_err());
    }
}
