//! What executions amount to.

use latefork_wire::frame::Refusal;
use latefork_wire::text;

use super::*;

fn execution(ending: Ending, console: &str) -> Execution {
    Execution {
        ending,
        events: Vec::new(),
        console: console.to_owned(),
        instructions: 1,
    }
}

fn signatures(ending: Ending, console: &str) -> Vec<String> {
    let program = text::parse("t0 nop").unwrap();
    let found = findings(&program, &execution(ending, console));
    found.iter().map(Finding::signature).collect()
}

const WARNING: &str = "WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n";

#[test]
fn a_trace_without_complaints_is_no_finding() {
    assert!(signatures(Ending::Traced, "random: crng init done\n").is_empty());
    assert!(signatures(Ending::Refused(Refusal::Kind), "").is_empty());
}

#[test]
fn every_bad_ending_is_a_finding_with_a_name_of_its_own() {
    let panic = Ending::Machine(Outcome::Panic { event: 1 });
    let cases = [
        (Ending::Traced, WARNING, "P12 WARNING: at a.c f | f"),
        (panic.clone(), WARNING, "P12 WARNING: at a.c f | f"),
        (panic, "", "P12 machine panic"),
        (Ending::Machine(Outcome::Budget), "", "P12 machine budget"),
        (
            Ending::Machine(Outcome::TripleFault),
            "",
            "P12 machine triple-fault",
        ),
        (Ending::AgentLost(LinkError::Ended), "", "agent gone"),
    ];
    for (ending, console, expected) in cases {
        assert_eq!(signatures(ending, console), [expected]);
    }
}

#[test]
fn what_the_control_run_says_too_is_the_base_kernels() {
    let ours = complaints(WARNING);
    let finding = || vec![Finding::Complaint(ours[0].clone())];
    assert_eq!(
        without_base(finding(), &ours),
        Verdict::BaseKernel(ours.clone())
    );
    assert_eq!(without_base(finding(), &[]), Verdict::Finding(finding()));
    let both = [finding(), vec![Finding::Stuck]].concat();
    assert_eq!(
        without_base(both, &ours),
        Verdict::Finding(vec![Finding::Stuck])
    );
}
