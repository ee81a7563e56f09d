//! What libFuzzer and the target say on standard error, as numbers.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Between two lines where there is no terminal.
const PLAIN: Duration = Duration::from_secs(10);
/// Lines kept for an error.
const WORDS: usize = 3;

/// A finding that the target told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) signature: String,
    /// Whether it is in the flavour's list.
    pub(super) known: bool,
    /// Where the program is kept.
    pub(super) kept: Option<String>,
}

/// A run, as far as it has got.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) executions: u64,
    pub(super) edges: u64,
    pub(super) corpus: u64,
    pub(super) findings: Vec<Finding>,
    /// When libFuzzer began.
    began: Option<Instant>,
    last: Vec<String>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            executions: 0,
            edges: 0,
            corpus: 0,
            findings: Vec::new(),
            began: None,
            last: Vec::new(),
        }
    }

    /// Takes in one line.
    pub(super) fn hear(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix('#') {
            self.hear_status(rest);
        } else if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = count.trim().parse().unwrap_or(self.executions);
        } else if let Some(rest) = line.strip_prefix("latefork: ") {
            self.hear_target(rest);
        }
        if !line.is_empty() {
            if self.last.len() == WORDS {
                self.last.remove(0);
            }
            self.last.push(line.to_owned());
        }
    }

    /// `123 NEW    cov: 2 ft: 4 corp: 5/678b lim: 9 exec/s: 10 rss: 11Mb …`
    fn hear_status(&mut self, rest: &str) {
        let mut words = rest.split_ascii_whitespace();
        let Some(executions) = words.next().and_then(|word| word.parse().ok()) else {
            return;
        };
        self.began.get_or_insert_with(Instant::now);
        self.executions = executions;
        while let Some(word) = words.next() {
            if word == "corp:" {
                let size = words.next().and_then(|word| word.split('/').next());
                self.corpus = size
                    .and_then(|size| size.parse().ok())
                    .unwrap_or(self.corpus);
            }
        }
    }

    /// `edges 123`, `finding, …: SIGNATURE`, `known finding, …: SIGNATURE`,
    /// `kept as PATH`.
    fn hear_target(&mut self, rest: &str) {
        if let Some(edges) = rest.strip_prefix("edges ") {
            self.edges = edges.trim().parse().unwrap_or(self.edges);
        } else if let Some(path) = rest.strip_prefix("kept as ") {
            if let Some(finding) = self.findings.last_mut() {
                finding.kept.get_or_insert_with(|| path.to_owned());
            }
        } else if rest.starts_with("finding, ") || rest.starts_with("known finding, ") {
            let Some((_, signature)) = rest.split_once(": ") else {
                return;
            };
            if self
                .findings
                .iter()
                .all(|finding| finding.signature != signature)
            {
                self.findings.push(Finding {
                    signature: signature.to_owned(),
                    known: rest.starts_with("known"),
                    kept: None,
                });
            }
        }
    }

    /// Since libFuzzer began.
    pub(super) fn seconds(&self) -> f64 {
        self.began
            .map_or(0.0, |began| began.elapsed().as_secs_f64())
    }

    /// Executions a second, over the whole run.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rate for people, of small positive numbers"
    )]
    pub(super) fn rate(&self) -> u64 {
        let seconds = self.seconds();
        if seconds < 0.1 {
            return 0;
        }
        (self.executions as f64 / seconds) as u64
    }

    /// The last lines, for an error.
    pub(super) fn last_words(&self) -> String {
        self.last.join(" / ")
    }

    fn line(&self) -> String {
        let new = self
            .findings
            .iter()
            .filter(|finding| !finding.known)
            .count();
        format!(
            "{} executions, {}/s, {} guest edges, {} inputs, {new} new findings, {} known",
            self.executions,
            self.rate(),
            self.edges,
            self.corpus,
            self.findings.len() - new
        )
    }
}

/// The live line: moving on a terminal, now and then elsewhere.
pub(super) struct Screen {
    bar: ProgressBar,
    printed: Instant,
}

impl Screen {
    pub(super) fn new(target: &str, flavour: &str, seconds: u64) -> Self {
        let bar = ProgressBar::new(seconds);
        let template = "{prefix} [{bar:20}] {elapsed} of {len} s  {msg}";
        let bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        bar.set_prefix(format!("{target} on {flavour}"));
        bar.enable_steady_tick(Duration::from_millis(250));
        if bar.is_hidden() {
            eprintln!("fuzzing {target} on {flavour} for {seconds} s");
        }
        Self {
            bar,
            printed: Instant::now(),
        }
    }

    /// Shows how it goes after `line`; findings stay on the screen.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole seconds of a bar"
    )]
    pub(super) fn show(&mut self, live: &Live, line: &str) {
        let told = ["latefork: finding, ", "latefork: kept as "];
        if told.iter().any(|start| line.starts_with(start)) {
            self.bar.suspend(|| eprintln!("{line}"));
        }
        self.bar.set_position(live.seconds() as u64);
        self.bar.set_message(live.line());
        if self.bar.is_hidden() && self.printed.elapsed() >= PLAIN {
            eprintln!("{}", live.line());
            self.printed = Instant::now();
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_and_findings_are_understood() {
        let mut live = Live::new();
        for line in [
            "INFO: Seed: 1",
            "#1200\tNEW    cov: 2 ft: 400 corp: 37/1203b lim: 4096 exec/s: 300 rss: 50Mb",
            "latefork: edges 5123",
            "latefork: finding, first after 1.0 s and 5 programs, 1 in all: P5 twice: x",
            "latefork: kept as /x/y",
            "latefork: known finding, first after 1.0 s and 5 programs, 9 in all: P10 stuck",
            "latefork: finding, first after 1.0 s and 5 programs, 3 in all: P5 twice: x",
            "stat::number_of_executed_units: 1300",
        ] {
            live.hear(line);
        }
        assert_eq!((live.executions, live.corpus, live.edges), (1300, 37, 5123));
        let found: Vec<_> = live
            .findings
            .iter()
            .map(|finding| {
                (
                    finding.signature.as_str(),
                    finding.known,
                    finding.kept.as_deref(),
                )
            })
            .collect();
        let expected = [
            ("P5 twice: x", false, Some("/x/y")),
            ("P10 stuck", true, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn other_lines_change_nothing() {
        let mut live = Live::new();
        for line in [
            "#not a number",
            "# ",
            "latefork: booted faithful: there was none",
            "",
        ] {
            live.hear(line);
        }
        assert_eq!((live.executions, live.findings.len()), (0, 0));
        assert!(live.last_words().contains("booted"));
    }
}
