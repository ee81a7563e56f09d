//! The conformance suite on this crate's CPU, and what the suite covers.

#[path = "conformance/coverage.rs"]
mod coverage;
#[path = "conformance/soft.rs"]
mod soft;

use latefork_cpu::conformance::{Case, check, parse, write_case, write_setup};
use soft::Soft;

/// Every file of the suite, read.
fn suite() -> Vec<Case> {
    [
        ("user.txt", include_str!("../conformance/user.txt")),
        ("system.txt", include_str!("../conformance/system.txt")),
    ]
    .into_iter()
    .flat_map(|(name, text)| parse(text).unwrap_or_else(|error| panic!("{name}: {error}")))
    .collect()
}

#[test]
fn instructions_do_what_processor_and_emulator_did() {
    let mut failures = Vec::new();
    for case in &suite() {
        for difference in check(case, &mut Soft::default()) {
            failures.push(format!("{}: {difference}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn cases_are_the_same_after_writing_and_reading() {
    for case in &suite() {
        let setup = write_setup(&case.setup);
        let text = format!("format 2\n{setup}\n{}", write_case(case));
        let read = parse(&text).expect("what is written can be read");
        // A shutdown is all that is known of its case's end.
        let read: Vec<String> = read.iter().map(write_case).collect();
        assert_eq!(read, [write_case(case)]);
    }
}

const HEAD: &str = "format 2\nsetup s\ncr 11 0 0 0\nsegment cs 8 0 ffffffff c09b\n\
                    segment ds 10 0 ffffffff c093\nsegment ss 10 0 ffffffff c093\n\
                    case inc: inc dword [0x1800]\nstart s\nmem 1000 ff0500180000f4\n\
                    mem 1800 01\nreg 1 2 3 4 5 6 7 8 1000 2\nexpect halted\n";

#[test]
fn a_wrong_expectation_is_reported() {
    let table = [
        (
            "expect reg 1 2 3 4 5 6 7 8 1007 2\nexpect mem 1800 02\n",
            vec![],
        ),
        (
            "expect reg 1 2 3 4 5 6 7 9 1007 2\nexpect mem 1800 02\n",
            vec!["edi is 8, expected 9"],
        ),
        (
            "expect reg 1 2 3 4 5 6 7 8 1007 7\nexpect undefined 1\nexpect mem 1800 02\n",
            vec!["eflags is 2, expected 6"],
        ),
        (
            "expect reg 1 2 3 4 5 6 7 8 1007 2\n",
            vec!["memory at 1800 is [02], expected [01]"],
        ),
        (
            "expect reg 1 2 3 4 5 6 7 8 1007 2\nexpect mem 1800 02\nexpect port 41\n",
            vec!["port e9 got [], expected [41]"],
        ),
        (
            "expect reg 1 2 3 4 5 6 7 8 1007 2\nexpect mem 1800 02\n\
             expect system 11 0 0 0 ffff0ff0 400 0 8 11 10 0 0 0 0\n",
            vec!["ss is 10, expected 11"],
        ),
        (
            "expect shutdown\n",
            vec!["ends with Halted, expected Shutdown"],
        ),
    ];
    for (expectation, differences) in table {
        let cases = parse(&format!("{HEAD}{expectation}")).expect("the case can be read");
        assert_eq!(
            check(&cases[0], &mut Soft::default()),
            differences,
            "{expectation}"
        );
    }
}

#[test]
fn bad_lines_are_refused_by_number() {
    let table = [
        ("", 1),
        ("format 1\n", 1),
        ("format 2\ncase x\n", 2),
        ("format 2\nsetup s\ncr 1 2 3\n", 3),
        ("format 2\nsetup s\nsegment xs 0 0 0 0\n", 3),
        ("format 2\nsetup s\nsegment cs 12345 0 0 0\n", 3),
        ("format 2\nsetup s\ncase x\nstart t\n", 4),
        ("format 2\nsetup s\ncase x\nreg 1 2\n", 4),
        ("format 2\nsetup s\ncase x\nmem 0 123\n", 4),
        ("format 2\nsetup s\ncase x\nfill 0 ffffffff 0\n", 4),
        ("format 2\nsetup s\ncase x\nexpect nothing\n", 4),
        ("format 2\nsetup s\ncase x\ncase x\n", 4),
    ];
    for (text, line) in table {
        let error = parse(text).expect_err(text);
        assert_eq!(error.line, line, "{text}");
    }
}
