//! The interrupt controllers: two Intel 8259A, the slave on line 2 of the
//! master, and the edge/level control registers (ELCR) of a PIIX.
//!
//! Source: Intel 8259A data sheet (231468-003); ELCR: 82371AB data sheet, 4.2.6.
//!
//! A request travels: line -> IRR (requested) -> acknowledge -> ISR (in
//! service) -> EOI. Lower numbers win until the priorities are rotated.

mod command;

use serde::{Deserialize, Serialize};

use crate::device::{Persist, PortDevice, StateError};
use crate::layout::{IRQ_CASCADE, IRQ_VIRTIO, IrqLine};
use crate::time::VirtualTime;

/// Lines that a PIIX cannot make level-triggered (0, 1, 2 and 8, 13).
const ELCR_FIXED: [u8; 2] = [0x07, 0x21];
/// What a spurious interrupt is reported as.
const SPURIOUS: u8 = 7;

/// Both controllers.
#[derive(Clone, Debug, PartialEq)]
pub struct Pic {
    chips: [Chip; 2],
}

/// One 8259A, which is also its saved state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chip {
    /// Levels of the input lines.
    lines: u8,
    /// Interrupt request register.
    irr: u8,
    /// In-service register.
    isr: u8,
    /// Interrupt mask register.
    imr: u8,
    /// Lines that are level-triggered.
    elcr: u8,
    /// Vector of line 0.
    vector_base: u8,
    /// The line of highest priority.
    first: u8,
    expects: Expects,
    needs_icw4: bool,
    single: bool,
    auto_eoi: bool,
    rotate_in_auto_eoi: bool,
    special_mask: bool,
    special_fully_nested: bool,
    reads_isr: bool,
    poll: bool,
}

/// What the next odd-offset write is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Expects {
    #[default]
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

impl Pic {
    /// The controllers as firmware leaves them: uninitialised, the virtio
    /// line level-triggered.
    pub fn new() -> Self {
        let mut pic = Self {
            chips: [Chip::default(); 2],
        };
        let (chip, bit) = place(IRQ_VIRTIO);
        pic.chips[chip].elcr |= bit;
        pic
    }

    /// Raises the level of `line`.
    pub fn raise(&mut self, line: IrqLine) {
        let (chip, bit) = place(line);
        self.chips[chip].raise(bit);
        self.cascade();
    }

    /// Lowers the level of `line`.
    pub fn lower(&mut self, line: IrqLine) {
        let (chip, bit) = place(line);
        self.chips[chip].lower(bit);
        self.cascade();
    }

    /// Raises and lowers `line`: one interrupt on an edge-triggered line.
    pub fn pulse(&mut self, line: IrqLine) {
        self.raise(line);
        self.lower(line);
    }

    /// The level of INTR, the wire to the CPU.
    pub fn interrupt_pending(&self) -> bool {
        self.chips[0].request(Role::Master).is_some()
    }

    /// The CPU acknowledges: the vector to deliver. With no request left it is
    /// the spurious vector of line 7 (or of line 15, when the slave's is gone).
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.chips[0].request(Role::Master) {
            Some(line) if line == IRQ_CASCADE.0 => {
                self.chips[0].acknowledge(line);
                self.acknowledge_slave()
            }
            Some(line) => {
                self.chips[0].acknowledge(line);
                self.chips[0].vector_base | line
            }
            None => self.chips[0].vector_base | SPURIOUS,
        };
        self.cascade();
        vector
    }

    fn acknowledge_slave(&mut self) -> u8 {
        let slave = &mut self.chips[1];
        match slave.request(Role::Slave) {
            Some(line) => {
                slave.acknowledge(line);
                slave.vector_base | line
            }
            None => slave.vector_base | SPURIOUS,
        }
    }

    /// Carries the slave's INTR to its line on the master.
    fn cascade(&mut self) {
        let (master, bit) = place(IRQ_CASCADE);
        if self.chips[1].request(Role::Slave).is_some() {
            self.chips[master].raise(bit);
        } else {
            // A request that goes away takes its trace on the master along,
            // unless the master already has it in service.
            self.chips[master].lower(bit);
            self.chips[master].irr &= !bit;
        }
    }

    /// The ELCR of the master (offset 0) or slave (offset 1).
    pub fn read_elcr(&self, offset: u16) -> u8 {
        self.chips[usize::from(offset & 1)].elcr
    }

    /// Sets which lines are level-triggered.
    pub fn write_elcr(&mut self, offset: u16, value: u8) {
        let chip = usize::from(offset & 1);
        self.chips[chip].elcr = value & !ELCR_FIXED[chip];
        self.cascade();
    }

    /// One of the chips behind its two ports.
    pub fn chip(&mut self, role: Role) -> ChipPorts<'_> {
        ChipPorts { pic: self, role }
    }
}

