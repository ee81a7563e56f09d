//! Where RAM holds decoded code, so that writes can tell.

use crate::PhysAddr;

/// For each page of RAM, which of its 64 granules of 64 bytes hold bytes of a
/// decoded block; and the writes that hit such granules.
#[derive(Debug, Default)]
pub(crate) struct CodeMap {
    granules: Vec<u64>,
    /// Writes whose blocks are to be dropped after the current instruction.
    pub(crate) written: Vec<(PhysAddr, u32)>,
    /// An event is being delivered: what comes next is another block, so writes
    /// to code need not be made by an instruction that is executed alone.
    pub(crate) in_delivery: bool,
}

impl CodeMap {
    /// The granules of page `frame`, bit `n` for bytes `64 n` to `64 n + 63`.
    #[inline]
    pub(crate) fn granules(&self, frame: u32) -> u64 {
        self.granules.get(frame as usize).copied().unwrap_or(0)
    }

    /// Sets the granules of `frame`.
    pub(crate) fn set(&mut self, frame: u32, granules: u64) {
        let index = frame as usize;
        if index >= self.granules.len() {
            if granules == 0 {
                return;
            }
            self.granules.resize(index + 1, 0);
        }
        self.granules[index] = granules;
    }

    /// Forgets all code.
    pub(crate) fn clear(&mut self) {
        self.granules.clear();
    }

    /// The granules that `len` bytes from `offset` touch, inside one page.
    pub(crate) fn mask(offset: u32, len: u32) -> u64 {
        let first = (offset & 4095) / 64;
        let last = ((offset & 4095) + len.max(1) - 1).min(4095) / 64;
        (u64::MAX << first) & (u64::MAX >> (63 - last))
    }
}
