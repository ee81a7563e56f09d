//! Virtual time: the only clock of the machine.
//!
//! One retired instruction takes one nanosecond, and an idle CPU jumps to the
//! next event of a device. So time is a function of what the guest did, and
//! the same on every host.

use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// Nanoseconds since power-on, or a span of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct VirtualTime(pub u64);

impl VirtualTime {
    /// Later than any event of a run.
    pub const NEVER: Self = Self(u64::MAX);

    /// A span of `milliseconds`.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds.saturating_mul(1_000_000))
    }

    /// A span of `seconds`.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// What is left until `later`; zero if it has passed.
    pub const fn until(self, later: Self) -> Self {
        Self(later.0.saturating_sub(self.0))
    }
}

impl Add for VirtualTime {
    type Output = Self;

    fn add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl AddAssign for VirtualTime {
    fn add_assign(&mut self, span: Self) {
        *self = *self + span;
    }
}

impl Sub for VirtualTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}
