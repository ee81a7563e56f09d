//! Memory images: the environment of FNSTENV and FLDENV, the registers that FNSAVE and FRSTOR append, and the 512 bytes of FXSAVE
//! (SDM volume 1, section 8.1.10 and figures 8-9 to 8-12; volume 2, FXSAVE).

use super::{Fpu, Pointers, f80::F80};

/// Operand size and mode, which give the environment one of four layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// 14 bytes, real-address mode.
    Real16,
    /// 14 bytes, protected mode.
    Protected16,
    /// 28 bytes, real-address mode.
    Real32,
    /// 28 bytes, protected mode.
    Protected32,
}

impl Layout {
    /// Bytes of the environment; FNSAVE appends [`REGISTERS_SIZE`] bytes.
    pub fn environment_size(self) -> usize {
        match self {
            Layout::Real16 | Layout::Protected16 => 14,
            Layout::Real32 | Layout::Protected32 => 28,
        }
    }
}

/// Bytes of the eight registers behind the environment.
pub(crate) const REGISTERS_SIZE: usize = 80;
/// Bytes of the largest image.
pub(crate) const MAX_IMAGE_SIZE: usize = 28 + REGISTERS_SIZE;
/// Bytes of the FXSAVE image that are written: control words, x87 registers and the XMM registers of 32-bit mode.
pub(crate) const FXSAVE_WRITTEN: usize = 288;

/// What stands in the upper half of the 32-bit layouts' 16-bit fields.
const RESERVED_HALF: u32 = 0xFFFF_0000;

impl Fpu {
    /// The environment; bytes beyond the environment's size are zero.
    pub fn environment(&self, layout: Layout) -> [u8; 28] {
        let p = self.pointers;
        let words = [
            u32::from(self.control_word()),
            u32::from(self.status_word()),
            u32::from(self.tag_word()),
        ];
        let (instruction, data) = (
            linear(p.code_selector, p.instruction),
            linear(p.data_selector, p.data),
        );
        let opcode = u32::from(p.opcode);
        let rest = match layout {
            Layout::Protected16 => [
                p.instruction,
                p.code_selector.into(),
                p.data,
                p.data_selector.into(),
            ],
            Layout::Real16 => [
                instruction,
                instruction >> 4 & 0xF000 | opcode,
                data,
                data >> 4 & 0xF000,
            ],
            Layout::Protected32 => [
                p.instruction,
                u32::from(p.code_selector) | opcode << 16,
                p.data,
                u32::from(p.data_selector) | RESERVED_HALF,
            ],
            Layout::Real32 => [
                instruction & 0xFFFF | RESERVED_HALF,
                instruction >> 4 & 0x0FFF_F000 | opcode,
                data & 0xFFFF | RESERVED_HALF,
                data >> 4 & 0x0FFF_F000,
            ],
        };
        let mut image = [0; 28];
        let fields = words
            .into_iter()
            .map(|word| word | RESERVED_HALF)
            .chain(rest);
        if layout.environment_size() == 14 {
            for (bytes, field) in image.chunks_exact_mut(2).zip(fields) {
                bytes.copy_from_slice(&field.to_le_bytes()[..2]);
            }
        } else {
            for (bytes, field) in image.chunks_exact_mut(4).zip(fields) {
                bytes.copy_from_slice(&field.to_le_bytes());
            }
        }
        image
    }

    /// FLDENV.
    pub fn load_environment(&mut self, layout: Layout, image: &[u8; 28]) {
        let field = |n: usize| match layout.environment_size() {
            14 => u32::from(u16::from_le_bytes([image[2 * n], image[2 * n + 1]])),
            _ => u32::from_le_bytes([
                image[4 * n],
                image[4 * n + 1],
                image[4 * n + 2],
                image[4 * n + 3],
            ]),
        };
        let low = |n: usize| (field(n) & 0xFFFF) as u16;
        self.set_control_word(low(0));
        self.set_status_word(low(1));
        self.set_tag_word(low(2));
        let (instruction, data) = (field(3), field(5));
        // A real-mode image holds linear addresses: they come back as offsets in segment zero.
        let pointers = match layout {
            Layout::Protected16 => Pointers {
                instruction,
                code_selector: low(4),
                data,
                data_selector: low(6),
                opcode: 0,
            },
            Layout::Protected32 => Pointers {
                instruction,
                code_selector: low(4),
                data,
                data_selector: low(6),
                opcode: (field(4) >> 16) as u16,
            },
            Layout::Real16 | Layout::Real32 => Pointers {
                instruction: instruction & 0xFFFF | (field(4) & 0x0FFF_F000) << 4,
                code_selector: 0,
                data: data & 0xFFFF | (field(6) & 0x0FFF_F000) << 4,
                data_selector: 0,
                opcode: low(4),
            },
        };
        self.set_pointers(pointers);
    }

    /// The registers in stack order, as FNSAVE writes them.
    pub fn register_image(&self) -> [u8; REGISTERS_SIZE] {
        let mut image = [0; REGISTERS_SIZE];
        for (bytes, index) in image.chunks_exact_mut(10).zip(0..) {
            bytes.copy_from_slice(&self.st(index).to_bytes());
        }
        image
    }

    /// The register part of FRSTOR; TOP has been loaded before.
    pub fn load_registers(&mut self, image: &[u8; REGISTERS_SIZE]) {
        for (bytes, index) in image.as_chunks::<10>().0.iter().zip(0..) {
            self.set_st(index, F80::from_bytes(*bytes));
        }
    }

