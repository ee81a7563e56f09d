//! Snapshots on disk: one file that many processes map.
//!
//! | offset | what |
//! |---|---|
//! | 0 | the header, [`HEADER_SIZE`] bytes |
//! | 4096 | all of RAM, in which zero pages are holes |
//! | 4096 + RAM | CPU and devices, then the writer's own bytes |
//!
//! All numbers are little-endian. RAM is at a page boundary, so that a machine
//! maps it copy-on-write. The header is checksummed, and holds the checksums of
//! the other two parts. A file is written beside its place and renamed into it.

mod header;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use latefork_cpu::CpuState;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

pub use self::header::{HEADER_SIZE, MAGIC, VERSION};
use self::header::{Header, MACHINES, RAM_OFFSET, RamSizes, check_header};

use super::{MachineState, Page, Pages, Snapshot, ZERO_PAGE};
use crate::bus::DevicesState;
use crate::engine::EngineKind;
use crate::layout::PAGE_SIZE;
use crate::memory::PageNumber;
use crate::time::VirtualTime;

/// What a snapshot was made of. A file of another identity is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Hash of the kernel, initramfs, command line and whatever else decides
    /// what the machine is at the snapshot.
    pub inputs: u128,
}

/// Why a snapshot file cannot be used. All but [`FileError::Io`] are mended by
/// making the snapshot again.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a snapshot at all.
    #[error("{path} is no latefork snapshot")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A snapshot by another version of the program.
    #[error("{path} has snapshot version {found}, this program reads version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A snapshot of something else.
    #[error("{path} is stale: it was made from another kernel, agent or configuration")]
    Stale {
        /// The file.
        path: PathBuf,
    },
    /// The end of the file is missing.
    #[error("{path} is truncated: {found} bytes of {wanted}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The size that it should have.
        wanted: u64,
    },
    /// A checksum is wrong.
    #[error("{path} is corrupted: the checksum of its {part} is wrong")]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// The part at fault.
        part: &'static str,
    },
    /// The parts are whole but contradict themselves.
    #[error("{path} is malformed: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// CPU and devices as they lie in the file.
#[derive(Serialize, Deserialize)]
struct StateRecord {
    cpu: Vec<u8>,
    devices: DevicesState,
    idle: VirtualTime,
    engine: EngineKind,
    signature: u32,
}

impl MachineState {
    /// The state as bytes, equal for equal states.
    pub fn to_bytes(&self) -> Vec<u8> {
        let record = StateRecord {
            cpu: self.cpu.to_bytes(),
            devices: self.devices.clone(),
            idle: self.idle,
            engine: self.engine,
            signature: self.signature,
        };
        // Plain data into memory: neither a type nor a writer that can fail.
        postcard::to_stdvec(&record).unwrap_or_default()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let record: StateRecord =
            postcard::from_bytes(bytes).map_err(|error| format!("machine state: {error}"))?;
        let cpu = CpuState::from_bytes(&record.cpu).map_err(|error| format!("CPU: {error}"))?;
        Ok(Self {
            cpu,
            devices: record.devices,
            idle: record.idle,
            engine: record.engine,
            signature: record.signature,
        })
    }
}

/// A snapshot file that was checked as a whole.
#[derive(Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    file: File,
    snapshot: Snapshot,
    extra: Vec<u8>,
}

/// All of RAM, in a mapped file.
pub(super) struct Image {
    map: Mmap,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "image of {} bytes", self.map.len())
    }
}

impl Image {
    pub(super) fn page(&self, page: PageNumber) -> Option<&Page> {
        let start = PAGE_SIZE + page.0 as usize * PAGE_SIZE;
        self.map.get(start..start + PAGE_SIZE)?.try_into().ok()
    }
}

