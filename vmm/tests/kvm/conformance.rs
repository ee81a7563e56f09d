//! The conformance suite of `latefork-cpu` on KVM, against a committed list of
//! what differs there, and why.

use std::collections::BTreeSet;

use latefork_cpu::conformance::{Case, check, parse};
use latefork_vmm::engine::kvm::KvmCases;

/// The list; its head says how it is read.
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

/// Why cases differ.
#[derive(Debug, Default)]
struct Reason {
    text: &'static str,
    /// Kinds of differences that it explains.
    explains: BTreeSet<&'static str>,
    cases: BTreeSet<&'static str>,
}

fn reasons(text: &'static str) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(text) = line.strip_prefix("reason: ") {
            reasons.push(Reason {
                text,
                ..Reason::default()
            });
            continue;
        }
        let Some(last) = reasons.last_mut() else {
            panic!("`{line}` stands above the first reason");
        };
        match line.strip_prefix("explains: ") {
            Some(kinds) => last.explains.extend(kinds.split(' ')),
            None => assert!(last.cases.insert(line), "{line} stands there twice"),
        }
    }
    reasons
}

/// What differs, in a word: by the texts of `conformance::compare`.
fn kind(difference: &str) -> &str {
    let mut words = difference.split(' ');
    let first = words.next().unwrap_or_default();
    let byte = words.next().and_then(|byte| byte.parse().ok());
    match (first, byte) {
        // The layout of an FXSAVE image: SDM volume 1, table 10-2.
        ("byte", Some(2 | 3)) => "fsw",
        ("byte", Some(4)) => "ftw",
        ("byte", Some(8..12)) => "fip",
        ("byte", Some(24..28)) => "mxcsr",
        ("byte", Some(at @ 32..160)) if at % 16 < 8 => "mantissa",
        ("byte", Some(32..160)) => "exponent",
        ("byte", Some(160..)) => "xmm",
        // Bit 16 of EFLAGS on the stack.
        ("memory", _) if difference.ends_with("is [00], expected [01]") => "resume-flag",
        ("memory", _) if difference.ends_with("is [21], expected [01]") => "accessed",
        ("ends", _) => "ending",
        (other, _) => other,
    }
}

/// What is wrong with the list, of a case that differs so.
fn judge(name: &str, differences: &[String], reasons: &[Reason]) -> Vec<String> {
    let kinds: BTreeSet<&str> = differences.iter().map(|text| kind(text)).collect();
    let mut open = kinds.clone();
    let mut wrong = Vec::new();
    for reason in reasons.iter().filter(|reason| reason.cases.contains(name)) {
        if kinds.is_disjoint(&reason.explains) {
            wrong.push(format!(
                "{name}: listed, but does not differ: {}",
                reason.text
            ));
        }
        open.retain(|kind| !reason.explains.contains(kind));
    }
    let unlisted: Vec<&str> = differences
        .iter()
        .map(String::as_str)
        .filter(|text| open.contains(kind(text)))
        .collect();
    if !unlisted.is_empty() {
        wrong.push(format!("{name}: not listed: {}", unlisted.join("; ")));
    }
    wrong
}

#[test]
fn instructions_do_what_the_suite_says_but_for_what_is_listed() {
    let cases = suite();
    let reasons = reasons(DIFFERENCES);
    let mut engine = KvmCases::new(&cases).unwrap();
    let mut wrong = Vec::new();
    let mut differing = 0;
    for case in &cases {
        let differences = check(case, &mut engine);
        differing += usize::from(!differences.is_empty());
        wrong.extend(judge(&case.name, &differences, &reasons));
    }
    println!(
        "kvm: conformance: {} cases, {differing} differ:",
        cases.len()
    );
    let known: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    for reason in &reasons {
        println!("kvm: {:>5}  {}", reason.cases.len(), reason.text);
        let gone = reason.cases.difference(&known);
        wrong.extend(gone.map(|name| format!("{name}: listed, but there is no such case")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_list_that_is_not_true_is_found_out() {
    let reasons = reasons("reason: a\nexplains: eax fip\nx\ny\nreason: b\nexplains: ending\nx\n");
    let judged = |name, differences: &[&str]| {
        let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
        judge(name, &differences, &reasons)
    };
    let (eax, ends) = (
        "eax is 0, expected 1",
        "ends with Halted, expected Shutdown",
    );
    assert_eq!(judged("x", &[eax, ends]), [""; 0]);
    assert_eq!(judged("x", &[eax]), ["x: listed, but does not differ: b"]);
    let fsw = "byte 2 of the FXSAVE image is 00, expected 41";
    assert_eq!(judged("y", &[eax, fsw]), [format!("y: not listed: {fsw}")]);
    assert_eq!(judged("z", &[eax]), [format!("z: not listed: {eax}")]);
    assert_eq!(judged("y", &[]), ["y: listed, but does not differ: a"]);
}
