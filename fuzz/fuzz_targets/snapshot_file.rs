//! Random snapshot files and machine states against the reader.
#![cfg_attr(fuzzing, no_main)]

use instrumented_vmm::snapshot::file::testing::open_any;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _refused = open_any(bytes);
});

#[cfg(not(fuzzing))]
fn main() {
    let _refused = open_any(&[]);
}
