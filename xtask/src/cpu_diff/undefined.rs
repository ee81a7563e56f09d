//! The flags that the manual leaves undefined (SDM volume 2, the section
//! "Flags Affected" of each instruction), by instruction and operands.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::wire::Registers;

const CF: u32 = 1;
const PF: u32 = 1 << 2;
const AF: u32 = 1 << 4;
const ZF: u32 = 1 << 6;
const SF: u32 = 1 << 7;
const OF: u32 = 1 << 11;

/// The six status flags.
pub(crate) const STATUS: u32 = CF | PF | AF | ZF | SF | OF;

/// Undefined bits of EFLAGS after `instruction` has run from `before`.
pub(crate) fn flags(instruction: &Instruction, before: &Registers) -> u32 {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::And | M::Or | M::Xor | M::Test => AF,
        M::Shl
        | M::Sal
        | M::Shr
        | M::Sar
        | M::Rol
        | M::Ror
        | M::Rcl
        | M::Rcr
        | M::Shld
        | M::Shrd => after_shift(instruction, before),
        M::Mul | M::Imul => SF | ZF | AF | PF,
        M::Div | M::Idiv => CF | OF | SF | ZF | AF | PF,
        M::Bsf | M::Bsr => CF | OF | SF | AF | PF,
        M::Bt | M::Bts | M::Btr | M::Btc => OF | SF | AF | PF,
        M::Aaa | M::Aas => OF | SF | ZF | PF,
        M::Aam | M::Aad => OF | AF | CF,
        M::Daa | M::Das => OF,
        _ => 0,
    }
}

/// Whether SHLD or SHRD shifts by more than the operand has bits: the manual
/// leaves the result undefined, and all flags.
pub(crate) fn is_double_shift_too_far(instruction: &Instruction, before: &Registers) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Shld | Mnemonic::Shrd)
        && shift_count(instruction, before) > operand_bits(instruction)
}

fn after_shift(instruction: &Instruction, before: &Registers) -> u32 {
    use Mnemonic as M;
    let count = shift_count(instruction, before);
    if count == 0 {
        return 0;
    }
    let overflow = if count == 1 { 0 } else { OF };
    match instruction.mnemonic() {
        M::Rol | M::Ror | M::Rcl | M::Rcr => overflow,
        M::Sar => overflow | AF,
        M::Shld | M::Shrd if is_double_shift_too_far(instruction, before) => {
            CF | OF | SF | ZF | AF | PF
        }
        M::Shld | M::Shrd => overflow | AF,
        _ if count >= operand_bits(instruction) => overflow | AF | CF,
        _ => overflow | AF,
    }
}

/// The count after the masking to five bits.
fn shift_count(instruction: &Instruction, before: &Registers) -> u32 {
    let operand = instruction.op_count() - 1;
    let count = match instruction.op_kind(operand) {
        OpKind::Immediate8 => u32::from(instruction.immediate8()),
        _ => before.gpr[1],
    };
    count & 31
}

fn operand_bits(instruction: &Instruction) -> u32 {
    let bytes = match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size(),
        _ => instruction.memory_size().size(),
    };
    8 * u32::try_from(bytes).expect("an operand of a few bytes")
}
