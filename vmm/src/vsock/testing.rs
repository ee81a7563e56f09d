//! The guest's side of the device, for tests and fuzz targets: a driver that
//! does what Linux's does, and can be told to do anything else.

mod driver;
mod fuzz;

pub use driver::{Descriptor, GuestDriver, MEMORY_SIZE, memory, read, write};
pub use fuzz::{Scenario, run_scenario};
