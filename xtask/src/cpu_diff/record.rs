//! Writes cases that the host has executed as data for the conformance suite
//! (`cpu/conformance`, whose README has the format).

use std::fmt::Write as _;

use iced_x86::{FlowControl, InstructionInfoFactory, Mnemonic, OpKind};

use super::encode::Encoding;
use super::generate;
use super::layout::{self, PAGE};
use super::undefined;
use super::wire::{Case, Outcome};
use super::x87;

/// Whether the case means the same in ring 0 without paging: it ends without
/// an exception, and neither privilege nor descriptors take part.
pub(crate) fn is_portable(case: &Case, encoding: &Encoding, host: &Outcome) -> bool {
    use Mnemonic as M;
    let instruction = &encoding.instruction;
    let segment = instruction.op_kinds().zip(0..).any(|(kind, n)| {
        kind == OpKind::Register && instruction.op_register(n).is_segment_register()
    });
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
    );
    host.fault.is_none()
        && !case.single_step
        && case.registers.eflags & 0x4_0000 == 0
        && case.registers.segments[3] != 0
        && case.registers.segments[0] != 0
        && instruction.flow_control() == FlowControl::Next
        && !instruction.is_privileged()
        && !instruction.is_string_instruction()
        && !segment
        && !sensitive
        && undefined::flags(instruction, &case.registers) == 0
}

/// The case as text; none if it touches memory that cannot be listed.
pub(crate) fn text(
    name: &str,
    arena: &[u8],
    case: &Case,
    encoding: &Encoding,
    host: &Outcome,
) -> Option<String> {
    let mut text = format!("case {name}: {}\nstart prot32\n", encoding.instruction);
    let r = &case.registers;
    line(&mut text, "mem", r.eip, &[&case.code[..], &[0xF4]].concat());
    let mut writes = String::new();
    for (address, size) in accesses(case, encoding)? {
        let first = layout::arena_offset(address)?;
        let last = layout::arena_offset(address + size - 1)?;
        let range = first as usize..=last as usize;
        if last - first != size - 1 || last >= 3 * PAGE {
            return None;
        }
        line(&mut text, "mem", address, &arena[range.clone()]);
        let mut after = arena[range].to_vec();
        for (index, block) in &host.blocks {
            for (at, byte) in (index * 64..).zip(block) {
                if let Some(place) = at.checked_sub(first).filter(|&place| place < size) {
                    after[place as usize] = *byte;
                }
            }
        }
        line(&mut writes, "expect mem", address, &after);
    }
    registers(&mut text, "reg", &r.gpr, r.eip, r.eflags);
    let fx = generate::touches_fx(&encoding.instruction);
    if fx {
        let _ = writeln!(text, "fx {}", x87::hex_in_order(&case.fx));
    }
    text.push_str("expect halted\n");
    let end = &host.registers;
    registers(&mut text, "expect reg", &end.gpr, end.eip + 1, end.eflags);
    text.push_str(&writes);
    if let (true, Some(image)) = (fx, &host.fx) {
        let mut image = *image;
        x87::normalize(&mut image);
        let _ = writeln!(text, "expect fx {}", x87::hex_in_order(&image));
    }
    Some(text)
}

fn line(text: &mut String, word: &str, address: u32, bytes: &[u8]) {
    let _ = writeln!(text, "{word} {address:08x} {}", x87::hex_in_order(bytes));
}

fn registers(text: &mut String, word: &str, gpr: &[u32; 8], eip: u32, eflags: u32) {
    let values: Vec<String> = gpr
        .iter()
        .chain([&eip, &eflags])
        .map(|value| format!("{value:08x}"))
        .collect();
    let _ = writeln!(text, "{word} {}", values.join(" "));
}

/// Address and size of every memory operand, explicit or not.
fn accesses(case: &Case, encoding: &Encoding) -> Option<Vec<(u32, u32)>> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&encoding.instruction);
    let mut found = Vec::new();
    for memory in info.used_memory() {
        let address = memory.virtual_address(0, |register, _, _| {
            Some(generate::register_value(&case.registers, register))
        })?;
        let size = u32::try_from(memory.memory_size().size()).ok()?;
        if size == 0 {
            return None;
        }
        found.push((address as u32, size));
    }
    Some(found)
}