impl Snapshot {
    /// Writes the whole machine to `path`, with `extra` for the writer's own use.
    ///
    /// # Errors
    ///
    /// The file cannot be written; what was at `path` is untouched then.
    pub fn write(&self, path: &Path, identity: &Identity, extra: &[u8]) -> Result<(), FileError> {
        let failed = |source| FileError::Io {
            path: path.to_path_buf(),
            source,
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut file =
            tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        self.write_parts(file.as_file_mut(), identity, extra)
            .map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn write_parts(&self, file: &mut File, identity: &Identity, extra: &[u8]) -> io::Result<()> {
        let state = self.state().to_bytes();
        let ram_size = self.ram_size() as u64;
        file.set_len(RAM_OFFSET + ram_size)?;
        let mut hasher = Xxh3::new();
        let pages = u32::try_from(self.ram_size() / PAGE_SIZE).unwrap_or(u32::MAX);
        let mut place = u64::MAX;
        for number in 0..pages {
            let page = self.page(PageNumber(number));
            hasher.update(page);
            if *page == ZERO_PAGE {
                continue;
            }
            let wanted = RAM_OFFSET + u64::from(number) * PAGE_SIZE as u64;
            if wanted != place {
                file.seek(SeekFrom::Start(wanted))?;
            }
            file.write_all(page)?;
            place = wanted + PAGE_SIZE as u64;
        }
        file.seek(SeekFrom::Start(RAM_OFFSET + ram_size))?;
        file.write_all(&state)?;
        file.write_all(extra)?;
        let header = Header {
            version: VERSION,
            inputs: identity.inputs,
            ram_size,
            ram_hash: hasher.digest(),
            state_size: state.len() as u64,
            extra_size: extra.len() as u64,
            tail_hash: tail_hash(&state, extra),
        };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.to_bytes())?;
        file.flush()
    }
}

fn tail_hash(state: &[u8], extra: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(state);
    hasher.update(extra);
    hasher.digest()
}

impl SnapshotFile {
    /// Opens and checks the snapshot at `path`.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, in one line.
    pub fn open(path: &Path, identity: &Identity) -> Result<Self, FileError> {
        Self::open_sized(path, identity, &MACHINES)
    }

    fn open_sized(path: &Path, identity: &Identity, sizes: &RamSizes) -> Result<Self, FileError> {
        let failed = |source| FileError::Io {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(FileError::Foreign { path: path.into() });
        }
        let checked = map(&file).map_err(failed)?;
        let header = check_header(&checked, path, identity)?;
        let (state, extra) = check_parts(&checked, &header, path, sizes)?;
        // The checksum has touched every page; a new mapping holds only those
        // that restores will read.
        drop(checked);
        let map = map(&file).map_err(failed)?;
        let ram_size = usize::try_from(header.ram_size).unwrap_or(0);
        let snapshot = Snapshot::from_pages(None, ram_size, Pages::Image(Image { map }), state);
        Ok(Self {
            path: path.to_path_buf(),
            file,
            snapshot,
            extra,
        })
    }

    /// The snapshot; its pages stay in the file's mapping.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// What the writer added for its own use.
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// Another handle on the open file.
    pub(crate) fn file(&self) -> Result<File, FileError> {
        self.file.try_clone().map_err(|source| FileError::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// Where in the file RAM begins.
    pub(crate) fn ram_offset(&self) -> u64 {
        RAM_OFFSET
    }
}

/// Maps a snapshot file for reading.
#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is of a regular file, read-only and private. A file
    // in the cache is never written to once it has its name ([`Snapshot::write`]
    // renames a finished file into place), so the bytes do not change under
    // the borrows of the map; who cuts it short by other means gets SIGBUS in
    // this process, as with every mapped file.
    unsafe { Mmap::map(file) }
}

/// Checks RAM and the tail; returns the machine's state and the writer's bytes.
fn check_parts(
    bytes: &[u8],
    header: &Header,
    path: &Path,
    sizes: &RamSizes,
) -> Result<(MachineState, Vec<u8>), FileError> {
    let malformed = |reason: String| FileError::Malformed {
        path: path.to_path_buf(),
        reason,
    };
    let corrupted = |part| FileError::Corrupted {
        path: path.to_path_buf(),
        part,
    };
    let wanted = header
        .file_size(sizes)
        .ok_or_else(|| malformed("its header names sizes that no snapshot has".into()))?;
    if bytes.len() as u64 != wanted {
        return Err(FileError::Truncated {
            path: path.to_path_buf(),
            found: bytes.len() as u64,
            wanted,
        });
    }
    // All sizes are at most the file's, which fits the address space.
    let size = |field: u64| usize::try_from(field).unwrap_or(usize::MAX);
    let (ram, tail) = bytes[PAGE_SIZE..].split_at(size(header.ram_size));
    let (state, extra) = tail.split_at(size(header.state_size));
    if tail_hash(state, extra) != header.tail_hash {
        return Err(corrupted("machine state"));
    }
    if xxh3_64(ram) != header.ram_hash {
        return Err(corrupted("memory"));
    }
    let state = MachineState::from_bytes(state).map_err(malformed)?;
    Ok((state, extra.to_vec()))
}
