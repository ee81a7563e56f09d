//! Execution on the register stack: stack faults, results, pops and the status word.

mod memory;

use super::{
    Fpu,
    arith::{Arithmetic, Outcome, arithmetic, square_root},
    compare::{Compared, EXAMINED_EMPTY, QuietNans, compare, examine},
    control::{C0, C1, C2, C3, CONDITION_CODES, Control, INVALID, STACK_FAULT},
    convert,
    f80::{F80, Operand},
    instruction::{Constant, Register},
    remainder::{extract, remainder, scale},
    transcendental::{
        Trigonometric, arctangent, exponential, logarithm, logarithm_plus_one, trigonometric,
    },
};
use crate::float::round::Rounding;

const STACK_UNDERFLOW: u16 = INVALID | STACK_FAULT;

impl Fpu {
    fn operand(&self, index: u8) -> Operand {
        self.st(index).into()
    }

    fn underflow(&self) -> Outcome {
        Outcome {
            value: F80::INDEFINITE,
            raised: STACK_UNDERFLOW,
            up: false,
        }
    }

    /// Records an outcome, and unless it is suppressed writes ST(`destination`) and pops.
    fn finish(&mut self, outcome: Outcome, destination: u8, pops: u8) {
        self.signal(outcome.raised, if outcome.up { C1 } else { 0 });
        if !outcome.suppressed(self.control) {
            self.write(destination, outcome.value);
            self.pop(pops);
        }
    }

    /// Executes an instruction without a memory operand. FCOMI and its relatives answer with ZF, PF and CF as condition codes C3, C2 and C0.
    pub(crate) fn register(&mut self, instruction: Register) {
        match instruction {
            Register::Arithmetic {
                operation,
                destination,
                source,
                pops,
            } => self.arithmetic(operation, destination, source, pops),
            Register::Compare {
                source,
                quiet,
                pops,
            } => {
                let compared = self.compared(source, quiet);
                self.finish_compare(compared, pops);
            }
            Register::Load { source } => self.load_register(source),
            Register::Constant(constant) => self.load(Outcome::exact(self.constant(constant))),
            Register::Store { destination, pops } => self.copy(destination, pops),
            Register::StoreUnchecked { destination } => {
                self.status &= !C1;
                if !self.is_empty(0) {
                    let value = self.st(0);
                    self.write(destination, value);
                }
                self.pop(1);
            }
            Register::Exchange { with } => self.exchange(with),
            Register::Free { index, pops } => {
                self.status &= !C1;
                self.empty |= 1 << self.physical(index);
                self.pop(pops);
            }
            Register::Sign(sign) => self.sign(sign),
            Register::Test => {
                let compared = if self.is_empty(0) {
                    None
                } else {
                    Some(compare(
                        self.operand(0),
                        F80::zero(false).into(),
                        QuietNans::Invalid,
                    ))
                };
                self.finish_compare(compared, 0);
            }
            Register::Examine => self.examine(),
            Register::Rotate(step) => {
                self.status &= !C1;
                self.top = (self.top + step) & 7;
            }
            Register::Nop => {}
            Register::SquareRoot => self.unary(square_root),
            Register::RoundToInteger => self.unary(convert::round_to_integer),
            Register::Exponential => self.unary(exponential),
            Register::Logarithm => self.binary(logarithm, 1, 1),
            Register::LogarithmPlusOne => self.binary(logarithm_plus_one, 1, 1),
            Register::Arctangent => self.binary(arctangent, 1, 1),
            Register::Scale => self.binary(scale, 0, 0),
            Register::Remainder(quotient) => self.remainder(quotient),
            Register::Extract => self.extract(),
            Register::Sine => self.trigonometric(Trigonometric::Sine, None),
            Register::Cosine => self.trigonometric(Trigonometric::Cosine, None),
            Register::SineCosine => {
                self.trigonometric(Trigonometric::Sine, Some(Trigonometric::Cosine))
            }
            Register::Tangent => {
                self.trigonometric(Trigonometric::Tangent, Some(Trigonometric::Tangent))
            }
        }
    }

    fn arithmetic(&mut self, operation: Arithmetic, destination: u8, source: u8, pops: u8) {
        let outcome = if self.is_empty(destination) || self.is_empty(source) {
            self.underflow()
        } else {
            arithmetic(
                operation,
                self.operand(destination),
                self.operand(source),
                self.control,
            )
        };
        self.finish(outcome, destination, pops);
    }

