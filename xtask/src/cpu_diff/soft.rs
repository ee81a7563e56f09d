//! Our side: the same case on `latefork-cpu`, as ring-3 code under an
//! operating system of a few pages.
//!
//! The page tables show the arena where the host shows it, with the same
//! permissions (PAE, so that data is not executable). Every interrupt vector
//! leads to a HLT in ring 0; what the delivery pushed tells the exception.

mod machine;

use iced_x86::Code;
use latefork_cpu::{CpuModel, Exit, Instructions, PhysAddr, UserRegisters};

use self::machine::{CODE_FRAME, HANDLERS, Machine, STACK_FRAME, STACK_LINEAR};
use super::layout::{CODE_BASE, DATA_BYTES, PAGE};
use super::rng::Rng;
use super::wire::{BLOCK, Case, FX_BYTES, Fault, Outcome, Registers};

/// Where the `jmp` after the instruction leads: no page is there.
const EXIT: u32 = 0x39A7_C5D1;
/// Far more than any REP of the generator needs.
const PATIENCE: u64 = 200_000;
const RF: u32 = 0x1_0000;
const TF: u32 = 0x100;

/// Whether the CPU's allow-list has `code`.
pub(crate) fn is_implemented(code: Code) -> bool {
    latefork_cpu::is_allowed(code, CpuModel::Sse)
}

/// The CPU under test with its memory.
#[derive(Debug)]
pub(crate) struct Soft {
    machine: Machine,
    /// The writable pages as they should be before the next case.
    pristine: Vec<u8>,
    /// Where the last case's code lies in its page.
    placed: (usize, usize),
    rng: Rng,
}

