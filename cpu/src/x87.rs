//! The x87 floating-point unit.

use iced_x86::Instruction;

use crate::lower::{Context, Lowered};

/// The architectural state of the unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fpu {}

/// The handler of an instruction of this family.
pub(crate) fn lower(_: &Instruction, _: Context) -> Option<Lowered> {
    None
}
