//! The x87 floating-point unit: registers, control, status and tag words, and what its instructions do to them.
//!
//! The unit follows the SDM (volume 1, chapter 8). Choices where the manual leaves some: the opcode and the instruction and data pointers are kept for every
//! non-control instruction, as before "FOP compatibility" and the deprecation of FCS and FDS; the reserved precision control 01 means 64 bits; with CR0.NE
//! clear there is no FERR# pin, and pending exceptions are ignored as if IGNNE# were asserted.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // fields of encodings: the bits that are cut off are known

pub(crate) mod arith;
pub(crate) mod bcd;
pub(crate) mod compare;
pub(crate) mod control;
pub(crate) mod convert;
pub(crate) mod execute;
pub(crate) mod f80;
pub(crate) mod handlers;
pub(crate) mod image;
pub(crate) mod instruction;
pub(crate) mod remainder;
pub(crate) mod transcendental;

#[cfg(test)]
mod apfloat;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use control::{
    BUSY, C1, CONDITION_CODES, Control, ERROR_SUMMARY, EXCEPTIONS, INITIAL_CONTROL, STACK_FAULT,
    TOP_MASK, TOP_SHIFT,
};
pub use f80::F80;
pub(crate) use handlers::lower;

/// Where the last non-control instruction and its memory operand were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pointers {
    /// Offset of the instruction.
    pub instruction: u32,
    /// Code segment selector.
    pub code_selector: u16,
    /// The low three bits of the first opcode byte and the second byte: 11 bits.
    pub opcode: u16,
    /// Offset of the memory operand.
    pub data: u32,
    /// Data segment selector.
    pub data_selector: u16,
}

/// The architectural state of the unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fpu {
    /// R0 to R7, by physical number; also MM0 to MM7.
    registers: [F80; 8],
    /// One bit for each physical register: set if it is empty.
    empty: u8,
    control: Control,
    /// Without TOP.
    status: u16,
    top: u8,
    pointers: Pointers,
}

impl Default for Fpu {
    /// The state after power-up: FNINIT with all registers +0.0.
    fn default() -> Fpu {
        let mut fpu = Fpu {
            registers: [F80::default(); 8],
            empty: 0,
            control: Control(0),
            status: 0,
            top: 0,
            pointers: Pointers::default(),
        };
        fpu.initialise();
        fpu
    }
}

impl Fpu {
    /// FNINIT: control, status, tags and pointers; the registers keep their values.
    pub fn initialise(&mut self) {
        self.control = Control(INITIAL_CONTROL);
        self.status = 0;
        self.top = 0;
        self.empty = 0xFF;
        self.pointers = Pointers::default();
    }

    /// FNCLEX: exception flags, stack fault, error summary and busy.
    pub fn clear_exceptions(&mut self) {
        self.status &= CONDITION_CODES;
    }

    /// The control word.
    pub fn control_word(&self) -> u16 {
        self.control.0
    }

    /// FLDCW: reserved bits are dropped, and an exception flag that is now unmasked becomes pending.
    pub fn set_control_word(&mut self, bits: u16) {
        self.control = Control::loaded(bits);
        self.summarise();
    }

    /// The status word, with TOP.
    pub fn status_word(&self) -> u16 {
        self.status | u16::from(self.top) << TOP_SHIFT
    }

    /// Loads the status word; the error summary and busy bits follow from flags and masks.
    pub fn set_status_word(&mut self, bits: u16) {
        self.top = ((bits & TOP_MASK) >> TOP_SHIFT) as u8;
        self.status = bits & (EXCEPTIONS | STACK_FAULT | CONDITION_CODES);
        self.summarise();
    }

    /// The tag word: two bits for each physical register (valid, zero, special, empty), computed from the contents.
    pub fn tag_word(&self) -> u16 {
        (0..8).fold(0, |tags, n| tags | self.tag(n) << (2 * n))
    }

