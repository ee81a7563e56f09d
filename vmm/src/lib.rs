//! The minimal machine: memory, bus, devices, loader, snapshots and the
//! engines that run its one CPU.
//!
//! The crate knows nothing of the system call under test. All time in it is
//! virtual (see [`time`]); what a guest does to its memory, rings and
//! registers may cost it its own run, never a panic here.

pub mod bus;
pub mod device;
pub mod devices;
pub mod engine;
pub mod layout;
pub mod loader;
pub mod machine;
pub mod memory;
pub mod snapshot;
pub mod time;
pub mod virtio;
pub mod vsock;

pub use device::{MmioDevice, Persist, PortDevice, StateError};
pub use memory::{GuestRam, MemoryError};
pub use time::VirtualTime;
