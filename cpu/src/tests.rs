//! Tests of the core through the public interface.

mod basic;
mod fused;
mod hooks;

pub(crate) use crate::testing::{CODE, DATA, Machine, STACK};
