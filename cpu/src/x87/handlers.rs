//! Handlers: what happens around the unit. Availability (#NM), pending exceptions (#MF), memory operands, pointers.
//!
//! The order is the SDM's (volume 3, table 6-2): #NM, then #MF of an earlier instruction, then the faults of the memory operand; only then does the state
//! change. A store that an unmasked exception suppresses does not touch its operand at all.

use iced_x86::{Code, CpuidFeature, Instruction as Decoded};

use super::{
    Pointers,
    control::{C0, C2, C3, EXCEPTIONS},
    execute::Taken,
    image::{Layout, MAX_IMAGE_SIZE, REGISTERS_SIZE},
    instruction::{Condition, ControlOp, Format, Instruction, Sense, decode},
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

fn escape_memory(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    let instruction = MEMORY_FORMS[op.escape()][(op.imm >> 3 & 7) as usize];
    execute_memory(core, memory, op, instruction).into()
}

fn execute_memory(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    instruction: Option<Instruction>,
) -> Result<(), Raised> {
    let Some(instruction) = instruction else {
        return Err(core.ud());
    };
    available(core)?;
    let offset = op.ea(core);
    match instruction {
        Instruction::Control(control) => return memory_control(core, memory, op, control),
        Instruction::FromMemory(what, format) => {
            no_pending_exception(core)?;
            let bytes = load(core, memory, op, offset, format)?;
            core.fpu.with_operand(what, format, bytes);
        }
        Instruction::ToMemory { format, pops } => {
            no_pending_exception(core)?;
            let pending = core.fpu.to_memory(format, pops);
            if !pending.suppressed {
                store_operand(core, memory, op, &pending.bytes[..format.size()])?;
            }
            core.fpu.finish_store(&pending);
        }
        Instruction::Register(_)
        | Instruction::ConditionalMove { .. }
        | Instruction::CompareToFlags { .. } => return Err(core.ud()),
    }
    note_operand(core, op, offset);
    Ok(())
}

/// Loads 2, 4, 8 or 10 bytes, the last in two accesses: a 16-bit address wraps
/// between them.
fn load(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    offset: u32,
    format: Format,
) -> Result<[u8; 10], Raised> {
    let mut bytes = [0; 10];
    match format.size() {
        2 => bytes[..2].copy_from_slice(&core.load::<u16>(memory, op.seg, offset)?.to_le_bytes()),
        4 => bytes[..4].copy_from_slice(&core.load::<u32>(memory, op.seg, offset)?.to_le_bytes()),
        size => {
            bytes[..8].copy_from_slice(&core.load::<u64>(memory, op.seg, offset)?.to_le_bytes());
            if size == 10 {
                let behind = offset.wrapping_add(8) & op.address_mask();
                let high = core.load::<u16>(memory, op.seg, behind)?;
                bytes[8..].copy_from_slice(&high.to_le_bytes());
            }
        }
    }
    Ok(bytes)
}

/// Stores an operand of 2, 4, 8 or 10 bytes. As on processors, a fault of the
/// last two of ten bytes finds the first eight written.
fn store_operand(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    bytes: &[u8],
) -> Result<(), Raised> {
    let offset = op.ea(core);
    let (low, high) = bytes.split_at(bytes.len().min(8));
    let linear = core.writable(op.seg, offset, low.len() as u32)?;
    store(core, memory, linear, low)?;
    if !high.is_empty() {
        let behind = offset.wrapping_add(8) & op.address_mask();
        let linear = core.writable(op.seg, behind, high.len() as u32)?;
        store(core, memory, linear, high)?;
    }
    Ok(())
}

/// Stores 2, 4 or 8 bytes.
fn store(core: &mut Core, memory: &Memory<'_>, linear: u32, bytes: &[u8]) -> Result<(), Raised> {
    if let Ok(bytes) = bytes.try_into() {
        core.store_linear(memory, linear, core.user, u64::from_le_bytes(bytes))?;
    } else if let Ok(bytes) = bytes.try_into() {
        core.store_linear(memory, linear, core.user, u32::from_le_bytes(bytes))?;
    } else if let Ok(bytes) = bytes.try_into() {
        core.store_linear(memory, linear, core.user, u16::from_le_bytes(bytes))?;
    }
    Ok(())
}

fn memory_control(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    control: ControlOp,
) -> Result<(), Raised> {
    let offset = op.ea(core);
    match control {
        ControlOp::StoreControl => core.store(memory, op.seg, offset, core.fpu.control_word()),
        ControlOp::StoreStatus => core.store(memory, op.seg, offset, core.fpu.status_word()),
        ControlOp::LoadControl => {
            no_pending_exception(core)?;
            let control = core.load::<u16>(memory, op.seg, offset)?;
            core.fpu.set_control_word(control);
            Ok(())
        }
        ControlOp::StoreEnvironment => {
            let layout = layout(core, op);
            let image = core.fpu.environment(layout);
            store_image(
                core,
                memory,
                op,
                layout,
                &image[..layout.environment_size()],
            )?;
            core.fpu
                .set_control_word(core.fpu.control_word() | EXCEPTIONS);
            Ok(())
        }
        ControlOp::LoadEnvironment => {
            no_pending_exception(core)?;
            let layout = layout(core, op);
            let mut image = [0; 28];
            load_image(
                core,
                memory,
                op,
                layout,
                &mut image[..layout.environment_size()],
            )?;
            core.fpu.load_environment(layout, &image);
            Ok(())
        }
        ControlOp::Save => save(core, memory, op),
        ControlOp::Restore => restore(core, memory, op),
        _ => Err(core.ud()),
    }
}

fn layout(core: &Core, op: &Op) -> Layout {
    match (core.protected(), op.has(Op::OPERAND32)) {
        (false, false) => Layout::Real16,
        (false, true) => Layout::Real32,
        (true, false) => Layout::Protected16,
        (true, true) => Layout::Protected32,
    }
}

fn save(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
    let layout = layout(core, op);
    let size = layout.environment_size();
    let mut image = [0; MAX_IMAGE_SIZE];
    image[..28].copy_from_slice(&core.fpu.environment(layout));
    image[size..size + REGISTERS_SIZE].copy_from_slice(&core.fpu.register_image());
    store_image(core, memory, op, layout, &image[..size + REGISTERS_SIZE])?;
    core.fpu.initialise();
    Ok(())
}

fn restore(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
    no_pending_exception(core)?;
    let layout = layout(core, op);
    let size = layout.environment_size();
    let mut image = [0; MAX_IMAGE_SIZE];
    load_image(
        core,
        memory,
        op,
        layout,
        &mut image[..size + REGISTERS_SIZE],
    )?;
    let mut environment = [0; 28];
    environment[..size].copy_from_slice(&image[..size]);
    let mut registers = [0; REGISTERS_SIZE];
    registers.copy_from_slice(&image[size..size + REGISTERS_SIZE]);
    core.fpu.load_environment(layout, &environment);
    core.fpu.load_registers(&registers);
    Ok(())
}

/// Stores an image in units of its layout's fields, after a check of the whole.
fn store_image(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    layout: Layout,
    image: &[u8],
) -> Result<(), Raised> {
    let size = image.len() as u32;
    let mut linear = core.writable(op.seg, op.ea(core), size)?;
    let unit = layout.environment_size() / 7;
    core.check_alignment(linear, unit as u32, core.user)?;
    core.probe_write(memory, linear, size, core.user)?;
    for bytes in image.chunks(unit) {
        store(core, memory, linear, bytes)?;
        linear = linear.wrapping_add(unit as u32);
    }
    Ok(())
}

fn load_image(
    core: &mut Core,
    memory: &Memory<'_>,
    op: &Op,
    layout: Layout,
    image: &mut [u8],
) -> Result<(), Raised> {
    let mut linear = core.readable(op.seg, op.ea(core), image.len() as u32)?;
    let unit = layout.environment_size() / 7;
    for bytes in image.chunks_mut(unit) {
        match bytes.len() {
            4 => bytes.copy_from_slice(
                &core
                    .load_linear::<u32>(memory, linear, core.user)?
                    .to_le_bytes(),
            ),
            _ => bytes.copy_from_slice(
                &core
                    .load_linear::<u16>(memory, linear, core.user)?
                    .to_le_bytes(),
            ),
        }
        linear = linear.wrapping_add(unit as u32);
    }
    Ok(())
}
