//! MMX, SSE and SSE2.

use iced_x86::Instruction;

use crate::lower::{Context, Lowered};

/// The XMM registers and MXCSR.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SimdState {}

/// The handler of an instruction of this family.
pub(crate) fn lower(_: &Instruction, _: Context) -> Option<Lowered> {
    None
}
