//! What the lane hands in, and guests made of it.

use std::path::PathBuf;

use latefork_cpu::CpuModel;
use latefork_harness::executor::Budget;
use latefork_harness::fuzz::Place;
use latefork_harness::replay::{Artifact, artifact};
use latefork_harness::template::Prepared;
use latefork_harness::{Executor, Guest, Template};
use latefork_vmm::engine::EngineKind;
use latefork_vmm::engine::select::create;
use latefork_wire::program::Program;

/// The checkout's files, as far as the lane has them.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("LATEFORK_LANE").expect("LATEFORK_LANE names a checkout"))
}

pub(crate) fn place(flavour: &str) -> Place {
    Place::new(&root(), Some(flavour)).unwrap()
}

pub(crate) fn guest(flavour: &str) -> Guest {
    let place = place(flavour);
    Guest::read(&place.kernel(), &place.initramfs()).unwrap()
}

pub(crate) fn boot(guest: &Guest, kind: EngineKind) -> Prepared {
    let engine = create(kind, CpuModel::Fuzz).unwrap();
    Template::boot(guest, engine).unwrap()
}

/// An executor on KVM, on the template that the host's software engine made.
pub(crate) fn on_kvm(flavour: &str) -> Executor {
    let engine = create(EngineKind::Kvm, CpuModel::Fuzz).unwrap();
    let template = place(flavour).template();
    let prepared = Template::open(&guest(flavour), &template, engine).unwrap();
    Executor::new(prepared, Budget::default())
}

/// The empty program, and those that speed is measured with, by name.
pub(crate) fn programs() -> Vec<(String, Program)> {
    let mut programs = vec![("(empty)".to_owned(), Program::default())];
    for path in artifact::programs(&root().join("bench/programs")).unwrap() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let program = Artifact::read(&path).unwrap().program;
        programs.push((name.into_owned(), program));
    }
    assert!(programs.len() > 1, "no program in bench/programs");
    programs
}
