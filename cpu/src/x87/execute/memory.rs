//! Instructions with an operand in memory: the bytes that were read, and the bytes to be written.

use super::super::{
    Fpu,
    arith::Outcome,
    arith::arithmetic,
    bcd,
    compare::{QuietNans, compare},
    control::{C1, Control, INVALID},
    convert::{self, Stored},
    f80::{F80, Operand},
    instruction::{Format, FromMemory},
};
use super::STACK_UNDERFLOW;

/// A value on its way to memory, with what it will do to the unit once the store has succeeded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// The bytes in memory order; the format says how many count.
    pub(crate) bytes: [u8; 10],
    /// An unmasked exception: nothing is stored.
    pub(crate) suppressed: bool,
    raised: u16,
    up: bool,
    pops: u8,
}

impl Fpu {
    /// Executes an instruction whose memory operand has been read; the bytes beyond the format's size do not matter.
    pub(crate) fn with_operand(
        &mut self,
        instruction: FromMemory,
        format: Format,
        bytes: [u8; 10],
    ) {
        let operand = read(format, bytes);
        match instruction {
            FromMemory::Load if matches!(format, Format::Single | Format::Double) => {
                self.load(convert::load(operand))
            }
            FromMemory::Load => self.load(Outcome::exact(operand.value)),
            FromMemory::Arithmetic(operation) => {
                let outcome = if self.is_empty(0) {
                    self.underflow()
                } else {
                    arithmetic(operation, self.operand(0), operand, self.control)
                };
                self.finish(outcome, 0, 0);
            }
            FromMemory::Compare { pops } => {
                let compared = if self.is_empty(0) {
                    None
                } else {
                    Some(compare(self.operand(0), operand, QuietNans::Invalid))
                };
                self.finish_compare(compared, pops);
            }
        }
    }

    /// Computes what a store writes, without changing anything: the write may fault.
    pub(crate) fn to_memory(&self, format: Format, pops: u8) -> Pending {
        let empty = self.is_empty(0);
        let value = if empty { F80::INDEFINITE } else { self.st(0) };
        let mut pending = convert_for(format, value, self.control, pops);
        if empty {
            pending.raised = STACK_UNDERFLOW;
            pending.suppressed = self.control.unmasked(INVALID) != 0;
        }
        pending
    }

    /// The store has happened, or was suppressed: records its exceptions and pops.
    pub(crate) fn finish_store(&mut self, pending: &Pending) {
        self.signal(pending.raised, if pending.up { C1 } else { 0 });
        if !pending.suppressed {
            self.pop(pending.pops);
        }
    }
}

fn read(format: Format, bytes: [u8; 10]) -> Operand {
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    match format {
        Format::Single => convert::from_single(u32::from_le_bytes([a, b, c, d])),
        Format::Double => convert::from_double(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
        Format::Extended => F80::from_bytes(bytes).into(),
        Format::Word => convert::from_integer(i16::from_le_bytes([a, b]).into()),
        Format::Dword => convert::from_integer(i32::from_le_bytes([a, b, c, d]).into()),
        Format::Qword => convert::from_integer(i64::from_le_bytes([a, b, c, d, e, f, g, h])),
        Format::Decimal => bcd::load(bytes).into(),
    }
}

fn convert_for(format: Format, value: F80, control: Control, pops: u8) -> Pending {
    match format {
        Format::Single => pending(convert::to_single(value, control), u32::to_le_bytes, pops),
        Format::Double => pending(convert::to_double(value, control), u64::to_le_bytes, pops),
        Format::Word => pending(
            convert::to_signed(value, 16, control),
            i64::to_le_bytes,
            pops,
        ),
        Format::Dword => pending(
            convert::to_signed(value, 32, control),
            i64::to_le_bytes,
            pops,
        ),
        Format::Qword => pending(
            convert::to_signed(value, 64, control),
            i64::to_le_bytes,
            pops,
        ),
        Format::Decimal => pending(bcd::store(value, control), |bytes| bytes, pops),
        Format::Extended => Pending {
            bytes: value.to_bytes(),
            suppressed: false,
            raised: 0,
            up: false,
            pops,
        },
    }
}

fn pending<T, const N: usize>(stored: Stored<T>, to_bytes: fn(T) -> [u8; N], pops: u8) -> Pending {
    let mut bytes = [0; 10];
    bytes[..N].copy_from_slice(&to_bytes(stored.bits));
    Pending {
        bytes,
        suppressed: stored.suppressed,
        raised: stored.raised,
        up: stored.up,
        pops,
    }
}
