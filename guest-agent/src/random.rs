//! Random programs: what the agent must survive, whatever they do.

use latefork_wire::Field;
use latefork_wire::frame::RunOptions;
use latefork_wire::program::{HEADER, MAX_BYTES, Program, STEP};
use latefork_wire::trace::{self, Detail, Outcome};

use crate::console;
use crate::shared::shared;
use crate::supervise::Supervisor;

/// Steps of a random program at most.
const MOST_STEPS: u32 = 24;

/// xorshift32.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
}

/// Runs `count` programs made from `seed`; how many the agent had no end for.
pub fn run(supervisor: &mut Supervisor, seed: u32, count: u32) -> u32 {
    let mut outcomes = [0_u32; Outcome::ALL.len()];
    let mut lost = 0;
    for number in 0..count {
        let mut random = Random(seed.wrapping_add(number).wrapping_mul(0x9e37_79b9) | 1);
        let mut bytes = [0; MAX_BYTES];
        let steps = random.next() % MOST_STEPS;
        let len = HEADER + steps as usize * STEP;
        for place in &mut bytes[..len] {
            *place = (random.next() >> 11) as u8;
        }
        bytes[0] = 0;
        // Whoever reads the console knows which one was last.
        console::line(format_args!("# random {}", seed.wrapping_add(number)));
        supervisor.run(&bytes[..len], &RunOptions::default());
        let last = trace::events(shared().trace()).last();
        let outcome = match last.map(|event| event.detail) {
            Some(Detail::End { outcome, .. }) => Outcome::get(&[outcome as u8]),
            _ => Outcome::NotStarted,
        };
        outcomes[outcome as usize] += 1;
        if matches!(outcome, Outcome::Stuck | Outcome::NotStarted) {
            lost += 1;
            report(&Program::decode(&bytes[..len]), outcome);
        }
    }
    for (outcome, count) in Outcome::ALL.iter().zip(outcomes) {
        console::line(format_args!("# {}: {count}", outcome.word()));
    }
    console::line(format_args!("# random programs without an end: {lost}"));
    lost
}

fn report(program: &Program, outcome: Outcome) {
    console::line(format_args!("# {}:", outcome.word()));
    for step in program.steps.iter() {
        console::line(format_args!("#   {step}"));
    }
    crate::selftest::print_trace();
}