impl Soft {
    /// A machine with an empty arena.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            machine: Machine::new(),
            pristine: vec![0; 2 * PAGE as usize],
            placed: (0, PAGE as usize),
            rng: Rng::new(seed),
        }
    }

    /// Sets the contents of the data pages.
    pub(crate) fn set_arena(&mut self, arena: &[u8]) {
        self.machine.write_arena(0, &arena[..DATA_BYTES]);
        self.pristine.copy_from_slice(&arena[..2 * PAGE as usize]);
    }

    /// Executes one case.
    pub(crate) fn run(&mut self, case: &Case) -> Outcome {
        for (offset, bytes) in &case.patches {
            self.patch(usize::from(*offset), bytes);
        }
        self.place_code(case);
        let template = self.machine.user_registers();
        self.machine.cpu.set_user_registers(&start(template, case));
        // Half of the cases run exactly one instruction; in the other half
        // it is part of a block, and a page fault at EXIT ends the case.
        let one = !case.single_step && self.rng.percent(50);
        let mut outcome = if one && !may_repeat(case) {
            self.run_one(case)
        } else {
            self.run_block(case)
        };
        outcome.blocks = self.collect_blocks();
        outcome
    }

    fn run_one(&mut self, case: &Case) -> Outcome {
        let before = self.machine.cpu.retired();
        let exit = self.machine.run(Instructions(1));
        let registers = self.machine.cpu.user_registers();
        if registers.cpl == 0 {
            return self.fault(case, &registers);
        }
        if registers.eflags & TF != 0 {
            // Set by the instruction itself: the trap comes after the next.
            return self.run_block(case);
        }
        let mut outcome = outcome_of(&registers);
        let retired = self.machine.cpu.retired() - before;
        outcome.hang = exit != Exit::Budget || retired != 1;
        outcome
    }

    fn run_block(&mut self, case: &Case) -> Outcome {
        let exit = self.machine.run(Instructions(PATIENCE));
        let registers = self.machine.cpu.user_registers();
        if exit == Exit::Halted && registers.cpl == 0 {
            return self.fault(case, &registers);
        }
        let mut outcome = outcome_of(&registers);
        outcome.hang = true;
        outcome
    }

    /// The CPU halts in a handler: what was pushed is the state.
    fn fault(&self, case: &Case, registers: &UserRegisters) -> Outcome {
        let vector = registers.eip.wrapping_sub(HANDLERS) / 8;
        let has_error = matches!(vector, 8 | 10..=14 | 17);
        let esp = registers.gpr[4];
        let word = |index: u32| self.stack_word(esp.wrapping_add(4 * index));
        let skip = u32::from(has_error);
        let mut outcome = outcome_of(registers);
        let r = &mut outcome.registers;
        r.eip = word(skip);
        r.segments[1] = word(skip + 1) as u16;
        r.eflags = word(skip + 2);
        r.gpr[4] = word(skip + 3);
        r.segments[2] = word(skip + 4) as u16;
        let cr2 = if vector == 14 { registers.cr2 } else { 0 };
        let left = r.eip == EXIT;
        if left {
            r.eip = case.registers.eip + case.code.len() as u32;
            r.eflags &= !RF;
        }
        if !(left && vector == 14 && cr2 == EXIT) {
            outcome.fault = Some(Fault {
                vector,
                error: if has_error { word(0) } else { 0 },
                cr2,
            });
        }
        outcome
    }

    fn stack_word(&self, linear: u32) -> u32 {
        let offset = linear.wrapping_sub(STACK_LINEAR);
        if offset > PAGE - 4 {
            return 0;
        }
        self.machine
            .read_u32((STACK_FRAME * PAGE + offset) as usize)
    }

    fn patch(&mut self, offset: usize, bytes: &[u8]) {
        self.machine.write_arena(offset, bytes);
        let writable = 2 * PAGE as usize;
        for (at, &byte) in (offset..writable).zip(bytes) {
            self.pristine[at] = byte;
        }
    }

    fn place_code(&mut self, case: &Case) {
        let at = (case.registers.eip - CODE_BASE) as usize;
        let mut bytes = case.code.clone();
        if at + bytes.len() + 5 <= PAGE as usize {
            let end = case.registers.eip + bytes.len() as u32 + 5;
            bytes.push(0xE9);
            bytes.extend(EXIT.wrapping_sub(end).to_le_bytes());
        }
        let (old, len) = self.placed;
        let page = (CODE_FRAME * PAGE) as usize;
        self.machine
            .write(page + old, &[0xCC; PAGE as usize][..len]);
        self.machine.write(page + at, &bytes);
        self.note(page + old, len);
        self.note(page + at, bytes.len());
        self.placed = (at, bytes.len());
    }

    fn note(&mut self, at: usize, len: usize) {
        let len = u32::try_from(len).expect("within a page");
        self.machine.note_host_write(PhysAddr(at as u64), len);
    }

    /// Every block of the writable pages that changed; it is mended.
    fn collect_blocks(&mut self) -> Vec<(u32, [u8; BLOCK])> {
        let mut changed = Vec::new();
        for (index, before) in (0u32..).zip(self.pristine.chunks_exact(BLOCK)) {
            let offset = index as usize * BLOCK;
            let now: [u8; BLOCK] = self.machine.read_arena(offset);
            if now != before {
                changed.push((index, now));
                self.machine.write_arena(offset, before);
            }
        }
        changed
    }
}

/// Where TF after one instruction would end the case in another way, and REP.
fn may_repeat(case: &Case) -> bool {
    case.code.iter().any(|byte| matches!(byte, 0xF2 | 0xF3))
}

fn start(template: UserRegisters, case: &Case) -> UserRegisters {
    let r = &case.registers;
    let mut segments = template.segments;
    for number in [0, 3, 4, 5] {
        segments[number] = if r.segments[number] & !3 == 0 {
            latefork_cpu::segment::Segment::null(r.segments[number])
        } else {
            machine::user_data()
        };
    }
    segments[1] = machine::user_code();
    segments[2] = machine::user_data();
    let mut registers = UserRegisters {
        gpr: r.gpr,
        eip: r.eip,
        eflags: r.eflags,
        cpl: 3,
        segments,
        ..template
    };
    machine::load_fx(&mut registers, &case.fx);
    registers
}

fn outcome_of(registers: &UserRegisters) -> Outcome {
    let fx: [u8; FX_BYTES] = machine::store_fx(registers);
    Outcome {
        registers: Registers {
            gpr: registers.gpr,
            eip: registers.eip,
            eflags: registers.eflags,
            segments: registers.segments.map(|segment| segment.selector),
        },
        fault: None,
        hang: false,
        fx: Some(fx),
        blocks: Vec::new(),
    }
}
