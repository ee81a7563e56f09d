//! What single instructions need to be interesting: counts for shifts and
//! REP, dividends, stack contents, selectors, whole FPU images.

use iced_x86::{Code, Instruction, Mnemonic, OpCodeOperandKind, OpKind, Register};

use super::aim;
use super::generate::{Draft, USER_CS, USER_DS, has_memory_operand, register_value, set_register};
use super::rng::Rng;
use super::values::{self, FxProfile};
use super::wire::Registers;

const EAX: usize = 0;
const ECX: usize = 1;
const EDX: usize = 2;
const EBX: usize = 3;
const ESP: usize = 4;
const EBP: usize = 5;
const ESI: usize = 6;
const EDI: usize = 7;
const NT: u32 = 0x4000;
const TF: u32 = 0x100;

/// Selectors whose meaning is the same in the host's GDT and in ours: null,
/// flat user code and data, kernel segments, an empty LDT, beyond the limit.
const SELECTORS: [u16; 16] = [
    USER_DS, USER_DS, USER_DS, USER_CS, 0, 1, 3, 0x28, 0x29, 0x20, 0x10, 0x18, 0x07, 0x1C, 0x88,
    0xFFFF,
];

/// Instructions that would leave the native runner's control.
pub(crate) fn is_dangerous(instruction: &Instruction) -> bool {
    match instruction.code() {
        // The host's own system call.
        Code::Int_imm8 => instruction.immediate8() == 0x80,
        Code::Jmp_ptr1632 | Code::Jmp_ptr1616 | Code::Call_ptr1632 | Code::Call_ptr1616 => {
            !SELECTORS.contains(&instruction.far_branch_selector())
        }
        _ => false,
    }
}

/// Sets registers and memory to what the instruction wants.
pub(crate) fn adjust(draft: &mut Draft<'_>) {
    let instruction = draft.encoding.instruction;
    if instruction.is_invalid() {
        return;
    }
    if instruction.is_string_instruction() {
        string(draft, &instruction);
    }
    let aims_with_esp = [instruction.memory_base(), instruction.memory_index()]
        .iter()
        .any(|register| register.full_register32() == Register::ESP);
    if instruction.is_stack_instruction() || !aims_with_esp && draft.rng.percent(20) {
        draft.registers.gpr[ESP] = aim::target(32, false, draft.rng);
    }
    by_mnemonic(draft, &instruction);
    selectors(draft, &instruction);
}

fn by_mnemonic(draft: &mut Draft<'_>, instruction: &Instruction) {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Div | M::Idiv => dividend(draft),
        M::Shl
        | M::Shr
        | M::Sar
        | M::Sal
        | M::Rol
        | M::Ror
        | M::Rcl
        | M::Rcr
        | M::Shld
        | M::Shrd
            if draft.rng.percent(70) =>
        {
            let count = draft.rng.below(40);
            set_register(&mut draft.registers, Register::CL, count);
        }
        M::Cmpxchg => compare_exchange(draft, instruction),
        M::Cmpxchg8b if draft.rng.percent(50) => {
            let [eax, _, edx, ..] = draft.registers.gpr;
            draft.patch_operand(&(u64::from(edx) << 32 | u64::from(eax)).to_le_bytes());
        }
        M::Bt | M::Bts | M::Btr | M::Btc => bit_offset(draft, instruction),
        M::Xlatb => {
            let at = aim::target(256, false, draft.rng);
            draft.registers.gpr[EBX] = at;
        }
        M::Maskmovq | M::Maskmovdqu => {
            let low = instruction.op0_kind() == OpKind::MemorySegDI;
            let upper = if low {
                draft.rng.u32() & 0xFFFF_0000
            } else {
                0
            };
            draft.registers.gpr[EDI] = aim::target(16, low, draft.rng) & mask_of(low) | upper;
        }
        M::Leave => draft.registers.gpr[EBP] = aim::target(4, false, draft.rng),
        M::Enter => draft.registers.gpr[EBP] = 0x1000_1800 + draft.rng.below(0x800),
        M::Popf | M::Popfd => {
            let flags = stack_flags(draft.rng);
            let esp = draft.registers.gpr[ESP];
            draft.patch(esp, &flags.to_le_bytes());
        }
        M::Iret | M::Iretd | M::Retf => far_return(draft, instruction),
        M::Ldmxcsr if draft.rng.percent(80) => {
            let mxcsr = draft.rng.u32() & 0xFFFF;
            draft.patch_operand(&mxcsr.to_le_bytes());
        }
        M::Fxrstor if draft.rng.percent(85) => {
            let image = values::fx_image(PLAIN_FX, draft.rng);
            draft.patch_operand(&image);
        }
        M::Bound => bounds(draft),
        _ => {}
    }
}

const PLAIN_FX: FxProfile = FxProfile {
    full_stack: 50,
    masked: 50,
};

