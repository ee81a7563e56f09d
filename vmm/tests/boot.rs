//! The guest kernel on the software engine, with an /init of a few system calls.
//!
//! Needs `target/guest/faithful-fuzz/vmlinux` (`cargo xtask kernel --flavour
//! faithful`); without it the tests fail and say so.

use std::path::Path;

use latefork_cpu::{CpuModel, Instructions};
use latefork_vmm::engine::soft::SoftVcpu;
use latefork_vmm::loader::{BootSource, device_arguments};
use latefork_vmm::machine::{Machine, MachineConfig, Outcome, RunLimits};

const KERNEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/guest/faithful-fuzz/vmlinux"
);
const COMMAND_LINE: &str = "console=ttyS0 quiet clocksource=jiffies lpj=10000 panic=-1";
/// More than twice what a boot needs.
const BUDGET: u64 = 60_000_000;

/// Linux's generic and i386 system call numbers (`syscall_32.tbl`).
const EXIT: u32 = 1;
const FORK: u32 = 2;
const WRITE: u32 = 4;
const WAITPID: u32 = 7;
const CLOCK_NANOSLEEP_TIME64: u32 = 407;

/// Where the program is loaded, headers first.
const BASE: u32 = 0x0804_8000;
/// Where its data lies in it.
const DATA: u32 = 0x200;

/// Machine code of an i386 program, put together call by call.
#[derive(Default)]
struct Program {
    code: Vec<u8>,
    data: Vec<u8>,
}

impl Program {
    fn call(&mut self, number: u32, arguments: [u32; 4]) {
        self.code.push(0xb8);
        self.code.extend(number.to_le_bytes());
        // mov ebx, ecx, edx, esi
        for (opcode, argument) in [0xbb, 0xb9, 0xba, 0xbe].into_iter().zip(arguments) {
            self.code.push(opcode);
            self.code.extend(argument.to_le_bytes());
        }
        self.code.extend([0xcd, 0x80]);
    }

    fn keep(&mut self, bytes: &[u8]) -> u32 {
        let address = BASE + DATA + u32::try_from(self.data.len()).unwrap();
        self.data.extend(bytes);
        address
    }

    fn print(&mut self, text: &str) {
        let address = self.keep(text.as_bytes());
        self.call(WRITE, [1, address, u32::try_from(text.len()).unwrap(), 0]);
    }

    /// Runs `child` in a forked child (which it must end) and goes on in the parent.
    fn fork(&mut self, child: impl FnOnce(&mut Self)) {
        self.call(FORK, [0; 4]);
        // test eax, eax; jnz past the child
        self.code.extend([0x85, 0xc0, 0x0f, 0x85]);
        let hole = self.code.len();
        self.code.extend([0; 4]);
        child(self);
        let distance = u32::try_from(self.code.len() - hole - 4).unwrap();
        self.code[hole..hole + 4].copy_from_slice(&distance.to_le_bytes());
    }

    /// A static ELF32 executable of one segment.
    fn elf(&self) -> Vec<u8> {
        let mut image = b"\x7fELF\x01\x01\x01".to_vec();
        image.resize(16, 0);
        image.extend([2, 0, 3, 0, 1, 0, 0, 0]);
        image.extend((BASE + 84).to_le_bytes());
        image.extend(52u32.to_le_bytes());
        image.extend([0; 8]);
        for half in [52u16, 32, 1, 40, 0, 0] {
            image.extend(half.to_le_bytes());
        }
        let size = DATA + u32::try_from(self.data.len()).unwrap();
        for word in [1, 0, BASE, BASE, size, size, 7, 0x1000] {
            image.extend(u32::to_le_bytes(word));
        }
        image.extend(&self.code);
        assert!(image.len() <= DATA as usize, "the code runs into its data");
        image.resize(DATA as usize, 0);
        image.extend(&self.data);
        image
    }
}

