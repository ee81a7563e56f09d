//! Scenarios: what an expectation accepts and what it does not.

use latefork_wire::text::Problem;
use latefork_wire::text::scenario::{Failure, scenarios};
use latefork_wire::trace::{Detail, Event};

fn event(op: u8, tid: u32, detail: Detail) -> Event {
    Event {
        thread: 0,
        op,
        tid,
        detail,
    }
}

fn trace() -> Vec<Event> {
    vec![
        event(
            1,
            51,
            Detail::Returned {
                value: 0,
                from: 50,
                continuations: 1,
                status: 9,
                hash: 77,
                canaries: 0,
            },
        ),
        event(
            1,
            51,
            Detail::Final {
                continuations: 1,
                status: u32::MAX - 3,
                changes: 1,
                hash: 77,
                canaries: 0,
                altered: 0,
            },
        ),
        event(
            1,
            51,
            Detail::RowSeen {
                row: 7,
                before: 1,
                after: 0,
                same: 0,
            },
        ),
    ]
}

/// `None`: holds. Otherwise the line that does not.
fn check(expectation: &str) -> Option<usize> {
    let text = format!("scenario s\nt0 nop\n{expectation}\n");
    let scenario = scenarios(&text).next().expect("there is one");
    match scenario.check(|| trace().into_iter()) {
        Ok(()) => None,
        Err(Failure::Unmet { line, .. }) => Some(line),
        Err(Failure::Malformed(error)) => panic!("{error}"),
    }
}

#[test]
fn conditions_are_judged() {
    for holds in [
        "expect returned",
        "expect returned op=1 value=0 tid!=$from",
        "expect returned from<51 from>49",
        "expect final status=-4",
        "expect x1 returned",
        "expect x0 second",
        "never second",
        "never returned value!=0",
        "expect row row=altstack same=0",
        "expect returned hash=?a\nexpect final hash=$a",
    ] {
        assert_eq!(check(holds), None, "{holds}");
    }
    for fails in [
        "expect second",
        "expect returned tid=$from",
        "expect x2 returned",
        "never returned",
        "expect final status=-5",
        "expect row row=comm",
        "expect final hash=$a",
        "expect returned from<50",
        "expect returned from>50",
    ] {
        assert_eq!(check(fails), Some(3), "{fails}");
    }
    assert_eq!(
        check("expect returned status=?b\nexpect final hash=$b"),
        Some(4)
    );
}

#[test]
fn malformed_expectations_are_errors_not_failures() {
    for (line, problem) in [
        ("expect sneezed", Problem::UnknownEvent),
        ("expect returned nose=1", Problem::UnknownEvent),
        ("expect returned value", Problem::NoField),
        ("expect returned value=cold", Problem::BadValue),
    ] {
        let text = format!("scenario s\n{line}\n");
        let scenario = scenarios(&text).next().expect("there is one");
        match scenario.check(|| trace().into_iter()) {
            Err(Failure::Malformed(error)) => {
                assert_eq!((error.line, error.problem), (2, problem), "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn a_file_splits_into_its_scenarios() {
    let text = "# head\n\nscenario one # first\nhazard 4 9\nproperty P5\nflavour control\n\
                t0 nop\nexpect end\n\nscenario two\nleak 20\nt0 nop\nt0 flip\n";
    let all: Vec<_> = scenarios(text).collect();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].name, "one");
    assert_eq!(all[0].words("hazard").collect::<Vec<_>>(), ["4", "9"]);
    assert_eq!(all[0].program().expect("a program").steps.len(), 1);
    assert_eq!(all[0].options().flavour.word(), "control");
    assert_eq!(all[1].options().leak_repeats, 20);
    let error = all[1].program().expect_err("flip is no operation");
    assert_eq!((error.line, error.word), (13, "flip"));
}
