//! The interval timer: an Intel 8254 at 1.193182 MHz, channel 0 wired to
//! line 0 of the PIC, channel 2 to system control port B (port 0x61).
//!
//! Source: Intel 8254 data sheet (231164-005).
//!
//! Nothing ticks: a channel remembers when its count was loaded, and computes
//! its count, its output and its next rising edge from the virtual time.

mod channel;

use serde::{Deserialize, Serialize};

pub use self::channel::Channel;
use self::channel::Gate;
use crate::device::{Persist, PortDevice, StateError};
use crate::time::VirtualTime;

/// Clocks a second (14.31818 MHz / 12).
const FREQUENCY: u128 = 1_193_182;
const NANOS_A_SECOND: u128 = 1_000_000_000;

/// Port 0x61: the gate of channel 2.
const PORT_B_GATE: u8 = 0x01;
/// Port 0x61: the bits that read back as written (gate and speaker).
const PORT_B_KEPT: u8 = 0x03;
/// Port 0x61: the refresh clock, which toggles every 15 us.
const PORT_B_REFRESH: u8 = 0x10;
/// Port 0x61: the output of channel 2.
const PORT_B_OUTPUT: u8 = 0x20;
const REFRESH_PERIOD: u64 = 15_085;

/// A count of the timer's clock since power-on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tick(u64);

impl Tick {
    fn at(now: VirtualTime) -> Self {
        Self(clamp(u128::from(now.0) * FREQUENCY / NANOS_A_SECOND))
    }

    /// The first moment at which this tick has begun.
    fn begins(self) -> VirtualTime {
        VirtualTime(clamp(
            (u128::from(self.0) * NANOS_A_SECOND).div_ceil(FREQUENCY),
        ))
    }
}

fn clamp(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// The timer, with port B.
#[derive(Clone, Debug, PartialEq)]
pub struct Pit {
    state: PitState,
}

/// The saved state of a [`Pit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PitState {
    channels: [Channel; 3],
    port_b: u8,
    /// Rising edges of channel 0 up to here were reported.
    reported: Tick,
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}

impl Pit {
    /// The timer at power-on: no channel counts.
    pub fn new() -> Self {
        Self {
            state: PitState {
                channels: [
                    Channel::new(Gate::High),
                    Channel::new(Gate::High),
                    Channel::new(Gate::Low),
                ],
                port_b: 0,
                reported: Tick(0),
            },
        }
    }

    /// When channel 0's output rises next; [`VirtualTime::NEVER`] if it does not.
    pub fn next_edge(&self) -> VirtualTime {
        self.state.channels[0]
            .next_edge(self.state.reported)
            .map_or(VirtualTime::NEVER, Tick::begins)
    }

    /// Whether channel 0's output rose since the last call.
    pub fn take_edge(&mut self, now: VirtualTime) -> bool {
        let due = self.next_edge() <= now;
        self.state.reported = Tick::at(now).max(self.state.reported);
        due
    }

    /// Reads system control port B.
    pub fn read_port_b(&self, now: VirtualTime) -> u8 {
        let mut value = self.state.port_b;
        if (now.0 / REFRESH_PERIOD) & 1 == 1 {
            value |= PORT_B_REFRESH;
        }
        if self.state.channels[2].output(Tick::at(now)) {
            value |= PORT_B_OUTPUT;
        }
        value
    }

    /// Writes system control port B.
    pub fn write_port_b(&mut self, value: u8, now: VirtualTime) {
        self.state.port_b = value & PORT_B_KEPT;
        let gate = if value & PORT_B_GATE != 0 {
            Gate::High
        } else {
            Gate::Low
        };
        self.state.channels[2].set_gate(gate, Tick::at(now));
    }

    /// The control word register: a mode, a latch or a read-back command.
    fn write_control(&mut self, value: u8, now: Tick) {
        let select = value >> 6;
        if let Some(channel) = self.state.channels.get_mut(usize::from(select)) {
            channel.write_control(value, now);
            return;
        }
        for (index, channel) in self.state.channels.iter_mut().enumerate() {
            if value >> (index + 1) & 1 == 1 {
                channel.read_back(value, now);
            }
        }
    }
}

impl PortDevice for Pit {
    fn read(&mut self, offset: u16, now: VirtualTime) -> u8 {
        match self.state.channels.get_mut(usize::from(offset)) {
            Some(channel) => channel.read(Tick::at(now)),
            // The control word register cannot be read.
            None => 0xff,
        }
    }

    fn write(&mut self, offset: u16, value: u8, now: VirtualTime) {
        let now = Tick::at(now);
        match self.state.channels.get_mut(usize::from(offset)) {
            Some(channel) => channel.write(value, now),
            None => self.write_control(value, now),
        }
    }
}

impl Persist for Pit {
    type State = PitState;

    fn save(&self) -> PitState {
        self.state
    }

    fn restore(&mut self, state: &PitState) -> Result<(), StateError> {
        for channel in &state.channels {
            channel.check().map_err(|reason| StateError {
                device: "8254",
                reason,
            })?;
        }
        self.state = *state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
