//! Which operand types an instruction has: the choice of its handler.

use iced_x86::{Instruction, OpKind, Register};

use crate::lower::Context;

/// What an operand is, for the choice of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::integer) enum Kind {
    Register,
    Immediate,
    Flat,
    Based,
    Segmented,
    Absent,
    /// Segment, control and other registers, far pointers, string operands.
    Other,
}

/// The kind of operand `n`.
pub(in crate::integer) fn kind(instruction: &Instruction, n: u32, context: Context) -> Kind {
    if n >= instruction.op_count() {
        return Kind::Absent;
    }
    match instruction.op_kind(n) {
        OpKind::Register if instruction.op_register(n).is_gpr() => Kind::Register,
        OpKind::Memory if context.is_flat(instruction) => {
            if instruction.memory_index() == Register::None {
                Kind::Based
            } else {
                Kind::Flat
            }
        }
        OpKind::Memory => Kind::Segmented,
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32 => Kind::Immediate,
        _ => Kind::Other,
    }
}

/// The size in bytes of operand `n`, a register or memory.
pub(in crate::integer) fn size(instruction: &Instruction, n: u32) -> usize {
    match instruction.op_kind(n) {
        OpKind::Register => instruction.op_register(n).size(),
        _ => instruction.memory_size().size(),
    }
}

/// Whether operand `n` is CL.
pub(in crate::integer) fn is_cl(instruction: &Instruction, n: u32) -> bool {
    instruction.op_kind(n) == OpKind::Register && instruction.op_register(n) == Register::CL
}

/// A handler for the size in bytes `$size`: `$w` is the word type in `$body`.
macro_rules! by_size {
    ($size:expr, $w:ident => $body:expr) => {
        match $size {
            1 => {
                type $w = u8;
                $body
            }
            2 => {
                type $w = u16;
                $body
            }
            _ => {
                type $w = u32;
                $body
            }
        }
    };
}

/// As `by_size`, for instructions without a byte form.
macro_rules! by_wide_size {
    ($size:expr, $w:ident => $body:expr) => {
        match $size {
            2 => {
                type $w = u16;
                $body
            }
            _ => {
                type $w = u32;
                $body
            }
        }
    };
}

/// A handler for the kind of a target: `$t` is the operand type in `$body`.
macro_rules! by_target {
    ($kind:expr, $t:ident => $body:expr) => {
        match $kind {
            Kind::Register => {
                type $t = First;
                $body
            }
            // A handler for the general form does for the rarer instructions.
            Kind::Flat | Kind::Based => {
                type $t = Flat;
                $body
            }
            Kind::Segmented => {
                type $t = Segmented;
                $body
            }
            _ => return None,
        }
    };
}

/// A handler for the kind of operand 1 as a source, after a register.
macro_rules! by_source {
    ($kind:expr, $s:ident => $body:expr) => {
        match $kind {
            Kind::Register => {
                type $s = Second;
                $body
            }
            Kind::Immediate => {
                type $s = Immediate;
                $body
            }
            Kind::Flat | Kind::Based => {
                type $s = Flat;
                $body
            }
            Kind::Segmented => {
                type $s = Segmented;
                $body
            }
            _ => return None,
        }
    };
}

/// As `by_source`, with the form without an index by itself.
macro_rules! by_source_based {
    ($kind:expr, $s:ident => $body:expr) => {
        match $kind {
            Kind::Register => {
                type $s = Second;
                $body
            }
            Kind::Immediate => {
                type $s = Immediate;
                $body
            }
            Kind::Flat => {
                type $s = Flat;
                $body
            }
            Kind::Based => {
                type $s = Based;
                $body
            }
            Kind::Segmented => {
                type $s = Segmented;
                $body
            }
            _ => return None,
        }
    };
}

pub(in crate::integer) use {by_size, by_source, by_source_based, by_target, by_wide_size};
