//! The conformance suite of `latefork-cpu` on KVM, against a committed list of
//! what differs there, and why.

use std::collections::{BTreeMap, BTreeSet};

use latefork_cpu::conformance::{Case, check, parse};
use latefork_vmm::engine::kvm::KvmCases;

/// The list: a line `reason: TEXT`, and below it a line for each case that
/// differs for that reason.
const DIFFERENCES: &str = include_str!("differences.txt");

/// Every file of the suite, read.
fn suite() -> Vec<Case> {
    [
        (
            "user.txt",
            include_str!("../../../cpu/conformance/user.txt"),
        ),
        (
            "system.txt",
            include_str!("../../../cpu/conformance/system.txt"),
        ),
    ]
    .into_iter()
    .flat_map(|(name, text)| parse(text).unwrap_or_else(|error| panic!("{name}: {error}")))
    .collect()
}

/// The cases that are listed, with their reasons.
fn listed() -> BTreeMap<&'static str, &'static str> {
    let mut reason = None;
    let mut listed = BTreeMap::new();
    for line in DIFFERENCES.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(text) = line.strip_prefix("reason: ") {
            reason = Some(text);
            continue;
        }
        let reason = reason.unwrap_or_else(|| panic!("`{line}` stands above the first reason"));
        assert_eq!(listed.insert(line, reason), None, "{line} is listed twice");
    }
    listed
}

#[test]
fn instructions_do_what_the_suite_says_but_for_what_is_listed() {
    let cases = suite();
    let mut engine = KvmCases::new(&cases).unwrap();
    let mut listed = listed();
    let mut wrong = Vec::new();
    let mut found = BTreeMap::<&str, BTreeSet<&str>>::new();
    for case in &cases {
        let differences = check(case, &mut engine);
        let known = listed.remove(case.name.as_str());
        match (differences.is_empty(), known) {
            (true, None) => {}
            (false, Some(reason)) => {
                found.entry(reason).or_default().insert(&case.name);
            }
            (true, Some(_)) => wrong.push(format!("{}: listed, but does not differ", case.name)),
            (false, None) => {
                wrong.push(format!("{}: not listed: {}", case.name, differences.join("; ")));
            }
        }
    }
    let gone = listed.keys().map(|name| format!("{name}: listed, but no case"));
    wrong.extend(gone);
    println!(
        "kvm: conformance: {} cases, {} as listed differ:",
        cases.len(),
        found.values().map(BTreeSet::len).sum::<usize>()
    );
    for (reason, names) in &found {
        println!("kvm:   {} of them: {reason}", names.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