fn string(draft: &mut Draft<'_>, instruction: &Instruction) {
    let low = instruction.op_kinds().any(|kind| {
        matches!(
            kind,
            OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI
        )
    });
    for register in [ESI, EDI] {
        let at = aim::target(4, low, draft.rng);
        let upper = if low {
            draft.rng.u32() & 0xFFFF_0000
        } else {
            0
        };
        draft.registers.gpr[register] = (at & if low { 0xFFFF } else { u32::MAX }) | upper;
    }
    let count = match draft.rng.below(10) {
        0 => 0,
        1 => 1,
        2 => 200 + draft.rng.below(800),
        _ => draft.rng.below(40),
    };
    let upper = if low {
        draft.rng.u32() & 0xFFFF_0000
    } else {
        0
    };
    draft.registers.gpr[ECX] = count | upper;
    if draft.rng.percent(50) {
        let same: Vec<u8> = (0..16).map(|_| draft.rng.pick(&[0, 0, 0, 0x55])).collect();
        let (esi, edi) = (draft.registers.gpr[ESI], draft.registers.gpr[EDI]);
        let mask = if low { 0xFFFF } else { u32::MAX };
        draft.patch(esi & mask, &same);
        draft.patch(edi & mask, &same);
        if draft.rng.percent(50) {
            draft.registers.gpr[EAX] = 0;
        }
    }
}

fn mask_of(low: bool) -> u32 {
    if low { 0xFFFF } else { u32::MAX }
}

/// A dividend that is small enough for most divisors.
fn dividend(draft: &mut Draft<'_>) {
    if draft.rng.percent(70) {
        let (low, high) = match draft.rng.below(3) {
            0 => (values::integer(draft.rng), 0),
            1 => (values::integer(draft.rng) | 0x8000_0000, u32::MAX),
            _ => (values::integer(draft.rng), draft.rng.below(16)),
        };
        draft.registers.gpr[EAX] = low;
        draft.registers.gpr[EDX] = high;
        if draft.rng.percent(50) {
            let ah = draft.rng.pick(&[0, 0, 1, 0xFF]);
            set_register(&mut draft.registers, Register::AH, ah);
        }
    }
}

fn compare_exchange(draft: &mut Draft<'_>, instruction: &Instruction) {
    if draft.rng.percent(50) {
        let eax = draft.registers.gpr[EAX];
        if instruction.op0_kind() == OpKind::Register {
            let register = instruction.op0_register();
            let value = if register.size() == 1 {
                eax & 0xFF
            } else {
                eax
            };
            set_register(&mut draft.registers, register, value);
        } else {
            let len = instruction.memory_size().size();
            draft.patch_operand(&eax.to_le_bytes()[..len.min(4)]);
        }
    }
}

/// A bit offset in a register reaches beyond the operand; it is kept within
/// the arena and its holes.
fn bit_offset(draft: &mut Draft<'_>, instruction: &Instruction) {
    if instruction.op1_kind() == OpKind::Register && has_memory_operand(instruction) {
        let offset = draft.rng.below(0x8000).wrapping_sub(0x4000);
        let register = instruction.op1_register();
        let aliased = [instruction.memory_base(), instruction.memory_index()]
            .iter()
            .any(|&part| {
                part != Register::None && part.full_register32() == register.full_register32()
            });
        if !aliased {
            set_register(&mut draft.registers, register, offset);
        }
    }
}

/// Where BT and its kin really access memory, for an offset in a register.
pub(crate) fn bit_address(instruction: &Instruction, registers: &Registers) -> Option<u32> {
    use Mnemonic as M;
    let bit_test = matches!(instruction.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc);
    if !bit_test || !has_memory_operand(instruction) || instruction.op1_kind() != OpKind::Register {
        return None;
    }
    let base = instruction.virtual_address(0, 0, |register, _, _| {
        Some(register_value(registers, register))
    })?;
    let value = register_value(registers, instruction.op1_register()) as u32;
    let offset = match instruction.op1_register().size() {
        2 => i32::from(value as i16) >> 4 << 1,
        _ => (value as i32) >> 5 << 2,
    };
    Some((base as u32).wrapping_add(offset as u32))
}

fn bounds(draft: &mut Draft<'_>) {
    let low = values::integer(draft.rng) & 0xFF;
    let high = low.wrapping_add(values::integer(draft.rng) & 0xFF);
    let wide = draft.encoding.instruction.op0_register().size() == 4;
    let bytes = if wide {
        [low.to_le_bytes(), high.to_le_bytes()].concat()
    } else {
        [&low.to_le_bytes()[..2], &high.to_le_bytes()[..2]].concat()
    };
    draft.patch_operand(&bytes);
    if draft.rng.percent(70) {
        let value = draft.rng.below(0x200);
        let register = draft.encoding.instruction.op0_register();
        let aliased = [
            draft.encoding.instruction.memory_base(),
            draft.encoding.instruction.memory_index(),
        ]
        .iter()
        .any(|&part| {
            part != Register::None && part.full_register32() == register.full_register32()
        });
        if !aliased {
            set_register(&mut draft.registers, register, value);
        }
    }
}

