//! Every way to misuse the device: contained, counted as itself, and not in
//! the way of what comes after it.

use std::collections::BTreeSet;

use virtio_bindings::virtio_mmio::*;

use super::*;
use crate::device::MmioDevice;
use crate::virtio::{DeviceStatus, Misuse};
use crate::vsock::ConnectionStatus;
use crate::vsock::testing::{Descriptor, read, write};

/// `VIRTQ_DESC_F_*` (section 2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A kind of misuse, and a guest that commits it once.
type Case = (Misuse, fn(&mut Guest));

/// Misuse of registers, by a guest whose driver has initialised the device.
const REGISTERS: &[Case] = &[
    (Misuse::AccessWidth, |guest| guest.device.write(0x70, &[0])),
    (Misuse::AccessWidth, |guest| {
        guest.device.read(0x71, &mut [0; 4])
    }),
    (Misuse::UnknownRegister, |guest| {
        assert_eq!(read(&mut guest.device, 0x4c), u32::MAX);
    }),
    (Misuse::UnknownRegister, |guest| {
        write(&mut guest.device, 0x28, 1)
    }),
    (Misuse::UnknownRegister, |guest| {
        assert_eq!(read(&mut guest.device, 0x108), u32::MAX);
    }),
    (Misuse::WriteToReadOnly, |guest| {
        write(&mut guest.device, 0, 1)
    }),
    (Misuse::WriteToReadOnly, |guest| {
        write(&mut guest.device, 0x100, 1)
    }),
    (Misuse::ReadOfWriteOnly, |guest| {
        assert_eq!(read(&mut guest.device, VIRTIO_MMIO_QUEUE_NOTIFY), u32::MAX);
    }),
    (Misuse::FeaturesOutOfOrder, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    }),
    (Misuse::FeaturesRefused, |guest| {
        let device = &mut guest.device;
        write(device, VIRTIO_MMIO_STATUS, 0);
        write(device, VIRTIO_MMIO_STATUS, 3);
        write(device, VIRTIO_MMIO_DRIVER_FEATURES, 2);
        write(device, VIRTIO_MMIO_STATUS, 11);
        assert_eq!(read(device, VIRTIO_MMIO_STATUS), 3);
    }),
    (Misuse::StatusBitCleared, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_STATUS, 3);
        assert_eq!(read(&mut guest.device, VIRTIO_MMIO_STATUS), 15);
    }),
    (Misuse::StatusOutOfOrder, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_STATUS, 0);
        write(&mut guest.device, VIRTIO_MMIO_STATUS, 2);
        assert_eq!(read(&mut guest.device, VIRTIO_MMIO_STATUS), 0);
    }),
    (Misuse::StatusOutOfOrder, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_STATUS, 0x1f);
    }),
    (Misuse::DriverFailed, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_STATUS, 0x8f);
        assert!(!guest.device.transport().is_running());
    }),
    (Misuse::NoSuchQueue, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_QUEUE_NOTIFY, 3);
    }),
    (Misuse::NoSuchQueue, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_QUEUE_SEL, 3);
        write(&mut guest.device, VIRTIO_MMIO_QUEUE_NUM, 8);
    }),
    (Misuse::QueueSize, |guest| set_size(guest, 0)),
    (Misuse::QueueSize, |guest| set_size(guest, 24)),
    (Misuse::QueueSize, |guest| set_size(guest, 128)),
    (Misuse::QueueSize, |guest| set_size(guest, 0x1_0020)),
    (Misuse::QueueBusy, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_QUEUE_NUM, 8);
    }),
    (Misuse::QueueBusy, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_QUEUE_DESC_HIGH, 8);
    }),
    (Misuse::QueueSetup, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_STATUS, 0);
        write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 1);
    }),
    (Misuse::QueueSetup, |guest| {
        enable_at(guest, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x8008);
    }),
    (Misuse::QueueSetup, |guest| {
        enable_at(guest, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x9001);
    }),
    (Misuse::QueueSetup, |guest| {
        enable_at(guest, VIRTIO_MMIO_QUEUE_USED_LOW, 0xa002);
    }),
    (Misuse::NotifyIdleQueue, |guest| {
        write(&mut guest.device, VIRTIO_MMIO_STATUS, 0);
        write(&mut guest.device, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    }),
];

fn set_size(guest: &mut Guest, size: u32) {
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 0);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_NUM, size);
}

fn enable_at(guest: &mut Guest, register: u32, address: u32) {
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 0);
    write(&mut guest.device, register, address);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_eq!(read(&mut guest.device, VIRTIO_MMIO_QUEUE_READY), 0);
}

