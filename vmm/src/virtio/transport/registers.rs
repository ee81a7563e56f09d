//! The registers by their offsets, and the bits of `Status`.

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_mmio;

use super::super::misuse::Misuse;
use super::super::virtqueue::{Area, Half};

/// The bits of the `Status` register (section 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceStatus(pub u8);

impl DeviceStatus {
    /// The guest has noticed the device.
    pub const ACKNOWLEDGE: Self = Self(1);
    /// The guest knows how to drive it.
    pub const DRIVER: Self = Self(2);
    /// The driver is set up.
    pub const DRIVER_OK: Self = Self(4);
    /// Feature negotiation is complete.
    pub const FEATURES_OK: Self = Self(8);
    /// The device met an error that it cannot recover from.
    pub const NEEDS_RESET: Self = Self(64);
    /// The driver gave up on the device.
    pub const FAILED: Self = Self(128);

    /// The bits that a driver may set.
    pub(super) const OF_DRIVER: u8 = Self::ACKNOWLEDGE.0
        | Self::DRIVER.0
        | Self::DRIVER_OK.0
        | Self::FEATURES_OK.0
        | Self::FAILED.0;
    /// Each bit with the one that must be set before it (section 3.1.1).
    pub(super) const ORDER: [(Self, Self); 3] = [
        (Self::DRIVER, Self::ACKNOWLEDGE),
        (Self::FEATURES_OK, Self::DRIVER),
        (Self::DRIVER_OK, Self::FEATURES_OK),
    ];

    /// Whether all of `bits` are set.
    pub fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }
}

/// Where the device's configuration space begins.
pub(super) const CONFIG: u64 = virtio_mmio::VIRTIO_MMIO_CONFIG as u64;

/// A register that configures the selected queue.
#[derive(Clone, Copy, Debug)]
pub(super) enum QueueWrite {
    Size,
    Ready,
    Address(Area, Half),
}

impl QueueWrite {
    pub(super) fn of(register: u32) -> Option<Self> {
        Some(match register {
            virtio_mmio::VIRTIO_MMIO_QUEUE_NUM => Self::Size,
            virtio_mmio::VIRTIO_MMIO_QUEUE_READY => Self::Ready,
            virtio_mmio::VIRTIO_MMIO_QUEUE_DESC_LOW => Self::Address(Area::Descriptors, Half::Low),
            virtio_mmio::VIRTIO_MMIO_QUEUE_DESC_HIGH => {
                Self::Address(Area::Descriptors, Half::High)
            }
            virtio_mmio::VIRTIO_MMIO_QUEUE_AVAIL_LOW => Self::Address(Area::Driver, Half::Low),
            virtio_mmio::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => Self::Address(Area::Driver, Half::High),
            virtio_mmio::VIRTIO_MMIO_QUEUE_USED_LOW => Self::Address(Area::Device, Half::Low),
            virtio_mmio::VIRTIO_MMIO_QUEUE_USED_HIGH => Self::Address(Area::Device, Half::High),
            _ => return None,
        })
    }
}

pub(super) fn is_write_only(register: u32) -> bool {
    let of_queue = QueueWrite::of(register).is_some();
    let own = [
        virtio_mmio::VIRTIO_MMIO_DEVICE_FEATURES_SEL,
        virtio_mmio::VIRTIO_MMIO_DRIVER_FEATURES,
        virtio_mmio::VIRTIO_MMIO_DRIVER_FEATURES_SEL,
        virtio_mmio::VIRTIO_MMIO_QUEUE_SEL,
        virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY,
        virtio_mmio::VIRTIO_MMIO_INTERRUPT_ACK,
        virtio_mmio::VIRTIO_MMIO_SHM_SEL,
    ];
    of_queue || own.contains(&register)
}

/// The register for an access of `len` bytes at `offset`; registers are
/// accessed whole, with 32 bits (section 4.2.2.2).
pub(super) fn register_at(offset: u64, len: usize) -> Result<u32, Misuse> {
    if len != 4 || !offset.is_multiple_of(4) {
        return Err(Misuse::AccessWidth);
    }
    u32::try_from(offset).map_err(|_| Misuse::UnknownRegister)
}

/// The 32 bits of `features` that a selector asks for; there are none past 63.
pub(super) fn half_of(features: u64, selector: u32) -> u32 {
    let [b0, b1, b2, b3, b4, b5, b6, b7] = features.to_le_bytes();
    match selector {
        0 => u32::from_le_bytes([b0, b1, b2, b3]),
        1 => u32::from_le_bytes([b4, b5, b6, b7]),
        _ => 0,
    }
}
