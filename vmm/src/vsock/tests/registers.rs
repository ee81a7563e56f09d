//! The register window and the device status.

use virtio_bindings::virtio_mmio::*;

use super::*;
use crate::device::MmioDevice;
use crate::virtio::DeviceStatus;
use crate::vsock::testing::{read, write};

fn device() -> VirtioVsock {
    VirtioVsock::new(GUEST_CID, Limits::default())
}

#[test]
fn a_driver_finds_a_modern_vsock_device() {
    let mut device = device();
    assert_eq!(read(&mut device, VIRTIO_MMIO_MAGIC_VALUE), 0x7472_6976);
    assert_eq!(read(&mut device, VIRTIO_MMIO_VERSION), 2);
    assert_eq!(read(&mut device, VIRTIO_MMIO_DEVICE_ID), 19);
    assert_eq!(read(&mut device, VIRTIO_MMIO_CONFIG_GENERATION), 0);
    assert_eq!(device.transport().misuse().total(), 0);
}

#[test]
fn the_offered_features_are_stream_event_idx_and_version_1() {
    let mut device = device();
    for (selector, bits) in [(0, 1 | 1 << 29), (1, 1), (2, 0), (u32::MAX, 0)] {
        write(&mut device, VIRTIO_MMIO_DEVICE_FEATURES_SEL, selector);
        assert_eq!(read(&mut device, VIRTIO_MMIO_DEVICE_FEATURES), bits);
    }
}

#[test]
fn the_queues_have_their_sizes_and_there_is_no_fourth() {
    let mut device = device();
    for (queue, size) in [(0, 32), (1, 64), (2, 8), (3, 0), (u32::MAX, 0)] {
        write(&mut device, VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(read(&mut device, VIRTIO_MMIO_QUEUE_NUM_MAX), size);
        assert_eq!(read(&mut device, VIRTIO_MMIO_QUEUE_READY), 0);
    }
    assert_eq!(device.transport().misuse().total(), 0);
}

#[test]
fn the_configuration_space_holds_the_cid_in_any_width() {
    let mut device = VirtioVsock::new(0x8877_6655_4433_2211, Limits::default());
    let mut cid = [0; 8];
    for (offset, width) in [(0, 1), (1, 1), (2, 2), (4, 4)] {
        device.read(0x100 + offset as u64, &mut cid[offset..offset + width]);
    }
    assert_eq!(u64::from_le_bytes(cid), 0x8877_6655_4433_2211);
    let mut past = [0; 4];
    device.read(0x106, &mut past);
    assert_eq!(past, [0xff; 4]);
}

#[test]
fn there_is_no_shared_memory() {
    let mut device = device();
    write(&mut device, VIRTIO_MMIO_SHM_SEL, 0);
    for register in [VIRTIO_MMIO_SHM_LEN_LOW, VIRTIO_MMIO_SHM_LEN_HIGH] {
        assert_eq!(read(&mut device, register), u32::MAX);
    }
}

#[test]
fn a_reset_brings_back_the_state_after_power_on_but_not_the_counters() {
    let mut guest = Guest::new();
    let id = guest.connect();
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_NOTIFY, 9);
    write(&mut guest.device, VIRTIO_MMIO_STATUS, 0);
    let transport = guest.device.transport();
    assert_eq!(transport.status(), DeviceStatus(0));
    assert!(!transport.interrupt_level());
    assert!(transport.queues().iter().all(|queue| !queue.is_ready()));
    assert_eq!(transport.misuse().total(), 1);
    let status = guest.device.host().status(id).unwrap();
    assert_eq!(status, crate::vsock::ConnectionStatus::Reset);

    guest.driver.probe(&mut guest.device, ALL_FEATURES);
    guest.connect();
}

#[test]
fn features_ok_stays_clear_without_version_1() {
    let mut guest = Guest::without_driver(Limits::default());
    guest.driver.probe(&mut guest.device, 1);
    let status = guest.device.transport().status();
    assert!(!status.has(DeviceStatus::FEATURES_OK));
    assert!(!status.has(DeviceStatus::DRIVER_OK));
    assert!(!guest.device.transport().is_running());
}

#[test]
fn a_queue_survives_nothing_but_being_disabled() {
    let mut guest = Guest::new();
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!(read(&mut guest.device, VIRTIO_MMIO_QUEUE_READY), 1);
    write(&mut guest.device, VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(read(&mut guest.device, VIRTIO_MMIO_QUEUE_READY), 0);
    guest.driver.set_up(&mut guest.device, 1);
    assert_eq!(read(&mut guest.device, VIRTIO_MMIO_QUEUE_READY), 1);
    guest.connect();
}

#[test]
fn the_interrupt_line_falls_when_the_driver_acknowledges() {
    let mut guest = Guest::new();
    guest.device.host_mut().connect(GUEST_PORT).unwrap();
    guest.device.serve(guest.memory);
    assert!(guest.device.interrupt_level());
    assert_eq!(read(&mut guest.device, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    write(&mut guest.device, VIRTIO_MMIO_INTERRUPT_ACK, 2);
    assert!(guest.device.interrupt_level());
    write(&mut guest.device, VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert!(!guest.device.interrupt_level());
}

#[test]
fn a_driver_without_event_idx_can_refuse_interrupts() {
    let mut guest = Guest::with(Limits::default(), WITHOUT_EVENT_IDX);
    guest.driver.refuse_interrupts(0);
    guest.device.host_mut().connect(GUEST_PORT).unwrap();
    guest.device.serve(guest.memory);
    assert!(!guest.device.interrupt_level());
    let packets = guest.driver.receive(&mut guest.device);
    assert_eq!(operations(&packets), [Operation::Request]);
}

#[test]
fn buffers_that_nobody_waits_for_cost_no_notification() {
    for features in [ALL_FEATURES, WITHOUT_EVENT_IDX] {
        let mut guest = Guest::with(Limits::default(), features);
        let id = guest.connect();
        let before = guest.driver.notifications;
        for _ in 0..100 {
            guest.device.host_mut().send(id, b"program").unwrap();
            assert_eq!(guest.poll().len(), 1);
        }
        assert_eq!(guest.driver.notifications, before);
    }
}
