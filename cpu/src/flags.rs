//! EFLAGS: bit names, and the arithmetic flags kept lazily.

use crate::memory::Word;

/// Carry.
pub const CF: u32 = 1 << 0;
/// Always one.
pub const FIXED_ONE: u32 = 1 << 1;
/// Parity.
pub const PF: u32 = 1 << 2;
/// Auxiliary carry.
pub const AF: u32 = 1 << 4;
/// Zero.
pub const ZF: u32 = 1 << 6;
/// Sign.
pub const SF: u32 = 1 << 7;
/// Trap (single step).
pub const TF: u32 = 1 << 8;
/// Interrupts enabled.
pub const IF: u32 = 1 << 9;
/// Direction of string instructions.
pub const DF: u32 = 1 << 10;
/// Overflow.
pub const OF: u32 = 1 << 11;
/// I/O privilege level, two bits.
pub const IOPL: u32 = 3 << 12;
/// Nested task.
pub const NT: u32 = 1 << 14;
/// Resume: instruction breakpoints are off for one instruction.
pub const RF: u32 = 1 << 16;
/// Virtual-8086 mode.
pub const VM: u32 = 1 << 17;
/// Alignment check.
pub const AC: u32 = 1 << 18;
/// Virtual interrupt flag (VME; here only a bit that IRET and task switches keep).
pub const VIF: u32 = 1 << 19;
/// Virtual interrupt pending (likewise).
pub const VIP: u32 = 1 << 20;
/// CPUID can be executed, if this bit can be changed.
pub const ID: u32 = 1 << 21;

/// The flags that arithmetic changes.
pub const ARITHMETIC: u32 = CF | PF | AF | ZF | SF | OF;
/// The other flags of the low half.
pub const SYSTEM16: u32 = TF | IF | DF | IOPL | NT;
/// All flags that are not arithmetic.
pub const SYSTEM32: u32 = SYSTEM16 | RF | VM | AC | VIF | VIP | ID;

/// The six arithmetic flags, as the last result (sign-extended to 32 bits) and
/// the vector of its carries. Each flag is a short expression over the two, so
/// an arithmetic instruction stores two words and asks nothing.
///
/// `aux`: bit 31 is CF, bit 30 is CF xor OF, bit 3 is AF. Bit 0 inverts SF and
/// the parity of bits 8..16 inverts PF: with these any combination of flags,
/// also one that no result has, can be stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LazyFlags {
    result: u32,
    aux: u32,
}

impl Default for LazyFlags {
    fn default() -> Self {
        Self::from_bits(0)
    }
}

const AUX_CF: u32 = 1 << 31;
const AUX_PARTIAL: u32 = 1 << 30;
const AUX_AF: u32 = 1 << 3;
const AUX_SIGN: u32 = 1;

impl LazyFlags {
    /// The flags with the bits of an EFLAGS image; other bits are ignored.
    pub(crate) fn from_bits(eflags: u32) -> Self {
        // The result is 0 or 1, so its own parity is even only if ZF is set.
        let result = !eflags >> 6 & 1;
        let carry = eflags & CF;
        let overflow = eflags >> 11 & 1;
        let parity = (eflags >> 2 ^ eflags >> 6) & 1;
        let aux = carry << 31
            | (carry ^ overflow) << 30
            | (eflags & AF) >> 1
            | parity << 8
            | eflags >> 7 & AUX_SIGN;
        Self { result, aux }
    }

    /// The six flags at their places in EFLAGS.
    pub(crate) fn bits(self) -> u32 {
        u32::from(self.cf())
            | u32::from(self.pf()) << 2
            | u32::from(self.af()) << 4
            | u32::from(self.zf()) << 6
            | u32::from(self.sf()) << 7
            | u32::from(self.of()) << 11
    }

    #[inline(always)]
    pub(crate) fn cf(self) -> bool {
        self.aux & AUX_CF != 0
    }

    #[inline(always)]
    pub(crate) fn carry(self) -> u32 {
        self.aux >> 31
    }

