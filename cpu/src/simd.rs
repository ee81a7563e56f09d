//! MMX, SSE and SSE2: the XMM registers, MXCSR and what the instructions compute.

use iced_x86::Instruction;

use crate::lower::{Context, Lowered};

/// The XMM registers and MXCSR.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SimdState {
    /// XMM0 to XMM7.
    pub xmm: [u128; 8],
    /// Control and status; bits 16 and above are always clear.
    pub mxcsr: u32,
}

impl Default for SimdState {
    /// The state after power-up (SDM volume 3, table 9-1).
    fn default() -> SimdState {
        SimdState {
            xmm: [0; 8],
            mxcsr: 0x1F80,
        }
    }
}

/// The handler of an instruction of this family.
pub(crate) fn lower(_: &Instruction, _: Context) -> Option<Lowered> {
    None
}
