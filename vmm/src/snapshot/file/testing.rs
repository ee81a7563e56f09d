//! Any bytes as a snapshot file: for tests and the fuzz target `snapshot_file`.

use std::io::{Seek, SeekFrom, Write};
use std::sync::OnceLock;

use latefork_cpu::CpuModel;
use xxhash_rust::xxh3::xxh3_64;

use super::{FileError, Header, Identity, RAM_OFFSET, SnapshotFile, VERSION, tail_hash};
use crate::engine::soft::SoftVcpu;
use crate::machine::{Machine, MachineConfig, MachineError, RunLimits};

const IDENTITY: Identity = Identity { inputs: 1 };
/// RAM of a made-up snapshot: the least that a machine can have.
const RAM_SIZE: u64 = 16 << 20;
/// Instructions that a machine from hostile bytes runs.
const BUDGET: u64 = 2_000;

/// Writes `bytes` as a snapshot file and opens it: as they are if the first is
/// even, else the rest as the machine's state, with a sound header and empty
/// RAM. A machine that comes out of it runs a little.
///
/// # Errors
///
/// Why the file or its state was refused.
///
/// # Panics
///
/// When the host's temporary folder cannot be written to.
pub fn open_any(bytes: &[u8]) -> Result<(), MachineError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    match bytes.split_first() {
        Some((first, state)) if first % 2 == 1 => write_state(file.as_file_mut(), state),
        _ => file.write_all(bytes),
    }
    .expect("the temporary file can be written");
    let opened = SnapshotFile::open(file.path(), &IDENTITY)?;
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    let (mut machine, snapshot) = Machine::open(engine, &MachineConfig::default(), &opened)?;
    machine.run(&RunLimits::instructions(BUDGET))?;
    machine.restore(&snapshot)?;
    Ok(())
}

fn write_state(file: &mut std::fs::File, state: &[u8]) -> std::io::Result<()> {
    static EMPTY: OnceLock<u64> = OnceLock::new();
    let ram_hash = EMPTY.get_or_init(|| xxh3_64(&vec![0; usize::try_from(RAM_SIZE).unwrap_or(0)]));
    let header = Header {
        version: VERSION,
        inputs: IDENTITY.inputs,
        ram_size: RAM_SIZE,
        ram_hash: *ram_hash,
        state_size: state.len() as u64,
        extra_size: 0,
        tail_hash: tail_hash(state, &[]),
    };
    file.write_all(&header.to_bytes())?;
    file.set_len(RAM_OFFSET + RAM_SIZE)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(state)
}

/// A good input: the state of a machine that has run a little.
///
/// # Errors
///
/// The host is out of memory.
pub fn seed() -> Result<Vec<u8>, MachineError> {
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    let config = MachineConfig {
        memory_mib: 16,
        ..MachineConfig::default()
    };
    let mut machine = Machine::new(engine, &config)?;
    // inc eax; jmp back
    machine.load_flat(crate::layout::HIGH_MEMORY, &[0x40, 0xeb, 0xfd])?;
    machine.run(&RunLimits::instructions(100))?;
    let mut bytes = vec![1];
    bytes.extend(machine.snapshot()?.state().to_bytes());
    Ok(bytes)
}

/// Whether `error` is one that a file can cause.
pub fn is_refusal(error: &MachineError) -> bool {
    match error {
        MachineError::File(FileError::Io { .. }) => false,
        MachineError::File(_) | MachineError::State(_) | MachineError::Memory(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_opens_and_its_mutants_are_contained() {
        let seed = seed().unwrap();
        open_any(&seed).unwrap();
        for at in (1..seed.len()).step_by(11) {
            let mut bytes = seed.clone();
            bytes[at] ^= 0xff;
            if let Err(error) = open_any(&bytes) {
                assert!(is_refusal(&error), "byte {at}: {error}");
            }
        }
    }

    #[test]
    fn raw_bytes_are_refused() {
        for bytes in [&b""[..], b"\0", b"latefork", &[0; 200]] {
            assert!(is_refusal(&open_any(bytes).unwrap_err()));
        }
    }
}
