//! The devices behind the ports, one file each.

pub mod cmos;
pub mod panic_port;
pub mod pic;
pub mod pit;
pub mod reset;
pub mod serial;
