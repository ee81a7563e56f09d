//! Aims memory operands at the arena: chooses a target first, then solves
//! for a base register or the displacement.

use iced_x86::{MemorySize, Register};

use super::encode;
use super::generate::{Draft, has_memory_operand, register_value, set_register};
use super::layout::{self, PAGE};
use super::rng::Rng;
use super::values;

const AC: u32 = 0x4_0000;

/// A linear address for an access to `len` bytes: mostly in the writable
/// pages, sometimes across their borders, on the read-only page, or nowhere.
pub(crate) fn target(len: u32, low: bool, rng: &mut Rng) -> u32 {
    let writable = match (low, rng.percent(50)) {
        (false, _) => 0x1000_1000,
        (true, true) => 0x4000,
        (true, false) => 0xF000,
    };
    let read_only = if low { 0x7000 } else { 0x1000_4000 };
    let across = rng.below(len.max(2));
    match rng.below(100) {
        0..=64 => writable + rng.below(2 * PAGE - len.min(PAGE)),
        65..=74 => writable + PAGE - across,
        75..=79 => writable + 2 * PAGE - across,
        80..=82 => writable - across,
        83..=91 => read_only + rng.below(PAGE - len.min(PAGE)),
        92..=93 => read_only + PAGE - across,
        94..=97 => writable + 2 * PAGE + rng.below(PAGE / 2),
        _ if low => rng.below(0x1_0000),
        _ => rng.below(layout::HIGH),
    }
}

/// Makes the explicit memory operand, if any, point at a target, and puts a
/// fitting value there.
pub(crate) fn memory_operand(draft: &mut Draft<'_>) {
    if draft.encoding.instruction.is_invalid() || !has_memory_operand(&draft.encoding.instruction) {
        return;
    }
    let instruction = draft.encoding.instruction;
    let size = instruction.memory_size();
    let len = u32::try_from(size.size()).unwrap_or(4).clamp(1, 512);
    let low = is_16_bit_address(draft);
    let mut at = target(len, low, draft.rng);
    let aligned = if draft.registers.eflags & AC != 0 {
        50
    } else {
        0
    };
    if draft.rng.percent(if len >= 16 { 75 } else { aligned }) {
        at &= !(len.next_power_of_two().min(16) - 1);
    }
    if solve(draft, at, low) {
        draft.operand_at = Some(at);
        if draft.rng.percent(80) {
            let value = value_of(size, draft.rng);
            draft.patch(at, &value);
        }
    }
}

fn is_16_bit_address(draft: &Draft<'_>) -> bool {
    let instruction = &draft.encoding.instruction;
    let register = match instruction.memory_base() {
        Register::None => instruction.memory_index(),
        base => base,
    };
    match register {
        Register::None => instruction.memory_displ_size() == 2,
        register => register.size() == 2,
    }
}

/// Chooses registers or the displacement so that the operand lies at `at`.
fn solve(draft: &mut Draft<'_>, at: u32, low: bool) -> bool {
    let instruction = draft.encoding.instruction;
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let scale = instruction.memory_index_scale();
    if index != Register::None && draft.rng.percent(60) {
        let small = draft.rng.below(0x40).wrapping_sub(0x20);
        set_register(&mut draft.registers, index, small);
    }
    let mask = if low { 0xFFFF } else { u32::MAX };
    let index_part = match index {
        Register::None => 0,
        index => (register_value(&draft.registers, index) as u32).wrapping_mul(scale),
    };
    if base == Register::None || base == index {
        let base_part = match base {
            Register::None => 0,
            base => register_value(&draft.registers, base) as u32,
        };
        let rest = at.wrapping_sub(index_part).wrapping_sub(base_part) & mask;
        return patch_displacement(draft, rest);
    }
    let displacement = instruction.memory_displacement64() as u32;
    let rest = at.wrapping_sub(displacement).wrapping_sub(index_part) & mask;
    set_register(&mut draft.registers, base, rest);
    true
}

fn patch_displacement(draft: &mut Draft<'_>, value: u32) -> bool {
    match draft.encoding.displacement {
        Some((offset, size)) if size == 2 || size == 4 => {
            draft.encoding.bytes[offset..offset + size]
                .copy_from_slice(&value.to_le_bytes()[..size]);
            draft.encoding = encode::decode(&draft.encoding.bytes, draft.registers.eip);
            true
        }
        _ => false,
    }
}

/// The bytes of a value of the operand's type.
fn value_of(size: MemorySize, rng: &mut Rng) -> Vec<u8> {
    match size {
        MemorySize::Float32 => values::single(rng).to_le_bytes().to_vec(),
        MemorySize::Float64 => values::double(rng).to_le_bytes().to_vec(),
        MemorySize::Float80 => values::extended(rng).to_vec(),
        MemorySize::Bcd => values::packed_decimal(rng).to_vec(),
        _ => match size.size() {
            0 => Vec::new(),
            len @ 1..=4 => values::integer(rng).to_le_bytes()[..len].to_vec(),
            len @ 5..=10 => {
                let mut bytes = values::integer(rng).to_le_bytes().to_vec();
                bytes.extend(values::integer(rng).to_le_bytes());
                bytes.extend(values::integer(rng).to_le_bytes());
                bytes.truncate(len);
                bytes
            }
            16 => values::xmm(rng).to_vec(),
            _ => Vec::new(),
        },
    }
}

impl Draft<'_> {
    /// Puts `bytes` at a linear address; what is not mapped is left out.
    pub(crate) fn patch(&mut self, address: u32, bytes: &[u8]) {
        for (i, &byte) in (0u32..).zip(bytes) {
            let Some(offset) = layout::arena_offset(address.wrapping_add(i)) else {
                continue;
            };
            if offset >= 3 * PAGE {
                continue;
            }
            let offset = offset as u16;
            match self.patches.last_mut() {
                Some((start, run)) if usize::from(*start) + run.len() == usize::from(offset) => {
                    run.push(byte);
                }
                _ => self.patches.push((offset, vec![byte])),
            }
        }
    }
}