    fn unary(&mut self, function: fn(Operand, Control) -> Outcome) {
        let outcome = if self.is_empty(0) {
            self.underflow()
        } else {
            function(self.operand(0), self.control)
        };
        self.finish(outcome, 0, 0);
    }

    fn binary(
        &mut self,
        function: fn(Operand, Operand, Control) -> Outcome,
        destination: u8,
        pops: u8,
    ) {
        let outcome = if self.is_empty(0) || self.is_empty(1) {
            self.underflow()
        } else {
            function(self.operand(0), self.operand(1), self.control)
        };
        self.finish(outcome, destination, pops);
    }

    /// Pushes, with the stack overflow check.
    ///
    /// An unmasked denormal operand does not keep the value from being loaded.
    fn load(&mut self, outcome: Outcome) {
        if !self.is_empty(7) && outcome.raised & STACK_FAULT == 0 {
            self.signal(STACK_UNDERFLOW, C1);
            if self.control.unmasked(INVALID) == 0 {
                self.push(F80::INDEFINITE);
            }
            return;
        }
        self.signal(outcome.raised, 0);
        if self.control.unmasked(outcome.raised & INVALID) == 0 {
            self.push(outcome.value);
        }
    }

    fn load_register(&mut self, source: u8) {
        let outcome = if self.is_empty(source) {
            self.underflow()
        } else {
            Outcome::exact(self.st(source))
        };
        self.load(outcome);
    }

    /// The constants are rounded by the rounding control, never by the precision control.
    fn constant(&self, constant: Constant) -> F80 {
        let rounding = self.control.rounding();
        let (exponent, below, nearest_is_below) = match constant {
            Constant::Zero => return F80::zero(false),
            Constant::One => return F80::ONE,
            Constant::Log2Of10 => (1, 0xD49A_784B_CD1B_8AFE, true),
            Constant::Log2OfE => (0, 0xB8AA_3B29_5C17_F0BB, false),
            Constant::Pi => (1, 0xC90F_DAA2_2168_C234, false),
            Constant::Log10Of2 => (-2, 0x9A20_9A84_FBCF_F798, false),
            Constant::LnOf2 => (-1, 0xB172_17F7_D1CF_79AB, false),
        };
        let up = match rounding {
            Rounding::NearestEven => !nearest_is_below,
            Rounding::Up => true,
            Rounding::Down | Rounding::TowardZero => false,
        };
        F80::encode(false, exponent, below + u64::from(up))
    }

    fn copy(&mut self, destination: u8, pops: u8) {
        let outcome = if self.is_empty(0) {
            self.underflow()
        } else {
            Outcome::exact(self.st(0))
        };
        self.finish(outcome, destination, pops);
    }

    fn exchange(&mut self, with: u8) {
        let fault = self.is_empty(0) || self.is_empty(with);
        self.signal(if fault { STACK_UNDERFLOW } else { 0 }, 0);
        if fault && self.control.unmasked(INVALID) != 0 {
            return;
        }
        let value = |fpu: &Fpu, index| {
            if fpu.is_empty(index) {
                F80::INDEFINITE
            } else {
                fpu.st(index)
            }
        };
        let (a, b) = (value(self, 0), value(self, with));
        self.write(0, b);
        self.write(with, a);
    }

    fn sign(&mut self, sign: fn(F80) -> F80) {
        let outcome = if self.is_empty(0) {
            self.underflow()
        } else {
            Outcome::exact(sign(self.st(0)))
        };
        self.finish(outcome, 0, 0);
    }

    fn compared(&self, source: u8, quiet: QuietNans) -> Option<Compared> {
        let fault = self.is_empty(0) || self.is_empty(source);
        (!fault).then(|| compare(self.operand(0), self.operand(source), quiet))
    }

    /// Sets C3, C2 and C0; `None` is a stack underflow.
    fn finish_compare(&mut self, compared: Option<Compared>, pops: u8) {
        let raised = compared.map_or(STACK_UNDERFLOW, |compared| compared.raised);
        self.signal(raised, 0);
        let codes = compared.unwrap_or(Compared::INVALID).condition_codes();
        self.status = self.status & !(C0 | C2 | C3) | codes;
        if self.control.unmasked(raised) == 0 {
            self.pop(pops);
        }
    }