/// Which of the two controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one wired to the CPU: lines 0 to 7.
    Master,
    /// The one behind the master's line 2: lines 8 to 15.
    Slave,
}

fn place(line: IrqLine) -> (usize, u8) {
    (usize::from(line.0 >> 3 & 1), 1 << (line.0 & 7))
}

impl Chip {
    fn raise(&mut self, bit: u8) {
        let edge = self.lines & bit == 0;
        if edge || self.elcr & bit != 0 {
            self.irr |= bit;
        }
        self.lines |= bit;
    }

    fn lower(&mut self, bit: u8) {
        self.lines &= !bit;
        if self.elcr & bit != 0 {
            self.irr &= !bit;
        }
    }

    /// How far `bits`' most urgent line is from the top; 8 if there is none.
    fn urgency(&self, bits: u8) -> u32 {
        bits.rotate_right(u32::from(self.first & 7))
            .trailing_zeros()
    }

    fn line_at(&self, urgency: u32) -> u8 {
        (self.first.wrapping_add(urgency.to_le_bytes()[0])) & 7
    }

    /// The line that asks for service now.
    fn request(&self, role: Role) -> Option<u8> {
        let urgency = self.urgency(self.irr & !self.imr);
        let mut in_service = self.isr;
        if self.special_mask {
            in_service &= !self.imr;
        }
        if self.special_fully_nested && role == Role::Master {
            in_service &= !(1 << IRQ_CASCADE.0);
        }
        (urgency < 8 && urgency < self.urgency(in_service)).then(|| self.line_at(urgency))
    }

    fn acknowledge(&mut self, line: u8) {
        let bit = 1 << line;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if !self.auto_eoi {
            self.isr |= bit;
        } else if self.rotate_in_auto_eoi {
            self.first = (line + 1) & 7;
        }
    }
}

/// The two ports of one controller.
#[derive(Debug)]
pub struct ChipPorts<'a> {
    pic: &'a mut Pic,
    role: Role,
}

impl ChipPorts<'_> {
    fn chip(&mut self) -> &mut Chip {
        &mut self.pic.chips[usize::from(self.role == Role::Slave)]
    }
}

impl PortDevice for ChipPorts<'_> {
    fn read(&mut self, offset: u16, _now: VirtualTime) -> u8 {
        let role = self.role;
        let chip = self.chip();
        if std::mem::take(&mut chip.poll) {
            let request = chip.request(role);
            if let Some(line) = request {
                chip.acknowledge(line);
            }
            self.pic.cascade();
            return request.map_or(0, |line| 0x80 | line);
        }
        match (offset & 1, chip.reads_isr) {
            (1, _) => chip.imr,
            (_, true) => chip.isr,
            (_, false) => chip.irr,
        }
    }

    fn write(&mut self, offset: u16, value: u8, _now: VirtualTime) {
        if offset & 1 == 0 {
            self.chip().write_command(value);
        } else {
            self.chip().write_data(value);
        }
        self.pic.cascade();
    }
}

impl Persist for Pic {
    type State = [Chip; 2];

    fn save(&self) -> Self::State {
        self.chips
    }

    fn restore(&mut self, state: &Self::State) -> Result<(), StateError> {
        if let Some(chip) = state.iter().find(|chip| chip.first > 7) {
            return Err(StateError {
                device: "8259",
                reason: format!("line {} of highest priority is not 0 to 7", chip.first),
            });
        }
        self.chips = *state;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
