//! Packets cut into descriptors in any way, and rust-vmm's reading of ours.

use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use virtio_vsock::packet::VsockPacket;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::vsock::testing::Descriptor;

proptest! {
    /// Section 2.7.4: the framing says nothing.
    #[test]
    fn any_framing_carries_the_same_packet(cuts in proptest::collection::vec(0u32..60, 0..20)) {
        let (mut guest, id) = Guest::connected();
        let packet = Header { len: 12, ..header(Operation::ReadWrite) };
        let mut bytes = packet.to_bytes().to_vec();
        bytes.extend(b"hello, world");
        guest.driver.put(0x4_0000, &bytes);

        let mut entries = Vec::new();
        let mut at = 0;
        for cut in cuts {
            let len = cut.min(56 - at);
            entries.push((at, len));
            at += len;
        }
        entries.push((at, 56 - at));
        let last = entries.len() - 1;
        for (index, (offset, len)) in (0u16..).zip(entries) {
            let entry = Descriptor {
                address: 0x4_0000 + u64::from(offset),
                len,
                flags: u16::from(usize::from(index) < last),
                next: index + 1,
            };
            guest.driver.describe(1, index, entry);
        }
        guest.driver.publish(1, 0);
        guest.driver.notify(&mut guest.device, 1);
        guest.device.serve(guest.memory);
        let (data, _) = guest.device.host().received(id).unwrap();
        prop_assert_eq!(data, b"hello, world");
        prop_assert_eq!(guest.device.transport().misuse().total(), 0);
    }
}

#[test]
fn a_buffer_in_pieces_is_filled_across_them() {
    let mut guest = Guest::new();
    for (index, (address, len)) in [(0x4_0000, 10), (0x4_1000, 30), (0x4_2000, 100)]
        .into_iter()
        .enumerate()
    {
        let index = u16::try_from(index).unwrap();
        let entry = Descriptor {
            address,
            len,
            flags: 2 | u16::from(index < 2),
            next: index + 1,
        };
        guest.driver.describe(0, index, entry);
    }
    guest.device.host_mut().connect(GUEST_PORT).unwrap();
    guest.device.serve(guest.memory);
    let mut bytes = [0; 44];
    for (part, address) in [(0..10, 0x4_0000), (10..40, 0x4_1000), (40..44, 0x4_2000)] {
        let part = &mut bytes[part];
        guest
            .memory
            .read_slice(part, GuestAddress(address))
            .unwrap();
    }
    let header = Header::from_bytes(&bytes);
    assert_eq!(header.op, Operation::Request as u16);
    assert_eq!(header.dst_port, GUEST_PORT);
}

#[test]
fn rust_vmm_reads_our_headers_as_we_wrote_them() {
    let memory = memory();
    let driver = GuestDriver::new(&memory);
    let packet = Header {
        src_cid: 0x1122_3344_5566_7788,
        dst_cid: 0x99aa_bbcc_ddee_ff00,
        src_port: 0x0102_0304,
        dst_port: 0x0506_0708,
        len: 3,
        kind: 0x090a,
        op: 0x0b0c,
        flags: 0x0d0e_0f10,
        buf_alloc: 0x1112_1314,
        fwd_cnt: 0x1516_1718,
    };
    driver.put(0x1000, &packet.to_bytes());
    driver.put(0x102c, b"abc");
    let entry = Descriptor {
        address: 0x1000,
        len: 47,
        ..Descriptor::default()
    };
    driver.describe(0, 0, entry);
    driver.put(0x5002, &1u16.to_le_bytes());
    let mut queue = Queue::new(16).unwrap();
    queue.set_desc_table_address(Some(0x4000), None);
    queue.set_avail_ring_address(Some(0x5000), None);
    queue.set_used_ring_address(Some(0x6000), None);
    queue.set_ready(true);
    let mut chain = queue.pop_descriptor_chain(&memory).unwrap();
    let theirs = VsockPacket::from_tx_virtq_chain(&memory, &mut chain, 100).unwrap();
    assert_eq!(theirs.src_cid(), packet.src_cid);
    assert_eq!(theirs.dst_cid(), packet.dst_cid);
    assert_eq!(theirs.src_port(), packet.src_port);
    assert_eq!(theirs.dst_port(), packet.dst_port);
    assert_eq!(theirs.len(), packet.len);
    assert_eq!(theirs.type_(), packet.kind);
    assert_eq!(theirs.op(), packet.op);
    assert_eq!(theirs.flags(), packet.flags);
    assert_eq!(theirs.buf_alloc(), packet.buf_alloc);
    assert_eq!(theirs.fwd_cnt(), packet.fwd_cnt);
    let mut payload = [0; 3];
    theirs.data_slice().unwrap().copy_to(&mut payload);
    assert_eq!(&payload, b"abc");
}