    /// FCOMI and FUCOMI: ZF, PF and CF as C3, C2 and C0. An unmasked exception keeps them from popping, not from writing EFLAGS.
    pub(crate) fn compare_to_flags(&mut self, source: u8, quiet: QuietNans, pops: u8) -> u16 {
        let compared = self.compared(source, quiet);
        let raised = compared.map_or(STACK_UNDERFLOW, |compared| compared.raised);
        self.signal(raised, self.kept_c1(raised));
        if self.control.unmasked(raised) == 0 {
            self.pop(pops);
        }
        compared.unwrap_or(Compared::INVALID).condition_codes()
    }

    /// FCMOVcc and FCOMI leave C1 alone unless there is a stack fault.
    fn kept_c1(&self, raised: u16) -> u16 {
        if raised & STACK_FAULT != 0 {
            0
        } else {
            self.status & C1
        }
    }

    /// FCMOVcc with the condition decided by the caller.
    pub(crate) fn conditional_move(&mut self, source: u8, taken: Taken) {
        if self.is_empty(0) || self.is_empty(source) {
            let outcome = self.underflow();
            self.finish(outcome, 0, 0);
            return;
        }
        if taken == Taken::Yes {
            let value = self.st(source);
            self.write(0, value);
        }
    }

    fn examine(&mut self) {
        let operand = self.operand(0);
        let codes = if self.is_empty(0) {
            EXAMINED_EMPTY | examine(operand) & C1
        } else {
            examine(operand)
        };
        self.status = self.status & !CONDITION_CODES | codes;
    }

    fn remainder(&mut self, quotient: super::remainder::Quotient) {
        self.status &= !C2;
        if self.is_empty(0) || self.is_empty(1) {
            let outcome = self.underflow();
            self.finish(outcome, 0, 0);
            return;
        }
        let result = remainder(quotient, self.operand(0), self.operand(1), self.control);
        self.finish(result.outcome, 0, 0);
        if let Some(codes) = result.codes
            && !result.outcome.suppressed(self.control)
        {
            self.status = self.status & !CONDITION_CODES | codes;
        }
    }

    /// Writes ST(0) and pushes a second result, after both the underflow and the overflow check.
    fn finish_two(&mut self, first: Outcome, second: F80) {
        if !self.is_empty(7) && first.raised & STACK_FAULT == 0 {
            self.signal(STACK_UNDERFLOW, C1);
            if self.control.unmasked(INVALID) == 0 {
                self.write(0, F80::INDEFINITE);
                self.push(F80::INDEFINITE);
            }
            return;
        }
        self.signal(first.raised, if first.up { C1 } else { 0 });
        if !first.suppressed(self.control) {
            self.write(0, first.value);
            self.push(second);
        }
    }

    fn extract(&mut self) {
        let (first, second) = if self.is_empty(0) {
            (self.underflow(), F80::INDEFINITE)
        } else {
            extract(self.operand(0), self.control)
        };
        self.finish_two(first, second);
    }

    /// FSIN, FCOS, and with a second result FSINCOS and FPTAN.
    fn trigonometric(&mut self, function: Trigonometric, second: Option<Trigonometric>) {
        self.status &= !C2;
        if self.is_empty(0) {
            let outcome = self.underflow();
            return match second {
                None => self.finish(outcome, 0, 0),
                Some(_) => self.finish_two(outcome, F80::INDEFINITE),
            };
        }
        let operand = self.operand(0);
        if second.is_some() && !self.is_empty(7) {
            return self.finish_two(Outcome::invalid(), F80::INDEFINITE);
        }
        let Some(first) = trigonometric(function, operand, self.control) else {
            self.signal(0, 0);
            self.status |= C2;
            return;
        };
        match second {
            None => self.finish(first, 0, 0),
            // FPTAN pushes 1.0 unless the operand made the tangent a NaN.
            Some(Trigonometric::Tangent) => {
                let special = Operand::from(first.value).is_nan();
                self.finish_two(first, if special { first.value } else { F80::ONE });
            }
            Some(second) => {
                let second = trigonometric(second, operand, self.control)
                    .map_or(F80::INDEFINITE, |second| second.value);
                self.finish_two(first, second);
            }
        }
    }
}

/// Whether the condition of an FCMOVcc holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    No,
}
