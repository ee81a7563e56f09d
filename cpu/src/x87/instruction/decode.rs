//! From the opcode bytes to an instruction.

use super::super::{arith::Arithmetic, compare::QuietNans, f80::F80, remainder::Quotient};
use super::{Condition, Constant, ControlOp, Format, FromMemory, Instruction, Register, Sense};

/// Decodes the low three bits of the first opcode byte (`opcode`, 0 to 7) and the ModRM byte; `None` is #UD.
pub(crate) const fn decode(opcode: u8, modrm: u8) -> Option<Instruction> {
    if modrm < 0xC0 {
        decode_memory(opcode, modrm >> 3 & 7)
    } else {
        decode_register(opcode, modrm >> 3 & 7, modrm & 7)
    }
}

const fn decode_memory(opcode: u8, reg: u8) -> Option<Instruction> {
    use ControlOp::{
        LoadControl, LoadEnvironment, Restore, Save, StoreControl, StoreEnvironment, StoreStatus,
    };
    use Format::{Decimal, Double, Dword, Extended, Qword, Single, Word};
    Some(match (opcode, reg) {
        (0, _) => memory_arithmetic(reg, Single),
        (2, _) => memory_arithmetic(reg, Dword),
        (4, _) => memory_arithmetic(reg, Double),
        (6, _) => memory_arithmetic(reg, Word),
        (1, 0) => memory_load(Single),
        (3, 0) => memory_load(Dword),
        (3, 5) => memory_load(Extended),
        (5, 0) => memory_load(Double),
        (7, 0) => memory_load(Word),
        (7, 4) => memory_load(Decimal),
        (7, 5) => memory_load(Qword),
        (1, 2) => Instruction::ToMemory {
            format: Single,
            pops: 0,
        },
        (1, 3) => Instruction::ToMemory {
            format: Single,
            pops: 1,
        },
        (3, 2) => Instruction::ToMemory {
            format: Dword,
            pops: 0,
        },
        (3, 3) => Instruction::ToMemory {
            format: Dword,
            pops: 1,
        },
        (3, 7) => Instruction::ToMemory {
            format: Extended,
            pops: 1,
        },
        (5, 2) => Instruction::ToMemory {
            format: Double,
            pops: 0,
        },
        (5, 3) => Instruction::ToMemory {
            format: Double,
            pops: 1,
        },
        (7, 2) => Instruction::ToMemory {
            format: Word,
            pops: 0,
        },
        (7, 3) => Instruction::ToMemory {
            format: Word,
            pops: 1,
        },
        (7, 6) => Instruction::ToMemory {
            format: Decimal,
            pops: 1,
        },
        (7, 7) => Instruction::ToMemory {
            format: Qword,
            pops: 1,
        },
        (1, 4) => Instruction::Control(LoadEnvironment),
        (1, 5) => Instruction::Control(LoadControl),
        (1, 6) => Instruction::Control(StoreEnvironment),
        (1, 7) => Instruction::Control(StoreControl),
        (5, 4) => Instruction::Control(Restore),
        (5, 6) => Instruction::Control(Save),
        (5, 7) => Instruction::Control(StoreStatus),
        _ => return None,
    })
}

const fn memory_load(format: Format) -> Instruction {
    Instruction::FromMemory(FromMemory::Load, format)
}

const fn memory_arithmetic(reg: u8, format: Format) -> Instruction {
    let operation = match reg {
        2 => FromMemory::Compare { pops: 0 },
        3 => FromMemory::Compare { pops: 1 },
        _ => FromMemory::Arithmetic(operation(reg)),
    };
    Instruction::FromMemory(operation, format)
}

/// The operation that the reg field selects where the destination is ST(0).
const fn operation(reg: u8) -> Arithmetic {
    match reg {
        0 => Arithmetic::Add,
        1 => Arithmetic::Mul,
        4 => Arithmetic::Sub,
        5 => Arithmetic::SubReversed,
        6 => Arithmetic::Div,
        _ => Arithmetic::DivReversed,
    }
}

const fn arithmetic_to_st0(reg: u8, source: u8) -> Instruction {
    Instruction::Register(Register::Arithmetic {
        operation: operation(reg),
        destination: 0,
        source,
        pops: 0,
    })
}

/// Where the destination is ST(i), the plain and the reversed forms change places in the map: the operation is still ST(i) op ST(0).
const fn arithmetic_to_sti(reg: u8, destination: u8, pops: u8) -> Instruction {
    let swapped = if reg >= 4 { reg ^ 1 } else { reg };
    Instruction::Register(Register::Arithmetic {
        operation: operation(swapped),
        destination,
        source: 0,
        pops,
    })
}

const fn compare(source: u8, quiet: QuietNans, pops: u8) -> Instruction {
    Instruction::Register(Register::Compare {
        source,
        quiet,
        pops,
    })
}

