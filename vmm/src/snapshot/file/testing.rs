//! Any bytes as a snapshot file: for tests and the fuzz target `snapshot_file`.

use std::io::Write;

use latefork_cpu::CpuModel;
use xxhash_rust::xxh3::xxh3_64;

use super::{FileError, HEADER_SIZE, Header, Identity, RamSizes, SnapshotFile, VERSION, tail_hash};
use crate::engine::soft::SoftVcpu;
use crate::layout::PAGE_SIZE;
use crate::machine::{Machine, MachineConfig, MachineError, RunLimits};

const IDENTITY: Identity = Identity { inputs: 1 };
/// RAM of a made-up snapshot, in pages: little, as all of it is checked.
const RAM_PAGES: usize = 16;
/// What the reader takes here: RAM of some pages instead of some MiB.
const SIZES: RamSizes = RamSizes {
    least: PAGE_SIZE as u64,
    most: (RAM_PAGES * PAGE_SIZE) as u64,
    step: PAGE_SIZE as u64,
};
/// Instructions that a machine from hostile bytes runs.
const BUDGET: u64 = 2_000;

/// Writes a snapshot file as `bytes` say and opens it. A machine that comes out
/// of it runs a little. The first byte says how the rest is meant:
///
/// * 0 (modulo 3): the file as it is.
/// * 1: the machine's state; the header is sound, RAM is empty.
/// * 2: two bytes with the size of the state, the state, and pages of RAM,
///   which repeat; the header is sound.
///
/// # Errors
///
/// Why the file or its state was refused.
///
/// # Panics
///
/// When the host's temporary folder cannot be written to.
pub fn open_any(bytes: &[u8]) -> Result<(), MachineError> {
    let file = match bytes.split_first() {
        Some((first, state)) if first % 3 == 1 => sound(state, &[]),
        Some((first, rest)) if first % 3 == 2 => {
            let (size, rest) = rest.split_at(rest.len().min(2));
            let size = size
                .iter()
                .rev()
                .fold(0, |size, byte| size << 8 | usize::from(*byte));
            let (state, ram) = rest.split_at(rest.len().min(size));
            sound(state, ram)
        }
        Some((_, file)) => file.to_vec(),
        None => Vec::new(),
    };
    let mut written = tempfile::NamedTempFile::new().expect("a temporary file");
    let wrote = written.write_all(&file);
    wrote.expect("the temporary file can be written");
    let opened = SnapshotFile::open_sized(written.path(), &IDENTITY, &SIZES)?;
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    let (mut machine, snapshot) = Machine::open(engine, &MachineConfig::default(), &opened)?;
    machine.run(&RunLimits::instructions(BUDGET))?;
    machine.restore(&snapshot)?;
    Ok(())
}

/// A file with `state` and with RAM made of `pattern`, all checksums right.
fn sound(state: &[u8], pattern: &[u8]) -> Vec<u8> {
    let mut ram = vec![0; RAM_PAGES * PAGE_SIZE];
    let bytes = pattern.iter().cycle();
    ram.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let header = Header {
        version: VERSION,
        inputs: IDENTITY.inputs,
        ram_size: ram.len() as u64,
        ram_hash: xxh3_64(&ram),
        state_size: state.len() as u64,
        extra_size: 0,
        tail_hash: tail_hash(state, &[]),
    };
    let mut file = header.to_bytes().to_vec();
    file.resize(PAGE_SIZE.max(HEADER_SIZE), 0);
    file.extend(ram);
    file.extend(state);
    file
}

/// Good inputs: the state of a machine that has run a little, alone and with RAM
/// full of its program.
///
/// # Errors
///
/// The host is out of memory.
///
/// # Panics
///
/// Never: a state has less than 64 KiB.
pub fn seeds() -> Result<[Vec<u8>; 2], MachineError> {
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    let config = MachineConfig {
        memory_mib: 16,
        ..MachineConfig::default()
    };
    let mut machine = Machine::new(engine, &config)?;
    machine.load_flat(crate::layout::HIGH_MEMORY, &PROGRAM)?;
    machine.run(&RunLimits::instructions(100))?;
    let state = machine.snapshot()?.state().to_bytes();
    let size = u16::try_from(state.len()).expect("a state has less than 64 KiB");
    let alone = [&[1][..], &state].concat();
    let with_ram = [&[2][..], &size.to_le_bytes(), &state, &PROGRAM].concat();
    Ok([alone, with_ram])
}

/// inc eax; jmp back
const PROGRAM: [u8; 3] = [0x40, 0xeb, 0xfd];

/// Whether `error` is one that a file can cause.
pub fn is_refusal(error: &MachineError) -> bool {
    match error {
        MachineError::File(FileError::Io { .. }) => false,
        MachineError::File(_)
        | MachineError::State(_)
        | MachineError::Memory(_)
        | MachineError::OtherCpu { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_opens_and_its_mutants_are_contained() {
        for seed in seeds().unwrap() {
            open_any(&seed).unwrap();
            for at in (1..seed.len()).step_by(11) {
                let mut bytes = seed.clone();
                bytes[at] ^= 0xff;
                if let Err(error) = open_any(&bytes) {
                    assert!(is_refusal(&error), "byte {at}: {error}");
                }
            }
        }
    }

    #[test]
    fn the_committed_seeds_are_these() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpora/snapshot_file/");
        let [alone, with_ram] = seeds().unwrap();
        for (name, seed) in [("machine", alone), ("machine-with-ram", with_ram)] {
            let path = format!("{folder}{name}");
            if std::env::var_os("LATEFORK_WRITE_SEEDS").is_some() {
                std::fs::write(&path, &seed).unwrap();
            }
            open_any(&seed).unwrap();
            assert!(std::fs::read(path).unwrap() == seed, "{name}");
        }
    }

    #[test]
    fn raw_bytes_are_refused() {
        for bytes in [&b""[..], b"\0", b"\0latefork", &[0; 200]] {
            assert!(is_refusal(&open_any(bytes).unwrap_err()));
        }
    }
}