/// EFLAGS as POPF and IRET may find them; NT would make a later IRET differ
/// between legacy and compatibility mode, so it stays clear.
fn stack_flags(rng: &mut Rng) -> u32 {
    let mut flags = rng.u32() & !NT;
    if rng.percent(80) {
        flags &= !TF;
    }
    flags
}

/// EIP, CS and EFLAGS on the stack.
fn far_return(draft: &mut Draft<'_>, instruction: &Instruction) {
    let wide = matches!(
        instruction.code(),
        Code::Iretd | Code::Retfd | Code::Retfd_imm16
    );
    let cs = if draft.rng.percent(75) {
        USER_CS
    } else {
        draft.rng.pick(&SELECTORS)
    };
    let eip = draft.rng.u32();
    let flags = stack_flags(draft.rng);
    let size = if wide { 4 } else { 2 };
    let mut frame = eip.to_le_bytes()[..size].to_vec();
    frame.extend(u32::from(cs).to_le_bytes()[..size].iter());
    frame.extend(flags.to_le_bytes()[..size].iter());
    let esp = aim::target(3 * size as u32, false, draft.rng);
    draft.registers.gpr[ESP] = esp;
    draft.patch(esp, &frame);
}

/// Puts a selector with the same meaning on both sides wherever the
/// instruction takes one.
fn selectors(draft: &mut Draft<'_>, instruction: &Instruction) {
    use Mnemonic as M;
    let selector = draft.rng.pick(&SELECTORS);
    match instruction.mnemonic() {
        M::Lar | M::Lsl | M::Verr | M::Verw | M::Arpl | M::Lldt | M::Ltr => {
            let operand = if matches!(instruction.mnemonic(), M::Lar | M::Lsl) {
                1
            } else {
                0
            };
            draft.set_operand(instruction, operand, selector);
        }
        M::Mov if instruction.op0_register().is_segment_register() => {
            draft.set_operand(instruction, 1, selector);
        }
        M::Pop if instruction.op0_register().is_segment_register() => {
            let esp = draft.registers.gpr[ESP];
            draft.patch(esp, &selector.to_le_bytes());
        }
        M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss => far_pointer(draft, instruction, selector),
        M::Jmp | M::Call if is_far_indirect(instruction) => {
            let code_selector = if draft.rng.percent(70) {
                USER_CS
            } else {
                selector
            };
            far_pointer(draft, instruction, code_selector);
        }
        M::Jmp | M::Call if is_far_direct(instruction) => {
            let code_selector = if draft.rng.percent(70) {
                USER_CS
            } else {
                selector
            };
            let len = draft.encoding.bytes.len();
            draft.encoding.bytes[len - 2..].copy_from_slice(&code_selector.to_le_bytes());
            draft.encoding = super::encode::decode(&draft.encoding.bytes, draft.registers.eip);
        }
        _ => {}
    }
}

fn is_far_direct(instruction: &Instruction) -> bool {
    matches!(
        instruction.op0_kind(),
        OpKind::FarBranch16 | OpKind::FarBranch32
    )
}

fn is_far_indirect(instruction: &Instruction) -> bool {
    matches!(
        instruction.op_code().op0_kind(),
        OpCodeOperandKind::mem | OpCodeOperandKind::mem_offs
    ) && has_memory_operand(instruction)
}

fn far_pointer(draft: &mut Draft<'_>, instruction: &Instruction, selector: u16) {
    let offset = values::integer(draft.rng);
    let offset_len = instruction.memory_size().size().saturating_sub(2);
    let mut bytes = offset.to_le_bytes()[..offset_len.min(4)].to_vec();
    bytes.extend(selector.to_le_bytes());
    // A pointer that lies partly outside the arena would bring a selector
    // of chance; both sides still see the same bytes.
    draft.patch_operand(&bytes);
}

impl Draft<'_> {
    fn patch_operand(&mut self, bytes: &[u8]) {
        if let Some(at) = self.operand_at {
            self.patch(at, bytes);
        }
    }

    fn set_operand(&mut self, instruction: &Instruction, operand: u32, value: u16) {
        if instruction.op_kind(operand) == OpKind::Register {
            let register = instruction.op_register(operand);
            if register.is_gpr() {
                let upper = self.rng.u32() & 0xFFFF_0000;
                set_register(&mut self.registers, register, upper | u32::from(value));
            }
        } else {
            self.patch_operand(&value.to_le_bytes());
        }
    }
}
