//! From iced's instructions to handlers: which exist and who executes them.

use iced_x86::{Code, CpuidFeature, FlowControl, Instruction, Register};

use crate::memory::Memory;
use crate::model::CpuModel;
use crate::op::{Flow, Handler, Op};
use crate::state::{Core, Mode};
use crate::{integer, simd, system, x87};

/// How a block goes on after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With the next instruction.
    None,
    /// With the next instruction or a jump.
    Side,
    /// It does not.
    Block,
}

/// A handler, and whether its instruction is the last of its block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lowered {
    pub(crate) handler: Handler,
    pub(crate) ending: Ending,
}

impl Lowered {
    /// An instruction that goes on with the next one ([`Flow::Next`] or
    /// [`Flow::Raised`]).
    pub(crate) fn next(handler: Handler) -> Self {
        Self {
            handler,
            ending: Ending::None,
        }
    }

    /// A conditional near jump.
    pub(crate) fn side(handler: Handler) -> Self {
        Self {
            handler,
            ending: Ending::Side,
        }
    }

    /// An instruction that may return any [`Flow`].
    pub(crate) fn end(handler: Handler) -> Self {
        Self {
            handler,
            ending: Ending::Block,
        }
    }
}

/// What a choice of handler may depend on besides the instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) mode: Mode,
    pub(crate) model: CpuModel,
    /// Operand size by mode and prefix is 32 bits (else 16).
    pub(crate) operand32: bool,
    /// Address size by mode and prefix is 32 bits (else 16).
    pub(crate) address32: bool,
}

impl Context {
    /// Whether the memory operand needs neither base nor limit check, and has
    /// a 32-bit address.
    pub(crate) fn is_flat(&self, instruction: &Instruction) -> bool {
        self.address32
            && self.mode.has(Mode::FLAT)
            && matches!(
                instruction.memory_segment(),
                Register::DS | Register::ES | Register::SS
            )
    }

    /// Whether the stack is flat and its pointer ESP.
    pub(crate) fn flat_stack(&self) -> bool {
        self.mode.has(Mode::FLAT) && self.mode.has(Mode::STACK32)
    }
}

/// The handler of a valid instruction. What the allow-list does not hold is
/// `#UD`.
pub(crate) fn lower(instruction: &Instruction, context: Context) -> Lowered {
    if !is_allowed(instruction.code(), context.model) {
        return Lowered::end(undefined);
    }
    integer::lower(instruction, context)
        .or_else(|| system::lower(instruction, context))
        .or_else(|| x87::lower(instruction, context))
        .or_else(|| simd::lower(instruction, context))
        .unwrap_or(Lowered::end(undefined))
}

/// Raises `#UD`.
pub(crate) fn undefined(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let _raised = core.ud();
    Flow::Raised
}

/// Raises `#GP(0)`: an instruction of more than 15 bytes.
pub(crate) fn too_long(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let _raised = core.gp(0);
    Flow::Raised
}

/// Every `Code` that `model` executes.
pub fn allowed_codes(model: CpuModel) -> impl Iterator<Item = Code> {
    Code::values().filter(move |&code| is_allowed(code, model))
}

/// Whether `model` executes instructions of this `Code`; all others are `#UD`.
#[must_use]
pub fn is_allowed(code: Code, model: CpuModel) -> bool {
    if LEFT_OUT.contains(&code) || code == Code::INVALID {
        return false;
    }
    if matches!(code.flow_control(), FlowControl::XbeginXabortXend) {
        return false;
    }
    let sse = model.has_sse();
    code.encoding() == iced_x86::EncodingKind::Legacy
        && code.cpuid_features().iter().all(|feature| match feature {
            CpuidFeature::INTEL8086
            | CpuidFeature::INTEL8086_ONLY
            | CpuidFeature::INTEL186
            | CpuidFeature::INTEL286
            | CpuidFeature::INTEL386
            | CpuidFeature::INTEL486
            | CpuidFeature::CPUID
            | CpuidFeature::CMOV
            | CpuidFeature::CX8
            | CpuidFeature::MSR
            | CpuidFeature::TSC
            | CpuidFeature::PAUSE
            | CpuidFeature::MULTIBYTENOP
            | CpuidFeature::CET_IBT
            | CpuidFeature::FPU
            | CpuidFeature::FPU287
            | CpuidFeature::FPU387 => true,
            CpuidFeature::FXSR
            | CpuidFeature::MMX
            | CpuidFeature::SSE
            | CpuidFeature::SSE2
            | CpuidFeature::CLFSH => sse,
            _ => false,
        })
}

/// Codes whose features are there but which only other processors execute, or
/// which exist in 64-bit mode only.
const LEFT_OUT: &[Code] = &[
    // 80286 and early 80386/80486 only.
    Code::Storeall,
    Code::Loadall286,
    Code::Loadall386,
    Code::Popw_CS,
    // Data and padding pseudo-instructions.
    Code::DeclareByte,
    Code::DeclareWord,
    Code::DeclareDword,
    Code::DeclareQword,
];
