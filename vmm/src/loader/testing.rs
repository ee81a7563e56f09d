//! Any bytes as a boot: for tests and the fuzz target `loader`.

use super::{BootEntry, BootSource, LoadError, load};
use crate::layout::HIGH_MEMORY;
use crate::memory::GuestRam;

/// Loads what `bytes` describe into 16 MiB: three bytes of sizes (initramfs in
/// 64 bytes, command line in 16, initramfs in 64 KiB), then command line,
/// initramfs and kernel. Checks what holds for every image.
///
/// # Errors
///
/// What [`load`] says of the image.
///
/// # Panics
///
/// When the loader breaks its promise.
pub fn load_any(bytes: &[u8]) -> Result<BootEntry, LoadError> {
    let (sizes, rest) = bytes.split_at(bytes.len().min(3));
    let size = |at: usize, unit: usize| usize::from(sizes.get(at).copied().unwrap_or(0)) * unit;
    let (line, rest) = rest.split_at(rest.len().min(size(1, 16)));
    let (initramfs, kernel) = rest.split_at(rest.len().min(size(0, 64)));
    // Large archives cost no input: they are zeros.
    let mut initramfs = initramfs.to_vec();
    initramfs.resize(initramfs.len() + size(2, 64 * 1024), 0);
    let ram = GuestRam::new(16)?;
    let loaded = load(
        &ram,
        &BootSource {
            kernel,
            initramfs: (size(0, 1) + size(2, 1) > 0).then_some(&initramfs),
            command_line: &String::from_utf8_lossy(line),
        },
    );
    if let Ok(entry) = &loaded {
        let entry = u64::from(entry.entry);
        assert!(
            (HIGH_MEMORY.0..ram.size() as u64).contains(&entry),
            "the entry {entry:#x} is not in the kernel's memory"
        );
    }
    loaded
}
