//! Programs and traces: what the host and the guest agent say to each other.
//!
//! Everything has a fixed little-endian layout. Any bytes decode to a
//! program, and decoding what was encoded gives the same program; a trace is
//! a list of events of fixed size. Nothing here allocates or panics.
//!
//! Module [`program`] holds programs, made of [`op`]erations and [`call`]s
//! whose [`value`]s are chosen by class; [`trace`] holds events; [`frame`]
//! carries both over vsock, with a versioned hello; [`layout`] gives the
//! addresses in a victim; `text` (feature `text`) is the form for people.

#![no_std]
#![forbid(unsafe_code)]

mod bounded;
mod field;
mod record;

pub mod call;
pub mod frame;
pub mod layout;
pub mod op;
pub mod program;
pub mod resolve;
#[cfg(feature = "text")]
pub mod text;
pub mod trace;
pub mod value;

pub use bounded::Bounded;
pub use field::{Field, Token};
pub use record::{Record, SetError};
