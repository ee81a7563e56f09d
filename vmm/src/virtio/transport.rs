//! The register window of a virtio-mmio device, version 2 (section 4.2.2), and
//! the device status state machine (sections 2.1 and 3.1).

mod registers;

use serde::{Deserialize, Serialize};
use virtio_bindings::{virtio_config, virtio_mmio, virtio_ring};

use super::misuse::{Misuse, MisuseCounts};
use super::virtqueue::{Virtqueue, VirtqueueState};

use self::registers::{CONFIG, QueueWrite, half_of, is_write_only, register_at};

pub use self::registers::DeviceStatus;

/// Value of the `Version` register: the modern interface.
pub const MMIO_VERSION: u32 = 2;
/// Value of the `MagicValue` register: "virt".
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
/// Value of the `VendorID` register: "LtFk".
const VENDOR: u32 = u32::from_le_bytes(*b"LtFk");
/// What the length of an absent shared memory region reads as (section 4.2.2.1).
const NO_SHARED_MEMORY: u32 = u32::MAX;

const FEATURE_VERSION_1: u64 = 1 << virtio_config::VIRTIO_F_VERSION_1;
const FEATURE_EVENT_IDX: u64 = 1 << virtio_ring::VIRTIO_RING_F_EVENT_IDX;

/// What a device is, for the transport.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `DeviceID` (section 5).
    pub device_id: u32,
    /// The device's own feature bits, 0 to 23. The transport adds its own.
    pub features: u64,
    /// The most descriptors of each queue; a power of two.
    pub queue_sizes: &'static [u16],
    /// The device's configuration space, read-only and constant.
    pub config: Vec<u8>,
}

/// What a write to the register window asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterWrite {
    /// Nothing: the transport has done what there was to do.
    Done,
    /// Queue `.0` has, or may have, new chains.
    Notify(usize),
    /// The driver set `DRIVER_OK`: the queues are ready.
    Started,
    /// The driver disabled queue `.0`; its rings are gone.
    Disabled(usize),
    /// The driver reset the device.
    Reset,
}

/// The transport of one device: its registers and its virtqueues.
#[derive(Debug)]
pub struct Transport {
    identity: Identity,
    registers: Registers,
    queues: Vec<Virtqueue>,
    misuse: MisuseCounts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Registers {
    status: DeviceStatus,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    shm_sel: u32,
    interrupt_status: u32,
}

/// The state of a [`Transport`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TransportState {
    registers: Registers,
    queues: Vec<VirtqueueState>,
    misuse: MisuseCounts,
}

impl Transport {
    /// A device after power-on.
    ///
    /// # Panics
    ///
    /// When a queue size of `identity` is not a power of two from 1 to 32,768.
    pub fn new(identity: Identity) -> Self {
        let queues = identity
            .queue_sizes
            .iter()
            .map(|&size| Virtqueue::new(size));
        Self {
            queues: queues.collect(),
            identity,
            registers: Registers::default(),
            misuse: MisuseCounts::default(),
        }
    }

    /// Whether the driver is set up and neither side has given up.
    pub fn is_running(&self) -> bool {
        let DeviceStatus(status) = self.registers.status;
        let over = DeviceStatus::FAILED.0 | DeviceStatus::NEEDS_RESET.0;
        status & DeviceStatus::DRIVER_OK.0 != 0 && status & over == 0
    }

    /// The `Status` register.
    pub fn status(&self) -> DeviceStatus {
        self.registers.status
    }

    /// The level of the interrupt line.
    pub fn interrupt_level(&self) -> bool {
        self.registers.interrupt_status != 0
    }

    /// Raises the interrupt for used buffers (`InterruptStatus` bit 0).
    pub fn signal_used(&mut self) {
        self.registers.interrupt_status |= virtio_mmio::VIRTIO_MMIO_INT_VRING;
    }

    /// The device's virtqueues, by number.
    pub fn queues(&self) -> &[Virtqueue] {
        &self.queues
    }

    /// One virtqueue, to be used.
    pub(crate) fn queue_mut(&mut self, index: usize) -> &mut Virtqueue {
        &mut self.queues[index]
    }

    /// How often each kind of misuse was seen since power-on.
    pub fn misuse(&self) -> &MisuseCounts {
        &self.misuse
    }

    /// Counts `kind`.
    pub fn note(&mut self, kind: Misuse) {
        self.misuse.note(kind);
    }

    /// Counts `kind`, and stops all work until the driver resets the device:
    /// `DEVICE_NEEDS_RESET` with a configuration interrupt (section 2.1.2).
    pub fn fail(&mut self, kind: Misuse) {
        self.note(kind);
        self.registers.status.0 |= DeviceStatus::NEEDS_RESET.0;
        if self.registers.status.has(DeviceStatus::DRIVER_OK) {
            self.registers.interrupt_status |= virtio_mmio::VIRTIO_MMIO_INT_CONFIG;
        }
    }

