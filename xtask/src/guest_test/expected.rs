//! What a flavour is expected to fail, and by which mechanism.
//!
//! One line a scenario: its name, the hazard's number, then what its part of
//! the console must contain (the oops title, the event that shows the
//! mechanism), several texts with `&&` between them. Where a defect has more
//! faces than one (memory used after it was freed shows what lies there by
//! then), all of them stand there with `||` between. `#` starts a comment.

use std::fs;

use anyhow::{Context, Result, bail};

use super::tap::{Report, Scenario, Verdict};
use crate::sh;

/// The list.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    failures: Vec<Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    scenario: String,
    hazard: u8,
    /// Faces of the defect; of one of them every text must show.
    mechanism: Vec<Vec<String>>,
}

impl Failure {
    fn shows_in(&self, console: &str) -> bool {
        let shows = |face: &Vec<String>| face.iter().all(|text| console.contains(text));
        self.mechanism.iter().any(shows)
    }

    fn mechanism(&self) -> String {
        let faces: Vec<_> = self
            .mechanism
            .iter()
            .map(|face| face.join(" && "))
            .collect();
        faces.join(" || ")
    }
}

impl Expected {
    /// Reads the list at `path`, relative to the repository.
    pub(super) fn read(path: &str) -> Result<Self> {
        let text = fs::read_to_string(sh::root().join(path))
            .with_context(|| format!("cannot read {path}"))?;
        Self::parse(&text).with_context(|| path.to_owned())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut failures: Vec<Failure> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(3, char::is_whitespace);
            let (Some(scenario), Some(hazard), Some(mechanism)) =
                (words.next(), words.next(), words.next())
            else {
                bail!(
                    "line {}: a scenario, a hazard and a mechanism are wanted",
                    at + 1
                );
            };
            let hazard = hazard
                .parse()
                .ok()
                .filter(|hazard| (1..=14).contains(hazard))
                .with_context(|| format!("line {}: `{hazard}` is no hazard 1 to 14", at + 1))?;
            if failures.iter().any(|failure| failure.scenario == scenario) {
                bail!("line {}: {scenario} stands there twice", at + 1);
            }
            failures.push(Failure {
                scenario: scenario.to_owned(),
                hazard,
                mechanism: parse_faces(mechanism)
                    .with_context(|| format!("line {}: a text is empty", at + 1))?,
            });
        }
        Ok(Self { failures })
    }

    /// The part of the list that is about scenarios of `report`: for runs that
    /// leave some out by choice.
    pub(super) fn limited_to(mut self, report: &Report) -> Self {
        let runs = |name: &str| report.scenarios().iter().any(|ran| ran.name == name);
        self.failures.retain(|failure| runs(&failure.scenario));
        self
    }

    /// Compares a report with the list; a summary in one line.
    pub(super) fn judge(&self, report: &Report) -> Result<String> {
        let mut wrong = Vec::new();
        for scenario in report.scenarios() {
            wrong.extend(self.judge_one(scenario));
        }
        for failure in &self.failures {
            let known = |scenario: &Scenario| scenario.name == failure.scenario;
            if !report.scenarios().iter().any(known) {
                wrong.push(format!("{}: no such scenario", failure.scenario));
            }
        }
        if !wrong.is_empty() {
            bail!("{} scenarios differ:\n{}", wrong.len(), wrong.join("\n"));
        }
        let failed = self.failures.len();
        let passed = report.scenarios().len() - failed;
        Ok(format!("{passed} passed, {failed} failed as listed"))
    }

    fn judge_one(&self, scenario: &Scenario) -> Option<String> {
        let name = &scenario.name;
        let listed = self
            .failures
            .iter()
            .find(|failure| failure.scenario == *name);
        match (listed, scenario.verdict) {
            (None, Verdict::Passed) => None,
            (None, verdict) => Some(format!(
                "{name}: {verdict:?}, not listed\n{}",
                scenario.console
            )),
            (Some(failure), Verdict::Passed) => Some(format!(
                "{name}: passed, but is listed for hazard {}",
                failure.hazard
            )),
            (Some(failure), _) if failure.shows_in(&scenario.console) => None,
            (Some(failure), verdict) => Some(format!(
                "{name}: {verdict:?}, but not by `{}` (hazard {})\n{}",
                failure.mechanism(),
                failure.hazard,
                scenario.console
            )),
        }
    }
}

/// `None` where a text is empty: it would show in everything.
fn parse_faces(text: &str) -> Option<Vec<Vec<String>>> {
    let texts = |face: &str| {
        face.split("&&")
            .map(|text| Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
            .collect()
    };
    text.split("||").map(texts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(console: &str) -> Report {
        let mut report = Report::default();
        report.add(console).unwrap();
        report
    }

    const LIST: &str = "# list\nnested 13 second thread && not ok\n";

    #[test]
    fn listed_failure_with_its_mechanism_is_as_expected() {
        let expected = Expected::parse(LIST).unwrap();
        let good = "1..2\n# begin 1 a\nok 1 - a\n# begin 2 nested\n#  second thread=0\nnot ok 2 - nested\n";
        assert!(expected.judge(&report(good)).is_ok());
    }

    #[test]
    fn everything_else_is_not() {
        let expected = Expected::parse(LIST).unwrap();
        for bad in [
            // Another scenario fails.
            "1..2\n# begin 1 a\nnot ok 1 - a\n# begin 2 nested\nsecond thread\nnot ok 2 - nested\n",
            // The listed one passes.
            "1..1\n# begin 1 nested\nsecond thread\nok 1 - nested\n",
            // It fails by something else.
            "1..1\n# begin 1 nested\nBUG: soft lockup\nnot ok 1 - nested\n",
            // Half of its mechanism shows.
            "1..1\n# begin 1 nested\nsecond thread\n",
            // It is not there.
            "1..1\n# begin 1 a\nok 1 - a\n",
        ] {
            assert!(expected.judge(&report(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_face_of_a_defect_is_enough_but_a_whole_one() {
        let expected = Expected::parse("uaf 8 page fault && pipe || list_del\n").unwrap();
        let of = |shown: &str| report(&format!("1..1\n# begin 1 uaf\n{shown}\n"));
        for good in ["BUG: page fault in pipe", "list_del corruption"] {
            assert!(expected.judge(&of(good)).is_ok(), "{good}");
        }
        for bad in ["BUG: page fault", "pipe", "nothing"] {
            assert!(expected.judge(&of(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn list_can_be_limited_to_what_ran() {
        let ran = report("1..1\n# begin 1 a\nok 1 - a\n");
        let expected = Expected::parse(LIST).unwrap();
        assert!(expected.judge(&ran).is_err());
        assert!(expected.limited_to(&ran).judge(&ran).is_ok());
    }

    #[test]
    fn malformed_lists_are_refused() {
        for bad in [
            "name",
            "name 13",
            "name 15 x",
            "name x y",
            "a 1 x\na 2 y",
            "a 1 x && ",
            "a 1 x ||",
        ] {
            assert!(Expected::parse(bad).is_err(), "{bad}");
        }
    }
}
