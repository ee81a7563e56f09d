//! Makes cases of the conformance suite (`cpu/conformance`, whose README has
//! the format) from cases that the host has executed.

use std::collections::BTreeMap;
use std::sync::Arc;

use iced_x86::{FlowControl, InstructionInfoFactory, Mnemonic, OpKind};
use latefork_cpu::conformance::{self, Bytes, Ending, Expected, Setup};

use super::encode::Encoding;
use super::generate;
use super::layout::{self, PAGE};
use super::special;
use super::undefined;
use super::wire::{Case, Fault, Outcome};
use super::x87;

const HLT: u8 = 0xF4;
const TF: u32 = 0x100;
/// Iterations of a repeated string instruction whose memory is listed.
const LONGEST_REPEAT: u32 = 24;

/// Whether the case means the same in ring 0 without paging: it ends without
/// an exception, and neither privilege nor descriptors take part.
fn is_portable(case: &Case, encoding: &Encoding, host: &Outcome) -> bool {
    use Mnemonic as M;
    let instruction = &encoding.instruction;
    let segment = instruction.op_kinds().zip(0..).any(|(kind, n)| {
        kind == OpKind::Register && instruction.op_register(n).is_segment_register()
    });
    let far = instruction
        .op_kinds()
        .any(|kind| matches!(kind, OpKind::FarBranch16 | OpKind::FarBranch32))
        || instruction.is_jmp_far_indirect()
        || instruction.is_call_far_indirect();
    let sensitive = matches!(
        instruction.mnemonic(),
        M::Pushf
            | M::Pushfd
            | M::Popf
            | M::Popfd
            | M::Cpuid
            | M::Rdtsc
            | M::Lar
            | M::Lsl
            | M::Verr
            | M::Verw
            | M::Arpl
            | M::Lds
            | M::Les
            | M::Lfs
            | M::Lgs
            | M::Lss
            | M::Retf
            | M::Iret
            | M::Iretd
    );
    let ended = match host.fault {
        None => !case.single_step,
        Some(Fault { vector, .. }) => case.single_step && vector == 1,
    };
    let goes_on = matches!(
        instruction.flow_control(),
        FlowControl::Next
            | FlowControl::UnconditionalBranch
            | FlowControl::ConditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Call
            | FlowControl::IndirectCall
            | FlowControl::Return
    );
    ended
        && !host.hang
        && goes_on
        && case.registers.eflags & 0x4_0000 == 0
        && case.registers.segments[3] != 0
        && case.registers.segments[0] != 0
        && !instruction.is_privileged()
        && !undefined::is_double_shift_too_far(instruction, &case.registers)
        // As 66 0F BC it is BSF for both, as F3 0F BC it is TZCNT for the host.
        && !(matches!(instruction.mnemonic(), M::Bsf | M::Bsr) && case.code.contains(&0xF3))
        && !segment
        && !far
        && !sensitive
}

/// The case as one of the suite; none if it does not mean the same there, or
/// touches memory that cannot be listed.
pub(crate) fn portable(
    name: &str,
    setup: &Arc<Setup>,
    arena: &[u8],
    case: &Case,
    encoding: &Encoding,
    host: &Outcome,
) -> Option<conformance::Case> {
    if !is_portable(case, encoding, host) {
        return None;
    }
    let (before, after) = operands(arena, case, encoding, host)?;
    let start = case.registers.eip;
    let mut memory = vec![(start, case.code.clone())];
    let behind = start + case.code.len() as u32;
    let end = if case.single_step {
        host.registers.eip
    } else {
        behind
    };
    let code = start..behind;
    let in_the_way = code.contains(&end)
        || before.iter().any(|(at, bytes)| {
            let operand = *at..at + bytes.len() as u32;
            operand.contains(&end) || operand.contains(&start)
        });
    if in_the_way {
        return None;
    }
    memory.push((end, vec![HLT]));
    memory.extend(before);
    let fx = generate::touches_fx(&encoding.instruction);
    Some(conformance::Case {
        name: format!("{name}: {}", encoding.instruction),
        setup: Arc::clone(setup),
        memory,
        registers: registers(&case.registers.gpr, start, case.registers.eflags & !TF),
        fx: fx.then(|| Box::new(case.fx)),
        expected: Expected {
            ending: Ending::Halted,
            registers: registers(
                &host.registers.gpr,
                end.wrapping_add(1),
                host.registers.eflags & !TF,
            ),
            undefined_flags: undefined::flags(&encoding.instruction, &case.registers),
            system: None,
            memory: after,
            fx: host.fx.filter(|_| fx).map(|mut image| {
                x87::normalize(&mut image);
                Box::new(image)
            }),
            port: Vec::new(),
        },
    })
}

