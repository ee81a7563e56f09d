//! The packet header, `struct virtio_vsock_hdr` (section 5.10.6).
//!
//! rust-vmm's `VsockPacket` wants the header in one descriptor and the payload
//! in exactly one; a device must take any framing (section 2.7.4), and Linux
//! uses more for `MSG_ZEROCOPY`. So the header is read and written here, as
//! bytes; tests compare them with what `VsockPacket` makes of the same ring.

/// The host's context identifier (`VMADDR_CID_HOST` of `linux/vm_sockets.h`).
pub const HOST_CID: u64 = 2;
/// The guest's context identifier unless asked otherwise: the first one free.
pub const GUEST_CID: u64 = 3;

/// Bytes of a header, as lengths in rings count them.
pub(crate) const HEADER_LEN: u32 = 44;
/// Bytes of a header.
pub(crate) const HEADER_SIZE: usize = HEADER_LEN as usize;
/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub(crate) const TYPE_STREAM: u16 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE`: the sender will not receive any more.
pub(crate) const SHUTDOWN_RECEIVE: u32 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_F_SEND`: the sender will not send any more.
pub(crate) const SHUTDOWN_SEND: u32 = 2;
/// Both directions.
pub(crate) const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// The operations of section 5.10.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Operation {
    /// Open a stream.
    Request = 1,
    /// The stream is open.
    Response = 2,
    /// There is no such stream.
    Reset = 3,
    /// No more data one way or both.
    Shutdown = 4,
    /// Data.
    ReadWrite = 5,
    /// How much room there is.
    CreditUpdate = 6,
    /// Asks for a [`Self::CreditUpdate`].
    CreditRequest = 7,
}

impl Operation {
    /// Every operation, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Request,
        Self::Response,
        Self::Reset,
        Self::Shutdown,
        Self::ReadWrite,
        Self::CreditUpdate,
        Self::CreditRequest,
    ];

    /// The operation with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|&known| known as u16 == number)
    }
}

/// A packet's header, field by field as the guest wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Header {
    /// Context identifier of the sender.
    pub src_cid: u64,
    /// Context identifier of the receiver.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Bytes of payload after the header.
    pub len: u32,
    /// Socket type: 1 is a stream.
    pub kind: u16,
    /// See [`Operation`].
    pub op: u16,
    /// Flags of the operation.
    pub flags: u32,
    /// Bytes of the sender's receive buffer.
    pub buf_alloc: u32,
    /// Bytes that have left it since the stream was opened, wrapping.
    pub fwd_cnt: u32,
}

impl Header {
    /// Decodes a header; any bytes are one.
    pub fn from_bytes(bytes: &[u8; HEADER_SIZE]) -> Self {
        let mut reader = Fields { bytes, at: 0 };
        Self {
            src_cid: u64::from_le_bytes(reader.take()),
            dst_cid: u64::from_le_bytes(reader.take()),
            src_port: u32::from_le_bytes(reader.take()),
            dst_port: u32::from_le_bytes(reader.take()),
            len: u32::from_le_bytes(reader.take()),
            kind: u16::from_le_bytes(reader.take()),
            op: u16::from_le_bytes(reader.take()),
            flags: u32::from_le_bytes(reader.take()),
            buf_alloc: u32::from_le_bytes(reader.take()),
            fwd_cnt: u32::from_le_bytes(reader.take()),
        }
    }

    /// Encodes the header, little-endian, without padding.
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        let fields: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        let mut at = 0;
        for field in fields {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        bytes
    }
}

struct Fields<'a> {
    bytes: &'a [u8; HEADER_SIZE],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_a_header_and_come_back() {
        let bytes: [u8; HEADER_SIZE] =
            std::array::from_fn(|index| u8::try_from(index + 1).unwrap());
        let header = Header::from_bytes(&bytes);
        assert_eq!(header.to_bytes(), bytes);
        assert_eq!(header.src_port, 0x1413_1211);
        assert_eq!(header.op, 0x201f);
        assert_eq!(header.fwd_cnt, 0x2c2b_2a29);
    }

    #[test]
    fn operations_have_the_numbers_of_the_specification() {
        let numbers = Operation::ALL.map(|operation| operation as u16);
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
        for number in [0, 8, u16::MAX] {
            assert_eq!(Operation::from_number(number), None);
        }
    }
}
