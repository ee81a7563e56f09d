//! Templates: resets bring all of them back, in every size of machine, and
//! processes share their pages.
//!
//! Needs `target/guest`, as `guest.rs` does.

use std::path::Path;

use latefork_cpu::CpuModel;
use latefork_harness::executor::Budget;
use latefork_harness::template::Prepared;
use latefork_harness::{Ending, Executor, Guest, Template};
use latefork_vmm::engine::soft::SoftVcpu;
use latefork_wire::frame::Flavour;
use latefork_wire::text;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn guest() -> Guest {
    let images = Path::new(ROOT).join("target/guest");
    let guest = Guest::read(
        &images.join("hardened-fuzz/vmlinux"),
        &images.join("agent/initramfs.cpio"),
    );
    guest.unwrap_or_else(|error| panic!("{error}"))
}

fn boot(guest: &Guest, model: CpuModel) -> Prepared {
    Template::boot(guest, Box::new(SoftVcpu::new(model))).unwrap()
}

fn bench_programs() -> Vec<String> {
    let folder = Path::new(ROOT).join("bench/programs");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path| std::fs::read_to_string(path).unwrap();
    paths.into_iter().map(read).collect()
}

/// After each of a thousand programs the machine is the template again, to the
/// last byte of RAM, CPU and devices.
#[test]
fn a_thousand_resets_each_give_the_template_back() {
    let mut prepared = boot(&guest(), CpuModel::Fuzz);
    let template = prepared.machine.hash().unwrap();
    let snapshot = prepared.template.snapshot().clone();
    let mut executor = Executor::new(prepared, Budget::default());
    let programs: Vec<_> = bench_programs()
        .iter()
        .map(|program| text::parse(program).unwrap())
        .collect();
    for (number, program) in programs.iter().cycle().take(1000).enumerate() {
        let execution = executor.run(program, Flavour::Async).unwrap();
        assert_eq!(execution.ending, Ending::Traced, "run {number}");
        let restored = executor.machine().restore(&snapshot).unwrap();
        assert!(restored.pages > 0, "run {number} wrote nothing");
        assert_eq!(executor.machine().hash().unwrap(), template, "run {number}");
    }
}

#[test]
fn guests_get_ready_in_every_size_of_machine() {
    for mib in [16, 24, 512] {
        let prepared = boot(&guest().with_memory(mib), CpuModel::Fuzz);
        assert_eq!(prepared.machine.ram().size(), mib as usize * 1024 * 1024);
        assert_eq!(prepared.template.hello().fuse, 1, "{mib} MiB");
    }
}

/// The kernel of the configuration `fuzz` makes no use of FXSR; that it runs
/// all the same on a CPU that has it is what the configuration `sse` builds on.
#[test]
fn guests_get_ready_on_the_cpu_with_sse() {
    let prepared = boot(&guest(), CpuModel::Sse);
    assert_eq!(prepared.template.hello().fuse, 1);
}

#[test]
fn a_template_file_of_another_cpu_or_with_a_wrong_byte_is_made_anew() {
    let guest = guest();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template");
    let made_for = |model| {
        let mut new_engine = || Box::new(SoftVcpu::new(model)) as Box<_>;
        let prepared = Template::cached(&guest, &path, &mut new_engine);
        prepared.unwrap().made_because
    };
    let because = |why: Option<String>, word: &str| {
        let why = why.expect("it had to be made");
        assert!(why.contains(word), "{why}");
        assert_eq!(why.lines().count(), 1, "{why}");
    };
    because(made_for(CpuModel::Fuzz), "none");
    assert_eq!(made_for(CpuModel::Fuzz), None);
    because(made_for(CpuModel::Sse), "CPU");
    assert_eq!(made_for(CpuModel::Sse), None);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    because(made_for(CpuModel::Sse), "corrupted");
    let file = std::fs::OpenOptions::new().write(true).open(&path);
    file.unwrap().set_len(middle as u64).unwrap();
    because(made_for(CpuModel::Sse), "truncated");
    std::fs::write(&path, "something else").unwrap();
    because(made_for(CpuModel::Sse), "no latefork snapshot");
}

/// KiB of the mapping that starts at `address`, by the name of a line of
/// /proc/self/smaps.
fn smaps_kib(address: usize, field: &str) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let start = format!("{address:x}-");
    let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
    let value = lines.find_map(|line| line.strip_prefix(field)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What a guest from a file has not written to is the file's own memory: two
/// machines that read it hold it once.
#[test]
fn machines_of_one_file_share_the_pages_that_they_do_not_write() {
    let guest = guest();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template");
    let prepared = boot(&guest, CpuModel::Fuzz);
    prepared.template.write(&path, &guest.identity()).unwrap();
    drop(prepared);
    let open = || Template::open(&guest, &path, Box::new(SoftVcpu::new(CpuModel::Fuzz))).unwrap();
    let mut machines = [open(), open()].map(|prepared| prepared.machine);
    let hashes = machines.each_mut().map(|machine| machine.hash().unwrap());
    assert_eq!(hashes[0], hashes[1]);
    for machine in &machines {
        let ram = machine.ram().cells().as_ptr().addr();
        let size = machine.ram().size() as u64 >> 10;
        // The hash has read every page, and nobody has written one.
        assert_eq!(smaps_kib(ram, "Rss:"), size);
        let shared = smaps_kib(ram, "Shared_Clean:") + smaps_kib(ram, "Shared_Dirty:");
        assert_eq!(shared, size);
        assert!(smaps_kib(ram, "Pss:") <= size / 2);
    }
    // A write takes one page out of that, and changes no other machine.
    let first = &machines[0].ram().cells()[0x9_0000];
    first.set(first.get() ^ 0xff);
    let ram = machines[0].ram().cells().as_ptr().addr();
    assert_eq!(smaps_kib(ram, "Private_Dirty:"), 4);
    assert_eq!(machines[1].hash().unwrap(), hashes[1]);
}