    /// The x87 half of the FXSAVE image: bytes 0 to 159, without MXCSR.
    pub fn fxsave_image(&self) -> [u8; 160] {
        let mut image = [0; 160];
        let p = self.pointers;
        image[0..2].copy_from_slice(&self.control_word().to_le_bytes());
        image[2..4].copy_from_slice(&self.status_word().to_le_bytes());
        image[4] = self.abridged_tags();
        image[6..8].copy_from_slice(&p.opcode.to_le_bytes());
        image[8..12].copy_from_slice(&p.instruction.to_le_bytes());
        image[12..14].copy_from_slice(&p.code_selector.to_le_bytes());
        image[16..20].copy_from_slice(&p.data.to_le_bytes());
        image[20..22].copy_from_slice(&p.data_selector.to_le_bytes());
        for (bytes, index) in image[32..].chunks_exact_mut(16).zip(0..) {
            bytes[..10].copy_from_slice(&self.st(index).to_bytes());
        }
        image
    }

    /// The x87 half of FXRSTOR.
    pub fn load_fxsave_image(&mut self, image: &[u8; 160]) {
        let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let dword = |at: usize| {
            u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]])
        };
        self.set_control_word(word(0));
        self.set_status_word(word(2));
        self.set_abridged_tags(image[4]);
        self.set_pointers(Pointers {
            instruction: dword(8),
            code_selector: word(12),
            opcode: word(6),
            data: dword(16),
            data_selector: word(20),
        });
        for (bytes, index) in image[32..].as_chunks::<16>().0.iter().zip(0..) {
            let [value @ .., _, _, _, _, _, _] = *bytes;
            self.set_st(index, F80::from_bytes(value));
        }
    }
}

/// The linear address that real-mode images hold.
fn linear(selector: u16, offset: u32) -> u32 {
    (u32::from(selector) << 4).wrapping_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(layout: Layout, expect: &[u8]) {
        let mut fpu = Fpu::default();
        fpu.load_one();
        fpu.set_pointers(Pointers {
            instruction: 0x1234_5678,
            code_selector: 0x23,
            opcode: 0x5DF,
            data: 0x9ABC_DEF0,
            data_selector: 0x2B,
        });
        assert_eq!(
            &fpu.environment(layout)[..layout.environment_size()],
            expect
        );
    }

    impl Fpu {
        fn load_one(&mut self) {
            self.register(super::super::instruction::Register::Constant(
                super::super::instruction::Constant::One,
            ));
        }
    }

    #[test]
    fn protected_32_bit_environment() {
        let expect = [
            0x7F, 3, 0xFF, 0xFF, 0, 0x38, 0xFF, 0xFF, 0xFF, 0x3F, 0xFF, 0xFF, 0x78, 0x56, 0x34,
            0x12, 0x23, 0, 0xDF, 5, 0xF0, 0xDE, 0xBC, 0x9A, 0x2B, 0, 0xFF, 0xFF,
        ];
        check(Layout::Protected32, &expect);
    }

    #[test]
    fn protected_16_bit_environment() {
        check(
            Layout::Protected16,
            &[
                0x7F, 3, 0, 0x38, 0xFF, 0x3F, 0x78, 0x56, 0x23, 0, 0xF0, 0xDE, 0x2B, 0,
            ],
        );
    }

    #[test]
    fn real_16_bit_environment_holds_linear_addresses() {
        // 0x230 + 0x12345678 = 0x123458A8; 0x2B0 + 0x9ABCDEF0 = 0x9ABCE1A0.
        check(
            Layout::Real16,
            &[
                0x7F, 3, 0, 0x38, 0xFF, 0x3F, 0xA8, 0x58, 0xDF, 0x45, 0xA0, 0xE1, 0, 0xC0,
            ],
        );
    }

    #[test]
    fn real_32_bit_environment_holds_linear_addresses() {
        let expect = [
            0x7F, 3, 0xFF, 0xFF, 0, 0x38, 0xFF, 0xFF, 0xFF, 0x3F, 0xFF, 0xFF, 0xA8, 0x58, 0xFF,
            0xFF, 0xDF, 0x45, 0x23, 1, 0xA0, 0xE1, 0xFF, 0xFF, 0, 0xC0, 0xAB, 9,
        ];
        check(Layout::Real32, &expect);
    }

    proptest! {
        #[test]
        fn loaded_images_are_saved_again(control in 0_u16..0x2000, status: u16, tags: u16, registers: [[u8; 10]; 8], words: [u16; 5]) {
            let mut fpu = Fpu::default();
            fpu.set_control_word(control);
            fpu.set_status_word(status);
            fpu.set_tag_word(tags);
            for (index, bytes) in (0..).zip(registers) {
                fpu.set_st(index, F80::from_bytes(bytes));
            }
            let [ip, cs, opcode, dp, ds] = words;
            fpu.set_pointers(Pointers { instruction: ip.into(), code_selector: cs, opcode, data: dp.into(), data_selector: ds });
            let mut other = Fpu::default();
            other.load_environment(Layout::Protected32, &fpu.environment(Layout::Protected32));
            other.load_registers(&fpu.register_image());
            prop_assert_eq!(&other, &fpu);
            let mut other = Fpu::default();
            other.load_fxsave_image(&fpu.fxsave_image());
            prop_assert_eq!(&other, &fpu);
            for layout in [Layout::Real16, Layout::Real32, Layout::Protected16] {
                let image = fpu.environment(layout);
                let mut other = fpu.clone();
                other.load_environment(layout, &image);
                prop_assert_eq!(other.environment(layout), image);
            }
        }
    }
}