    fn tag(&self, physical: usize) -> u16 {
        let value = self.registers[physical & 7];
        match value.biased_exponent() {
            _ if self.empty >> physical & 1 != 0 => 3,
            0 if value.significand == 0 => 1,
            0 | 0x7FFF => 2,
            _ if value.significand & f80::INTEGER_BIT == 0 => 2,
            _ => 0,
        }
    }

    /// Loads a tag word: only "empty or not" is kept.
    pub fn set_tag_word(&mut self, tags: u16) {
        self.empty = (0..8).fold(0, |empty, n| {
            empty | u8::from(tags >> (2 * n) & 3 == 3) << n
        });
    }

    /// One bit for each physical register: set if it holds a value, as in the FXSAVE image.
    pub fn abridged_tags(&self) -> u8 {
        !self.empty
    }

    /// Loads the tags of an FXSAVE image.
    pub fn set_abridged_tags(&mut self, valid: u8) {
        self.empty = !valid;
    }

    /// Last instruction, opcode and operand.
    pub fn pointers(&self) -> Pointers {
        self.pointers
    }

    /// Sets the pointers; the opcode has 11 bits.
    pub fn set_pointers(&mut self, pointers: Pointers) {
        self.pointers = Pointers {
            opcode: pointers.opcode & 0x7FF,
            ..pointers
        };
    }

    /// ST(`index`), empty or not.
    pub fn st(&self, index: u8) -> F80 {
        self.registers[self.physical(index)]
    }

    /// Writes ST(`index`) without changing its tag.
    pub fn set_st(&mut self, index: u8, value: F80) {
        self.registers[self.physical(index)] = value;
    }

    /// Whether an unmasked exception is pending.
    pub fn pending(&self) -> bool {
        self.status & ERROR_SUMMARY != 0
    }

    /// MM`n`: the significand of the physical register.
    pub fn mmx(&self, n: u8) -> u64 {
        self.registers[usize::from(n & 7)].significand
    }

    /// Writes MM`n`; its exponent field becomes all ones.
    pub fn set_mmx(&mut self, n: u8, value: u64) {
        self.registers[usize::from(n & 7)] = F80 {
            significand: value,
            sign_exponent: 0xFFFF,
        };
    }

    /// What every MMX instruction but EMMS does first: TOP becomes zero and all tags valid.
    pub fn enter_mmx(&mut self) {
        self.top = 0;
        self.empty = 0;
    }

    /// What remains of [`Self::enter_mmx`] if the store of an MMX register faults.
    pub(crate) fn clear_top(&mut self) {
        self.top = 0;
    }

    /// EMMS: all tags empty.
    pub fn leave_mmx(&mut self) {
        self.top = 0;
        self.empty = 0xFF;
    }

    fn physical(&self, index: u8) -> usize {
        usize::from((self.top + index) & 7)
    }

    fn is_empty(&self, index: u8) -> bool {
        self.empty >> self.physical(index) & 1 != 0
    }

    /// Writes ST(`index`) and tags it valid.
    fn write(&mut self, index: u8, value: F80) {
        let physical = self.physical(index);
        self.registers[physical] = value;
        self.empty &= !(1 << physical);
    }

    fn push(&mut self, value: F80) {
        self.top = (self.top + 7) & 7;
        self.write(0, value);
    }

    fn pop(&mut self, count: u8) {
        for _ in 0..count {
            self.empty |= 1 << self.top;
            self.top = (self.top + 1) & 7;
        }
    }

    /// Records exceptions and C1.
    fn signal(&mut self, raised: u16, c1: u16) {
        self.status = self.status & !C1 | raised | c1;
        if self.control.unmasked(raised) != 0 {
            self.status |= ERROR_SUMMARY | BUSY;
        }
    }

    fn summarise(&mut self) {
        let summary = if self.control.unmasked(self.status) != 0 {
            ERROR_SUMMARY | BUSY
        } else {
            0
        };
        self.status = self.status & !(ERROR_SUMMARY | BUSY) | summary;
    }
}
