//! What is written to a controller: initialisation and operation command words
//! (8259A data sheet, "Programming the 8259A").

use super::{Chip, Expects};

/// ICW1: this byte starts the initialisation.
const ICW1_INIT: u8 = 0x10;
/// ICW1: an ICW4 will follow.
const ICW1_NEEDS_ICW4: u8 = 0x01;
/// ICW1: there is no slave, and no ICW3 will follow.
const ICW1_SINGLE: u8 = 0x02;
/// ICW4: an acknowledged interrupt is not kept in service.
const ICW4_AUTO_EOI: u8 = 0x02;
/// ICW4: a master lets the slave interrupt its own service.
const ICW4_SPECIAL_FULLY_NESTED: u8 = 0x10;
/// OCW3 is an even-offset write with bits 4 and 3 equal to 01.
const OCW3: u8 = 0x08;
/// OCW3: the next read is a poll.
const OCW3_POLL: u8 = 0x04;
/// OCW3: bit 0 selects the register that even-offset reads return.
const OCW3_SELECT: u8 = 0x02;
/// OCW3: bit 5 is the new special mask mode.
const OCW3_SET_SPECIAL_MASK: u8 = 0x40;
impl Chip {
    pub(super) fn write_command(&mut self, value: u8) {
        if value & ICW1_INIT != 0 {
            self.start_initialisation(value);
        } else if value & OCW3 != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    fn start_initialisation(&mut self, icw1: u8) {
        *self = Self {
            // Edge-triggered requests are forgotten, and a line that is high
            // must fall before it can ask again.
            irr: self.irr & self.elcr,
            lines: self.lines,
            elcr: self.elcr,
            vector_base: self.vector_base,
            expects: Expects::Icw2,
            needs_icw4: icw1 & ICW1_NEEDS_ICW4 != 0,
            single: icw1 & ICW1_SINGLE != 0,
            ..Self::default()
        };
    }

    fn write_ocw3(&mut self, value: u8) {
        if value & OCW3_POLL != 0 {
            self.poll = true;
        }
        if value & OCW3_SELECT != 0 {
            self.reads_isr = value & 1 != 0;
        }
        if value & OCW3_SET_SPECIAL_MASK != 0 {
            self.special_mask = value & 0x20 != 0;
        }
    }

    /// OCW2: bits 7 to 5 are rotate, specific and EOI.
    fn write_ocw2(&mut self, value: u8) {
        let line = value & 7;
        match value >> 5 {
            0 => self.rotate_in_auto_eoi = false,
            4 => self.rotate_in_auto_eoi = true,
            1 => {
                self.end_most_urgent();
            }
            5 => {
                if let Some(ended) = self.end_most_urgent() {
                    self.first = (ended + 1) & 7;
                }
            }
            3 => self.isr &= !(1 << line),
            6 => self.first = (line + 1) & 7,
            7 => {
                self.isr &= !(1 << line);
                self.first = (line + 1) & 7;
            }
            _ => {}
        }
    }

    fn end_most_urgent(&mut self) -> Option<u8> {
        let urgency = self.urgency(self.isr);
        (urgency < 8).then(|| {
            let line = self.line_at(urgency);
            self.isr &= !(1 << line);
            line
        })
    }

    pub(super) fn write_data(&mut self, value: u8) {
        self.expects = match self.expects {
            Expects::Mask => {
                self.imr = value;
                Expects::Mask
            }
            Expects::Icw2 => {
                self.vector_base = value & 0xf8;
                if self.single {
                    self.after_icw3()
                } else {
                    Expects::Icw3
                }
            }
            // The wiring of the cascade is fixed.
            Expects::Icw3 => self.after_icw3(),
            Expects::Icw4 => {
                self.special_fully_nested = value & ICW4_SPECIAL_FULLY_NESTED != 0;
                self.auto_eoi = value & ICW4_AUTO_EOI != 0;
                Expects::Mask
            }
        };
    }

    fn after_icw3(&self) -> Expects {
        if self.needs_icw4 {
            Expects::Icw4
        } else {
            Expects::Mask
        }
    }
}
