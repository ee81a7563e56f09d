//! Compares two outcomes of one case.
//!
//! Whatever differs must be covered by an explanation: a predicate over the
//! instruction, its operands and the masked bits. Nothing is explained by how
//! often it happens.

use iced_x86::{Instruction, Mnemonic};

use super::encode::Encoding;
use super::generate;
use super::soft;
use super::sse;
use super::undefined;
use super::wire::{Case, Outcome};
use super::x87;

/// What a comparison found.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Everything is equal.
    Same,
    /// The differences are covered by these explanations.
    Explained(Vec<&'static str>),
    /// Something differs without an explanation.
    Different,
}

/// What was executed, and from which state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The start state.
    pub(crate) case: &'a Case,
    /// The instruction; invalid if our decoder knows none.
    pub(crate) instruction: &'a Instruction,
}

/// Makes the host's outcome and ours agree where the manual or the CPU
/// model's documentation allows a difference.
struct Explanation {
    name: &'static str,
    applies: fn(Context<'_>, &Outcome, &Outcome) -> bool,
    mask: fn(Context<'_>, &mut Outcome, &mut Outcome),
}

/// EFLAGS.AC.
const ALIGNMENT_CHECK: u32 = 1 << 18;

const UNDEFINED_FLAGS: &str = "flags that the manual leaves undefined";
const X87_POINTERS: &str = "the host saves the x87 opcode and operand pointer only at unmasked \
                            exceptions, the model always";

/// Whether nothing differs but what every processor may do in its own way.
pub(crate) fn is_portable(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Same => true,
        Verdict::Explained(names) => names
            .iter()
            .all(|&name| name == UNDEFINED_FLAGS || name == X87_POINTERS),
        Verdict::Different => false,
    }
}

const EXPLANATIONS: &[Explanation] = &[
    Explanation {
        name: UNDEFINED_FLAGS,
        applies: |context, host, ours| {
            no_fault(host, ours)
                && undefined::flags(context.instruction, &context.case.registers) != 0
        },
        mask: |context, host, ours| {
            let undefined = undefined::flags(context.instruction, &context.case.registers);
            host.registers.eflags &= !undefined;
            ours.registers.eflags &= !undefined;
        },
    },
    Explanation {
        name: "SHLD/SHRD by more than the operand's size: the result is undefined",
        applies: |context, host, ours| {
            no_fault(host, ours)
                && undefined::is_double_shift_too_far(context.instruction, &context.case.registers)
        },
        mask: |context, host, ours| mask_destination(context.instruction, host, ours),
    },
    Explanation {
        name: "CPUID shows the model, RDTSC counts retired instructions",
        applies: |context, host, ours| {
            no_fault(host, ours)
                && matches!(
                    context.instruction.mnemonic(),
                    Mnemonic::Cpuid | Mnemonic::Rdtsc
                )
        },
        mask: |_, host, ours| host.registers.gpr[..4].copy_from_slice(&ours.registers.gpr[..4]),
    },
    Explanation {
        name: "LAR leaves bits 16 to 19 of its result undefined",
        applies: |context, host, ours| {
            no_fault(host, ours) && context.instruction.mnemonic() == Mnemonic::Lar
        },
        mask: |context, host, ours| {
            let number = context
                .instruction
                .op0_register()
                .full_register32()
                .number();
            for outcome in [host, ours] {
                outcome.registers.gpr[number] &= !0xF_0000;
            }
        },
    },
    Explanation {
        name: "F3 0F BC and F3 0F BD are TZCNT and LZCNT on the host, BSF and BSR in the model",
        applies: |context, host, ours| {
            no_fault(host, ours)
                && matches!(
                    context.instruction.mnemonic(),
                    Mnemonic::Bsf | Mnemonic::Bsr
                )
                && context.has_prefix(0xF3)
        },
        mask: |context, host, ours| {
            host.registers.eflags = ours.registers.eflags;
            mask_destination(context.instruction, host, ours);
        },
    },
    Explanation {
        name: "each iteration of REP CMPS and REP SCAS is an instruction of the model: a fault \
               finds the flags of the last one, not those before the first",
        applies: |context, host, ours| {
            use Mnemonic as M;
            both_fault_alike(host, ours)
                && matches!(
                    context.instruction.mnemonic(),
                    M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Scasb | M::Scasw | M::Scasd
                )
                && (context.has_prefix(0xF2) || context.has_prefix(0xF3))
        },
        mask: |_, host, ours| {
            for outcome in [host, ours] {
                outcome.registers.eflags &= !undefined::STATUS;
            }
        },
    },
    Explanation {
        name: "which byte of a large x87 image a page fault names is not architectural",
        applies: |context, host, ours| {
            let inside = |outcome: &Outcome| {
                outcome.fault.is_some_and(|fault| {
                    let distance = fault.cr2.wrapping_sub(context.operand_address());
                    fault.vector == 14 && distance < context.operand_size()
                })
            };
            is_x87_image(context.instruction) && inside(host) && inside(ours)
        },
        mask: |_, host, ours| {
            if let (Some(host), Some(ours)) = (&mut host.fault, &ours.fault) {
                host.cr2 = ours.cr2;
                // The image may lie on two pages: one absent, one read-only.
                host.error = host.error & !1 | ours.error & 1;
            }
        },
    },
    Explanation {
        name: "a large x87 image with a 16-bit address does not wrap at 64 KiB in the model",
        applies: |context, _, _| {
            let offset = context.operand_address();
            is_x87_image(context.instruction)
                && context.has_prefix(0x67)
                && offset < 0x1_0000
                && offset + context.operand_size() > 0x1_0000
        },
        mask: |_, host, ours| *host = ours.clone(),
    },
    Explanation {
        name: "an interrupt on the host: its IRET clears the RPL of null selectors",
        applies: |_, host, ours| {
            let pairs = || host.registers.segments.iter().zip(ours.registers.segments);
            pairs().all(|(&host, ours)| host == ours || host == 0 && ours < 4)
        },
        mask: |_, host, ours| host.registers.segments = ours.registers.segments,
    },
    Explanation {
        name: "POPA loads no register in the model if any of its reads faults",
        applies: |context, host, ours| {
            both_fault_alike(host, ours)
                && matches!(
                    context.instruction.mnemonic(),
                    Mnemonic::Popa | Mnemonic::Popad
                )
        },
        mask: |_, host, ours| {
            let esp = host.registers.gpr[4];
            host.registers.gpr = ours.registers.gpr;
            host.registers.gpr[4] = esp;
        },
    },
    Explanation {
        name: "the host has an instruction here that the model has not (#UD)",
        applies: |context, _, ours| {
            let code = context.instruction.code();
            let absent = context.instruction.is_invalid() || !soft::is_implemented(code);
            // A longer reading of absent opcodes may fetch from the next page.
            absent
                && ours
                    .fault
                    .is_some_and(|fault| fault.vector == 6 || fault.error & 0x10 != 0)
        },
        mask: |_, host, ours| *host = ours.clone(),
    },
    Explanation {
        name: "FXSAVE and FXRSTOR of a misaligned area with alignment checks on: whether #AC or \
               #GP is signaled varies with the implementation",
        applies: |context, host, ours| {
            let alignment_faults = |outcome: &Outcome| {
                outcome
                    .fault
                    .is_some_and(|fault| fault.error == 0 && matches!(fault.vector, 13 | 17))
            };
            matches!(
                context.instruction.mnemonic(),
                Mnemonic::Fxsave | Mnemonic::Fxrstor
            ) && context.case.registers.eflags & ALIGNMENT_CHECK != 0
                && !context.operand_address().is_multiple_of(16)
                && alignment_faults(host)
                && alignment_faults(ours)
        },
        mask: |_, host, ours| host.fault = ours.fault,
    },
    Explanation {
        name: "RCPPS, RCPSS, RSQRTPS, RSQRTSS: any result within 1.5 * 2^-12 is right",
        applies: |context, host, ours| {
            no_fault(host, ours) && sse::is_approximate(context.instruction, host, ours)
        },
        mask: |context, host, ours| sse::mask_destination(context.instruction, host, ours),
    },
    Explanation {
        name: X87_POINTERS,
        applies: |context, host, ours| {
            // A signal or a task switch in between resets them, too.
            let _ = (host, ours);
            generate::touches_fx(context.instruction)
        },
        mask: |_, host, ours| x87::mask_pointers(host, ours),
    },
    Explanation {
        name: "x87 transcendental functions have double precision here",
        applies: |context, host, ours| no_fault(host, ours) && x87::is_near(context, host, ours),
        mask: |_, host, ours| x87::mask_transcendental(host, ours),
    },
];

/// Compares the host's outcome with ours.
pub(crate) fn compare(case: &Case, encoding: &Encoding, host: &Outcome, ours: &Outcome) -> Verdict {
    let (mut host, mut ours) = (host.clone(), ours.clone());
    normalize(case, &mut host);
    normalize(case, &mut ours);
    if host == ours {
        return Verdict::Same;
    }
    let context = Context {
        case,
        instruction: &encoding.instruction,
    };
    let mut used = Vec::new();
    for explanation in EXPLANATIONS {
        if (explanation.applies)(context, &host, &ours) {
            let before = (host.clone(), ours.clone());
            (explanation.mask)(context, &mut host, &mut ours);
            if before == (host.clone(), ours.clone()) {
                continue;
            }
            used.push(explanation.name);
            if host == ours {
                return Verdict::Explained(used);
            }
        }
    }
    Verdict::Different
}

fn is_x87_image(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        instruction.mnemonic(),
        M::Fldenv | M::Fnstenv | M::Frstor | M::Fnsave | M::Fxsave | M::Fxrstor
    )
}

