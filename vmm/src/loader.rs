//! Puts a kernel, its command line and its initramfs into guest RAM, as the
//! 32-bit boot protocol asks.
//!
//! Source: Linux `Documentation/arch/x86/boot.rst` ("32-bit Boot Protocol")
//! and `zero-page.rst`.
//!
//! Two forms of kernel are taken: a bzImage (through linux-loader) and the
//! uncompressed ELF32 `vmlinux`, which needs some 20 million instructions less.

mod boot_params;
mod elf;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;

use std::io::Cursor;
use std::ops::Range;

use linux_loader::cmdline::Cmdline;
use linux_loader::loader::bootparam::{XLF_KERNEL_64, setup_header};
use linux_loader::loader::{BzImage, KernelLoader, load_cmdline};
use vm_memory::GuestAddress;

use crate::layout::{
    BOOT_PARAMS, BOOT_STACK, COMMAND_LINE, COMMAND_LINE_SIZE, HIGH_MEMORY, IRQ_VIRTIO, PAGE_SIZE,
    VIRTIO_MMIO, VIRTIO_MMIO_SIZE,
};
use crate::memory::{GuestRam, MemoryError};

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct BootSource<'a> {
    /// A bzImage or an ELF32 vmlinux.
    pub kernel: &'a [u8],
    /// A cpio archive, compressed or not.
    pub initramfs: Option<&'a [u8]>,
    /// The kernel's command line, without what [`device_arguments`] adds.
    pub command_line: &'a str,
}

/// Where the CPU starts, and with what in its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootEntry {
    /// EIP: the kernel's 32-bit entry, guest-physical.
    pub entry: u32,
    /// ESI: the zero page.
    pub boot_params: u32,
    /// ESP: a stack below the kernel.
    pub stack: u32,
}

/// Why a kernel cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither of the two forms.
    #[error("the kernel image is neither a bzImage nor an ELF file: give a bzImage or a vmlinux")]
    NotAKernel,
    /// A kernel for long mode.
    #[error("the kernel is a 64-bit one: build it for 32-bit x86 (ARCH=i386)")]
    SixtyFourBit,
    /// An ELF file of another machine.
    #[error("the kernel is an ELF file for machine {machine}, not for 32-bit x86 (3)")]
    Machine {
        /// `e_machine`.
        machine: u16,
    },
    /// An ELF file that is no executable.
    #[error("the kernel is an ELF file of type {kind}, not an executable (2)")]
    ElfType {
        /// `e_type`.
        kind: u16,
    },
    /// An ELF file that contradicts itself.
    #[error("the kernel's ELF {what} is malformed: {reason}")]
    Elf {
        /// The part at fault.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A segment outside of RAM.
    #[error(
        "the kernel's segment at {start:#x} to {end:#x} does not fit: RAM for it is {from:#x} to {to:#x}; give the machine more memory",
        start = segment.start, end = segment.end, from = ram.start, to = ram.end
    )]
    SegmentRange {
        /// Guest-physical range of the segment.
        segment: Range<u64>,
        /// Where segments may lie.
        ram: Range<u64>,
    },
    /// Two segments at one place.
    #[error(
        "the kernel's segments at {:#x} and {:#x} overlap", first.start, second.start
    )]
    SegmentOverlap {
        /// Guest-physical range of the lower segment.
        first: Range<u64>,
        /// Guest-physical range of the other.
        second: Range<u64>,
    },
    /// An entry point that no segment holds.
    #[error("the kernel's entry point {entry:#x} lies in none of its segments")]
    Entry {
        /// The entry point.
        entry: u64,
    },
    /// linux-loader refused the bzImage.
    #[error("the bzImage is malformed: {0}")]
    BzImage(linux_loader::loader::Error),
    /// The kernel needs more room than there is.
    #[error(
        "the kernel needs memory up to {needed:#x}, and RAM ends at {ram:#x}: give the machine more memory"
    )]
    TooLarge {
        /// Past the last byte that it needs.
        needed: u64,
        /// Bytes of RAM.
        ram: u64,
    },
    /// The initramfs does not fit above the kernel.
    #[error(
        "the initramfs of {size} bytes does not fit between the kernel's end {kernel_end:#x} and the end of RAM {ram:#x}: give the machine more memory"
    )]
    InitramfsTooLarge {
        /// Bytes of the initramfs.
        size: usize,
        /// Past the last byte that the kernel needs.
        kernel_end: u64,
        /// Bytes of RAM.
        ram: u64,
    },
    /// An initramfs of no bytes.
    #[error("the initramfs is empty")]
    InitramfsEmpty,
    /// The command line does not fit.
    #[error(
        "the command line of {size} bytes is too long: at most {} fit", COMMAND_LINE_SIZE - 1
    )]
    CommandLineTooLong {
        /// Bytes of the command line.
        size: usize,
    },
    /// The command line holds what the kernel cannot read.
    #[error("the command line is not valid: {0}")]
    CommandLine(linux_loader::cmdline::Error),
    /// The command line could not be written.
    #[error("cannot place the command line: {0}")]
    PlaceCommandLine(linux_loader::loader::Error),
    /// The zero page could not be written.
    #[error("cannot place the zero page: {0}")]
    PlaceBootParams(linux_loader::configurator::Error),
    /// A write missed RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The argument by which the kernel finds the virtio-mmio device (Linux
