//! The zero page: what the kernel is told about the machine.

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::GuestAddress;

use super::{LoadError, low};
use crate::layout::{BOOT_PARAMS, COMMAND_LINE, COMMAND_LINE_SIZE, HIGH_MEMORY, LOW_MEMORY_END};
use crate::memory::GuestRam;

/// `setup_header.boot_flag`.
const BOOT_FLAG: u16 = 0xaa55;
/// `setup_header.header`: "HdrS".
const HEADER_MAGIC: u32 = 0x5372_6448;
/// `setup_header.version`: the protocol that an ELF kernel is booted by, 2.12.
const PROTOCOL: u16 = 0x020c;
/// `setup_header.type_of_loader`: none of the registered ones.
const LOADER_UNDEFINED: u8 = 0xff;
/// `setup_header.loadflags`: the kernel lies above 1 MiB.
const LOADED_HIGH: u8 = 0x01;
/// e820 type of usable memory.
const E820_RAM: u32 = 1;

/// Writes the zero page. `header` is a bzImage's own; `initramfs` is where it
/// lies and its size.
pub(super) fn write(
    ram: &GuestRam,
    header: Option<setup_header>,
    initramfs: Option<(GuestAddress, usize)>,
) -> Result<(), LoadError> {
    let mut params = boot_params {
        hdr: header.unwrap_or(setup_header {
            boot_flag: BOOT_FLAG,
            header: HEADER_MAGIC,
            version: PROTOCOL,
            ..setup_header::default()
        }),
        ..boot_params::default()
    };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.loadflags |= LOADED_HIGH;
    params.hdr.cmd_line_ptr = low(COMMAND_LINE);
    params.hdr.cmdline_size = u32::try_from(COMMAND_LINE_SIZE - 1).unwrap_or(0);
    if let Some((start, size)) = initramfs {
        params.hdr.ramdisk_image = low(start);
        params.hdr.ramdisk_size = u32::try_from(size).unwrap_or(u32::MAX);
    }
    // The coverage blocks lie between the two and are in no entry, so that the
    // kernel neither uses nor maps them as memory.
    let map = [
        (0, LOW_MEMORY_END.0),
        (HIGH_MEMORY.0, ram.size() as u64 - HIGH_MEMORY.0),
    ];
    for (entry, (addr, size)) in params.e820_table.iter_mut().zip(map) {
        *entry = boot_e820_entry {
            addr,
            size,
            r#type: E820_RAM,
        };
        params.e820_entries += 1;
    }
    let page = BootParams::new(&params, BOOT_PARAMS);
    LinuxBootConfigurator::write_bootparams(&page, ram.regions())
        .map_err(LoadError::PlaceBootParams)
}
