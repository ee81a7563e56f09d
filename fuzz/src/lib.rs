//! What the targets of the guest have in common: their entry points.

pub use latefork_harness::{fuzz, mutate};
#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// Prints each file that the arguments name, as `read` sees it: what a target
/// does on stable whose inputs are not made for people.
#[cfg(not(fuzzing))]
pub fn show(read: impl Fn(&[u8]) -> String) {
    for path in std::env::args().skip(1) {
        match std::fs::read(&path) {
            Ok(bytes) => print!("# {path}\n{}", read(&bytes)),
            Err(error) => eprintln!("latefork: {path}: {error}"),
        }
    }
}

/// A target of the guest: its name and what its programs are made of
/// (`mutate::Bias`).
///
/// Under cargo-fuzz these are libFuzzer's hooks; without, a program that runs
/// the files that its arguments name.
#[macro_export]
macro_rules! guest_target {
    ($name:literal, $bias:ident) => {
        #[cfg(fuzzing)]
        use $crate::libfuzzer_sys;

        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(init: $crate::fuzz::start($name), |bytes: &[u8]| {
            $crate::fuzz::run_one(bytes);
        });

        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_mutator!(
            |data: &mut [u8], size: usize, max_size: usize, seed: u32| {
                $crate::mutate::mutate($crate::mutate::Bias::$bias, data, size, max_size, seed)
            }
        );

        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_crossover!(|one: &[u8], two: &[u8], out: &mut [u8], seed: u32| {
            $crate::mutate::crossover(one, two, out, seed)
        });

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::fuzz::run_files($name);
        }
    };
}
