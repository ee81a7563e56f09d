//! Random cases: an encoding of a `Code`, and a start state in which it does
//! something interesting more often than it faults.

use iced_x86::{
    Code, FlowControl, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpKind, Register,
};

use super::aim;
use super::encode::{self, Encoding};
use super::layout::{self, CODE_BASE, PAGE};
use super::rng::Rng;
use super::special;
use super::values::{self, FxProfile};
use super::wire::{Case, FX_BYTES, Registers};

/// The flat selectors that the host kernel gives 32-bit programs.
pub(crate) const USER_CS: u16 = 0x23;
/// Data and stack.
pub(crate) const USER_DS: u16 = 0x2B;
const STATUS_FLAGS: u32 = 0x8D5;
const DF: u32 = 0x400;
const TF: u32 = 0x100;
const AC: u32 = 0x4_0000;
const ID: u32 = 0x20_0000;

/// A case while it is put together.
pub(crate) struct Draft<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) encoding: Encoding,
    pub(crate) registers: Registers,
    pub(crate) patches: Vec<(u16, Vec<u8>)>,
    /// Where its explicit memory operand was aimed, if it has one.
    pub(crate) operand_at: Option<u32>,
}

/// Makes cases; keeps the scratch memory of the instruction information.
#[derive(Debug)]
pub(crate) struct Generator {
    rng: Rng,
    info: InstructionInfoFactory,
}

impl Generator {
    /// A generator whose cases follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            info: InstructionInfoFactory::new(),
        }
    }

    /// The contents of the data pages before a batch.
    pub(crate) fn arena(&mut self) -> Vec<u8> {
        values::arena(&mut self.rng)
    }

    /// A case of `code`; none if its encodings cannot be found by chance.
    pub(crate) fn case(&mut self, code: Code) -> Option<(Case, Encoding)> {
        for _ in 0..50 {
            let eip = CODE_BASE + self.rng.below(PAGE - 64);
            let encoding = encode::random(code, eip, &mut self.rng)?;
            if let Some(done) = self.finish(encoding, eip) {
                return Some(done);
            }
        }
        None
    }

    /// A case from random bytes, whatever they mean.
    pub(crate) fn any_case(&mut self) -> (Case, Encoding) {
        loop {
            let eip = CODE_BASE + self.rng.below(PAGE - 64);
            let bytes = encode::random_bytes(&mut self.rng);
            let mut encoding = encode::decode(&bytes, eip);
            if encoding.instruction.is_invalid() {
                // Whatever the host sees in it must stay inside the page.
                encoding.bytes = bytes;
            } else if super::codes::exclusion(encoding.instruction.code()).is_some() {
                continue;
            }
            if let Some(done) = self.finish(encoding, eip) {
                return done;
            }
        }
    }

    fn finish(&mut self, encoding: Encoding, eip: u32) -> Option<(Case, Encoding)> {
        let registers = registers(eip, &mut self.rng);
        let mut draft = Draft {
            rng: &mut self.rng,
            encoding,
            registers,
            patches: Vec::new(),
            operand_at: None,
        };
        aim::memory_operand(&mut draft);
        special::adjust(&mut draft);
        let Draft {
            mut encoding,
            mut registers,
            patches,
            ..
        } = draft;
        if special::is_dangerous(&encoding.instruction)
            || self.touches_forbidden(&encoding, &registers)
            // ESP on the signal stack would make the kernel nest signals there.
            || layout::is_forbidden(registers.gpr[4], 0)
        {
            return None;
        }
        let fx = self.fx(&encoding);
        let single_step = self.wants_single_step(&encoding);
        if single_step {
            registers.eflags = (registers.eflags | TF) & !ID;
        }
        if !single_step && !encoding.instruction.is_invalid() && self.rng.percent(1) {
            cut_at_page_end(&mut encoding, &mut registers, &mut self.rng);
        }
        let case = Case {
            registers,
            code: encoding.bytes.clone(),
            fx,
            patches,
            single_step,
        };
        Some((case, encoding))
    }

    /// Whether any byte that the instruction may touch belongs to the runner.
    fn touches_forbidden(&mut self, encoding: &Encoding, registers: &Registers) -> bool {
        let instruction = &encoding.instruction;
        let info = self
            .info
            .info_options(instruction, InstructionInfoOptions::NO_REGISTER_USAGE);
        let string = instruction.is_string_instruction();
        let bits = special::bit_address(instruction, registers);
        if bits.is_some_and(|address| {
            address > 0xFFFF_0000 || layout::is_forbidden(address.saturating_sub(8), 16)
        }) {
            return true;
        }
        info.used_memory().iter().any(|memory| {
            let address = memory.virtual_address(0, |register, _, _| {
                Some(register_value(registers, register))
            });
            let size = u32::try_from(memory.memory_size().size()).unwrap_or(0);
            let margin = if string || size == 0 { 0x4000 } else { 64 };
            address.is_none_or(|address| {
                let low = (address as u32).saturating_sub(margin);
                let wraps = (address as u32) > 0xFFFF_0000;
                wraps || layout::is_forbidden(low, size + 2 * margin)
            })
        })
    }

    fn wants_single_step(&mut self, encoding: &Encoding) -> bool {
        let instruction = &encoding.instruction;
        if instruction.is_invalid() || touches_fx(instruction) {
            return false;
        }
        match instruction.flow_control() {
            FlowControl::Next => self.rng.percent(2) && !instruction.is_string_instruction(),
            FlowControl::Interrupt | FlowControl::Exception => false,
            _ => true,
        }
    }

    fn fx(&mut self, encoding: &Encoding) -> [u8; FX_BYTES] {
        if encoding.instruction.is_invalid() || touches_fx(&encoding.instruction) {
            let profile = FxProfile {
                full_stack: 70,
                masked: 50,
            };
            values::fx_image(profile, &mut self.rng)
        } else {
            initial_fx()
        }
    }
}