impl Context<'_> {
    /// Where the memory operand lies (segments are flat).
    fn operand_address(&self) -> u32 {
        let registers = &self.case.registers;
        let address = self.instruction.virtual_address(0, 0, |register, _, _| {
            Some(generate::register_value(registers, register))
        });
        address.unwrap_or(0) as u32
    }

    fn operand_size(&self) -> u32 {
        self.instruction.memory_size().size() as u32
    }

    /// Whether a prefix byte stands before the opcode.
    fn has_prefix(&self, prefix: u8) -> bool {
        let is_prefix = |byte: &&u8| {
            matches!(
                byte,
                0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3
            )
        };
        self.case
            .code
            .iter()
            .take_while(is_prefix)
            .any(|&byte| byte == prefix)
    }
}

fn both_fault_alike(host: &Outcome, ours: &Outcome) -> bool {
    host.fault.is_some() && host.fault == ours.fault
}

fn no_fault(host: &Outcome, ours: &Outcome) -> bool {
    let trap = |outcome: &Outcome| outcome.fault.is_none_or(|fault| fault.vector == 1);
    trap(host) && trap(ours)
}

/// What the harness itself brings in, on either side.
fn normalize(case: &Case, outcome: &mut Outcome) {
    if case.single_step {
        // `sigreturn` resets x87 and SSE; no such instruction is stepped.
        outcome.fx = None;
    }
    if let Some(fx) = &mut outcome.fx {
        x87::normalize(fx);
    }
}

