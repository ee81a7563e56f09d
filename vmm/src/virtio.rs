//! The virtio-mmio transport (virtio 1.2, section 4.2) and its virtqueues
//! (section 2.7), independent of the device behind them.
//!
//! A guest driver programs [`Transport`] through a window of registers; the
//! device takes descriptor chains from a [`Virtqueue`] and gives them back. The
//! guest may lie in every register and every ring: [`Misuse`] names each lie,
//! and [`MisuseCounts`] counts them. A lie that leaves a ring unusable puts the
//! device into `DEVICE_NEEDS_RESET` (section 2.1); any other costs the guest
//! the packet or the register write concerned, and nothing else.

mod chain;
mod misuse;
mod transport;
mod virtqueue;

pub use chain::{Chain, Direction};
pub use misuse::{Misuse, MisuseCounts};
pub use transport::{
    DeviceStatus, Identity, MMIO_VERSION, RegisterWrite, Transport, TransportState,
};
pub(crate) use virtqueue::Popped;
pub use virtqueue::{Virtqueue, VirtqueueState};