const fn decode_register(opcode: u8, reg: u8, i: u8) -> Option<Instruction> {
    use QuietNans::{Invalid, Unordered};
    Some(match (opcode, reg) {
        (0 | 4, 2) => compare(i, Invalid, 0),
        (0 | 4, 3) | (6, 2) => compare(i, Invalid, 1),
        (0, _) => arithmetic_to_st0(reg, i),
        (4, _) => arithmetic_to_sti(reg, i, 0),
        (6, 3) if i == 1 => compare(1, Invalid, 2),
        (6, 3) => return None,
        (6, _) => arithmetic_to_sti(reg, i, 1),
        (1, 0) => Instruction::Register(Register::Load { source: i }),
        (1 | 5 | 7, 1) => Instruction::Register(Register::Exchange { with: i }),
        (1, 2) if i == 0 => Instruction::Register(Register::Nop),
        (1, 2) => return None,
        (1, 3) => Instruction::Register(Register::StoreUnchecked { destination: i }),
        (5, 3) | (7, 2 | 3) => Instruction::Register(Register::Store {
            destination: i,
            pops: 1,
        }),
        (1, _) => return decode_d9(reg, i),
        (2 | 3, 0..=3) => conditional_move(opcode, reg, i),
        (2, 5) if i == 1 => compare(1, Unordered, 2),
        (2, _) => return None,
        (3, 4) => return decode_db(i),
        (3, 5) => Instruction::CompareToFlags {
            source: i,
            quiet: Unordered,
            pops: 0,
        },
        (3, 6) => Instruction::CompareToFlags {
            source: i,
            quiet: Invalid,
            pops: 0,
        },
        (5, 0) => Instruction::Register(Register::Free { index: i, pops: 0 }),
        (7, 0) => Instruction::Register(Register::Free { index: i, pops: 1 }),
        (5, 2) => Instruction::Register(Register::Store {
            destination: i,
            pops: 0,
        }),
        (5, 4) => compare(i, Unordered, 0),
        (5, 5) => compare(i, Unordered, 1),
        (7, 4) if i == 0 => Instruction::Control(ControlOp::StoreStatusAx),
        (7, 5) => Instruction::CompareToFlags {
            source: i,
            quiet: Unordered,
            pops: 1,
        },
        (7, 6) => Instruction::CompareToFlags {
            source: i,
            quiet: Invalid,
            pops: 1,
        },
        _ => return None,
    })
}

const fn conditional_move(opcode: u8, reg: u8, source: u8) -> Instruction {
    let condition = match reg {
        0 => Condition::Below,
        1 => Condition::Equal,
        2 => Condition::BelowOrEqual,
        _ => Condition::Unordered,
    };
    let sense = if opcode == 2 {
        Sense::Holds
    } else {
        Sense::Fails
    };
    Instruction::ConditionalMove {
        condition,
        sense,
        source,
    }
}

/// DB E0 to DB E4.
const fn decode_db(i: u8) -> Option<Instruction> {
    Some(Instruction::Control(match i {
        0 | 1 | 4 => ControlOp::Obsolete,
        2 => ControlOp::ClearExceptions,
        3 => ControlOp::Initialise,
        _ => return None,
    }))
}

/// D9 E0 to D9 FF.
const fn decode_d9(reg: u8, i: u8) -> Option<Instruction> {
    Some(Instruction::Register(match (reg, i) {
        (4, 0) => Register::Sign(F80::negated),
        (4, 1) => Register::Sign(F80::magnitude),
        (4, 4) => Register::Test,
        (4, 5) => Register::Examine,
        (5, 0) => Register::Constant(Constant::One),
        (5, 1) => Register::Constant(Constant::Log2Of10),
        (5, 2) => Register::Constant(Constant::Log2OfE),
        (5, 3) => Register::Constant(Constant::Pi),
        (5, 4) => Register::Constant(Constant::Log10Of2),
        (5, 5) => Register::Constant(Constant::LnOf2),
        (5, 6) => Register::Constant(Constant::Zero),
        (6, 0) => Register::Exponential,
        (6, 1) => Register::Logarithm,
        (6, 2) => Register::Tangent,
        (6, 3) => Register::Arctangent,
        (6, 4) => Register::Extract,
        (6, 5) => Register::Remainder(Quotient::Nearest),
        (6, 6) => Register::Rotate(7),
        (6, 7) => Register::Rotate(1),
        (7, 0) => Register::Remainder(Quotient::Truncated),
        (7, 1) => Register::LogarithmPlusOne,
        (7, 2) => Register::SquareRoot,
        (7, 3) => Register::SineCosine,
        (7, 4) => Register::RoundToInteger,
        (7, 5) => Register::Scale,
        (7, 6) => Register::Sine,
        (7, 7) => Register::Cosine,
        _ => return None,
    }))
}