/// Rings that cannot be used any more.
const BROKEN_RINGS: &[Case] = &[
    (Misuse::RingAccess, |guest| {
        move_area(guest, VIRTIO_MMIO_QUEUE_AVAIL_HIGH)
    }),
    (Misuse::RingAccess, |guest| {
        move_area(guest, VIRTIO_MMIO_QUEUE_USED_HIGH)
    }),
    (Misuse::AvailableIndex, |guest| {
        guest.driver.set_available_index(1, 65);
        write(&mut guest.device, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    }),
    (Misuse::DescriptorHead, |guest| {
        guest.driver.publish(1, 64);
        guest.driver.notify(&mut guest.device, 1);
    }),
];

/// Enables the second queue again with one area far above memory, and one
/// packet in it.
fn move_area(guest: &mut Guest, register: u32) {
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_SEL, 1);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 0);
    guest.driver.set_up(&mut guest.device, 1);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 0);
    let areas = [
        (VIRTIO_MMIO_QUEUE_DESC_LOW, 0x8000),
        (VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x9000),
        (VIRTIO_MMIO_QUEUE_USED_LOW, 0xa000),
    ];
    for (area, address) in areas {
        write(&mut guest.device, area, address);
    }
    write(&mut guest.device, register, 0x8000_0000);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 1);
    assert_eq!(read(&mut guest.device, VIRTIO_MMIO_QUEUE_READY), 1);
    guest.driver.queue_packet(&header(Operation::Request), b"");
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
}

/// Chains that must not be used: each costs its packet only.
const BAD_CHAINS: &[Case] = &[
    (Misuse::DescriptorNext, |guest| {
        transmit(guest, &[(0x4_0000, 44, NEXT, 64)]);
    }),
    (Misuse::DescriptorCycle, |guest| {
        transmit(guest, &[(0x4_0000, 44, NEXT, 1), (0x4_0000, 44, NEXT, 0)]);
    }),
    (Misuse::DescriptorIndirect, |guest| {
        transmit(guest, &[(0x4_0000, 32, INDIRECT, 0)]);
    }),
    (Misuse::DescriptorDirection, |guest| {
        transmit(guest, &[(0x4_0000, 44, WRITE, 0)]);
    }),
    (Misuse::DescriptorDirection, |guest| {
        offer(guest, (0x4_0000, 4096, 0, 0))
    }),
    (Misuse::DescriptorRange, |guest| {
        transmit(guest, &[(0x5_ffff, 44, 0, 0)]);
    }),
    (Misuse::DescriptorRange, |guest| {
        transmit(guest, &[(u64::MAX - 3, 44, 0, 0)]);
    }),
    (Misuse::DescriptorRange, |guest| {
        offer(guest, (1 << 40, 4096, WRITE, 0))
    }),
    (Misuse::DescriptorLength, |guest| {
        // Memory cannot hold such a chain, so the range would be refused too:
        // the length must be seen first.
        transmit(guest, &[(0, 0x6_0000, NEXT, 1), (0, u32::MAX, 0, 0)]);
    }),
    (Misuse::ReceiveBufferSize, |guest| {
        offer(guest, (0x4_0000, 43, WRITE, 0))
    }),
    (Misuse::PacketTruncated, |guest| {
        transmit(guest, &[(0x4_0000, 43, 0, 0)]);
    }),
    (Misuse::PacketTruncated, |guest| {
        let short = Header {
            len: 5,
            ..header(Operation::ReadWrite)
        };
        guest.exchange(&short, b"four");
    }),
];

type Entry = (u64, u32, u16, u16);

fn describe(guest: &Guest, queue: usize, index: u16, (address, len, flags, next): Entry) {
    let entry = Descriptor {
        address,
        len,
        flags,
        next,
    };
    guest.driver.describe(queue, index, entry);
}

/// Sends the chain that starts at the first of `entries`.
fn transmit(guest: &mut Guest, entries: &[Entry]) {
    for (index, &entry) in (0..).zip(entries) {
        describe(guest, 1, index, entry);
    }
    guest.driver.publish(1, 0);
    guest.driver.notify(&mut guest.device, 1);
    guest.device.serve(guest.memory);
}

/// Makes `entry` the next buffer for a packet to the guest, and has one sent.
fn offer(guest: &mut Guest, entry: Entry) {
    let taken = guest.device.transport().queues()[0].save();
    describe(guest, 0, taken.next_available() % 32, entry);
    guest.device.host_mut().connect(GUEST_PORT).unwrap();
    guest.device.serve(guest.memory);
}

