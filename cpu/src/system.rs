//! System instructions, control transfers through descriptors, and delivery of
//! exceptions and interrupts.
//!
//! * `selector`, `descriptor`: what the tables hold. `stack`: pushing and
//!   popping without moving ESP too early. `segment_load`: the checks of every
//!   load of a segment register.
//! * `interrupt` (delivery), `iret` (INT n and IRET), `far` (JMP, CALL, RET),
//!   `task`, `task_load` and `task_registers` (TSSs and task switches),
//!   `double_fault`.
//! * `segment_moves`, `control`, `debug`, `msr`, `cpuid`, `flag_control`,
//!   `io_permission`: the other instructions.
//!
//! V86 mode is there as far as it needs no extensions (no VME).

mod control;
mod cpuid;
mod debug;
mod descriptor;
mod double_fault;
mod far;
mod flag_control;
mod interrupt;
mod io_permission;
mod iret;
mod msr;
mod segment_load;
mod segment_moves;
mod selector;
mod stack;
mod task;
mod task_load;
mod task_registers;
#[cfg(test)]
mod tests;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::lower::{Context, Lowered};
use crate::op::Handler;
use crate::segment::seg;

pub(crate) use interrupt::{deliver_exception, deliver_interrupt};

/// The handler of an instruction of this family.
pub(crate) fn lower(instruction: &Instruction, _: Context) -> Option<Lowered> {
    let memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    transfers(instruction, memory)
        .or_else(|| segments(instruction, memory))
        .or_else(|| registers(instruction, memory))
        .or_else(|| ports(instruction))
}

/// Chooses between the handler for a register and that for memory.
fn either(memory: bool, for_register: Handler, for_memory: Handler) -> Handler {
    if memory { for_memory } else { for_register }
}

fn transfers(instruction: &Instruction, memory: bool) -> Option<Lowered> {
    let far_immediate = matches!(
        instruction.op0_kind(),
        OpKind::FarBranch16 | OpKind::FarBranch32
    );
    let far_memory =
        memory && (instruction.is_call_far_indirect() || instruction.is_jmp_far_indirect());
    let handler: Handler = match instruction.mnemonic() {
        Mnemonic::Int => iret::int_n,
        Mnemonic::Int3 => iret::int3,
        Mnemonic::Int1 => iret::int1,
        Mnemonic::Into => iret::into,
        Mnemonic::Iret | Mnemonic::Iretd => iret::iret,
        Mnemonic::Retf => far::return_far,
        Mnemonic::Jmp if far_immediate => far::jump_immediate,
        Mnemonic::Call if far_immediate => far::call_immediate,
        Mnemonic::Jmp if far_memory => far::jump_memory,
        Mnemonic::Call if far_memory => far::call_memory,
        Mnemonic::Hlt => flag_control::hlt,
        Mnemonic::Sti => flag_control::sti,
        Mnemonic::Popf | Mnemonic::Popfd => flag_control::popf,
        Mnemonic::Cli => return Some(Lowered::next(flag_control::cli)),
        Mnemonic::Pushf | Mnemonic::Pushfd => return Some(Lowered::next(flag_control::pushf)),
        _ => return None,
    };
    Some(Lowered::end(handler))
}

fn segments(instruction: &Instruction, memory: bool) -> Option<Lowered> {
    use segment_moves as moves;
    let segment = |n: u32| {
        instruction.op_kind(n) == OpKind::Register
            && instruction.op_register(n).is_segment_register()
    };
    let next = match instruction.mnemonic() {
        Mnemonic::Mov if segment(1) => either(memory, moves::store::<false>, moves::store::<true>),
        Mnemonic::Push if segment(0) => moves::push,
        Mnemonic::Lar => either(memory, moves::lar::<false>, moves::lar::<true>),
        Mnemonic::Lsl => either(memory, moves::lsl::<false>, moves::lsl::<true>),
        Mnemonic::Verr => either(memory, moves::verr::<false>, moves::verr::<true>),
        Mnemonic::Verw => either(memory, moves::verw::<false>, moves::verw::<true>),
        Mnemonic::Arpl => either(memory, moves::arpl::<false>, moves::arpl::<true>),
        _ => return segment_loads(instruction, memory, segment(0)),
    };
    Some(Lowered::next(next))
}

