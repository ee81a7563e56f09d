//! Traces as the guest gave them, and what one other value in each would be.
//!
//! A file in `recorded/` has parts, divided by lines of three dashes or more:
//! comments and the program, the trace as `latefork run --trace` printed it, and
//! the signatures that the oracles give for it. Then come changes: a line
//! `from => to`, with the signatures of the trace with that change alone, or
//! lines `from => to` one after the other, of which all are made.

use std::path::Path;

use super::{check_trace, trace};

/// A recorded run.
struct Recorded {
    name: String,
    program: String,
    trace: String,
    expected: Vec<String>,
    changes: Vec<Change>,
}

/// Values that a broken kernel would have given.
struct Change {
    edits: Vec<(String, String)>,
    expected: Vec<String>,
}

fn lines(part: &str) -> Vec<String> {
    let lines = part.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

fn read(path: &Path) -> Recorded {
    let text = std::fs::read_to_string(path).unwrap();
    let mut parts = vec![String::new()];
    for line in text.lines() {
        match line.starts_with("---") {
            true => parts.push(String::new()),
            false => {
                let part = parts.last_mut().unwrap();
                part.push_str(line);
                part.push('\n');
            }
        }
    }
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    assert!(parts.len() >= 3, "{name} has {} parts", parts.len());
    let changes = parts[3..].iter().map(|part| change(part)).collect();
    Recorded {
        name,
        program: parts[0].clone(),
        trace: parts[1].clone(),
        expected: lines(&parts[2]),
        changes,
    }
}

fn change(part: &str) -> Change {
    let lines = lines(part);
    let (edits, expected) = lines
        .into_iter()
        .partition(|line: &String| line.contains(" => "));
    let split = |line: &String| {
        let (from, to) = line.split_once(" => ").unwrap();
        (from.to_owned(), to.to_owned())
    };
    let edits: Vec<String> = edits;
    Change {
        edits: edits.iter().map(split).collect(),
        expected,
    }
}

fn all() -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/oracle/tests/recorded");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn check(run: &Recorded, trace: &str, expected: &[String]) {
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    eprintln!("{}", run.name);
    check_trace(&run.program, trace, &expected);
}

#[test]
fn what_was_recorded_is_judged_as_it_was() {
    for run in all() {
        assert!(!trace(&run.trace).is_empty(), "{}", run.name);
        check(&run, &run.trace, &run.expected);
    }
}

#[test]
fn one_other_value_is_judged_by_the_property_that_it_breaks() {
    for run in all() {
        for change in &run.changes {
            let mut changed = run.trace.clone();
            for (from, to) in &change.edits {
                assert_eq!(changed.matches(from).count(), 1, "{}: {from}", run.name);
                changed = changed.replace(from, to);
            }
            check(&run, &changed, &change.expected);
        }
    }
}

#[test]
fn every_property_has_a_trace_that_breaks_it_and_one_that_does_not() {
    let runs = all();
    for property in [
        "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P13",
    ] {
        let prefix = format!("p{}-", &property[1..]);
        let mine: Vec<_> = runs
            .iter()
            .filter(|run| run.name.starts_with(&prefix))
            .collect();
        let breaks = |expected: &[String]| {
            let start = format!("{property} ");
            expected.iter().any(|line| line.starts_with(&start))
        };
        let all = mine.iter().flat_map(|run| {
            let changed = run.changes.iter().map(|change| &change.expected);
            changed.chain([&run.expected])
        });
        let (broken, kept): (Vec<_>, Vec<_>) = all.partition(|expected| breaks(expected));
        assert!(!broken.is_empty(), "{property} is broken by no trace");
        assert!(!kept.is_empty(), "{property} is kept by no trace");
    }
}
