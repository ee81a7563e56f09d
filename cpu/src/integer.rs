//! The integer instructions that need no privilege.

use iced_x86::Instruction;

use crate::lower::{Context, Lowered};

mod alu;
mod bits;
mod branch;
mod bulk;
mod condition;
mod data;
mod flag_ops;
pub(crate) mod fuse;
mod muldiv;
mod operand;
mod shift;
mod stack;
mod string;

/// The handler of an instruction of this family.
pub(crate) fn lower(instruction: &Instruction, context: Context) -> Option<Lowered> {
    alu::lower(instruction, context)
        .or_else(|| data::lower(instruction, context))
        .or_else(|| branch::lower(instruction, context))
        .or_else(|| stack::lower(instruction, context))
        .or_else(|| shift::lower(instruction, context))
        .or_else(|| muldiv::lower(instruction, context))
        .or_else(|| bits::lower(instruction, context))
        .or_else(|| string::lower(instruction, context))
        .or_else(|| flag_ops::lower(instruction, context))
}