fn segment_loads(instruction: &Instruction, memory: bool, into_segment: bool) -> Option<Lowered> {
    use segment_moves as moves;
    let handler: Handler = match instruction.mnemonic() {
        // MOV to CS is #UD, here as on every processor since the 80186.
        Mnemonic::Mov if into_segment && instruction.op0_register() == Register::CS => return None,
        Mnemonic::Mov if into_segment => either(memory, moves::load::<false>, moves::load::<true>),
        Mnemonic::Pop if into_segment => moves::pop,
        Mnemonic::Les => moves::load_far::<{ seg::ES }>,
        Mnemonic::Lds => moves::load_far::<{ seg::DS }>,
        Mnemonic::Lss => moves::load_far::<{ seg::SS }>,
        Mnemonic::Lfs => moves::load_far::<{ seg::FS }>,
        Mnemonic::Lgs => moves::load_far::<{ seg::GS }>,
        _ => return None,
    };
    Some(Lowered::end(handler))
}

fn registers(instruction: &Instruction, memory: bool) -> Option<Lowered> {
    let special = |n: u32, kind: fn(Register) -> bool| {
        instruction.op_kind(n) == OpKind::Register && kind(instruction.op_register(n))
    };
    let next = match instruction.mnemonic() {
        Mnemonic::Mov if special(1, Register::is_cr) => control::read_control,
        Mnemonic::Mov if special(1, Register::is_dr) => debug::read,
        Mnemonic::Smsw => either(memory, control::smsw::<false>, control::smsw::<true>),
        Mnemonic::Sldt => either(memory, control::sldt::<false>, control::sldt::<true>),
        Mnemonic::Str => either(memory, control::str::<false>, control::str::<true>),
        Mnemonic::Lldt => either(memory, control::lldt::<false>, control::lldt::<true>),
        Mnemonic::Ltr => either(memory, control::ltr::<false>, control::ltr::<true>),
        Mnemonic::Lgdt => control::lgdt,
        Mnemonic::Lidt => control::lidt,
        Mnemonic::Sgdt => control::sgdt,
        Mnemonic::Sidt => control::sidt,
        Mnemonic::Invd | Mnemonic::Wbinvd => control::cache_control,
        Mnemonic::Cpuid => cpuid::cpuid,
        Mnemonic::Rdmsr => msr::rdmsr,
        Mnemonic::Rdtsc => msr::rdtsc,
        _ => return register_loads(instruction, memory, &special),
    };
    Some(Lowered::next(next))
}

fn register_loads(
    instruction: &Instruction,
    memory: bool,
    special: &impl Fn(u32, fn(Register) -> bool) -> bool,
) -> Option<Lowered> {
    let handler = match instruction.mnemonic() {
        Mnemonic::Mov if special(0, Register::is_cr) => control::write_control,
        Mnemonic::Mov if special(0, Register::is_dr) => debug::write,
        Mnemonic::Lmsw => either(memory, control::lmsw::<false>, control::lmsw::<true>),
        Mnemonic::Clts => control::clts,
        Mnemonic::Invlpg => control::invlpg,
        Mnemonic::Wrmsr => msr::wrmsr,
        _ => return None,
    };
    Some(Lowered::end(handler))
}

fn ports(instruction: &Instruction) -> Option<Lowered> {
    use io_permission as io;
    let by_size = |register: Register, handlers: [Handler; 3]| match register.size() {
        1 => handlers[0],
        2 => handlers[1],
        _ => handlers[2],
    };
    let handler = match instruction.mnemonic() {
        Mnemonic::In if instruction.op1_kind() == OpKind::Register => by_size(
            instruction.op0_register(),
            [io::in_dx::<u8>, io::in_dx::<u16>, io::in_dx::<u32>],
        ),
        Mnemonic::In => by_size(
            instruction.op0_register(),
            [io::in_imm::<u8>, io::in_imm::<u16>, io::in_imm::<u32>],
        ),
        Mnemonic::Out if instruction.op0_kind() == OpKind::Register => by_size(
            instruction.op1_register(),
            [io::out_dx::<u8>, io::out_dx::<u16>, io::out_dx::<u32>],
        ),
        Mnemonic::Out => by_size(
            instruction.op1_register(),
            [io::out_imm::<u8>, io::out_imm::<u16>, io::out_imm::<u32>],
        ),
        _ => return None,
    };
    // A block ends here, so that the instructions before are not in the way
    // when the access leaves `run`.
    Some(Lowered::end(handler))
}
