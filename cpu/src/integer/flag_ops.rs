//! Single flags, LAHF and SAHF, decimal adjustment, BOUND, SALC.

use iced_x86::{Instruction, Mnemonic};

use super::operand::by_wide_size;
use crate::exception::Exception;
use crate::flags::{AF, ARITHMETIC, CF, DF, LazyFlags, OF};
use crate::lower::{Context, Lowered};
use crate::memory::{Memory, Word};
use crate::op::{Flow, Handler, Op};
use crate::state::{Core, Raised};

fn clc(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    core.flags.set_cf(false);
    Flow::Next
}

fn stc(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    core.flags.set_cf(true);
    Flow::Next
}

fn cmc(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    core.flags.set_cf(!core.flags.cf());
    Flow::Next
}

fn cld(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    core.system_flags &= !DF;
    Flow::Next
}

fn std(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    core.system_flags |= DF;
    Flow::Next
}

fn lahf(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let low = core.flags.bits() & !OF | crate::flags::FIXED_ONE;
    core.set_reg::<u8>(4, low);
    Flow::Next
}

fn sahf(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let ah = core.reg::<u8>(4);
    core.flags.replace(ARITHMETIC & !OF, ah);
    Flow::Next
}

/// SALC: AL is all ones with carry, else zero. Not documented, but present.
fn salc(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let value = if core.flags.cf() { 0xff } else { 0 };
    core.set_reg::<u8>(0, value);
    Flow::Next
}

/// Sets AL, then SF, ZF and PF by it, CF and AF as given; OF is undefined and
/// cleared.
fn set_adjusted(core: &mut Core, al: u32, carry: bool, auxiliary: bool) {
    core.set_reg::<u8>(0, al);
    core.flags.set_logic::<u8>(al);
    let mut bits = core.flags.bits() & !(CF | AF | OF);
    if carry {
        bits |= CF;
    }
    if auxiliary {
        bits |= AF;
    }
    core.flags = LazyFlags::from_bits(bits);
}

fn daa(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let (old, carry) = (core.reg::<u8>(0), core.flags.cf());
    let low = old & 0xf > 9 || core.flags.af();
    let high = old > 0x99 || carry;
    let al = old + if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    set_adjusted(core, al & 0xff, high, low);
    Flow::Next
}

fn das(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    let (old, carry) = (core.reg::<u8>(0), core.flags.cf());
    let low = old & 0xf > 9 || core.flags.af();
    let high = old > 0x99 || carry;
    let borrowed = low && old < 6;
    let al = old
        .wrapping_sub(if low { 6 } else { 0 })
        .wrapping_sub(if high { 0x60 } else { 0 });
    set_adjusted(core, al & 0xff, high || borrowed, low);
    Flow::Next
}

/// AAA and AAS: `sign` is added once to AH and six times to AL.
fn ascii_adjust(core: &mut Core, add: impl Fn(u32) -> u32) {
    let ax = core.reg::<u16>(0);
    let adjust = ax & 0xf > 9 || core.flags.af();
    let ax = if adjust { add(ax) } else { ax };
    // SF, ZF, PF and OF are undefined; they follow AL.
    set_adjusted(core, ax & 0xff, adjust, adjust);
    core.set_reg::<u16>(0, ax & 0xff0f);
}

fn aaa(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    ascii_adjust(core, |ax| ax.wrapping_add(0x106));
    Flow::Next
}

fn aas(core: &mut Core, _: &Memory<'_>, _: &Op) -> Flow {
    ascii_adjust(core, |ax| ax.wrapping_sub(0x106));
    Flow::Next
}

fn aam(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let (al, base) = (core.reg::<u8>(0), op.imm & 0xff);
    if base == 0 {
        let _raised = core.raise(Exception::DivideError);
        return Flow::Raised;
    }
    core.set_reg::<u8>(4, al / base);
    set_adjusted(core, al % base, false, false);
    Flow::Next
}

fn aad(core: &mut Core, _: &Memory<'_>, op: &Op) -> Flow {
    let (al, ah) = (core.reg::<u8>(0), core.reg::<u8>(4));
    let sum = (al + ah * (op.imm & 0xff)) & 0xff;
    core.set_reg::<u8>(4, 0);
    set_adjusted(core, sum, false, false);
    Flow::Next
}

fn bound<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Flow {
    bound_checked::<W>(core, memory, op).into()
}

fn bound_checked<W: Word>(core: &mut Core, memory: &Memory<'_>, op: &Op) -> Result<(), Raised> {
    let at = op.ea(core);
    let signed = |value: W| W::sext(value.zext()).cast_signed();
    let index = W::sext(core.reg::<W>(op.dst)).cast_signed();
    let lower = signed(core.load(memory, op.seg, at)?);
    // An index below the lower bound leaves the upper one unread.
    let second = at.wrapping_add(W::BYTES) & op.address_mask();
    if index < lower || index > signed(core.load(memory, op.seg, second)?) {
        return Err(core.raise(Exception::BoundRange));
    }
    Ok(())
}

pub(super) fn lower(i: &Instruction, context: Context) -> Option<Lowered> {
    let handler: Handler = match i.mnemonic() {
        Mnemonic::Clc => clc,
        Mnemonic::Stc => stc,
        Mnemonic::Cmc => cmc,
        Mnemonic::Cld => cld,
        Mnemonic::Std => std,
        Mnemonic::Lahf => lahf,
        Mnemonic::Sahf => sahf,
        Mnemonic::Salc => salc,
        Mnemonic::Daa => daa,
        Mnemonic::Das => das,
        Mnemonic::Aaa => aaa,
        Mnemonic::Aas => aas,
        Mnemonic::Aam => aam,
        Mnemonic::Aad => aad,
        Mnemonic::Bound => by_wide_size!(if context.operand32 { 4 } else { 2 }, W => bound::<W>),
        _ => return None,
    };
    Some(Lowered::next(handler))
}
