//! Saving and restoring, with streams in every state.

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::device::Persist;
use crate::vsock::VsockState;
use crate::vsock::packet::SHUTDOWN_SEND;
use crate::vsock::testing::MEMORY_SIZE;

/// A guest with a stream in every state that there is, and work waiting.
fn busy_guest() -> Guest {
    let mut guest = Guest::new();
    guest.device.host_mut().listen(HOST_PORT).unwrap();
    for port in 0..10 {
        guest.exchange(
            &GuestDriver::header(Operation::Request, port, HOST_PORT),
            b"",
        );
    }
    let ids: Vec<_> = std::iter::from_fn(|| guest.device.host_mut().accept(HOST_PORT))
        .take(8)
        .collect();
    let packet = |operation, port| GuestDriver::header(operation, port, HOST_PORT);
    let data = Header {
        len: 6,
        ..packet(Operation::ReadWrite, 0)
    };
    guest.exchange(&data, b"unread");
    let half = Header {
        flags: SHUTDOWN_SEND,
        ..packet(Operation::Shutdown, 1)
    };
    guest.exchange(&half, b"");
    guest.exchange(&packet(Operation::Reset, 2), b"");
    guest.exchange(&packet(Operation::Response, 3), b"");
    let no_credit = Header {
        buf_alloc: 2,
        ..packet(Operation::CreditUpdate, 4)
    };
    guest.exchange(&no_credit, b"");
    let host = guest.device.host_mut();
    host.send(ids[4], b"stuck").unwrap();
    host.send(ids[5], &[9; 9000]).unwrap();
    host.close(ids[6]).unwrap();
    host.reset(ids[7]).unwrap();
    host.connect(80).unwrap();
    guest.device.serve(guest.memory);
    guest.device.host_mut().connect(81).unwrap();
    guest
}

fn restored(state: &VsockState) -> VirtioVsock {
    let bytes = postcard::to_stdvec(state).unwrap();
    let read: VsockState = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(&read, state);
    let mut device = VirtioVsock::new(GUEST_CID, Limits::default());
    device.restore(&read).unwrap();
    device
}

#[test]
fn a_restored_device_goes_on_as_the_original_does() {
    let mut original = busy_guest();
    let state = original.device.save();
    let mut copy = busy_guest();
    copy.device = restored(&state);
    assert_eq!(copy.device.save(), state);
    for guest in [&mut original, &mut copy] {
        guest.device.host_mut().connect(82).unwrap();
    }
    for turn in 0..5 {
        let (ours, theirs) = (original.poll(), copy.poll());
        assert_eq!(ours, theirs);
        assert_eq!(ours.is_empty(), turn > 0, "turn {turn}");
    }
    assert_eq!(original.device.save(), copy.device.save());
}

#[test]
fn restoring_undoes_all_that_came_after() {
    let mut guest = busy_guest();
    let state = guest.device.save();
    guest.poll();
    guest.connect();
    guest.device.host_mut().listen(999).unwrap();
    assert_ne!(guest.device.save(), state);
    guest.device.restore(&state).unwrap();
    assert_eq!(guest.device.save(), state);
    assert!(!guest.device.host().is_listening(999));
}

#[test]
fn an_open_stream_survives_a_reset_of_the_machine() {
    let (mut guest, id) = Guest::connected();
    let state = guest.device.save();
    let driver = guest.driver.clone();
    let mut image = vec![0; MEMORY_SIZE];
    guest
        .memory
        .read_slice(&mut image, GuestAddress(0))
        .unwrap();
    for _ in 0..3 {
        guest.send_data(b"trace");
        let mut data = Vec::new();
        guest.device.host_mut().receive(id, &mut data).unwrap();
        assert_eq!(data, b"trace");
        guest.device.restore(&state).unwrap();
        guest.driver = driver.clone();
        guest.driver.put(0, &image);
    }
}

#[test]
fn the_state_is_whole_only_when_the_rings_are_drained() {
    let (mut guest, _) = Guest::connected();
    assert!(guest.device.is_drained(guest.memory));
    guest
        .driver
        .queue_packet(&header(Operation::CreditRequest), b"");
    assert!(!guest.device.is_drained(guest.memory));
    guest.driver.notify(&mut guest.device, 1);
    assert!(!guest.device.is_drained(guest.memory));
    guest.device.serve(guest.memory);
    assert!(guest.device.is_drained(guest.memory));
}

/// Restores what `edit` makes of the serial form of a busy device's state.
fn restore_edited(edit: impl FnOnce(&mut serde_json::Value)) -> Result<(), String> {
    let mut guest = busy_guest();
    let before = guest.device.save();
    let mut value = serde_json::to_value(&before).unwrap();
    edit(&mut value);
    let state: VsockState = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let result = guest.device.restore(&state).map_err(|e| e.reason);
    if result.is_err() {
        assert_eq!(
            guest.device.save(),
            before,
            "a refused state changes nothing"
        );
    }
    result
}

#[test]
fn states_that_no_device_can_be_in_are_refused() {
    let refused = |edit: fn(&mut serde_json::Value)| {
        restore_edited(edit).expect_err("an impossible state");
    };
    refused(|state| state["transport"]["queues"][0]["setup"]["size"] = 24.into());
    refused(|state| state["transport"]["queues"][1]["setup"]["size"] = 128.into());
    refused(|state| state["transport"]["queues"][1]["setup"]["descriptors"] = 8.into());
    refused(|state| {
        state["transport"]["queues"].as_array_mut().unwrap().pop();
    });
    refused(|state| {
        state["transport"]["misuse"].as_array_mut().unwrap().pop();
    });
    refused(|state| state["host"]["next_id"] = 1.into());
    refused(|state| {
        let queue = state["host"]["ready"].as_array_mut().unwrap();
        queue.clear();
    });
    refused(|state| {
        let queue = state["host"]["ready"].as_array_mut().unwrap();
        queue.push(queue[0].clone());
    });
    refused(|state| {
        let ports = state["host"]["connections"]["0"]["ports"].clone();
        state["host"]["connections"]["1"]["ports"] = ports;
    });
    restore_edited(|_| {}).unwrap();
}
