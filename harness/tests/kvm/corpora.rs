//! The corpora on KVM, against what the software engine gave on the host.

use latefork_harness::Executor;
use latefork_harness::engines::{Sample, see};
use latefork_harness::replay::regression::FLAVOURS;
use latefork_wire::program::Program;

use crate::place::{on_kvm, root};

/// How often each ordered regression must give what is expected of it.
const REPEATS: u32 = 20;

/// What `latefork corpus expect` wrote.
fn samples() -> Vec<Sample> {
    let text = std::fs::read(root().join("samples.json")).expect("the lane hands in samples");
    serde_json::from_slice(&text).expect("samples of this build")
}

/// What differs in a run of `sample`.
fn differences(executor: &mut Executor, sample: &Sample) -> Vec<String> {
    let found = see(executor, &Program::decode(&sample.program)).unwrap();
    match sample.ordered {
        true => sample.seen.differences("soft", &found, "kvm"),
        false => sample.seen.verdict_differences("soft", &found, "kvm"),
    }
}

#[test]
fn programs_give_what_they_give_on_the_software_engine() {
    let samples = samples();
    let mut wrong = Vec::new();
    for flavour in FLAVOURS {
        let mut executor = on_kvm(flavour);
        let (mut ordered, mut others, mut runs) = (0, 0, 0);
        for sample in samples.iter().filter(|sample| sample.flavour == flavour) {
            let repeats = match sample.ordered {
                true => {
                    ordered += 1;
                    REPEATS
                }
                false => {
                    others += 1;
                    1
                }
            };
            for run in 1..=repeats {
                runs += 1;
                let differences = differences(&mut executor, sample);
                if !differences.is_empty() {
                    let name = &sample.name;
                    let all = differences.join("; ");
                    wrong.push(format!("{name} on {flavour}, run {run}: {all}"));
                    break;
                }
            }
        }
        println!(
            "kvm: {flavour}: {ordered} ordered regressions {REPEATS} times, {others} other \
             programs once, {runs} runs as on the software engine"
        );
        assert!(ordered > 0, "no regression on {flavour}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
