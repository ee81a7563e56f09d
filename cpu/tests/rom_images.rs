//! Test images against QEMU's TCG: each `rom_images/NAME.bin` runs from reset
//! and must print what TCG printed (`NAME.qemu.txt`), except for the lines that
//! `NAME.deviations.txt` lists with a reason and both texts.
//!
//! `cargo xtask cpu-golden` builds images and texts from the sources.

#[path = "../examples/rom/machine.rs"]
mod machine;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use latefork_cpu::CpuModel;
use machine::{BadLength, Outcome, Ports};

const PORTS: Ports = Ports {
    post: 0x190,
    out: 0xe9,
};
const BUDGET: u64 = 100_000_000;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/rom_images")
        .join(file)
}

fn read_text(file: &str) -> String {
    let bytes = std::fs::read(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    String::from_utf8(bytes).unwrap_or_else(|_| panic!("{file} is not text"))
}

/// A line where TCG does not do what the manual says.
#[derive(Debug, PartialEq, Eq)]
struct Deviation {
    qemu: String,
    ours: String,
}

/// Blocks of `LINE: reason`, `< QEMU's text`, `> our text`; `#` starts a comment.
fn parse_deviations(file: &str) -> BTreeMap<usize, Deviation> {
    let mut found = BTreeMap::new();
    if !path(file).exists() {
        return found;
    }
    let text = read_text(file);
    let mut lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let Some(head) = lines.next() {
        let (number, reason) = head
            .split_once(": ")
            .unwrap_or_else(|| panic!("{file}: `{head}` is not `LINE: reason`"));
        assert!(
            !reason.trim().is_empty(),
            "{file}: line {number} has no reason"
        );
        let number: usize = number
            .parse()
            .unwrap_or_else(|_| panic!("{file}: `{number}` is not a line number"));
        let mut text_after = |mark: &str| {
            let line = lines.next().unwrap_or_default();
            line.strip_prefix(mark)
                .unwrap_or_else(|| panic!("{file}: after line {number}, `{line}` lacks `{mark}`"))
                .to_owned()
        };
        let deviation = Deviation {
            qemu: text_after("< "),
            ours: text_after("> "),
        };
        assert!(
            found.insert(number, deviation).is_none(),
            "{file}: line {number} stands there twice"
        );
    }
    found
}

fn run(name: &str, model: CpuModel) -> String {
    let image = std::fs::read(path(&format!("{name}.bin"))).expect("the image is committed");
    let mut text = Vec::new();
    let report = machine::run(&image, PORTS, model, BUDGET, |byte| text.push(byte))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        report.outcome,
        Outcome::Passed,
        "{name}: after {} instructions, progress codes {:x?}, text so far ends in {:?}",
        report.retired,
        report.posts,
        String::from_utf8_lossy(&text[text.len().saturating_sub(200)..])
    );
    String::from_utf8(text).expect("the images print ASCII")
}

fn check(name: &str) {
    let ours = run(name, CpuModel::Fuzz);
    assert_eq!(run(name, CpuModel::Sse), ours, "{name}: the models differ");
    let qemu = read_text(&format!("{name}.qemu.txt"));
    let mut listed = parse_deviations(&format!("{name}.deviations.txt"));
    let mut unexplained = String::new();
    let length = ours.lines().count().max(qemu.lines().count());
    for number in 1..=length {
        let ours = ours.lines().nth(number - 1).unwrap_or("(nothing)");
        let qemu = qemu.lines().nth(number - 1).unwrap_or("(nothing)");
        let actual = Deviation {
            qemu: qemu.to_owned(),
            ours: ours.to_owned(),
        };
        let explained = match listed.remove(&number) {
            Some(expected) => expected == actual && ours != qemu,
            None => ours == qemu,
        };
        if !explained {
            let _ = write!(unexplained, "{number}: ?\n< {qemu}\n> {ours}\n");
        }
    }
    assert!(listed.is_empty(), "{name}: no such lines: {listed:?}");
    assert!(
        unexplained.is_empty(),
        "{name}: lines that differ from QEMU, or from the deviations listed:\n{unexplained}"
    );
}

macro_rules! images {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn every_image_has_a_test() {
            let tested: Vec<&str> = vec![$(stringify!($name)),*];
            let mut images: Vec<String> = std::fs::read_dir(path(""))
                .expect("the folder exists")
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter_map(|file| file.strip_suffix(".bin").map(str::to_owned))
                .collect();
            images.sort();
            assert_eq!(images, tested);
        }
    };
}

images!(debug, gates, pae, paging, real, segments, tasks, v86);

#[test]
fn an_image_of_another_length_is_refused() {
    let refused = machine::run(&[0; 1000], PORTS, CpuModel::Fuzz, 1, |_| {});
    assert_eq!(refused.map(|report| report.retired), Err(BadLength(1000)));
}

/// A ROM of `code` at the reset address 0xFFF0 jumped to by the reset vector.
fn rom(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0xf4; 0x10000];
    image[..code.len()].copy_from_slice(code);
    image[0xfff0..0xfff5].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]);
    image
}

#[test]
fn verdicts_of_small_roms() {
    // mov dx, 0x190; mov al, 0xff; out dx, al; hlt
    let passes: &[u8] = &[0xba, 0x90, 0x01, 0xb0, 0xff, 0xee, 0xf4];
    // mov dx, 0x190; mov al, 1; out dx, al; hlt
    let halts: &[u8] = &[0xba, 0x90, 0x01, 0xb0, 0x01, 0xee, 0xf4];
    // jmp $
    let hangs: &[u8] = &[0xeb, 0xfe];
    // lidt cs:[zeros]; int3: no vector fits into a limit of 0.
    let dies: &[u8] = &[
        0x2e, 0x0f, 0x01, 0x1e, 0x08, 0x00, 0xcc, 0x90, 0, 0, 0, 0, 0, 0,
    ];
    let table = [
        (passes, Outcome::Passed),
        (halts, Outcome::Halted),
        (hangs, Outcome::OutOfBudget),
        (dies, Outcome::TripleFault),
    ];
    for (code, expected) in table {
        let report = machine::run(&rom(code), PORTS, CpuModel::Fuzz, 1000, |_| {});
        assert_eq!(
            report.map(|report| report.outcome),
            Ok(expected),
            "{code:x?}"
        );
    }
}
