//! The header of a snapshot file: what it says, and what it may say.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::{FileError, Identity};
use crate::layout::{PAGE_SIZE, RAM_MIB};

/// First bytes of every snapshot file.
pub const MAGIC: [u8; 8] = *b"latefork";
/// Version of this layout and of every state in it. Raised by each change.
pub const VERSION: u32 = 2;
/// Bytes of the header.
pub const HEADER_SIZE: usize = 128;
/// Where RAM begins.
pub(super) const RAM_OFFSET: u64 = PAGE_SIZE as u64;
/// Most bytes of states and the writer's own: refuses a header that lies.
const TAIL_LIMIT: u64 = 64 << 20;

/// The header's fields, in their order in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) inputs: u128,
    pub(super) ram_size: u64,
    pub(super) ram_hash: u64,
    pub(super) state_size: u64,
    pub(super) extra_size: u64,
    pub(super) tail_hash: u64,
}

/// Bytes of RAM that a file can have.
pub(super) struct RamSizes {
    pub(super) least: u64,
    pub(super) most: u64,
    pub(super) step: u64,
}

/// Those of machines.
pub(super) const MACHINES: RamSizes = RamSizes {
    least: (*RAM_MIB.start() as u64) << 20,
    most: (*RAM_MIB.end() as u64) << 20,
    step: 1 << 20,
};

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_SIZE] {
        let mut bytes = Vec::with_capacity(HEADER_SIZE);
        bytes.extend(MAGIC);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.inputs.to_le_bytes());
        for field in [
            self.ram_size,
            self.ram_hash,
            self.state_size,
            self.extra_size,
            self.tail_hash,
        ] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.resize(HEADER_SIZE - 8, 0);
        let hash = xxh3_64(&bytes);
        bytes.extend(hash.to_le_bytes());
        bytes.try_into().unwrap_or([0; HEADER_SIZE])
    }

    /// The sizes of the file's parts added up, if they are ones that it can have.
    pub(super) fn file_size(&self, sizes: &RamSizes) -> Option<u64> {
        let tail = self.state_size.checked_add(self.extra_size)?;
        let sound = self.ram_size.is_multiple_of(sizes.step)
            && (sizes.least..=sizes.most).contains(&self.ram_size)
            && tail <= TAIL_LIMIT;
        sound.then_some(RAM_OFFSET + self.ram_size + tail)
    }
}

/// Reads fields one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        if let Some((head, tail)) = self.0.split_at_checked(N) {
            field.copy_from_slice(head);
            self.0 = tail;
        }
        field
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// Reads the header of a file of `identity`.
pub(super) fn check_header(
    bytes: &[u8],
    path: &Path,
    identity: &Identity,
) -> Result<Header, FileError> {
    let path = || path.to_path_buf();
    if !bytes.starts_with(&MAGIC) {
        return Err(FileError::Foreign { path: path() });
    }
    let Some(header) = bytes.get(..HEADER_SIZE) else {
        return Err(FileError::Truncated {
            path: path(),
            found: bytes.len() as u64,
            wanted: HEADER_SIZE as u64,
        });
    };
    let mut fields = Fields(&header[MAGIC.len()..]);
    let version = u32::from_le_bytes(fields.take());
    // The version comes first: the rest may lie elsewhere in another one.
    if version != VERSION {
        return Err(FileError::Version {
            path: path(),
            found: version,
        });
    }
    let (body, hash) = header.split_at(HEADER_SIZE - 8);
    if xxh3_64(body).to_le_bytes() != hash {
        return Err(FileError::Corrupted {
            path: path(),
            part: "header",
        });
    }
    let _reserved: [u8; 4] = fields.take();
    let header = Header {
        version,
        inputs: u128::from_le_bytes(fields.take()),
        ram_size: fields.u64(),
        ram_hash: fields.u64(),
        state_size: fields.u64(),
        extra_size: fields.u64(),
        tail_hash: fields.u64(),
    };
    if header.inputs != identity.inputs {
        return Err(FileError::Stale { path: path() });
    }
    Ok(header)
}