    /// Fills `data` from the register at `offset`; all ones where there is none.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        let value = if offset >= CONFIG {
            self.read_config(offset - CONFIG, data)
        } else {
            self.read_register(offset, data)
        };
        if let Err(misuse) = value {
            self.note(misuse);
        }
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) -> Result<(), Misuse> {
        let start = usize::try_from(offset).map_err(|_| Misuse::UnknownRegister)?;
        let config = self.identity.config.get(start..);
        let bytes = config.and_then(|config| config.get(..data.len()));
        data.copy_from_slice(bytes.ok_or(Misuse::UnknownRegister)?);
        Ok(())
    }

    fn read_register(&self, offset: u64, data: &mut [u8]) -> Result<(), Misuse> {
        let register = register_at(offset, data.len())?;
        data.copy_from_slice(&self.value_of(register)?.to_le_bytes());
        Ok(())
    }

    fn value_of(&self, register: u32) -> Result<u32, Misuse> {
        let queue = self.selected();
        Ok(match register {
            virtio_mmio::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            virtio_mmio::VIRTIO_MMIO_VERSION => MMIO_VERSION,
            virtio_mmio::VIRTIO_MMIO_DEVICE_ID => self.identity.device_id,
            virtio_mmio::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            virtio_mmio::VIRTIO_MMIO_DEVICE_FEATURES => {
                half_of(self.offered(), self.registers.device_features_sel)
            }
            virtio_mmio::VIRTIO_MMIO_QUEUE_NUM_MAX => {
                queue.map_or(0, |queue| queue.max_size().into())
            }
            virtio_mmio::VIRTIO_MMIO_QUEUE_READY => queue.is_some_and(Virtqueue::is_ready).into(),
            virtio_mmio::VIRTIO_MMIO_INTERRUPT_STATUS => self.registers.interrupt_status,
            virtio_mmio::VIRTIO_MMIO_STATUS => self.registers.status.0.into(),
            virtio_mmio::VIRTIO_MMIO_SHM_LEN_LOW
            | virtio_mmio::VIRTIO_MMIO_SHM_LEN_HIGH
            | virtio_mmio::VIRTIO_MMIO_SHM_BASE_LOW
            | virtio_mmio::VIRTIO_MMIO_SHM_BASE_HIGH => NO_SHARED_MEMORY,
            // The configuration never changes, so one generation serves.
            virtio_mmio::VIRTIO_MMIO_CONFIG_GENERATION => 0,
            register if is_write_only(register) => return Err(Misuse::ReadOfWriteOnly),
            _ => return Err(Misuse::UnknownRegister),
        })
    }

    /// Writes `data` to the register at `offset`; what is not defined is dropped.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> RegisterWrite {
        self.try_write(offset, data).unwrap_or_else(|misuse| {
            self.note(misuse);
            RegisterWrite::Done
        })
    }

    fn try_write(&mut self, offset: u64, data: &[u8]) -> Result<RegisterWrite, Misuse> {
        if offset >= CONFIG {
            return Err(Misuse::WriteToReadOnly);
        }
        let register = register_at(offset, data.len())?;
        let value = data.try_into().map(u32::from_le_bytes);
        let value = value.map_err(|_| Misuse::AccessWidth)?;
        match register {
            virtio_mmio::VIRTIO_MMIO_DEVICE_FEATURES_SEL => {
                self.registers.device_features_sel = value;
            }
            virtio_mmio::VIRTIO_MMIO_DRIVER_FEATURES_SEL => {
                self.registers.driver_features_sel = value;
            }
            virtio_mmio::VIRTIO_MMIO_DRIVER_FEATURES => self.write_features(value)?,
            virtio_mmio::VIRTIO_MMIO_QUEUE_SEL => self.registers.queue_sel = value,
            virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY => return self.write_notify(value),
            virtio_mmio::VIRTIO_MMIO_INTERRUPT_ACK => {
                self.registers.interrupt_status &= !value;
            }
            virtio_mmio::VIRTIO_MMIO_STATUS => return self.write_status(value),
            virtio_mmio::VIRTIO_MMIO_SHM_SEL => self.registers.shm_sel = value,
            register => return self.write_queue(register, value),
        }
        Ok(RegisterWrite::Done)
    }

    fn write_queue(&mut self, register: u32, value: u32) -> Result<RegisterWrite, Misuse> {
        let Some(write) = QueueWrite::of(register) else {
            // Everything that can be written is known here: what is left can
            // only be read, or is not there.
            return Err(match self.value_of(register) {
                Ok(_) => Misuse::WriteToReadOnly,
                Err(misuse) => misuse,
            });
        };
        let features_ok = self.registers.status.has(DeviceStatus::FEATURES_OK);
        let event_idx = self.registers.driver_features & FEATURE_EVENT_IDX != 0;
        let index = usize::try_from(self.registers.queue_sel).unwrap_or(usize::MAX);
        let queue = self.queues.get_mut(index).ok_or(Misuse::NoSuchQueue)?;
        match write {
            QueueWrite::Size => queue.set_size(value)?,
            QueueWrite::Address(area, half) => queue.set_address(area, half, value)?,
            QueueWrite::Ready if value == 0 => {
                queue.reset();
                return Ok(RegisterWrite::Disabled(index));
            }
            QueueWrite::Ready if !features_ok => return Err(Misuse::QueueSetup),
            QueueWrite::Ready => queue.enable(event_idx)?,
        }
        Ok(RegisterWrite::Done)
    }

    fn write_features(&mut self, value: u32) -> Result<(), Misuse> {
        let status = self.registers.status;
        if !status.has(DeviceStatus::DRIVER) || status.has(DeviceStatus::FEATURES_OK) {
            return Err(Misuse::FeaturesOutOfOrder);
        }
        let features = &mut self.registers.driver_features;
        match self.registers.driver_features_sel {
            0 => *features = *features & !0xffff_ffff | u64::from(value),
            1 => *features = *features & 0xffff_ffff | u64::from(value) << 32,
            // No feature above 63 exists; accepting one is a lie.
            _ if value != 0 => return Err(Misuse::FeaturesRefused),
            _ => {}
        }
        Ok(())
    }

    fn write_notify(&mut self, value: u32) -> Result<RegisterWrite, Misuse> {
        let index = usize::try_from(value).map_err(|_| Misuse::NoSuchQueue)?;
        let queue = self.queues.get(index).ok_or(Misuse::NoSuchQueue)?;
        if !self.is_running() || !queue.is_ready() {
            return Err(Misuse::NotifyIdleQueue);
        }
        Ok(RegisterWrite::Notify(index))
    }

    fn write_status(&mut self, value: u32) -> Result<RegisterWrite, Misuse> {
        if value == 0 {
            self.reset();
            return Ok(RegisterWrite::Reset);
        }
        let DeviceStatus(old) = self.registers.status;
        let [asked, above @ ..] = value.to_le_bytes();
        if asked & old != old & DeviceStatus::OF_DRIVER {
            self.note(Misuse::StatusBitCleared);
        }
        let new = asked & DeviceStatus::OF_DRIVER & !old;
        if asked & !(DeviceStatus::OF_DRIVER | old) != 0 || above != [0; 3] {
            self.note(Misuse::StatusOutOfOrder);
        }
        let accepted = self.accept_status(old, new);
        self.registers.status.0 = old | accepted;
        if accepted & DeviceStatus::FAILED.0 != 0 {
            self.note(Misuse::DriverFailed);
        }
        let started = accepted & DeviceStatus::DRIVER_OK.0 != 0;
        Ok(match started && self.is_running() {
            true => RegisterWrite::Started,
            false => RegisterWrite::Done,
        })
    }

    /// Which of the bits in `new` may be set when those in `old` are.
    fn accept_status(&mut self, old: u8, new: u8) -> u8 {
        let mut accepted = new;
        if new & DeviceStatus::FEATURES_OK.0 != 0 && !self.features_fit() {
            self.note(Misuse::FeaturesRefused);
            accepted &= !DeviceStatus::FEATURES_OK.0;
        }
        for (bit, before) in DeviceStatus::ORDER {
            let in_order = (old | accepted) & before.0 != 0;
            if accepted & bit.0 != 0 && !in_order {
                self.note(Misuse::StatusOutOfOrder);
                accepted &= !bit.0;
            }
        }
        accepted
    }

    fn features_fit(&self) -> bool {
        let accepted = self.registers.driver_features;
        accepted & !self.offered() == 0 && accepted & FEATURE_VERSION_1 != 0
    }

    fn offered(&self) -> u64 {
        self.identity.features | FEATURE_VERSION_1 | FEATURE_EVENT_IDX
    }

    fn selected(&self) -> Option<&Virtqueue> {
        self.queues
            .get(usize::try_from(self.registers.queue_sel).ok()?)
    }

    fn reset(&mut self) {
        self.registers = Registers::default();
        self.queues.iter_mut().for_each(Virtqueue::reset);
    }

    /// The transport's state.
    pub fn save(&self) -> TransportState {
        TransportState {
            registers: self.registers.clone(),
            queues: self.queues.iter().map(Virtqueue::save).collect(),
            misuse: self.misuse.clone(),
        }
    }

    /// Puts the transport into `state`.
    ///
    /// # Errors
    ///
    /// What in `state` this device cannot be in; nothing is changed then.
    pub fn restore(&mut self, state: &TransportState) -> Result<(), String> {
        if state.queues.len() != self.queues.len() {
            return Err(format!("{} queues", state.queues.len()));
        }
        if !state.misuse.is_complete() {
            return Err("misuse counters of another version".to_owned());
        }
        let pairs = self.queues.iter().zip(&state.queues);
        let checked: Vec<_> = pairs
            .map(|(queue, state)| Virtqueue::check(queue.max_size(), state))
            .collect::<Result<_, _>>()?;
        for ((queue, checked), state) in self.queues.iter_mut().zip(checked).zip(&state.queues) {
            queue.adopt(checked, state);
        }
        self.registers.clone_from(&state.registers);
        self.misuse.clone_from(&state.misuse);
        Ok(())
    }
}
