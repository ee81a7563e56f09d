//! The integer instructions that need no privilege.

use iced_x86::Instruction;

use crate::lower::{Context, Lowered};

/// The handler of an instruction of this family.
pub(crate) fn lower(_: &Instruction, _: Context) -> Option<Lowered> {
    None
}
