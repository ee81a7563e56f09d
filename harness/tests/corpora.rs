//! The committed seeds of the guest's fuzz targets: what they are, that hardened
//! is clean on each, and that they reach every row and hazard.
//!
//! Needs `target/guest`, as `tests/guest.rs` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use latefork_cpu::CpuModel;
use latefork_harness::executor::Budget;
use latefork_harness::fuzz::reach::{Run, goals};
use latefork_harness::fuzz::{CloneExits, Place, TARGETS, seeds, stable};
use latefork_harness::mutate::{self, Bias};
use latefork_harness::verdict::judge;
use latefork_harness::{Executor, Guest, Template, Verdict};
use latefork_vmm::engine::soft::SoftVcpu;
use latefork_vmm::layout::{COVERAGE_EVENTS, COVERAGE_EVENTS_SIZE};
use latefork_wire::frame::Flavour;
use latefork_wire::program::{MAX_BYTES, Program};
use latefork_wire::text::scenario::scenarios;
use latefork_wire::trace::{Detail, Event, Outcome};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn hardened() -> Executor {
    let place = Place::new(Path::new(ROOT), None).unwrap();
    let guest = Guest::read(&place.kernel(), &place.initramfs());
    let guest = guest.unwrap_or_else(|error| panic!("{error}"));
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    Executor::new(Template::boot(&guest, engine).unwrap(), Budget::default())
}

#[test]
fn seeds_are_the_wire_form_of_their_sources() {
    let root = Path::new(ROOT);
    let mut files = seeds::files(&root.join("corpora")).unwrap();
    for target in TARGETS {
        let folder = root.join("corpora").join(target);
        assert!(
            files.keys().any(|path| path.starts_with(&folder)),
            "no seed of {target}"
        );
    }
    for (path, bytes) in &files {
        let program = Program::decode_canonical(bytes);
        let program = program.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut again = [0; MAX_BYTES];
        let size = program.encode(&mut again);
        assert_eq!(&again[..size], bytes, "{}", path.display());
    }
    for seed in seeds::seeds(root).unwrap() {
        let path = root.join("corpora").join(seed.target).join(&seed.name);
        assert_eq!(
            files.remove(&path),
            Some(seed.bytes()),
            "{}: run `latefork corpus seeds`",
            path.display()
        );
    }
    assert!(files.is_empty(), "no source makes {:?}", files.keys());
}

#[test]
fn seeds_reach_every_row_and_hazard_and_hardened_is_clean_on_each() {
    let mut executor = hardened();
    let mut missing = goals();
    let mut exits = CloneExits::default();
    for (path, bytes) in seeds::files(&Path::new(ROOT).join("corpora")).unwrap() {
        let program = Program::decode(&bytes);
        let judged = judge(&mut executor, &program).unwrap();
        assert_eq!(judged.verdict, Verdict::Clean, "{}", path.display());
        let mut cells = [0; COVERAGE_EVENTS_SIZE];
        let ram = executor.machine().ram();
        ram.read(COVERAGE_EVENTS, &mut cells).unwrap();
        exits.count(&cells);
        let run = Run::new(&program, &judged.execution.events, &cells);
        missing.retain(|goal| !goal.is_reached(&run));
    }
    let names: Vec<&str> = missing.iter().map(|goal| goal.name.as_str()).collect();
    // Needs a forced switch at one place in the middle of the fork, which moves
    // with every change of the kernel.
    let last_look = "hazard 9: fails at last look";
    assert!(names.iter().all(|name| *name == last_look), "{names:#?}");
    assert!(
        exits.missing().all(|step| step.name == "last look"),
        "{exits}"
    );
}

