//! Handlers: what happens around the unit. Availability (#NM), pending exceptions (#MF), memory operands, pointers.
//!
//! The order is the SDM's (volume 3, table 6-2): #NM, then #MF of an earlier instruction, then the faults of the memory operand; only then does the state
//! change. A store that an unmasked exception suppresses does not touch its operand at all.

mod memory;

use iced_x86::{Code, CpuidFeature, Instruction as Decoded};

use memory::escape_memory;

use super::{
    Pointers,
    control::{C0, C2, C3},
    execute::Taken,
    instruction::{Condition, ControlOp, Instruction, Sense, decode},
};
use crate::exception::Exception;
use crate::flags;
use crate::lower::{Context, Lowered};
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::registers::{cr0, gpr};
use crate::segment::seg;
use crate::state::{Core, Raised};

/// The instructions of the escape opcodes, by the low three bits of the first byte and the reg and r/m fields of ModRM.
static REGISTER_FORMS: [[Option<Instruction>; 64]; 8] = register_forms();
/// By the low three bits of the first byte and the reg field.
static MEMORY_FORMS: [[Option<Instruction>; 8]; 8] = memory_forms();

const fn register_forms() -> [[Option<Instruction>; 64]; 8] {
    let mut table = [[None; 64]; 8];
    let mut n = 0;
    while n < 512 {
        table[n >> 6][n & 63] = decode((n >> 6) as u8, (n & 63) as u8 | 0xC0);
        n += 1;
    }
    table
}

const fn memory_forms() -> [[Option<Instruction>; 8]; 8] {
    let mut table = [[None; 8]; 8];
    let mut n = 0;
    while n < 64 {
        table[n >> 3][n & 7] = decode((n >> 3) as u8, (n as u8 & 7) << 3);
        n += 1;
    }
    table
}

/// The handler of an instruction of this family. The decoder has put the 11 bits of the opcode into [`Op::imm`].
pub(crate) fn lower(instruction: &Decoded, _: Context) -> Option<Lowered> {
    let code = instruction.code();
    if code == Code::Wait {
        return Some(Lowered::next(wait));
    }
    let x87 = [
        CpuidFeature::FPU,
        CpuidFeature::FPU287,
        CpuidFeature::FPU387,
    ];
    if !code
        .cpuid_features()
        .iter()
        .any(|feature| x87.contains(feature))
    {
        return None;
    }
    let memory =
        (0..instruction.op_count()).any(|n| instruction.op_kind(n) == iced_x86::OpKind::Memory);
    Some(Lowered::next(if memory {
        escape_memory
    } else {
        escape_register
    }))
}

impl Op {
    /// The low three bits of the escape opcode.
    fn escape(&self) -> usize {
        (self.imm >> 8 & 7) as usize
    }
}

/// #NM, as for every escape opcode.
pub(crate) fn available(core: &mut Core) -> Result<(), Raised> {
    if core.cr0 & (cr0::EM | cr0::TS) != 0 {
        return Err(core.raise(Exception::DeviceNotAvailable));
    }
    Ok(())
}

/// #MF for an exception that an earlier instruction left pending.
pub(crate) fn no_pending_exception(core: &mut Core) -> Result<(), Raised> {
    if core.fpu.pending() && core.cr0 & cr0::NE != 0 {
        return Err(core.raise(Exception::FloatingPoint));
    }
    Ok(())
}

fn wait(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let both = cr0::MP | cr0::TS;
    if core.cr0 & both == both {
        let _raised = core.raise(Exception::DeviceNotAvailable);
        return Flow::Raised;
    }
    no_pending_exception(core).into()
}

fn escape_register(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let instruction = REGISTER_FORMS[op.escape()][(op.imm & 63) as usize];
    execute_register(core, op, instruction).into()
}

fn execute_register(
    core: &mut Core,
    op: &Op,
    instruction: Option<Instruction>,
) -> Result<(), Raised> {
    let Some(instruction) = instruction else {
        return Err(core.ud());
    };
    available(core)?;
    if let Instruction::Control(control) = instruction {
        return register_control(core, control);
    }
    no_pending_exception(core)?;
    match instruction {
        Instruction::Register(register) => core.fpu.register(register),
        Instruction::ConditionalMove {
            condition,
            sense,
            source,
        } => {
            let taken = holds(core, condition) == (sense == Sense::Holds);
            core.fpu
                .conditional_move(source, if taken { Taken::Yes } else { Taken::No });
        }
        Instruction::CompareToFlags {
            source,
            quiet,
            pops,
        } => {
            let codes = core.fpu.compare_to_flags(source, quiet, pops);
            let bit = |code: u16, flag: u32| if codes & code != 0 { flag } else { 0 };
            core.flags.replace(
                flags::ARITHMETIC,
                bit(C0, flags::CF) | bit(C2, flags::PF) | bit(C3, flags::ZF),
            );
        }
        Instruction::Control(_) | Instruction::FromMemory(..) | Instruction::ToMemory { .. } => {
            return Err(core.ud());
        }
    }
    note_instruction(core, op);
    Ok(())
}

fn holds(core: &Core, condition: Condition) -> bool {
    match condition {
        Condition::Below => core.flags.cf(),
        Condition::Equal => core.flags.zf(),
        Condition::BelowOrEqual => core.flags.cf() || core.flags.zf(),
        Condition::Unordered => core.flags.pf(),
    }
}

fn register_control(core: &mut Core, control: ControlOp) -> Result<(), Raised> {
    match control {
        ControlOp::ClearExceptions => core.fpu.clear_exceptions(),
        ControlOp::Initialise => core.fpu.initialise(),
        ControlOp::StoreStatusAx => {
            let status = u32::from(core.fpu.status_word());
            core.set_reg::<u16>(gpr::EAX as u8, status);
        }
        _ => {}
    }
    Ok(())
}

fn note_instruction(core: &mut Core, op: &Op) {
    let last = core.fpu.pointers();
    core.fpu.set_pointers(Pointers {
        instruction: op.start_eip(core),
        code_selector: core.segments[seg::CS as usize].selector,
        opcode: (op.imm & 0x7FF) as u16,
        ..last
    });
}

fn note_operand(core: &mut Core, op: &Op, offset: u32) {
    note_instruction(core, op);
    let last = core.fpu.pointers();
    let data_selector = core.segments[usize::from(op.seg) % 6].selector;
    core.fpu.set_pointers(Pointers {
        data: offset,
        data_selector,
        ..last
    });
}