/// Packets that a guest's socket layer would not send. Each comes with the
/// stream of `Guest::connected` open.
const PACKETS: &[Case] = &[
    (Misuse::PacketSource, |guest| {
        answers(
            guest,
            Header {
                src_cid: 9,
                ..header(Operation::ReadWrite)
            },
            &[],
        );
    }),
    (Misuse::PacketDestination, |guest| {
        answers(
            guest,
            Header {
                dst_cid: 1,
                ..header(Operation::ReadWrite)
            },
            &[],
        );
    }),
    (Misuse::PacketType, |guest| {
        let seqpacket = Header {
            kind: 2,
            ..header(Operation::Request)
        };
        answers(guest, seqpacket, &[Operation::Reset]);
    }),
    (Misuse::PacketType, |guest| {
        answers(
            guest,
            Header {
                kind: 0,
                ..header(Operation::Reset)
            },
            &[],
        );
    }),
    (Misuse::PacketOperation, |guest| {
        answers(
            guest,
            Header {
                op: 0,
                ..header(Operation::Reset)
            },
            &[Operation::Reset],
        );
    }),
    (Misuse::PacketPayload, |guest| {
        let loaded = Header {
            len: 1,
            ..header(Operation::CreditUpdate)
        };
        answers(guest, loaded, &[Operation::Reset]);
    }),
    (Misuse::PacketState, |guest| {
        answers(guest, header(Operation::Request), &[Operation::Reset]);
    }),
    (Misuse::PacketState, |guest| {
        answers(guest, header(Operation::Response), &[Operation::Reset]);
    }),
    (Misuse::PacketState, |guest| {
        let half = Header {
            flags: 2,
            ..header(Operation::Shutdown)
        };
        guest.exchange(&half, b"");
        answers(guest, header(Operation::ReadWrite), &[Operation::Reset]);
    }),
    (Misuse::NoConnection, |guest| {
        let nobody = GuestDriver::header(Operation::ReadWrite, 77, HOST_PORT);
        answers(guest, nobody, &[Operation::Reset]);
    }),
    (Misuse::CreditExceeded, |guest| {
        let len = guest.device.host().limits().receive_buffer + 1;
        let large = Header {
            len,
            ..header(Operation::ReadWrite)
        };
        answers(guest, large, &[Operation::Reset]);
    }),
    (Misuse::CreditForged, |guest| {
        let forged = Header {
            fwd_cnt: 1,
            ..header(Operation::CreditUpdate)
        };
        answers(guest, forged, &[Operation::Reset]);
    }),
    (Misuse::CreditForged, |guest| {
        let forged = Header {
            src_port: 5,
            fwd_cnt: 1,
            ..header(Operation::Request)
        };
        answers(guest, forged, &[Operation::Reset]);
    }),
    (Misuse::ShutdownFlags, |guest| {
        answers(
            guest,
            Header {
                flags: 0,
                ..header(Operation::Shutdown)
            },
            &[],
        );
    }),
    (Misuse::ShutdownFlags, |guest| {
        let strange = Header {
            flags: 7,
            ..header(Operation::Shutdown)
        };
        answers(guest, strange, &[Operation::Reset]);
    }),
    (Misuse::ConnectionLimit, |guest| {
        for port in 0..16 {
            guest.exchange(
                &GuestDriver::header(Operation::Request, port, HOST_PORT),
                b"",
            );
        }
        let one_more = GuestDriver::header(Operation::Request, 99, HOST_PORT);
        answers(guest, one_more, &[Operation::Reset]);
    }),
];

fn answers(guest: &mut Guest, header: Header, expected: &[Operation]) {
    let answers = guest.exchange(&header, b"");
    assert_eq!(operations(&answers), expected, "answers to {header:?}");
}

/// Runs a case; the device must count that kind once, and nothing else.
fn commit(guest: &mut Guest, (kind, misuse): Case) {
    misuse(guest);
    guest.device.serve(guest.memory);
    let seen: Vec<_> = guest.device.transport().misuse().seen().collect();
    assert_eq!(seen, [(kind, 1)]);
}

/// The driver initialises the device again, and a stream works.
fn recovers(guest: &mut Guest) {
    guest.driver.probe(&mut guest.device, ALL_FEATURES);
    let id = guest.connect();
    assert_eq!(guest.send_data(b"again"), []);
    let (data, _) = guest.device.host().received(id).unwrap();
    assert_eq!(data, b"again");
}

#[test]
fn every_kind_of_misuse_has_a_case_here() {
    let cases = [REGISTERS, BROKEN_RINGS, BAD_CHAINS, PACKETS].concat();
    let covered: BTreeSet<Misuse> = cases.iter().map(|&(kind, _)| kind).collect();
    let all: BTreeSet<Misuse> = Misuse::ALL.iter().copied().collect();
    assert_eq!(covered, all);
}

