//! Whether coverage is stable: the same program has the same counters whatever
//! ran before it, in any process. What is not stable fills a corpus with noise.

use latefork_vmm::layout::{COVERAGE_MAP, COVERAGE_SIZE};
use latefork_vmm::machine::MachineError;
use latefork_wire::program::Program;
use xxhash_rust::xxh3::xxh3_64;

use crate::Executor;
use crate::verdict::judge;

/// A hash of every counter of the guest after `program`: finer than libFuzzer's
/// features, which are classes of them.
///
/// # Errors
///
/// The host failed.
pub fn counters(executor: &mut Executor, program: &Program) -> Result<u64, MachineError> {
    judge(executor, program)?;
    let mut counters = vec![0; COVERAGE_SIZE];
    executor.machine().ram().read(COVERAGE_MAP, &mut counters)?;
    Ok(xxh3_64(&counters))
}

/// `items` in an order that `seed` decides (Fisher and Yates, with a generator
/// of Marsaglia's).
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bound = last as u64 + 1;
        let place = usize::try_from(state % bound).unwrap_or(0);
        items.swap(last, place);
    }
}

#[cfg(test)]
mod tests {
    use super::shuffle;

    #[test]
    fn a_shuffle_keeps_all_and_depends_on_its_seed() {
        let shuffled = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            shuffle(&mut items, seed);
            items
        };
        let mut sorted = shuffled(1);
        assert_eq!(shuffled(1), sorted);
        assert_ne!(shuffled(2), sorted);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }
}
