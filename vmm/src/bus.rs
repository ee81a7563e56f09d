//! The bus: finds the device behind a port or an address.
//!
//! What no device answers reads as all ones, and writes to it are dropped;
//! both are counted, and never an error.

use serde::{Deserialize, Serialize};

use crate::device::{MmioDevice, Persist, PortDevice, StateError};
use crate::devices::cmos::{Cmos, CmosState};
use crate::devices::panic_port::PanicPort;
use crate::devices::pic::{Pic, Role};
use crate::devices::pit::{Pit, PitState};
use crate::devices::reset::{ResetPorts, ResetSource, ResetState};
use crate::devices::serial::{Serial, SerialState};
use crate::layout;
use crate::memory::GuestRam;
use crate::time::VirtualTime;
use crate::vsock::{VirtioVsock, VsockState};

/// Every device of the machine.
#[derive(Debug)]
pub struct Devices {
    /// The interrupt controllers.
    pub pic: Pic,
    /// The interval timer.
    pub pit: Pit,
    /// The clock.
    pub cmos: Cmos,
    /// The console.
    pub serial: Serial,
    /// The virtio-vsock device.
    pub vsock: VirtioVsock,
    panic: PanicPort,
    reset: ResetPorts,
    unclaimed: Unclaimed,
}

/// What the guest did that ends its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It wrote an event to the panic port.
    Panic {
        /// The event (pvpanic: bit 0 panicked, bit 1 crash kernel loaded).
        event: u8,
    },
    /// It asked for a reset.
    Reset {
        /// By which port.
        source: ResetSource,
    },
}

/// Accesses that no device answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unclaimed {
    /// Reads of ports.
    pub port_reads: u64,
    /// Writes to ports.
    pub port_writes: u64,
    /// Reads of addresses.
    pub mmio_reads: u64,
    /// Writes to addresses.
    pub mmio_writes: u64,
}

/// The devices' saved state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevicesState {
    pic: <Pic as Persist>::State,
    pit: PitState,
    cmos: CmosState,
    serial: SerialState,
    reset: ResetState,
    vsock: VsockState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Pic(Role),
    Elcr,
    Pit,
    SystemControl,
    Cmos,
    Serial,
    Panic,
    Reset(ResetSource),
    Delay,
}

/// The device at `port`, and the port's offset from the device's first.
fn decode(port: u16) -> Option<(Target, u16)> {
    let single = |target| Some((target, 0));
    let window = |target, first: u16| Some((target, port - first));
    match port {
        layout::PORT_PIC_MASTER..=0x21 => {
            window(Target::Pic(Role::Master), layout::PORT_PIC_MASTER)
        }
        layout::PORT_PIC_SLAVE..=0xa1 => window(Target::Pic(Role::Slave), layout::PORT_PIC_SLAVE),
        layout::PORT_ELCR..=0x4d1 => window(Target::Elcr, layout::PORT_ELCR),
        layout::PORT_PIT..=0x43 => window(Target::Pit, layout::PORT_PIT),
        layout::PORT_SYSTEM_CONTROL => single(Target::SystemControl),
        layout::PORT_CMOS..=0x71 => window(Target::Cmos, layout::PORT_CMOS),
        layout::PORT_SERIAL..=0x3ff => window(Target::Serial, layout::PORT_SERIAL),
        layout::PORT_PANIC => single(Target::Panic),
        layout::PORT_RESET_CONTROL => single(Target::Reset(ResetSource::Control)),
        layout::PORT_KEYBOARD_COMMAND => single(Target::Reset(ResetSource::Keyboard)),
        layout::PORT_FAST_RESET => single(Target::Reset(ResetSource::Fast)),
        layout::PORT_DELAY => single(Target::Delay),
        _ => None,
    }
}

/// The ports that an access of `size` bytes touches, with each byte's shift.
fn bytes_of(port: u16, size: u8) -> impl Iterator<Item = (u16, u32)> {
    (0..u16::from(size)).map(move |index| (port.wrapping_add(index), 8 * u32::from(index)))
}

impl Devices {
    /// The devices at power-on, with the clock at `date` (seconds since 1970).
    pub fn new(date: u64, vsock: VirtioVsock) -> Self {
        Self {
            pic: Pic::new(),
            pit: Pit::new(),
            cmos: Cmos::new(date),
            serial: Serial::new(),
            vsock,
            panic: PanicPort::default(),
            reset: ResetPorts::default(),
            unclaimed: Unclaimed::default(),
        }
    }

