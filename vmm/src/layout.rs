//! Every address, port and interrupt line of the machine.
//!
//! This is the only file that knows them: a device sees offsets. What the
//! guest kernel must know too (marked *guest*) is repeated in
//! `guest-kernel/README.md`; the two must agree.

use vm_memory::GuestAddress;

/// Bytes in a page of the 32-bit x86 without PSE (Intel SDM volume 3, 4.3).
pub const PAGE_SIZE: usize = 4096;

/// Smallest and largest RAM of a machine, in MiB.
pub const RAM_MIB: std::ops::RangeInclusive<u32> = 16..=512;
/// RAM of a machine unless asked otherwise, in MiB.
pub const RAM_DEFAULT_MIB: u32 = 32;

/// Where the boot's flat descriptor table lies.
pub const BOOT_GDT: GuestAddress = GuestAddress(0x0500);
/// Where the "zero page" lies (`struct boot_params`, Linux
/// `Documentation/arch/x86/zero-page.rst`).
pub const BOOT_PARAMS: GuestAddress = GuestAddress(0x7000);
/// Stack pointer at the kernel's entry; the 32-bit boot protocol asks for none.
pub const BOOT_STACK: GuestAddress = GuestAddress(0x8ff0);
/// Where the command line lies, NUL-terminated.
pub const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
/// Room for the command line with its NUL (`COMMAND_LINE_SIZE` of Linux's
/// `arch/x86/include/asm/setup.h`).
pub const COMMAND_LINE_SIZE: usize = 2048;
/// First byte past the low memory that the e820 map calls usable.
///
/// The coverage blocks lie behind it, so that the guest never allocates them.
pub const LOW_MEMORY_END: GuestAddress = GuestAddress(0x8_0000);

/// *guest*: edge counters of the kernel, one byte an edge, saturating.
pub const COVERAGE_MAP: GuestAddress = GuestAddress(0x8_0000);
/// *guest*: bytes of [`COVERAGE_MAP`].
pub const COVERAGE_MAP_SIZE: usize = 0x1_0000;
/// *guest*: counters of semantic events (operation, outcome), one byte each.
pub const COVERAGE_EVENTS: GuestAddress = GuestAddress(0x9_0000);
/// *guest*: bytes of [`COVERAGE_EVENTS`].
pub const COVERAGE_EVENTS_SIZE: usize = 0x1000;
/// Bytes of both coverage blocks, the second right behind the first.
pub const COVERAGE_SIZE: usize = COVERAGE_MAP_SIZE + COVERAGE_EVENTS_SIZE;
const _: () = assert!(COVERAGE_MAP.0 + COVERAGE_MAP_SIZE as u64 == COVERAGE_EVENTS.0);
const _: () = assert!(COVERAGE_SIZE.is_multiple_of(PAGE_SIZE));

/// First byte above the legacy hole; kernels are loaded here or higher.
pub const HIGH_MEMORY: GuestAddress = GuestAddress(0x10_0000);

/// *guest*: registers of the virtio-mmio device (virtio 1.2, 4.2.2), above any RAM.
///
/// The guest learns of it from `virtio_mmio.device=` on its command line.
pub const VIRTIO_MMIO: GuestAddress = GuestAddress(0xd000_0000);
/// Bytes of the virtio-mmio register window.
pub const VIRTIO_MMIO_SIZE: u64 = 0x1000;

/// *guest*: a byte written here ends the run (the ISA pvpanic port of QEMU,
/// `docs/specs/pvpanic.rst`).
pub const PORT_PANIC: u16 = 0x505;
/// First port of the master 8259.
pub const PORT_PIC_MASTER: u16 = 0x20;
/// First port of the slave 8259.
pub const PORT_PIC_SLAVE: u16 = 0xa0;
/// Edge/level control registers of the two 8259s.
pub const PORT_ELCR: u16 = 0x4d0;
/// First port of the 8254.
pub const PORT_PIT: u16 = 0x40;
/// System control port B: gate and output of the 8254's channel 2.
pub const PORT_SYSTEM_CONTROL: u16 = 0x61;
/// Index port of the CMOS clock; data follows at the next port.
pub const PORT_CMOS: u16 = 0x70;
/// First port of the 16550.
pub const PORT_SERIAL: u16 = 0x3f8;
/// Status and command port of an i8042; only its reset command exists.
pub const PORT_KEYBOARD_COMMAND: u16 = 0x64;
/// System control port A: fast reset.
pub const PORT_FAST_RESET: u16 = 0x92;
/// Reset control register of a PIIX and later.
pub const PORT_RESET_CONTROL: u16 = 0xcf9;
/// Diagnostic port; Linux writes to it for a short delay.
pub const PORT_DELAY: u16 = 0x80;

/// A line of the two 8259s, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IrqLine(pub u8);

/// Output of the 8254's channel 0.
pub const IRQ_TIMER: IrqLine = IrqLine(0);
/// Where the slave 8259 meets the master.
pub const IRQ_CASCADE: IrqLine = IrqLine(2);
/// The 16550.
pub const IRQ_SERIAL: IrqLine = IrqLine(4);
/// *guest*: the virtio-mmio device, level-triggered.
pub const IRQ_VIRTIO: IrqLine = IrqLine(10);
/// *guest*: the harness interrupt, edge-triggered: the kernel reschedules.
pub const IRQ_HARNESS: IrqLine = IrqLine(5);