/// A cpio archive in the "newc" format (Linux
/// `Documentation/driver-api/early-userspace/buffer-format.rst`).
fn cpio(entries: &[(&str, u32, [u32; 2], &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (inode, (name, mode, device, content)) in entries.iter().enumerate() {
        let size = u32::try_from(content.len()).unwrap();
        let name_size = u32::try_from(name.len() + 1).unwrap();
        let inode = u32::try_from(inode + 1).unwrap();
        archive.extend(b"070701");
        for field in [
            inode, *mode, 0, 0, 1, 0, size, 0, 0, device[0], device[1], name_size, 0,
        ] {
            archive.extend(format!("{field:08x}").bytes());
        }
        archive.extend(name.bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(*content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

fn initramfs() -> Vec<u8> {
    let mut init = Program::default();
    init.print("init: up\n");
    init.fork(|child| {
        child.print("init: child\n");
        child.call(EXIT, [0; 4]);
    });
    init.call(WAITPID, [u32::MAX, 0, 0, 0]);
    // 50 ms on CLOCK_MONOTONIC: the machine is idle meanwhile.
    let mut interval = 0u64.to_le_bytes().to_vec();
    interval.extend(50_000_000u64.to_le_bytes());
    let interval = init.keep(&interval);
    init.call(CLOCK_NANOSLEEP_TIME64, [1, 0, interval, 0]);
    init.print("init: slept\n");
    init.call(EXIT, [3, 0, 0, 0]);
    cpio(&[
        ("dev", 0o40755, [0, 0], b""),
        ("dev/console", 0o20600, [5, 1], b""),
        ("init", 0o100_755, [0, 0], &init.elf()),
        ("TRAILER!!!", 0, [0, 0], b""),
    ])
}

fn booted() -> Machine {
    let kernel = std::fs::read(Path::new(KERNEL)).unwrap_or_else(|error| {
        panic!("{KERNEL}: {error}: build it with `cargo xtask kernel --flavour faithful`")
    });
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    let mut machine = Machine::new(engine, &MachineConfig::default()).unwrap();
    let source = BootSource {
        kernel: &kernel,
        initramfs: Some(&initramfs()),
        command_line: &format!("{COMMAND_LINE} {}", device_arguments()),
    };
    machine.load(&source).unwrap();
    machine
}

fn run(machine: &mut Machine, budget: u64) -> Outcome {
    machine.run(&RunLimits::instructions(budget)).unwrap()
}

#[test]
fn the_kernel_boots_to_init_forks_sleeps_and_panics() {
    let mut machine = booted();
    assert_eq!(run(&mut machine, BUDGET), Outcome::Panic { event: 1 });
    let console = String::from_utf8(machine.take_console()).unwrap();
    let mut lines = console.lines();
    for wanted in ["init: up", "init: child", "init: slept"] {
        assert!(lines.any(|line| line.trim_end() == wanted), "{console}");
    }
    assert!(console.contains("Attempted to kill init! exitcode=0x00000300"));
    assert!(
        machine.now().0 > machine.retired().0 + 30_000_000,
        "it idled"
    );
}

#[test]
fn two_boots_are_equal_bit_for_bit() {
    let (mut one, mut two) = (booted(), booted());
    assert_eq!(run(&mut one, BUDGET), run(&mut two, BUDGET));
    assert_eq!(one.retired(), two.retired());
    assert_eq!(one.now(), two.now());
    assert_eq!(one.counters(), two.counters());
    assert_eq!(one.ram().hash(), two.ram().hash());
    assert_eq!(one.take_console(), two.take_console());
}

#[test]
fn stopping_and_restoring_leave_no_trace() {
    let mut whole = booted();
    run(&mut whole, BUDGET);
    let mut pieces = booted();
    assert_eq!(run(&mut pieces, 3_000_001), Outcome::Budget);
    pieces.settle().unwrap();
    let early = pieces.snapshot().unwrap();
    run(&mut pieces, 2_000_003);
    pieces.settle().unwrap();
    let late = pieces.snapshot().unwrap();
    for snapshot in [&early, &late, &early] {
        pieces.restore(snapshot).unwrap();
        assert_eq!(run(&mut pieces, BUDGET), Outcome::Panic { event: 1 });
        assert_eq!(pieces.retired(), whole.retired());
        assert_eq!(pieces.ram().hash(), whole.ram().hash());
    }
}

#[test]
fn a_schedule_moves_the_guest_and_does_so_every_time() {
    let run_with = |points: &[Instructions]| {
        let mut machine = booted();
        machine.set_schedule(points);
        run(&mut machine, BUDGET);
        (machine.retired(), machine.ram().hash(), machine.counters())
    };
    let plain = run_with(&[]);
    let point = [Instructions(plain.0.0 - 500_000)];
    let forced = run_with(&point);
    assert_eq!(forced.2.harness_interrupts, 1);
    assert_ne!(plain.1, forced.1);
    assert_eq!(forced, run_with(&point));
}