/// `drivers/virtio/virtio_mmio.c`, `virtio_mmio.device=`).
pub fn device_arguments() -> String {
    format!(
        "virtio_mmio.device={VIRTIO_MMIO_SIZE}@{:#x}:{}",
        VIRTIO_MMIO.0, IRQ_VIRTIO.0
    )
}

/// Loads `source` into `ram`, which holds zeros.
///
/// # Errors
///
/// One variant for each thing that can be wrong with an image, whose message
/// is one line and says what to do.
pub fn load(ram: &GuestRam, source: &BootSource<'_>) -> Result<BootEntry, LoadError> {
    let kernel = load_kernel(ram, source.kernel)?;
    let initramfs = match source.initramfs {
        Some(bytes) => Some(place_initramfs(ram, bytes, kernel.end)?),
        None => None,
    };
    place_command_line(ram, source.command_line)?;
    boot_params::write(ram, kernel.header, initramfs)?;
    let (address, table) = crate::engine::descriptor_table();
    ram.write(address, &table)?;
    Ok(BootEntry {
        entry: kernel.entry,
        boot_params: low(BOOT_PARAMS),
        stack: low(BOOT_STACK),
    })
}

/// A kernel that lies in RAM.
struct LoadedKernel {
    entry: u32,
    /// Past the last byte that it uses before it knows the memory map.
    end: u64,
    /// A bzImage's own header.
    header: Option<setup_header>,
}

fn load_kernel(ram: &GuestRam, image: &[u8]) -> Result<LoadedKernel, LoadError> {
    if image.starts_with(&object::elf::ELFMAG) {
        return elf::load(ram, image);
    }
    if image.get(0x202..0x206) == Some(b"HdrS") {
        return load_bzimage(ram, image);
    }
    Err(LoadError::NotAKernel)
}

fn load_bzimage(ram: &GuestRam, image: &[u8]) -> Result<LoadedKernel, LoadError> {
    let size = ram.size() as u64;
    let loaded = BzImage::load(
        ram.regions(),
        Some(HIGH_MEMORY),
        &mut Cursor::new(image),
        None,
    )
    .map_err(|error| {
        if image.len() as u64 > size - HIGH_MEMORY.0 {
            return LoadError::TooLarge {
                needed: HIGH_MEMORY.0 + image.len() as u64,
                ram: size,
            };
        }
        LoadError::BzImage(error)
    })?;
    let header = loaded.setup_header.ok_or(LoadError::NotAKernel)?;
    if header.version >= 0x020c && header.xloadflags & XLF_KERNEL_64 != 0 {
        return Err(LoadError::SixtyFourBit);
    }
    let mut end = loaded.kernel_end;
    if header.version >= 0x020a {
        // What the decompressor needs at the address that it moves itself to.
        let moved = header.pref_address.max(HIGH_MEMORY.0);
        end = end.max(moved.saturating_add(u64::from(header.init_size)));
    }
    if end > size {
        return Err(LoadError::TooLarge {
            needed: end,
            ram: size,
        });
    }
    Ok(LoadedKernel {
        entry: low(loaded.kernel_load),
        end,
        header: Some(header),
    })
}

/// Copies the initramfs to the end of RAM.
fn place_initramfs(
    ram: &GuestRam,
    bytes: &[u8],
    kernel_end: u64,
) -> Result<(GuestAddress, usize), LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::InitramfsEmpty);
    }
    let page = PAGE_SIZE as u64;
    let end = ram.size() as u64;
    let start = end
        .checked_sub(bytes.len() as u64)
        .map(|start| start / page * page)
        .filter(|start| *start >= kernel_end.next_multiple_of(page));
    let Some(start) = start else {
        return Err(LoadError::InitramfsTooLarge {
            size: bytes.len(),
            kernel_end,
            ram: end,
        });
    };
    ram.write(GuestAddress(start), bytes)?;
    Ok((GuestAddress(start), bytes.len()))
}

fn place_command_line(ram: &GuestRam, command_line: &str) -> Result<(), LoadError> {
    if command_line.len() >= COMMAND_LINE_SIZE {
        return Err(LoadError::CommandLineTooLong {
            size: command_line.len(),
        });
    }
    let mut line = Cmdline::new(COMMAND_LINE_SIZE).map_err(LoadError::CommandLine)?;
    if !command_line.is_empty() {
        line.insert_str(command_line)
            .map_err(LoadError::CommandLine)?;
    }
    load_cmdline(ram.regions(), COMMAND_LINE, &line).map_err(LoadError::PlaceCommandLine)
}

/// An address below 4 GiB, as all of [`crate::layout`] and RAM are.
fn low(address: GuestAddress) -> u32 {
    u32::try_from(address.0).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