/// Takes our destination operand on both sides.
fn mask_destination(instruction: &Instruction, host: &mut Outcome, ours: &Outcome) {
    if instruction.op0_register().is_gpr() {
        let number = instruction.op0_register().full_register32().number();
        host.registers.gpr[number] = ours.registers.gpr[number];
    } else {
        host.blocks.clone_from(&ours.blocks);
    }
}

/// Names the parts that differ, with both values.
pub(crate) fn describe(case: &Case, host: &Outcome, ours: &Outcome) -> Vec<String> {
    let (mut host, mut ours) = (host.clone(), ours.clone());
    normalize(case, &mut host);
    normalize(case, &mut ours);
    let mut lines = Vec::new();
    let mut line = |name: &str, host: String, ours: String| {
        if host != ours {
            lines.push(format!("{name}: host {host}, ours {ours}"));
        }
    };
    line("fault", fault(&host), fault(&ours));
    let names = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
    for (i, name) in names.iter().enumerate() {
        line(
            name,
            format!("{:#x}", host.registers.gpr[i]),
            format!("{:#x}", ours.registers.gpr[i]),
        );
    }
    let hex = |value: u32| format!("{value:#x}");
    line("eip", hex(host.registers.eip), hex(ours.registers.eip));
    line(
        "eflags",
        hex(host.registers.eflags),
        hex(ours.registers.eflags),
    );
    line(
        "segments (es cs ss ds fs gs)",
        format!("{:x?}", host.registers.segments),
        format!("{:x?}", ours.registers.segments),
    );
    line("hang", host.hang.to_string(), ours.hang.to_string());
    if let (Some(host), Some(ours)) = (&host.fx, &ours.fx) {
        for (name, range) in x87::fields() {
            line(
                &name,
                x87::hex(&host[range.clone()]),
                x87::hex(&ours[range]),
            );
        }
    }
    if host.blocks != ours.blocks {
        lines.extend(describe_memory(&host, &ours));
    }
    lines
}

fn fault(outcome: &Outcome) -> String {
    match outcome.fault {
        None => "none".to_owned(),
        Some(fault) => format!(
            "vector {} error {:#x} cr2 {:#x}",
            fault.vector, fault.error, fault.cr2
        ),
    }
}

fn describe_memory(host: &Outcome, ours: &Outcome) -> Vec<String> {
    let list = |outcome: &Outcome| {
        outcome
            .blocks
            .iter()
            .map(|(index, bytes)| format!("{:#x}:{}", index * 64, x87::hex(bytes)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    vec![
        format!("memory, host: {}", list(host)),
        format!("memory, ours: {}", list(ours)),
    ]
}