/// x87 after FNINIT, MXCSR after reset.
fn initial_fx() -> [u8; FX_BYTES] {
    let mut fx = [0; FX_BYTES];
    fx[0..2].copy_from_slice(&0x037Fu16.to_le_bytes());
    fx[24..28].copy_from_slice(&0x1F80u32.to_le_bytes());
    fx
}

/// Whether x87, MMX or SSE state takes part.
pub(crate) fn touches_fx(instruction: &iced_x86::Instruction) -> bool {
    use iced_x86::CpuidFeature as F;
    instruction.cpuid_features().iter().any(|feature| {
        matches!(
            feature,
            F::FPU | F::FPU287 | F::FPU387 | F::MMX | F::SSE | F::SSE2 | F::SSE3 | F::FXSR
        )
    }) || instruction.mnemonic() == Mnemonic::Wait
}

fn registers(eip: u32, rng: &mut Rng) -> Registers {
    let mut registers = Registers {
        eip,
        ..Registers::default()
    };
    for register in &mut registers.gpr {
        *register = values::register(rng);
    }
    registers.eflags = 0x202 | (rng.u32() & STATUS_FLAGS);
    for (flag, percent) in [(DF, 30), (AC, 3), (ID, 5)] {
        if rng.percent(percent) {
            registers.eflags |= flag;
        }
    }
    let data = |rng: &mut Rng, null: u32| if rng.percent(null) { 0 } else { USER_DS };
    registers.segments = [
        data(rng, 2),
        USER_CS,
        USER_DS,
        data(rng, 2),
        data(rng, 10),
        data(rng, 10),
    ];
    registers
}

/// Moves the instruction to the end of its page, so that its last bytes are
/// on the next one, which is not mapped.
fn cut_at_page_end(encoding: &mut Encoding, registers: &mut Registers, rng: &mut Rng) {
    let len = encoding.bytes.len();
    if len > 1 {
        let kept = 1 + rng.below(len as u32 - 1);
        encoding.bytes.truncate(kept as usize);
        registers.eip = CODE_BASE + PAGE - kept;
    }
}

/// The value of a general register of any size, or a segment's base (0).
pub(crate) fn register_value(registers: &Registers, register: Register) -> u64 {
    if !register.is_gpr() {
        return 0;
    }
    let value = registers.gpr[register.full_register32().number()];
    u64::from(match register.size() {
        1 if register >= Register::AH && register <= Register::BH => (value >> 8) & 0xFF,
        1 => value & 0xFF,
        2 => value & 0xFFFF,
        _ => value,
    })
}

/// Sets the part of a general register that `register` names.
pub(crate) fn set_register(registers: &mut Registers, register: Register, value: u32) {
    let slot = &mut registers.gpr[register.full_register32().number()];
    *slot = match register.size() {
        1 if register >= Register::AH && register <= Register::BH => {
            (*slot & !0xFF00) | ((value & 0xFF) << 8)
        }
        1 => (*slot & !0xFF) | (value & 0xFF),
        2 => (*slot & !0xFFFF) | (value & 0xFFFF),
        _ => value,
    };
}

/// Whether any operand of the instruction is in memory by ModR/M or moffs.
pub(crate) fn has_memory_operand(instruction: &iced_x86::Instruction) -> bool {
    instruction.op_kinds().any(|kind| kind == OpKind::Memory)
}
