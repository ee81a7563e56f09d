//! MMX, SSE and SSE2: the XMM registers, MXCSR and what the instructions compute.
//!
//! Floating-point results are those of `float`; the host's arithmetic is used only where IEEE 754 leaves it no freedom. Choices where the manual leaves some: RCPPS and RSQRTPS give the value rounded to
//! 12 bits; MASKMOVDQU checks all of its operand, not only the bytes that it writes; with CR0.NE clear, a pending x87 exception is ignored.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap
)] // elements are cut out of registers

pub(crate) mod float;
pub(crate) mod fxsave;
pub(crate) mod handlers;
pub(crate) mod lower;
pub(crate) mod mxcsr;
pub(crate) mod operand;
pub(crate) mod packed;
pub(crate) mod scalar;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

pub(crate) use lower::lower;

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
            mxcsr: mxcsr::INITIAL,
        }
    }
}