fn registers(gpr: &[u32; 8], eip: u32, eflags: u32) -> conformance::Registers {
    let mut registers = [eip; 10];
    registers[..8].copy_from_slice(gpr);
    registers[9] = eflags;
    registers
}

/// Contents of every memory operand before and after, in pieces that do not
/// overlap.
fn operands(
    arena: &[u8],
    case: &Case,
    encoding: &Encoding,
    host: &Outcome,
) -> Option<(Vec<Bytes>, Vec<Bytes>)> {
    let mut bytes: BTreeMap<u32, (u8, u8)> = BTreeMap::new();
    let mut offsets: BTreeMap<u32, u32> = BTreeMap::new();
    for (address, size) in accesses(case, encoding)? {
        for at in (address..).take(size as usize) {
            let offset = layout::arena_offset(at)?;
            if offset >= 3 * PAGE {
                return None;
            }
            // RAM of the suite is seen once; that of the arena, twice.
            if *offsets.entry(offset).or_insert(at) != at {
                return None;
            }
            let old = arena[offset as usize];
            let block = host.blocks.iter().find(|(index, _)| *index == offset / 64);
            let new = block.map_or(old, |(_, block)| block[offset as usize % 64]);
            bytes.insert(at, (old, new));
        }
    }
    let pieces = |pick: fn(&(u8, u8)) -> Option<u8>| {
        let mut pieces: Vec<Bytes> = Vec::new();
        for (&at, values) in &bytes {
            let Some(byte) = pick(values) else { continue };
            match pieces.last_mut() {
                Some((start, piece)) if *start + piece.len() as u32 == at => piece.push(byte),
                _ => pieces.push((at, vec![byte])),
            }
        }
        pieces
    };
    Some((
        pieces(|&(old, _)| Some(old)),
        pieces(|&(old, new)| (old != new).then_some(new)),
    ))
}

/// Address and size of every memory operand, explicit or not.
fn accesses(case: &Case, encoding: &Encoding) -> Option<Vec<(u32, u32)>> {
    let mut factory = InstructionInfoFactory::new();
    let instruction = &encoding.instruction;
    let info = factory.info(instruction);
    if let Some(address) = special::bit_address(instruction, &case.registers) {
        let size = u32::try_from(instruction.memory_size().size()).ok()?;
        return Some(vec![(address, size)]);
    }
    let mut found = Vec::new();
    for memory in info.used_memory() {
        // Of a repeated instruction iced leaves the size open.
        let size = match memory.memory_size().size() {
            0 => instruction.memory_size().size(),
            size => size,
        };
        let size = u32::try_from(size).ok().filter(|&size| size > 0)?;
        let address = memory.virtual_address(0, |register, _, _| {
            Some(generate::register_value(&case.registers, register))
        })? as u32;
        if !instruction.is_string_instruction() {
            found.push((address, size));
            continue;
        }
        let count = repeats(case, encoding)?;
        let down = case.registers.eflags & 0x400 != 0;
        for n in 0..count {
            let step = n * size;
            let at = if down {
                address.checked_sub(step)?
            } else {
                address + step
            };
            found.push((at, size));
        }
    }
    Some(found)
}

fn repeats(case: &Case, encoding: &Encoding) -> Option<u32> {
    let instruction = &encoding.instruction;
    if !(instruction.has_rep_prefix() || instruction.has_repne_prefix()) {
        return Some(1);
    }
    let ecx = case.registers.gpr[1];
    let narrow = instruction.op_kinds().any(|kind| {
        matches!(
            kind,
            OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI
        )
    });
    let count = if narrow { ecx & 0xFFFF } else { ecx };
    (count <= LONGEST_REPEAT).then_some(count)
}
