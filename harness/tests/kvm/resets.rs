//! A thousand resets, each of which must give the template's memory.

use latefork_harness::Ending;
use latefork_vmm::machine::Machine;
use latefork_wire::frame::Flavour;

use crate::place::{on_kvm, programs};

/// Resets in a row.
const RESETS: u32 = 1_000;
/// Every so many, the whole machine is compared: CPU and devices take long.
const WHOLE: u32 = 50;
/// Multiplier of [`hash`]: odd, its bits well mixed (that of Knuth's MMIX).
const FACTOR: u64 = 6_364_136_223_846_793_005;

/// A hash of all of RAM that is quick where the processor is emulated: the
/// machine's own uses vectors, which are slow there.
fn hash(machine: &Machine) -> u64 {
    let words = machine.ram().cells().chunks_exact(8);
    words.fold(0, |hash: u64, word| {
        let bytes = std::array::from_fn(|at| word[at].get());
        (hash.rotate_left(23) ^ u64::from_le_bytes(bytes)).wrapping_mul(FACTOR)
    })
}

#[test]
fn a_thousand_resets_each_give_the_templates_memory() {
    let mut executor = on_kvm("hardened");
    let snapshot = executor.template().snapshot().clone();
    let whole = executor.machine().hash().unwrap();
    let memory = hash(executor.machine());
    let programs = programs();
    let mut pages = 0;
    for reset in 0..RESETS {
        let (name, program) = &programs[reset as usize % programs.len()];
        let execution = executor.run(program, Flavour::Async).unwrap();
        assert_eq!(execution.ending, Ending::Traced, "reset {reset}: {name}");
        let looks = reset % WHOLE == 0;
        if looks {
            assert_ne!(hash(executor.machine()), memory, "reset {reset}: {name}");
        }
        pages += executor.machine().restore(&snapshot).unwrap().pages;
        assert_eq!(hash(executor.machine()), memory, "reset {reset}: {name}");
        if looks {
            let found = executor.machine().hash().unwrap();
            assert_eq!(found, whole, "reset {reset}: {name}");
        }
    }
    println!(
        "kvm: {RESETS} resets, {} pages each, the same memory after each",
        pages / RESETS as usize
    );
}
