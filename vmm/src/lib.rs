//! The minimal machine.
