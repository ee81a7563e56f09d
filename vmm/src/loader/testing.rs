//! Any bytes as a boot: for tests and the fuzz target `loader`.

use super::{BootEntry, BootSource, LoadError, load};
use crate::layout::{HIGH_MEMORY, RAM_MIB};
use crate::memory::GuestRam;

/// Loads what `bytes` describe into 16 MiB: three bytes of sizes (initramfs in
/// 64 bytes, command line in 16, zeros behind the initramfs), then command line,
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
    // Large archives cost no input: they are zeros. Few need be large, and each
    // byte of them is copied.
    let zeros = match size(2, 1) {
        few @ 0..=0xef => few * 64,
        many => (many - 0xef) * 1024 * 1024,
    };
    let mut initramfs = initramfs.to_vec();
    initramfs.resize(initramfs.len() + zeros, 0);
    let ram = GuestRam::new(*RAM_MIB.start())?;
    let source = BootSource {
        kernel,
        initramfs: (size(0, 1) + zeros > 0).then_some(&initramfs),
        command_line: &String::from_utf8_lossy(line),
    };
    let loaded = load(&ram, &source);
    if let Ok(entry) = &loaded {
        let entry = u64::from(entry.entry);
        assert!(
            (HIGH_MEMORY.0..ram.size() as u64).contains(&entry),
            "the entry {entry:#x} is not in the kernel's memory"
        );
    }
    loaded
}
