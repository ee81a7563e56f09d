//! The probe: whether an engine can run a guest like ours, found out by one.
//!
//! That /dev/kvm opens proves little: there are hosts on which it can run
//! neither paging nor ring 3 of a 32-bit guest. So a guest of 300 bytes turns
//! paging on, goes to ring 3, comes back by `int 0x80`, by a page fault and by
//! three ticks of the timer, computes with the x87, and says so on the panic
//! port. Anything else is a reason, in words, not to use the engine.

use latefork_cpu::Instructions;
use vm_memory::GuestAddress;

use super::{Deadline, Engine};
use crate::devices::cmos::DEFAULT_DATE;
use crate::layout::RAM_MIB;
use crate::machine::{Machine, MachineConfig, MachineError, Outcome, RunLimits};
use crate::time::VirtualTime;
use crate::vsock::Limits;

/// `probe.S`, assembled.
const CODE: &[u8] = include_bytes!("probe/probe.bin");
const CODE_AT: GuestAddress = GuestAddress(0x10_0000);
const GDT_AT: GuestAddress = GuestAddress(0x10_1000);
const IDT_AT: GuestAddress = GuestAddress(0x10_1800);
const TSS_AT: GuestAddress = GuestAddress(0x10_3000);
const DIRECTORY_AT: GuestAddress = GuestAddress(0x10_4000);
const TABLE_AT: GuestAddress = GuestAddress(0x10_5000);
/// Ring 0's stack, which grows down, and its segment.
const STACK: u32 = 0x10_2f00;
const STACK_SEGMENT: u32 = 0x10;
/// Null; code and data of ring 0; code and data of ring 3; the TSS.
const GDT: [u64; 6] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x0000_8910_3000_0067,
];
/// Entry points, as offsets into the code, by vector (`nm` of the object).
const GATES: [(u64, u64, u64); 3] = [
    (14, 0xe1, 0x8e00),
    (0x20, 0x107, 0x8e00),
    (0x80, 0xbf, 0xee00),
];
/// What the guest writes to the panic port once all is well.
const PASSED: u8 = 0x42;
/// Host time after which the probe is given up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs the probe; what it says is why `engine` cannot be used.
///
/// # Errors
///
/// One line that says what the engine cannot do.
pub fn probe(engine: Box<dyn Engine>) -> Result<(), String> {
    let outcome = run(engine).map_err(|error| error.to_string())?;
    match outcome {
        Outcome::Panic { event: PASSED } => Ok(()),
        Outcome::Panic { .. } => Err("the probe guest computed something wrong".into()),
        Outcome::TripleFault => {
            Err("the probe guest died: no paging or no ring 3 for 32-bit guests".into())
        }
        Outcome::Unsupported { what } => Err(format!("the probe guest met {what}")),
        other => Err(format!("the probe guest ended with {}", other.name())),
    }
}

fn run(engine: Box<dyn Engine>) -> Result<Outcome, MachineError> {
    let config = MachineConfig {
        memory_mib: *RAM_MIB.start(),
        date: DEFAULT_DATE,
        vsock: Limits::default(),
    };
    let mut machine = Machine::new(engine, &config)?;
    lay_out(&machine)?;
    machine.load_flat(CODE_AT, CODE)?;
    machine.run(&RunLimits {
        instructions: Instructions(1_000_000_000),
        time: VirtualTime::from_secs(1),
        deadline: Deadline(std::time::Instant::now().checked_add(PATIENCE)),
    })
}

fn lay_out(machine: &Machine) -> Result<(), MachineError> {
    let ram = machine.ram();
    let put = |at: GuestAddress, index: u64, entry: u64| {
        ram.write(GuestAddress(at.0 + 8 * index), &entry.to_le_bytes())
    };
    for (index, descriptor) in (0..).zip(GDT) {
        put(GDT_AT, index, descriptor)?;
    }
    for (vector, offset, kind) in GATES {
        let entry = CODE_AT.0 + offset;
        let gate = entry & 0xffff | 0x08 << 16 | kind << 32 | (entry >> 16) << 48;
        put(IDT_AT, vector, gate)?;
    }
    // ESP0 and SS0 of a 32-bit TSS (SDM volume 3, figure 8-2).
    let stack = u64::from(STACK) | u64::from(STACK_SEGMENT) << 32;
    put(GuestAddress(TSS_AT.0 + 4), 0, stack)?;
    // One table, present, writable, for users: the first 4 MiB as they are.
    ram.write(DIRECTORY_AT, &(low(TABLE_AT.0) | 7).to_le_bytes())?;
    for page in 0..1024_u32 {
        let entry = page << 12 | 7;
        ram.write(
            GuestAddress(TABLE_AT.0 + 4 * u64::from(page)),
            &entry.to_le_bytes(),
        )?;
    }
    Ok(())
}

fn low(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use latefork_cpu::CpuModel;

    use super::*;
    use crate::engine::soft::SoftVcpu;

    #[test]
    fn the_software_cpu_passes() {
        assert_eq!(probe(Box::new(SoftVcpu::new(CpuModel::Fuzz))), Ok(()));
        assert_eq!(probe(Box::new(SoftVcpu::new(CpuModel::Sse))), Ok(()));
    }

    #[test]
    fn the_committed_bytes_are_the_committed_source() {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/probe/probe.S");
        let (object, binary) = (
            folder.path().join("probe.o"),
            folder.path().join("probe.bin"),
        );
        let assembled = Command::new("cc")
            .args(["-m32", "-c", source, "-o"])
            .arg(&object)
            .status()
            .unwrap();
        assert!(assembled.success());
        let linked = Command::new("ld")
            .args(["-m", "elf_i386", "-Ttext", "0x100000", "-e", "start"])
            .args(["--oformat", "binary", "-o"])
            .args([&binary, &object])
            .status()
            .unwrap();
        assert!(linked.success());
        assert_eq!(std::fs::read(binary).unwrap(), CODE);
    }
}
