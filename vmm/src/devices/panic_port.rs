//! The panic port: the guest kernel writes a byte when it is lost.
//!
//! Source: QEMU `docs/specs/pvpanic.rst`, the ISA device. A write ends the run.

use crate::device::PortDevice;
use crate::time::VirtualTime;

/// What a read returns: "panicked" (bit 0) and "crash loaded" (bit 1) are understood.
const EVENTS: u8 = 0x03;

/// The port. It has no state that a snapshot could hold: an event ends the run
/// before the guest executes another instruction.
#[derive(Debug, Default)]
pub struct PanicPort {
    event: Option<u8>,
}

impl PanicPort {
    /// The event written since the last call.
    pub fn take(&mut self) -> Option<u8> {
        self.event.take()
    }
}

impl PortDevice for PanicPort {
    fn read(&mut self, _offset: u16, _now: VirtualTime) -> u8 {
        EVENTS
    }

    fn write(&mut self, _offset: u16, value: u8, _now: VirtualTime) {
        self.event = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_reported_once() {
        let mut port = PanicPort::default();
        assert_eq!(port.take(), None);
        port.write(0, 1, VirtualTime(0));
        assert_eq!(port.take(), Some(1));
        assert_eq!(port.take(), None);
        assert_eq!(port.read(0, VirtualTime(0)), 3);
    }
}
