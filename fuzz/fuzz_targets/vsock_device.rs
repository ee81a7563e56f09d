//! A hostile guest against the vsock device: registers, rings and packets.
#![cfg_attr(fuzzing, no_main)]

use instrumented_vmm::vsock::testing::{Scenario, run_scenario};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    run_scenario(&Scenario::from_bytes(bytes));
});

#[cfg(not(fuzzing))]
fn main() {
    latefork_fuzz::show(|bytes| Scenario::from_bytes(bytes).to_string());
}