#[test]
fn misused_registers_are_counted_and_change_nothing_else() {
    for &case in REGISTERS {
        let mut guest = Guest::new();
        commit(&mut guest, case);
        recovers(&mut guest);
    }
}

#[test]
fn broken_rings_put_the_device_out_of_order_until_a_reset() {
    for &case in BROKEN_RINGS {
        let mut guest = Guest::new();
        commit(&mut guest, case);
        let transport = guest.device.transport();
        assert!(transport.status().has(DeviceStatus::NEEDS_RESET));
        assert!(guest.device.interrupt_level());
        assert_eq!(read(&mut guest.device, VIRTIO_MMIO_INTERRUPT_STATUS) & 2, 2);

        // Whatever the guest does now but a reset, the device does no work.
        guest.device.host_mut().listen(HOST_PORT).unwrap();
        guest
            .driver
            .send(&mut guest.device, &header(Operation::Request), b"");
        assert_eq!(guest.device.host_mut().accept(HOST_PORT), None);
        recovers(&mut guest);
    }
}

#[test]
fn bad_chains_are_given_back_and_cost_their_packet_only() {
    for &case in BAD_CHAINS {
        let mut guest = Guest::new();
        commit(&mut guest, case);
        assert!(guest.device.transport().is_running());
        recovers(&mut guest);
    }
}

#[test]
fn bad_packets_are_answered_as_the_specification_asks() {
    for &case in PACKETS {
        let (mut guest, _) = Guest::connected();
        commit(&mut guest, case);
        assert!(guest.device.transport().is_running());
        let open = GuestDriver::header(Operation::Request, 4321, 1);
        answers(&mut guest, open, &[Operation::Reset]);
    }
}

#[test]
fn a_misused_stream_ends_and_its_neighbours_do_not() {
    let (mut guest, id) = Guest::connected();
    let other = GuestDriver::header(Operation::Request, 5, HOST_PORT);
    guest.exchange(&other, b"");
    let neighbour = guest.device.host_mut().accept(HOST_PORT).unwrap();
    guest.exchange(&header(Operation::Response), b"");
    let host = guest.device.host();
    assert_eq!(host.status(id).unwrap(), ConnectionStatus::Reset);
    assert_eq!(host.status(neighbour).unwrap(), ConnectionStatus::Open);
}

#[test]
fn a_guest_that_takes_no_answers_is_not_listened_to_any_more() {
    let limits = Limits {
        resets: 8,
        ..Limits::default()
    };
    let mut guest = Guest::with(limits, ALL_FEATURES);
    for port in 0..60 {
        let nobody = GuestDriver::header(Operation::ReadWrite, port, 1);
        guest.driver.send(&mut guest.device, &nobody, b"");
    }
    // 32 answers fill the guest's buffers, 8 wait here; the rest was not taken.
    assert_eq!(
        guest.device.transport().misuse().of(Misuse::NoConnection),
        40
    );
    assert!(!guest.device.is_drained(guest.memory));
    let mut answered = 0;
    while answered < 60 {
        let packets = guest.driver.receive(&mut guest.device);
        assert!(!packets.is_empty());
        answered += packets.len();
    }
    assert_eq!(
        guest.device.transport().misuse().of(Misuse::NoConnection),
        60
    );
    assert!(guest.device.is_drained(guest.memory));
}

#[test]
fn rings_on_top_of_each_other_cost_one_round_a_call() {
    let mut guest = Guest::new();
    guest.driver.set_up(&mut guest.device, 1);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_SEL, 1);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 0);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x8000);
    // The used index lies where the available index is: each chain given back
    // makes another one available.
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x9000);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_USED_LOW, 0x9000);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 1);
    guest.driver.set_available_index(1, 2);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    for _ in 0..10 {
        let before = guest.device.transport().misuse().total();
        guest.device.serve(guest.memory);
        let after = guest.device.transport().misuse().total();
        assert!(after - before <= 65);
    }
}

#[test]
fn a_truncated_payload_of_a_huge_packet_is_not_read() {
    let (mut guest, id) = Guest::connected();
    let huge = Header {
        len: u32::MAX,
        ..header(Operation::ReadWrite)
    };
    answers(&mut guest, huge, &[Operation::Reset]);
    let host = guest.device.host();
    assert_eq!(host.status(id).unwrap(), ConnectionStatus::Reset);
    let misuse = guest.device.transport().misuse();
    assert_eq!(misuse.of(Misuse::CreditExceeded), 1);
}
