//! The ways in which a PC is told to reset.
//!
//! Sources: 82371AB data sheet, 4.1.1.9 (reset control register, port 0xcf9);
//! IBM PC AT technical reference (8042 command 0xfe, port 0x64; system control
//! port A, port 0x92).

use serde::{Deserialize, Serialize};

use crate::device::{Persist, StateError};

/// Reset control register: the rising edge of this bit resets.
const RESET_CPU: u8 = 0x04;
/// Reset control register: the bits that read back as written.
const RESET_KEPT: u8 = 0x0a;
/// 8042: pulse the CPU's reset line.
const KEYBOARD_PULSE_RESET: u8 = 0xfe;
/// Port A: fast reset.
const FAST_RESET: u8 = 0x01;
/// Port A: address line 20 is not masked, and cannot be.
const A20_ENABLED: u8 = 0x02;

/// How the guest asked for a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetSource {
    /// The reset control register.
    Control,
    /// The keyboard controller.
    Keyboard,
    /// System control port A.
    Fast,
}

/// The reset ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResetPorts {
    state: ResetState,
}

/// The saved state of [`ResetPorts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetState {
    control: u8,
}

impl ResetPorts {
    /// Reads the port behind `source`.
    ///
    /// The keyboard's status says that it is ready for a command, so that a
    /// guest which resets through it does not wait.
    pub fn read(&self, source: ResetSource) -> u8 {
        match source {
            ResetSource::Control => self.state.control,
            ResetSource::Keyboard => 0,
            ResetSource::Fast => A20_ENABLED,
        }
    }

    /// Writes the port behind `source`; says whether that resets.
    pub fn write(&mut self, source: ResetSource, value: u8) -> Option<ResetSource> {
        let resets = match source {
            ResetSource::Control => {
                self.state.control = value & RESET_KEPT;
                value & RESET_CPU != 0
            }
            ResetSource::Keyboard => value == KEYBOARD_PULSE_RESET,
            ResetSource::Fast => value & FAST_RESET != 0,
        };
        resets.then_some(source)
    }
}

impl Persist for ResetPorts {
    type State = ResetState;

    fn save(&self) -> ResetState {
        self.state
    }

    fn restore(&mut self, state: &ResetState) -> Result<(), StateError> {
        self.state = *state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_bytes_reset() {
        let mut ports = ResetPorts::default();
        for (source, value, resets) in [
            (ResetSource::Control, 0x02, false),
            (ResetSource::Control, 0x06, true),
            (ResetSource::Keyboard, 0xd1, false),
            (ResetSource::Keyboard, 0xfe, true),
            (ResetSource::Fast, 0x02, false),
            (ResetSource::Fast, 0x03, true),
        ] {
            assert_eq!(ports.write(source, value).is_some(), resets);
        }
        assert_eq!(ports.read(ResetSource::Control), 0x02);
        assert_eq!(ports.read(ResetSource::Keyboard), 0);
    }
}
