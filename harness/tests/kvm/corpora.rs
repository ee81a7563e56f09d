//! The corpora on KVM, against what the software engine gave on the host.

use latefork_harness::Executor;
use latefork_harness::engines::{Sample, see};
use latefork_wire::program::Program;

use crate::place::{on_kvm, root};

/// How often each ordered regression must give what is expected of it.
const REPEATS: usize = 20;

/// What `latefork corpus expect` wrote, for `flavour`.
pub(crate) fn samples(flavour: &str) -> Vec<Sample> {
    let text = std::fs::read(root().join("samples.json")).expect("the lane hands in samples");
    let samples: Vec<Sample> = serde_json::from_slice(&text).expect("samples of this build");
    let of_flavour = samples.into_iter();
    of_flavour
        .filter(|sample| sample.flavour == flavour)
        .collect()
}

/// What differs, over all runs of one program.
#[derive(Default)]
struct Differences {
    /// In verdict or signatures.
    verdict: Vec<String>,
    /// In the trace: one entry a run.
    trace: Vec<String>,
}

fn run(executor: &mut Executor, sample: &Sample, times: usize) -> Differences {
    let program = Program::decode(&sample.program);
    let mut differences = Differences::default();
    for _ in 0..times {
        let found = see(executor, &program).unwrap();
        let verdict = sample.seen.verdict_differences("soft", &found, "kvm");
        let all = sample.seen.differences("soft", &found, "kvm");
        if !verdict.is_empty() {
            differences.verdict.push(verdict.join("; "));
        } else if !all.is_empty() {
            differences.trace.push(all.join("; "));
        }
    }
    differences
}

/// Verdict and signatures must be the same in each run. So must an ordered
/// program's trace in more than half of them: now and then the host's clock
/// lets a signal or a poll come a step earlier.
fn check(flavour: &str) {
    let mut executor = on_kvm(flavour);
    let (mut ordered, mut others, mut same, mut runs) = (0, 0, 0, 0);
    let mut wrong = Vec::new();
    for sample in samples(flavour) {
        let times = if sample.ordered { REPEATS } else { 1 };
        let found = run(&mut executor, &sample, times);
        runs += times;
        let mut complain = |why: &str| wrong.push(format!("{} on {flavour}: {why}", sample.name));
        if let Some(first) = found.verdict.first() {
            let often = found.verdict.len();
            complain(&format!(
                "{often} of {times} runs differ, the first: {first}"
            ));
        }
        if !sample.ordered {
            others += 1;
            continue;
        }
        ordered += 1;
        same += REPEATS - found.trace.len();
        if let Some(first) = found.trace.first() {
            let often = found.trace.len();
            println!(
                "kvm: {}: {often} traces of {REPEATS} differ: {first}",
                sample.name
            );
            if often * 2 >= REPEATS {
                complain(&format!("{often} of {times} traces differ: {first}"));
            }
        }
    }
    println!(
        "kvm: {flavour}: {ordered} ordered regressions {REPEATS} times, {others} other programs \
         once: verdict and signatures of {runs} runs and {same} of {} traces as on soft",
        ordered * REPEATS
    );
    assert!(ordered > 0, "no regression on {flavour}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hardened_gives_what_it_gives_on_the_software_engine() {
    check("hardened");
}

#[test]
fn faithful_gives_what_it_gives_on_the_software_engine() {
    check("faithful");
}