/// What the seeds' own sources expect; the agent's scenarios have a test of
/// their own.
#[test]
fn hardened_meets_the_expectations_of_the_seeds() {
    let mut executor = hardened();
    for target in TARGETS {
        let path = Path::new(ROOT).join(format!("fuzz/seeds/{target}.txt"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for scenario in scenarios(&text) {
            let program = scenario.program().unwrap();
            let execution = executor.run_with(&program, &scenario.options()).unwrap();
            if let Err(failure) = scenario.check(|| execution.events.iter().copied()) {
                panic!("{}: {}: {failure}", scenario.name, path.display());
            }
        }
    }
}

#[test]
fn coverage_is_the_same_in_another_order_on_another_machine() {
    let files = seeds::files(&Path::new(ROOT).join("corpora")).unwrap();
    let mut files: Vec<_> = files.into_iter().collect();
    let mut orders = [1, 2].map(|seed| {
        stable::shuffle(&mut files, seed);
        let mut executor = hardened();
        let counters = files.iter().map(|(path, bytes)| {
            let program = Program::decode(bytes);
            let counters = stable::counters(&mut executor, &program).unwrap();
            (path.clone(), counters)
        });
        counters.collect::<BTreeMap<_, _>>()
    });
    let [first, second] = &mut orders;
    first.retain(|path, counters| second.get(path) != Some(counters));
    assert_eq!(*first, BTreeMap::new());
    let distinct: BTreeSet<_> = second.values().collect();
    assert!(distinct.len() > second.len() / 2, "programs look alike");
}

/// Mutants a target.
const MUTANTS: u32 = 60;
/// Mutations of each: what libFuzzer does at most between two runs.
const DEPTH: u32 = 5;
/// Of 100 mutants, how many must mean something.
const MEANINGFUL: u32 = 90;

/// A mutant of a seed of `target`; every fourth is spliced with another first.
fn mutant(bias: Bias, seeds: &[Vec<u8>], number: u32) -> Program {
    let seed = |number: u32| &seeds[number as usize % seeds.len()];
    let mut data = [0; MAX_BYTES];
    let mut size = seed(number).len();
    data[..size].copy_from_slice(seed(number));
    if number.is_multiple_of(4) {
        size = mutate::crossover(seed(number), seed(number * 7 + 1), &mut data, number);
    }
    for step in 0..DEPTH {
        size = mutate::mutate(bias, &mut data, size, MAX_BYTES, number * DEPTH + step);
    }
    Program::decode(&data[..size])
}

/// What a run lacks to mean something: an end, by its own steps or by a signal,
/// and a call through `async` before.
fn lacks(events: &[Event]) -> Option<&'static str> {
    let called = |event: &Event| matches!(event.detail, Detail::Issued { .. });
    let over = |event: &Event| match event.detail {
        Detail::End { outcome, .. } => [Outcome::Done, Outcome::Died, Outcome::LeftRunning]
            .iter()
            .any(|good| *good as u32 == outcome),
        _ => false,
    };
    match (events.iter().any(called), events.iter().any(over)) {
        (false, _) => Some("a call"),
        (true, false) => Some("an end"),
        (true, true) => None,
    }
}

#[test]
fn nearly_all_mutants_mean_something() {
    let mut executor = hardened();
    let files = seeds::files(&Path::new(ROOT).join("corpora")).unwrap();
    let biases = [
        Bias::HostileArgs,
        Bias::Nested,
        Bias::CloneFailure,
        Bias::Lifecycle,
        Bias::Everything,
    ];
    let mut total = 0;
    for (target, bias) in TARGETS.into_iter().zip(biases) {
        let of_target = files.iter().filter(|(path, _)| {
            let folder = path.parent().and_then(Path::file_name);
            folder.is_some_and(|folder| folder == target)
        });
        let seeds: Vec<Vec<u8>> = of_target.map(|(_, bytes)| bytes.clone()).collect();
        let mut lacking = BTreeMap::<_, u32>::new();
        for number in 0..MUTANTS {
            let program = mutant(bias, &seeds, number);
            let execution = executor.run(&program, Flavour::Async).unwrap();
            if let Some(what) = lacks(&execution.events) {
                *lacking.entry(what).or_default() += 1;
            }
        }
        println!("{target}: of {MUTANTS} mutants these lack something: {lacking:?}");
        total += lacking.values().sum::<u32>();
    }
    let all = MUTANTS * u32::try_from(TARGETS.len()).unwrap();
    let share = (all - total) * 100 / all;
    assert!(share >= MEANINGFUL, "only {share} of 100 mean something");
}
