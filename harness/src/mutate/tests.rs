use std::collections::BTreeSet;

use latefork_wire::call::ASYNC_INDEX;
use latefork_wire::op::OpCode;
use latefork_wire::program::{MAX_POINTS, POINT, STEP};
use proptest::prelude::*;

use super::*;

const BIASES: [Bias; 5] = [
    Bias::HostileArgs,
    Bias::Nested,
    Bias::CloneFailure,
    Bias::Lifecycle,
    Bias::Everything,
];

proptest! {
    #[test]
    fn a_mutation_has_1_to_max_size_bytes(
        bias in prop::sample::select(&BIASES),
        input in prop::collection::vec(any::<u8>(), 0..2 * MAX_BYTES),
        max_size in 1..2 * MAX_BYTES,
        seed: u32,
    ) {
        // libFuzzer's buffer holds both, as libfuzzer-sys lends it.
        let mut data = input.clone();
        data.resize(input.len().max(max_size), 0);
        let size = mutate(bias, &mut data, input.len(), max_size, seed);
        prop_assert!((1..=max_size).contains(&size));
        prop_assert_eq!(
            Program::decode(&data[..size]).encode(&mut [0; MAX_BYTES]).min(max_size),
            size.max(HEADER).min(max_size)
        );
    }

    #[test]
    fn a_crossover_has_1_to_max_size_bytes_and_steps_of_both_only(
        one in prop::collection::vec(any::<u8>(), 0..MAX_BYTES),
        two in prop::collection::vec(any::<u8>(), 0..MAX_BYTES),
        max_size in 1..2 * MAX_BYTES,
        seed: u32,
    ) {
        let mut out = vec![0; max_size];
        let size = crossover(&one, &two, &mut out, seed);
        prop_assert!((1..=max_size).contains(&size));
        let (one, two) = (Program::decode(&one), Program::decode(&two));
        for step in Program::decode(&out[..size]).steps.iter() {
            prop_assert!(one.steps.contains(step) || two.steps.contains(step));
        }
    }

    #[test]
    fn a_mutant_goes_through_the_call(
        bias in prop::sample::select(&BIASES),
        input in prop::collection::vec(any::<u8>(), 0..MAX_BYTES),
        seed: u32,
    ) {
        let mut data = input.clone();
        data.resize(MAX_BYTES, 0);
        let size = mutate(bias, &mut data, input.len(), MAX_BYTES, seed);
        prop_assert!(calls(&Program::decode(&data[..size])));
    }

    #[test]
    fn no_crossover_and_no_lack_of_room_takes_the_last_call(
        one in prop::collection::vec(any::<u8>(), 0..MAX_BYTES),
        bias in prop::sample::select(&BIASES),
        room in HEADER + MAX_POINTS * POINT + STEP..MAX_BYTES,
        seed: u32,
    ) {
        let mut two = vec![0; room];
        let size = mutate(bias, &mut two, 1, room, seed);
        let mut out = vec![0; room];
        for (one, two) in [(&one[..], &two[..size]), (&two[..size], &one[..])] {
            let size = crossover(one, two, &mut out, seed);
            prop_assert!(calls(&Program::decode(&out[..size])));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_mutation(
        input in prop::collection::vec(any::<u8>(), 0..MAX_BYTES),
        seed: u32,
    ) {
        let run = || {
            let mut data = input.clone();
            data.resize(MAX_BYTES, 0);
            let size = mutate(Bias::Everything, &mut data, input.len(), MAX_BYTES, seed);
            data.truncate(size);
            data
        };
        prop_assert_eq!(run(), run());
    }
}

/// What a mutator makes of nothing in some thousand steps.
fn grown(bias: Bias, seeds: std::ops::Range<u32>) -> Vec<Program> {
    let mut data = [0; MAX_BYTES];
    let mut size = 1;
    let mut programs = Vec::new();
    for seed in seeds {
        size = mutate(bias, &mut data, size, MAX_BYTES, seed);
        programs.push(Program::decode(&data[..size]));
    }
    programs
}

#[test]
fn every_operation_is_made_in_every_target() {
    for bias in BIASES {
        let programs = grown(bias, 0..6000);
        let codes: BTreeSet<OpCode> = programs
            .iter()
            .flat_map(|program| program.steps.iter().map(|step| step.op.code()))
            .collect();
        assert_eq!(codes.len(), OpCode::ALL.len(), "{bias:?}");
        assert!(programs.iter().any(|program| !program.schedule.is_empty()));
    }
}

#[test]
fn a_target_prefers_what_it_is_about() {
    let nested = |bias| {
        let programs = grown(bias, 0..4000);
        let steps = programs.iter().flat_map(|program| program.steps.iter());
        let calls = steps.filter_map(|step| call::of(&step.op));
        let (nested, all) = calls.fold((0, 0), |(nested, all), call| {
            (nested + usize::from(call.index.0 == ASYNC_INDEX), all + 1)
        });
        nested * 100 / all.max(1)
    };
    assert!(nested(Bias::Nested) > 2 * nested(Bias::Lifecycle));
}
