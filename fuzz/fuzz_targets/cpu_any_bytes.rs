//! Any bytes as guest code: no panic, no hang, the same in every way to run it.
#![cfg_attr(fuzzing, no_main)]

use instrumented_cpu::testing::{Scenario, run_scenario};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    run_scenario(&Scenario::from_bytes(bytes));
});

#[cfg(not(fuzzing))]
fn main() {
    run_scenario(&Scenario::from_bytes(&[]));
}