    /// Accesses that no device answered, since the machine was made.
    pub fn unclaimed(&self) -> Unclaimed {
        self.unclaimed
    }

    /// Carries out IN of `size` bytes (1, 2 or 4).
    pub fn port_in(&mut self, port: u16, size: u8, now: VirtualTime) -> u32 {
        bytes_of(port, size).fold(0, |value, (port, shift)| {
            value | u32::from(self.port_in_byte(port, now)) << shift
        })
    }

    fn port_in_byte(&mut self, port: u16, now: VirtualTime) -> u8 {
        let Some((target, offset)) = decode(port) else {
            self.unclaimed.port_reads += 1;
            return 0xff;
        };
        match target {
            Target::Pic(role) => self.pic.chip(role).read(offset, now),
            Target::Elcr => self.pic.read_elcr(offset),
            Target::Pit => self.pit.read(offset, now),
            Target::SystemControl => self.pit.read_port_b(now),
            Target::Cmos => self.cmos.read(offset, now),
            Target::Serial => self.serial.read(offset, now),
            Target::Panic => self.panic.read(offset, now),
            Target::Reset(source) => self.reset.read(source),
            Target::Delay => 0xff,
        }
    }

    /// Carries out OUT of the low `size` bytes (1, 2 or 4) of `value`.
    pub fn port_out(
        &mut self,
        port: u16,
        size: u8,
        value: u32,
        now: VirtualTime,
    ) -> Option<Signal> {
        let mut signal = None;
        for (port, shift) in bytes_of(port, size) {
            let byte = (value >> shift).to_le_bytes()[0];
            signal = self.port_out_byte(port, byte, now).or(signal);
        }
        signal
    }

    fn port_out_byte(&mut self, port: u16, value: u8, now: VirtualTime) -> Option<Signal> {
        let Some((target, offset)) = decode(port) else {
            self.unclaimed.port_writes += 1;
            return None;
        };
        match target {
            Target::Pic(role) => self.pic.chip(role).write(offset, value, now),
            Target::Elcr => self.pic.write_elcr(offset, value),
            Target::Pit => self.pit.write(offset, value, now),
            Target::SystemControl => self.pit.write_port_b(value, now),
            Target::Cmos => self.cmos.write(offset, value, now),
            Target::Serial => self.serial.write(offset, value, now),
            Target::Panic => self.panic.write(offset, value, now),
            Target::Reset(source) => {
                let source = self.reset.write(source, value)?;
                return Some(Signal::Reset { source });
            }
            Target::Delay => {}
        }
        self.panic.take().map(|event| Signal::Panic { event })
    }

    /// Reads `size` bytes (1, 2 or 4) at a guest-physical address that is no RAM.
    pub fn mmio_read(&mut self, address: u64, size: u8) -> u32 {
        let mut data = [0xff; 4];
        match virtio_offset(address, size) {
            Some(offset) => {
                let size = usize::from(size.min(4));
                self.vsock.read(offset, &mut data[..size]);
                data[size..].fill(0);
            }
            None => self.unclaimed.mmio_reads += 1,
        }
        u32::from_le_bytes(data)
    }

    /// Writes the low `size` bytes (1, 2 or 4) of `value` to a guest-physical
    /// address that is no RAM.
    pub fn mmio_write(&mut self, address: u64, size: u8, value: u32) {
        match virtio_offset(address, size) {
            Some(offset) => {
                let size = usize::from(size.min(4));
                self.vsock.write(offset, &value.to_le_bytes()[..size]);
            }
            None => self.unclaimed.mmio_writes += 1,
        }
    }

    /// Lets devices do their work on guest memory, and carries their interrupt
    /// lines to the controllers.
    pub fn process(&mut self, memory: &GuestRam) {
        self.vsock.process(memory);
        if self.vsock.interrupt_level() {
            self.pic.raise(layout::IRQ_VIRTIO);
        } else {
            self.pic.lower(layout::IRQ_VIRTIO);
        }
        if self.serial.take_interrupt() {
            self.pic.pulse(layout::IRQ_SERIAL);
        }
    }
}

fn virtio_offset(address: u64, size: u8) -> Option<u64> {
    let offset = address.checked_sub(layout::VIRTIO_MMIO.0)?;
    (offset + u64::from(size) <= layout::VIRTIO_MMIO_SIZE).then_some(offset)
}

impl Persist for Devices {
    type State = DevicesState;

