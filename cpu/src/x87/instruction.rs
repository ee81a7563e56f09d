//! The instruction map of the escape opcodes D8 to DF (SDM volume 2, appendix A.5).

mod decode;

pub(crate) use decode::decode;

use super::{arith::Arithmetic, compare::QuietNans, f80::F80, remainder::Quotient};

/// A memory operand's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Single,
    Double,
    Extended,
    Word,
    Dword,
    Qword,
    Decimal,
}

impl Format {
    /// Bytes in memory.
    pub(crate) const fn size(self) -> usize {
        match self {
            Format::Word => 2,
            Format::Single | Format::Dword => 4,
            Format::Double | Format::Qword => 8,
            Format::Extended | Format::Decimal => 10,
        }
    }
}

/// What is done with an operand from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FromMemory {
    Load,
    Arithmetic(Arithmetic),
    Compare { pops: u8 },
}

/// The constants of FLD1 and its relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Constant {
    One,
    Log2Of10,
    Log2OfE,
    Pi,
    Log10Of2,
    LnOf2,
    Zero,
}

/// Instructions that work on registers and need nothing from outside the unit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Register {
    Arithmetic {
        operation: Arithmetic,
        destination: u8,
        source: u8,
        pops: u8,
    },
    Compare {
        source: u8,
        quiet: QuietNans,
        pops: u8,
    },
    Load {
        source: u8,
    },
    Constant(Constant),
    Store {
        destination: u8,
        pops: u8,
    },
    /// D9 D8 to D9 DF: FSTP that does not check ST(0).
    StoreUnchecked {
        destination: u8,
    },
    Exchange {
        with: u8,
    },
    Free {
        index: u8,
        pops: u8,
    },
    /// FCHS and FABS.
    Sign(fn(F80) -> F80),
    Test,
    Examine,
    /// FINCSTP (1) and FDECSTP (7).
    Rotate(u8),
    Nop,
    SquareRoot,
    RoundToInteger,
    Exponential,
    Logarithm,
    LogarithmPlusOne,
    Arctangent,
    Scale,
    Remainder(Quotient),
    Extract,
    Sine,
    Cosine,
    SineCosine,
    Tangent,
}

/// The conditions of FCMOVcc, each of which can be negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Below,
    Equal,
    BelowOrEqual,
    Unordered,
}

/// Whether FCMOVcc moves if its condition holds or if it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sense {
    Holds,
    Fails,
}

/// Control instructions: they do not touch the instruction and data pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlOp {
    LoadEnvironment,
    LoadControl,
    StoreEnvironment,
    StoreControl,
    Restore,
    Save,
    StoreStatus,
    StoreStatusAx,
    ClearExceptions,
    Initialise,
    /// FNENI, FNDISI and FNSETPM of older processors do nothing.
    Obsolete,
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Instruction {
    Register(Register),
    FromMemory(FromMemory, Format),
    ToMemory {
        format: Format,
        pops: u8,
    },
    ConditionalMove {
        condition: Condition,
        sense: Sense,
        source: u8,
    },
    CompareToFlags {
        source: u8,
        quiet: QuietNans,
        pops: u8,
    },
    Control(ControlOp),
}
