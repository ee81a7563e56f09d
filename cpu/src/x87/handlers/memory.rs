//! Instructions with a memory operand: loads, stores, control words,
//! environments and whole states.

use super::super::control::EXCEPTIONS;
use super::super::image::{Layout, MAX_IMAGE_SIZE, REGISTERS_SIZE};
use super::super::instruction::{ControlOp, Format, Instruction};
use super::{MEMORY_FORMS, available, no_pending_exception, note_operand};
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::state::{Core, Raised};

pub(super) fn escape_memory(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
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
