//! Random kernels, initramfs and command lines against the loader.
#![cfg_attr(fuzzing, no_main)]

use instrumented_vmm::loader::testing::load_any;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _refused = load_any(bytes);
});

#[cfg(not(fuzzing))]
fn main() {
    let _refused = load_any(&[]);
}
