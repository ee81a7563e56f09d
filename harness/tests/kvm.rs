//! The guest on KVM: `cargo xtask kvm-lane` builds this (feature `kvm-lane`)
//! and runs it where a KVM runs our guest, with images, templates and samples of
//! the checkout under `LATEFORK_LANE`. Lines that begin with `kvm:` are its report.

#[path = "kvm/corpora.rs"]
mod corpora;
#[path = "kvm/counts.rs"]
mod counts;
#[path = "kvm/place.rs"]
mod place;
#[path = "kvm/resets.rs"]
mod resets;
#[path = "kvm/session.rs"]
mod session;

use latefork_cpu::CpuModel;
use latefork_harness::executor::Budget;
use latefork_harness::{Ending, Executor, Template};
use latefork_vmm::engine::EngineKind;
use latefork_vmm::engine::select::create;
use latefork_wire::frame::Flavour;
use latefork_wire::program::Program;

use place::{boot, guest, on_kvm};

#[test]
fn templates_of_either_engine_run_programs() {
    let booted = Executor::new(boot(&guest("hardened"), EngineKind::Kvm), Budget::default());
    for (mut executor, by) in [(booted, "kvm"), (on_kvm("hardened"), "soft")] {
        let execution = executor.run(&Program::default(), Flavour::Async).unwrap();
        assert_eq!(execution.ending, Ending::Traced, "booted by {by}");
    }
}

#[test]
fn the_software_engine_takes_no_template_that_kvm_made() {
    let guest = guest("hardened");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template");
    let cached = |kind| {
        let mut engine = || create(kind, CpuModel::Fuzz).unwrap();
        Template::cached(&guest, &path, &mut engine)
            .unwrap()
            .made_because
    };
    assert_eq!(cached(EngineKind::Kvm).as_deref(), Some("there was none"));
    assert_eq!(cached(EngineKind::Kvm), None);
    let why = cached(EngineKind::Soft).expect("it is made anew");
    assert!(why.contains("booted on KVM"), "{why}");
    assert_eq!(cached(EngineKind::Soft), None);
    assert_eq!(cached(EngineKind::Kvm), None);
}
