//! The console: a 16550A by vm-superio, its output kept in a bounded buffer.
//!
//! The interrupt is edge-triggered on an ISA line: a trigger is one pulse.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial as Uart, SerialState as UartState};

use crate::device::{Persist, PortDevice, StateError};
use crate::time::VirtualTime;

/// Bytes of output that are kept until the host takes them; then the oldest go.
pub const OUTPUT_LIMIT: usize = 1 << 20;

/// The 16550A.
#[derive(Debug)]
pub struct Serial {
    uart: Uart<Pulse, NoEvents, Output>,
    pulse: Pulse,
}

/// The interrupt wire: a flag that the machine takes.
#[derive(Clone, Debug, Default)]
struct Pulse(Rc<Cell<bool>>);

impl Trigger for Pulse {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

/// What the guest has printed and nobody has read yet.
#[derive(Debug, Default)]
struct Output {
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(OUTPUT_LIMIT);
        self.bytes.drain(..excess);
        self.dropped += excess as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The saved state of a [`Serial`]: its registers and unread input, not its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialState {
    baud_divisor: [u8; 2],
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    input: Vec<u8>,
}

impl Default for Serial {
    fn default() -> Self {
        Self::new()
    }
}

impl Serial {
    /// The port at power-on.
    pub fn new() -> Self {
        let pulse = Pulse::default();
        Self {
            uart: Uart::new(pulse.clone(), Output::default()),
            pulse,
        }
    }

    /// Whether the port interrupted since the last call.
    pub fn take_interrupt(&mut self) -> bool {
        self.pulse.0.take()
    }

    /// Takes the output since the last call, at most [`OUTPUT_LIMIT`] bytes of it.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.uart.writer_mut().bytes).into()
    }

    /// Bytes of output that were dropped because nobody took them in time.
    pub fn dropped(&self) -> u64 {
        self.uart.writer().dropped
    }

    /// Types `input` on the console; says how many bytes found room.
    pub fn enqueue(&mut self, input: &[u8]) -> usize {
        self.uart.enqueue_raw_bytes(input).unwrap_or(0)
    }
}

impl PortDevice for Serial {
    fn read(&mut self, offset: u16, _now: VirtualTime) -> u8 {
        self.uart.read(offset.to_le_bytes()[0])
    }

    fn write(&mut self, offset: u16, value: u8, _now: VirtualTime) {
        // Neither the wire nor the buffer can fail.
        let _ = self.uart.write(offset.to_le_bytes()[0], value);
    }
}

impl Persist for Serial {
    type State = SerialState;

    fn save(&self) -> SerialState {
        let state = self.uart.state();
        SerialState {
            baud_divisor: [state.baud_divisor_low, state.baud_divisor_high],
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            input: state.in_buffer,
        }
    }

    fn restore(&mut self, state: &SerialState) -> Result<(), StateError> {
        let registers = UartState {
            baud_divisor_low: state.baud_divisor[0],
            baud_divisor_high: state.baud_divisor[1],
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: state.input.clone(),
        };
        let output = std::mem::take(self.uart.writer_mut());
        match Uart::from_state(&registers, self.pulse.clone(), NoEvents, output) {
            Ok(uart) => self.uart = uart,
            Err(error) => {
                return Err(StateError {
                    device: "16550",
                    reason: error.to_string(),
                });
            }
        }
        // vm-superio interrupts anew; the PIC's own state already holds that.
        self.pulse.0.set(false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: VirtualTime = VirtualTime(0);
    const DATA: u16 = 0;
    const IER: u16 = 1;
    const IIR: u16 = 2;
    const LCR: u16 = 3;
    const LSR: u16 = 5;

    #[test]
    fn output_is_taken_once_and_interrupts_when_enabled() {
        let mut serial = Serial::new();
        serial.write(DATA, b'a', NOW);
        assert!(!serial.take_interrupt());
        serial.write(IER, 0x02, NOW);
        assert!(serial.take_interrupt());
        assert!(!serial.take_interrupt());
        assert_eq!(serial.read(IIR, NOW) & 0x0f, 0x02);
        serial.write(DATA, b'b', NOW);
        assert!(serial.take_interrupt());
        assert_eq!(serial.take_output(), b"ab");
        assert_eq!(serial.take_output(), b"");
    }

    #[test]
    fn input_is_read_byte_by_byte() {
        let mut serial = Serial::new();
        serial.write(IER, 0x01, NOW);
        assert_eq!(serial.enqueue(b"xy"), 2);
        assert!(serial.take_interrupt());
        assert_eq!(serial.read(LSR, NOW) & 1, 1);
        assert_eq!(serial.read(DATA, NOW), b'x');
        assert_eq!(serial.read(DATA, NOW), b'y');
        assert_eq!(serial.read(LSR, NOW) & 1, 0);
        assert!(serial.enqueue(&[0; 100]) < 100);
    }

    #[test]
    fn a_flood_of_output_stays_bounded() {
        let mut serial = Serial::new();
        for _ in 0..OUTPUT_LIMIT + 5 {
            serial.write(DATA, b'x', NOW);
        }
        assert_eq!(serial.take_output().len(), OUTPUT_LIMIT);
        assert_eq!(serial.dropped(), 5);
    }

    #[test]
    fn a_restored_port_keeps_registers_and_input_and_does_not_interrupt() {
        let mut serial = Serial::new();
        serial.write(LCR, 0x83, NOW);
        serial.write(DATA, 1, NOW);
        serial.write(LCR, 0x03, NOW);
        serial.write(IER, 0x03, NOW);
        serial.enqueue(b"q");
        let state = serial.save();
        let mut other = Serial::new();
        other.restore(&state).unwrap();
        assert_eq!(other.save(), state);
        assert!(!other.take_interrupt());
        assert_eq!(other.read(DATA, NOW), b'q');
        let mut bad = state;
        bad.input = vec![0; 1000];
        serial.write(DATA, b'k', NOW);
        assert!(serial.restore(&bad).is_err());
    }
}