    #[inline(always)]
    pub(crate) fn of(self) -> bool {
        (self.aux ^ self.aux << 1) & AUX_CF != 0
    }

    #[inline(always)]
    pub(crate) fn zf(self) -> bool {
        self.result == 0
    }

    #[inline(always)]
    pub(crate) fn sf(self) -> bool {
        (self.result ^ self.aux << 31) & 1 << 31 != 0
    }

    #[inline(always)]
    pub(crate) fn af(self) -> bool {
        self.aux & AUX_AF != 0
    }

    #[inline(always)]
    pub(crate) fn pf(self) -> bool {
        ((self.result ^ self.aux >> 8) & 0xff).count_ones() & 1 == 0
    }

    /// SF differs from OF.
    #[inline(always)]
    pub(crate) fn less(self) -> bool {
        (self.result ^ self.aux << 31 ^ self.aux ^ self.aux << 1) >> 31 != 0
    }

    /// Sets all six from a result of size `W` and its vector of carries out of
    /// each bit (bits above the size are ignored in both).
    #[inline(always)]
    pub(crate) fn set<W: Word>(&mut self, result: u32, carries: u32) {
        self.result = W::sext(result);
        self.aux = (carries & AUX_AF) | ((carries << (32 - W::BITS)) & (AUX_CF | AUX_PARTIAL));
    }

    /// As [`Self::set`], but CF stays.
    #[inline(always)]
    pub(crate) fn set_keeping_carry<W: Word>(&mut self, result: u32, carries: u32) {
        let carry = self.aux & AUX_CF;
        let top = carries << (32 - W::BITS);
        let overflow = (top ^ top << 1) & AUX_CF;
        self.result = W::sext(result);
        self.aux = (carries & AUX_AF) | carry | (carry ^ overflow) >> 1;
    }

    /// As after AND, OR, XOR, TEST: CF, OF and AF clear.
    #[inline(always)]
    pub(crate) fn set_logic<W: Word>(&mut self, result: u32) {
        self.result = W::sext(result);
        self.aux = 0;
    }

    /// ZF, SF and PF from the result, CF and OF as given, AF clear.
    #[inline(always)]
    pub(crate) fn set_shift<W: Word>(&mut self, result: u32, cf: bool, of: bool) {
        self.result = W::sext(result);
        self.aux = u32::from(cf) << 31 | u32::from(cf != of) << 30;
    }

    /// Changes CF alone.
    #[inline(always)]
    pub(crate) fn set_cf(&mut self, cf: bool) {
        let overflow = self.of();
        self.aux = self.aux & !(AUX_CF | AUX_PARTIAL)
            | u32::from(cf) << 31
            | u32::from(cf != overflow) << 30;
    }

    /// Changes CF and OF alone (rotates).
    #[inline(always)]
    pub(crate) fn set_cf_of(&mut self, cf: bool, of: bool) {
        self.aux =
            self.aux & !(AUX_CF | AUX_PARTIAL) | u32::from(cf) << 31 | u32::from(cf != of) << 30;
    }

    /// Replaces the flags in `mask` by those of `bits`.
    pub(crate) fn replace(&mut self, mask: u32, bits: u32) {
        *self = Self::from_bits(self.bits() & !mask | bits & mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_kept() {
        for i in 0..64u32 {
            let bits = (0..6)
                .zip([CF, PF, AF, ZF, SF, OF])
                .fold(
                    0,
                    |bits, (n, flag)| {
                        if i >> n & 1 != 0 { bits | flag } else { bits }
                    },
                );
            let mut flags = LazyFlags::from_bits(bits);
            assert_eq!(flags.bits(), bits);
            assert_eq!(flags.less(), (bits & SF != 0) != (bits & OF != 0));
            flags.set_cf(true);
            assert_eq!(flags.bits(), bits | CF);
            flags.set_cf_of(false, true);
            assert_eq!(flags.bits(), bits & !CF | OF);
        }
    }
}
