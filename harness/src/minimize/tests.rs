use std::convert::Infallible;

use super::*;

/// Minimises the program `text` under a test on the candidate's text.
fn check(text: &str, shows: impl Fn(&str) -> bool, expected: &str) {
    let program = latefork_wire::text::parse(text).unwrap();
    let run = || {
        let mut tried = 0;
        let found = minimize::<Infallible>(
            &program,
            &mut |candidate| Ok(shows(&candidate.to_string())),
            &mut |progress| tried = progress.tried,
        );
        (found.unwrap(), tried)
    };
    let (found, tried) = run();
    assert_eq!(found.to_string(), expected);
    assert_eq!(run(), (found, tried), "another search gave another result");
}

#[test]
fn what_is_not_needed_goes() {
    check(
        "setup privilege=user rest=4\nt0 create slot=3 kind=pipe\nt1 sleep ticks=9\n\
         t0 async index=read a0=fd:6 a1=own a2=len:7 status=slow:2\nt2 yield\n",
        |text| text.contains("async index=read") && text.contains("create"),
        "t0 create\nt0 async index=read\n",
    );
}

#[test]
fn references_follow_their_operation() {
    check(
        "t0 nop\nt0 sleep ticks=1\nt0 prepare index=read a1=own\n\
         t0 async index=async a0=index-of:2 a2=status-of:2 a3=args-of:2\nt0 nop\n\
         t0 await-status op=3 ticks=20\n",
        |text| {
            text.contains("a3=args-of")
                && text.contains("prepare index=read")
                && text.contains("await-status op=1")
                || text.contains("nop") && text.contains("await-status op=3")
        },
        "t0 prepare index=read\nt0 async a3=args-of\nt0 await-status op=1\n",
    );
}

#[test]
fn points_of_the_schedule_move_with_their_operation() {
    check(
        "schedule 0+5 2+70\nt0 nop\nt0 nop\nt0 async index=pause\n",
        |text| text.contains("+70") && text.contains("pause"),
        "schedule 0+70\nt0 async index=pause\n",
    );
}

#[test]
fn numbers_shrink_as_far_as_the_finding_allows() {
    check(
        "t3 async index=read repeat=40\n",
        |text| {
            text.split("repeat=")
                .nth(1)
                .is_some_and(|n| n.trim().parse().is_ok_and(|n: u32| n >= 5))
        },
        "t0 async repeat=5\n",
    );
}

#[test]
fn a_program_of_which_all_is_needed_stays() {
    let text = "t0 create kind=stream\nt0 async index=recv a0=fd:1 a1=slow-seam:9\n";
    check(text, |candidate| candidate == text, text);
}
