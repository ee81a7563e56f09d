//! An access of the guest to a port or to device memory, as KVM reports it,
//! cut into the accesses of one, two or four bytes that the machine serves.

use crate::engine::Exit;

/// What the guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    PortIn(u16),
    PortOut(u16),
    MmioRead(u64),
    MmioWrite(u64),
}

/// Bytes of string instructions that KVM reports at once: at most a page.
#[derive(Debug)]
pub(super) struct Access {
    kind: Kind,
    /// Bytes an item: what a port access is wide, or all of a memory access.
    item: usize,
    /// What is written, or the answers so far in their places.
    data: Vec<u8>,
    /// Bytes of `data` that were handed out.
    done: usize,
    /// Bytes of the piece that waits for an answer.
    waiting: usize,
}

/// What is left of an access.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A piece for the machine.
    Piece(Exit),
    /// All pieces are served; answers to a read are whole.
    Done,
}

impl Access {
    pub(super) fn new(kind: Kind, item: usize, data: &[u8]) -> Self {
        Self {
            kind,
            item: item.clamp(1, data.len().max(1)),
            data: data.to_vec(),
            done: 0,
            waiting: 0,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The answers to a read.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// The next piece.
    pub(super) fn next(&mut self) -> Next {
        let start = self.done;
        if start >= self.data.len() {
            return Next::Done;
        }
        let in_item = start % self.item;
        let size = piece_size((self.item - in_item).min(self.data.len() - start));
        let bytes = usize::from(size);
        self.done += bytes;
        let value = self.data[start..start + bytes]
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u32::from(*byte));
        Next::Piece(match self.kind {
            Kind::PortIn(port) => {
                self.waiting = bytes;
                Exit::PortIn { port, size }
            }
            Kind::PortOut(port) => Exit::PortOut { port, size, value },
            Kind::MmioRead(address) => {
                self.waiting = bytes;
                Exit::MmioRead {
                    address: address.wrapping_add(start as u64),
                    size,
                }
            }
            Kind::MmioWrite(address) => Exit::MmioWrite {
                address: address.wrapping_add(start as u64),
                size,
                value,
            },
        })
    }

    /// Answers the piece that was handed out last.
    pub(super) fn answer(&mut self, value: u32) {
        let size = std::mem::take(&mut self.waiting);
        let start = self.done - size;
        self.data[start..self.done].copy_from_slice(&value.to_le_bytes()[..size]);
    }
}

/// The widest access that is at most `left` bytes wide.
fn piece_size(left: usize) -> u8 {
    match left {
        0 | 1 => 1,
        2 | 3 => 2,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(access: &mut Access) -> Vec<Exit> {
        std::iter::from_fn(|| match access.next() {
            Next::Piece(exit) => Some(exit),
            Next::Done => None,
        })
        .collect()
    }

    #[test]
    fn a_string_of_outs_is_one_access_each() {
        let mut access = Access::new(Kind::PortOut(0x3f8), 2, &[1, 2, 3, 4]);
        let out = |value| Exit::PortOut {
            port: 0x3f8,
            size: 2,
            value,
        };
        assert_eq!(pieces(&mut access), [out(0x0201), out(0x0403)]);
    }

    #[test]
    fn eight_and_three_bytes_of_memory_are_cut() {
        let mut wide = Access::new(Kind::MmioWrite(0xd000_0000), 8, &[1, 0, 0, 0, 2, 0, 0, 0]);
        let write = |address, size, value| Exit::MmioWrite {
            address,
            size,
            value,
        };
        assert_eq!(
            pieces(&mut wide),
            [write(0xd000_0000, 4, 1), write(0xd000_0004, 4, 2)]
        );
        let mut odd = Access::new(Kind::MmioWrite(0x10), 3, &[1, 2, 3]);
        assert_eq!(
            pieces(&mut odd),
            [write(0x10, 2, 0x0201), write(0x12, 1, 3)]
        );
    }

    #[test]
    fn answers_come_back_in_their_places() {
        let mut access = Access::new(Kind::PortIn(0x60), 1, &[0; 3]);
        for value in [7, 8, 0x1ff] {
            assert_eq!(
                access.next(),
                Next::Piece(Exit::PortIn {
                    port: 0x60,
                    size: 1
                })
            );
            access.answer(value);
        }
        assert_eq!(access.next(), Next::Done);
        assert_eq!(access.data(), [7, 8, 0xff]);
    }

    #[test]
    fn an_access_without_bytes_is_done() {
        assert_eq!(Access::new(Kind::PortIn(1), 0, &[]).next(), Next::Done);
    }
}