    fn save(&self) -> DevicesState {
        DevicesState {
            pic: self.pic.save(),
            pit: self.pit.save(),
            cmos: self.cmos.save(),
            serial: self.serial.save(),
            reset: self.reset.save(),
            vsock: self.vsock.save(),
        }
    }

    fn restore(&mut self, state: &DevicesState) -> Result<(), StateError> {
        self.pic.restore(&state.pic)?;
        self.pit.restore(&state.pit)?;
        self.cmos.restore(&state.cmos)?;
        self.serial.restore(&state.serial)?;
        self.reset.restore(&state.reset)?;
        self.vsock.restore(&state.vsock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::cmos::DEFAULT_DATE;
    use crate::vsock::{GUEST_CID, Limits};

    const NOW: VirtualTime = VirtualTime(0);

    fn devices() -> Devices {
        Devices::new(DEFAULT_DATE, VirtioVsock::new(GUEST_CID, Limits::default()))
    }

    #[test]
    fn what_nobody_answers_reads_as_ones_and_is_counted() {
        let mut devices = devices();
        assert_eq!(devices.port_in(0x1234, 4, NOW), u32::MAX);
        assert_eq!(devices.port_in(0x60, 1, NOW), 0xff);
        assert_eq!(devices.port_out(0x1234, 2, 5, NOW), None);
        assert_eq!(devices.mmio_read(0xfee0_0000, 4), u32::MAX);
        devices.mmio_write(layout::VIRTIO_MMIO.0 - 1, 4, 0);
        devices.mmio_write(u64::MAX, 4, 0);
        let expected = Unclaimed {
            port_reads: 5,
            port_writes: 2,
            mmio_reads: 1,
            mmio_writes: 2,
        };
        assert_eq!(devices.unclaimed(), expected);
    }

    #[test]
    fn wide_accesses_reach_neighbouring_registers() {
        let mut devices = devices();
        devices.port_out(layout::PORT_CMOS, 2, 0x5540, NOW);
        assert_eq!(devices.port_in(layout::PORT_CMOS, 2, NOW), 0x55ff);
        assert_eq!(devices.port_in(0xffff, 2, NOW), 0xffff);
    }

    #[test]
    fn panic_and_reset_ports_signal() {
        let mut devices = devices();
        let signal = devices.port_out(layout::PORT_PANIC, 1, 1, NOW);
        assert_eq!(signal, Some(Signal::Panic { event: 1 }));
        let signal = devices.port_out(layout::PORT_RESET_CONTROL, 1, 6, NOW);
        let source = ResetSource::Control;
        assert_eq!(signal, Some(Signal::Reset { source }));
        assert_eq!(devices.port_out(layout::PORT_DELAY, 1, 0, NOW), None);
        assert_eq!(devices.unclaimed(), Unclaimed::default());
    }

    #[test]
    fn the_virtio_window_identifies_itself() {
        let mut devices = devices();
        let magic = devices.mmio_read(layout::VIRTIO_MMIO.0, 4);
        assert_eq!(magic, u32::from_le_bytes(*b"virt"));
        assert_eq!(devices.mmio_read(layout::VIRTIO_MMIO.0 + 4, 4), 2);
        assert_eq!(devices.mmio_read(layout::VIRTIO_MMIO.0 + 8, 4), 19);
    }

    #[test]
    fn serial_interrupts_reach_the_controller() {
        let mut devices = devices();
        let ram = GuestRam::new(16).unwrap();
        for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0)] {
            devices.port_out(port, 1, value, NOW);
        }
        devices.port_out(layout::PORT_SERIAL + 1, 1, 2, NOW);
        devices.process(&ram);
        assert!(devices.pic.interrupt_pending());
        assert_eq!(devices.pic.acknowledge(), 0x34);
    }

    #[test]
    fn saved_devices_restore_to_the_same_state() {
        let mut devices = devices();
        devices.port_out(layout::PORT_PIT + 3, 1, 0x34, VirtualTime(77));
        devices.port_out(layout::PORT_CMOS, 2, 0x5540, NOW);
        devices.port_out(layout::PORT_PIC_SLAVE + 1, 1, 0xfe, NOW);
        let state = devices.save();
        let bytes = postcard::to_stdvec(&state).unwrap();
        let mut other = super::tests::devices();
        other
            .restore(&postcard::from_bytes(&bytes).unwrap())
            .unwrap();
        assert_eq!(other.save(), state);
    }
}
