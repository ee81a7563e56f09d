//! What a device is to the machine.
//!
//! A device sees offsets into its own window, never addresses. It raises its
//! interrupt by a level that the machine reads after every access; it touches
//! guest memory only in [`MmioDevice::process`], which the machine calls
//! between two runs of the CPU. Its state is a plain value beside it.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::memory::GuestRam;
use crate::time::VirtualTime;

/// A device behind 8-bit I/O ports; the bus splits wider accesses.
pub trait PortDevice: Debug {
    /// Reads the register at `offset` from the device's first port.
    fn read(&mut self, offset: u16, now: VirtualTime) -> u8;

    /// Writes the register at `offset` from the device's first port.
    fn write(&mut self, offset: u16, value: u8, now: VirtualTime);
}

/// A device behind a window of guest-physical addresses.
pub trait MmioDevice: Debug {
    /// Fills `data` (1, 2 or 4 bytes, little-endian) from the register at `offset`.
    ///
    /// An access of a width or at an offset that the device does not define
    /// reads as all ones.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// Writes `data` (1, 2 or 4 bytes, little-endian) to the register at `offset`.
    ///
    /// What the device does not define is dropped.
    fn write(&mut self, offset: u64, data: &[u8]);

    /// Does the work that waits: rings to serve, packets to deliver.
    ///
    /// Called after each write and before each run, with the CPU stopped. The
    /// work of one call is bounded whatever the rings say.
    fn process(&mut self, memory: &GuestRam);

    /// The level of the device's interrupt line.
    fn interrupt_level(&self) -> bool;
}

/// A state that does not fit the device it is restored to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the saved state of {device} is not valid: {reason}")]
pub struct StateError {
    /// The device, by its name in messages.
    pub device: &'static str,
    /// What is wrong with which field.
    pub reason: String,
}

/// Saving and restoring, beside each device.
///
/// `restore(&save())` is the identity on all that a guest can see. Wires to
/// the host (a console, a listening socket) are not part of the state.
pub trait Persist {
    /// All that the guest can see of the device, as plain data.
    type State: Clone + Debug + PartialEq + Serialize + DeserializeOwned;

    /// The state now.
    fn save(&self) -> Self::State;

    /// Puts the device into `state`.
    ///
    /// # Errors
    ///
    /// `state` may come from a file; one that the device cannot be in is
    /// refused, and the device is unchanged.
    fn restore(&mut self, state: &Self::State) -> Result<(), StateError>;
}
