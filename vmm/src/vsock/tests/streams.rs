//! Streams between an honest guest and the embedding program.

use std::net::Shutdown;

use super::*;
use crate::vsock::packet::{SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use crate::vsock::{ConnectionStatus, HostError, Ports};

fn read_all(guest: &mut Guest, id: ConnectionId) -> Vec<u8> {
    let mut data = Vec::new();
    guest.device.host_mut().receive(id, &mut data).unwrap();
    data
}

fn shutdown(flags: u32) -> Header {
    Header {
        flags,
        ..header(Operation::Shutdown)
    }
}

#[test]
fn a_guest_opens_a_stream_and_both_sides_talk() {
    let (mut guest, id) = Guest::connected();
    assert!(guest.send_data(b"hello").is_empty());
    assert_eq!(read_all(&mut guest, id), b"hello");

    assert_eq!(guest.device.host_mut().send(id, b"READY").unwrap(), 5);
    let packets = guest.poll();
    assert_eq!(operations(&packets), [Operation::ReadWrite]);
    let (header, payload) = &packets[0];
    assert_eq!(payload, b"READY");
    assert_eq!((header.src_cid, header.dst_cid), (2, GUEST_CID));
    assert_eq!((header.src_port, header.dst_port), (HOST_PORT, GUEST_PORT));
    assert_eq!((header.len, header.kind, header.fwd_cnt), (5, 1, 5));
    assert_eq!(header.buf_alloc, Limits::default().receive_buffer);
    assert_eq!(guest.device.transport().misuse().total(), 0);
}

#[test]
fn the_host_opens_a_stream_once_the_guest_answers() {
    let mut guest = Guest::new();
    let id = guest.device.host_mut().connect(7).unwrap();
    guest.device.host_mut().send(id, b"early").unwrap();
    let packets = guest.poll();
    assert_eq!(operations(&packets), [Operation::Request]);
    let host = guest.device.host();
    assert_eq!(host.status(id).unwrap(), ConnectionStatus::Connecting);

    let port = packets[0].0.src_port;
    let response = GuestDriver::header(Operation::Response, 7, port);
    let packets = guest.exchange(&response, b"");
    assert_eq!(packets[0].1, b"early");
    let host = guest.device.host();
    assert_eq!(host.status(id).unwrap(), ConnectionStatus::Open);
}

#[test]
fn a_guest_without_a_listener_refuses() {
    let mut guest = Guest::new();
    let id = guest.device.host_mut().connect(7).unwrap();
    let port = guest.poll()[0].0.src_port;
    let reset = GuestDriver::header(Operation::Reset, 7, port);
    assert!(guest.exchange(&reset, b"").is_empty());
    let host = guest.device.host_mut();
    assert_eq!(host.status(id).unwrap(), ConnectionStatus::Refused);
    let refused = HostError::NotOpen {
        port: 7,
        status: ConnectionStatus::Refused,
    };
    assert_eq!(host.send(id, b"x"), Err(refused));
    host.close(id).unwrap();
    assert_eq!(host.status(id), Err(HostError::NoSuchConnection));
}

#[test]
fn a_host_without_a_listener_refuses() {
    let mut guest = Guest::new();
    let answers = guest.exchange(&header(Operation::Request), b"");
    assert_eq!(operations(&answers), [Operation::Reset]);
    assert_eq!(guest.device.transport().misuse().total(), 0);
    assert_eq!(guest.device.host().connections().count(), 0);
}

#[test]
fn a_full_backlog_refuses_and_acceptance_makes_room() {
    let limits = Limits {
        backlog: 2,
        ..Limits::default()
    };
    let mut guest = Guest::with(limits, ALL_FEATURES);
    guest.device.host_mut().listen(HOST_PORT).unwrap();
    let mut open = |port| {
        let request = GuestDriver::header(Operation::Request, port, HOST_PORT);
        let answer = operations(&guest.exchange(&request, b""));
        if port == 3 {
            guest.device.host_mut().accept(HOST_PORT).unwrap();
        }
        answer
    };
    let answers: Vec<_> = (1..=5).flat_map(&mut open).collect();
    let expected = {
        use Operation::{Reset, Response};
        [Response, Response, Reset, Response, Reset]
    };
    assert_eq!(answers, expected);
}

#[test]
fn data_waits_for_credit_and_asks_for_it_once() {
    let mut guest = Guest::new();
    guest.device.host_mut().listen(HOST_PORT).unwrap();
    let request = Header {
        buf_alloc: 4,
        ..header(Operation::Request)
    };
    guest.exchange(&request, b"");
    let id = guest.device.host_mut().accept(HOST_PORT).unwrap();
    guest.device.host_mut().send(id, b"0123456789").unwrap();

    let packets = guest.poll();
    let expected = [Operation::ReadWrite, Operation::CreditRequest];
    assert_eq!(operations(&packets), expected);
    assert_eq!(packets[0].1, b"0123");
    assert_eq!(guest.poll(), []);

    let update = |buf_alloc, fwd_cnt| Header {
        buf_alloc,
        fwd_cnt,
        ..header(Operation::CreditUpdate)
    };
    assert_eq!(guest.exchange(&update(4, 0), b""), []);
    assert_eq!(guest.exchange(&update(4, 3), b"")[0].1, b"456");
    assert_eq!(guest.exchange(&update(7, 7), b"")[0].1, b"789");
    assert_eq!(guest.device.host().unsent(id).unwrap(), 0);
    assert_eq!(guest.device.transport().misuse().total(), 0);
}

#[test]
fn a_credit_count_that_was_overtaken_is_no_misuse() {
    let (mut guest, id) = Guest::connected();
    guest.device.host_mut().send(id, &[1; 100]).unwrap();
    guest.poll();
    for fwd_cnt in [90, 40, 100] {
        let update = Header {
            fwd_cnt,
            ..header(Operation::CreditUpdate)
        };
        assert_eq!(guest.exchange(&update, b""), []);
    }
    assert_eq!(guest.device.transport().misuse().total(), 0);
    let host = guest.device.host();
    assert_eq!(host.status(id).unwrap(), ConnectionStatus::Open);
}

#[test]
fn a_reader_tells_the_guest_of_room_when_it_runs_out() {
    let limits = Limits {
        receive_buffer: 4000,
        ..Limits::default()
    };
    let mut guest = Guest::with(limits, ALL_FEATURES);
    let id = guest.connect();
    assert_eq!(guest.send_data(&[1; 3000]), []);
    assert_eq!(guest.send_data(&[2; 1000]), []);
    guest.device.host_mut().consume(id, 1500).unwrap();
    let packets = guest.poll();
    assert_eq!(operations(&packets), [Operation::CreditUpdate]);
    assert_eq!((packets[0].0.buf_alloc, packets[0].0.fwd_cnt), (4000, 1500));
    assert_eq!(guest.send_data(&[3; 1500]), []);
    let (first, second) = guest.device.host().received(id).unwrap();
    assert_eq!(first.len() + second.len(), 4000);
}

#[test]
fn a_guest_that_asks_for_credit_gets_an_update() {
    let (mut guest, id) = Guest::connected();
    guest.send_data(b"abc");
    read_all(&mut guest, id);
    let answers = guest.exchange(&header(Operation::CreditRequest), b"");
    assert_eq!(operations(&answers), [Operation::CreditUpdate]);
    assert_eq!(answers[0].0.fwd_cnt, 3);
}

#[test]
fn a_large_message_comes_in_pieces_that_fit_the_buffers() {
    let (mut guest, id) = Guest::connected();
    let message: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
    assert_eq!(guest.device.host_mut().send(id, &message).unwrap(), 100_000);
    let mut seen = Vec::new();
    while seen.len() < message.len() {
        let packets = guest.poll();
        assert!(!packets.is_empty());
        for (header, payload) in packets {
            assert!(payload.len() <= 4096 - 44);
            assert_eq!(header.len as usize, payload.len());
            seen.extend(payload);
        }
    }
    assert_eq!(seen, message);
}

#[test]
fn packets_wait_for_buffers_and_the_driver_is_asked_for_some() {
    for features in [ALL_FEATURES, WITHOUT_EVENT_IDX] {
        let mut guest = Guest::with(Limits::default(), features);
        let id = guest.connect();
        let message = vec![7; 40 * 4052];
        guest.device.host_mut().send(id, &message).unwrap();
        guest.device.serve(guest.memory);
        let packets = guest.driver.receive_without_refill(&mut guest.device);
        assert_eq!(packets.len(), 32);
        let before = guest.driver.notifications;
        for index in 0..32 {
            guest.driver.offer_buffer(index);
        }
        guest.driver.notify(&mut guest.device, 0);
        assert_eq!(guest.driver.notifications, before + 1);
        guest.device.serve(guest.memory);
        let packets = guest.driver.receive(&mut guest.device);
        assert_eq!(packets.len(), 8);
    }
}

#[test]
fn the_send_buffer_is_bounded() {
    let limits = Limits {
        send_buffer: 10,
        ..Limits::default()
    };
    let mut guest = Guest::with(limits, ALL_FEATURES);
    let id = guest.connect();
    let host = guest.device.host_mut();
    assert_eq!(host.send(id, &[0; 8]), Ok(8));
    assert_eq!(host.send(id, &[0; 8]), Ok(2));
    assert_eq!(host.send(id, &[0; 8]), Ok(0));
}

#[test]
fn the_guest_closes_and_what_it_sent_stays_readable() {
    let (mut guest, id) = Guest::connected();
    guest.send_data(b"last words");
    let answers = guest.exchange(&shutdown(SHUTDOWN_BOTH), b"");
    assert_eq!(operations(&answers), [Operation::Reset]);
    assert!(guest.device.host().at_end(id).unwrap());
    assert_eq!(read_all(&mut guest, id), b"last words");
    let host = guest.device.host();
    assert_eq!(host.status(id).unwrap(), ConnectionStatus::Closed);
    guest.connect();
}

#[test]
fn half_closed_streams_carry_data_the_other_way() {
    let (mut guest, id) = Guest::connected();
    assert_eq!(guest.exchange(&shutdown(SHUTDOWN_SEND), b""), []);
    assert!(guest.device.host().at_end(id).unwrap());
    guest.device.host_mut().send(id, b"still here").unwrap();
    assert_eq!(guest.poll()[0].1, b"still here");
    let answers = guest.exchange(&shutdown(SHUTDOWN_RECEIVE), b"");
    assert_eq!(operations(&answers), [Operation::Reset]);
    assert!(guest.device.host_mut().send(id, b"x").is_err());
}

#[test]
fn a_close_sends_what_was_queued_then_shuts_down() {
    let (mut guest, id) = Guest::connected();
    let host = guest.device.host_mut();
    host.send(id, b"bye").unwrap();
    host.close(id).unwrap();
    assert_eq!(host.send(id, b"x"), Err(HostError::NoSuchConnection));
    let packets = guest.poll();
    let expected = [Operation::ReadWrite, Operation::Shutdown];
    assert_eq!(operations(&packets), expected);
    assert_eq!(packets[1].0.flags, SHUTDOWN_BOTH);
    // Data that was under way is taken and dropped.
    assert_eq!(guest.send_data(b"late"), []);
    assert_eq!(guest.exchange(&header(Operation::Reset), b""), []);
    assert_eq!(guest.device.transport().misuse().total(), 0);
    assert!(guest.device.host().save().is_empty());
}

#[test]
fn a_shutdown_of_writing_tells_the_guest_after_the_data() {
    let (mut guest, id) = Guest::connected();
    guest.device.host_mut().send(id, b"end").unwrap();
    let host = guest.device.host_mut();
    host.shutdown(id, Shutdown::Write).unwrap();
    assert!(host.send(id, b"x").is_err());
    let packets = guest.poll();
    let expected = [Operation::ReadWrite, Operation::Shutdown];
    assert_eq!(operations(&packets), expected);
    assert_eq!(packets[1].0.flags, SHUTDOWN_SEND);
    assert_eq!(guest.send_data(b"answer"), []);
    assert_eq!(read_all(&mut guest, id), b"answer");
}

#[test]
fn a_reset_cuts_at_once_in_both_directions() {
    let (mut guest, id) = Guest::connected();
    guest.device.host_mut().reset(id).unwrap();
    assert_eq!(operations(&guest.poll()), [Operation::Reset]);

    let id = guest.connect();
    guest.send_data(b"kept");
    assert_eq!(guest.exchange(&header(Operation::Reset), b""), []);
    let host = guest.device.host();
    assert_eq!(host.status(id).unwrap(), ConnectionStatus::Reset);
    assert_eq!(read_all(&mut guest, id), b"kept");
}

#[test]
fn a_request_that_never_left_is_taken_back_in_silence() {
    let mut guest = Guest::new();
    let id = guest.device.host_mut().connect(7).unwrap();
    guest.device.host_mut().reset(id).unwrap();
    assert_eq!(guest.poll(), []);
}

#[test]
fn streams_take_turns() {
    let mut guest = Guest::new();
    guest.device.host_mut().listen(HOST_PORT).unwrap();
    let mut ids = Vec::new();
    for port in 1..=3 {
        guest.exchange(
            &GuestDriver::header(Operation::Request, port, HOST_PORT),
            b"",
        );
        ids.push(guest.device.host_mut().accept(HOST_PORT).unwrap());
    }
    for &id in &ids {
        guest.device.host_mut().send(id, &[0; 8000]).unwrap();
    }
    let ports: Vec<u32> = guest.poll().iter().map(|(h, _)| h.dst_port).collect();
    assert_eq!(ports, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn ports_and_connections_are_limited() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let mut guest = Guest::with(limits, ALL_FEATURES);
    let host = guest.device.host_mut();
    let ports = Ports { host: 9, guest: 7 };
    host.connect_between(ports).unwrap();
    assert_eq!(
        host.connect_between(ports),
        Err(HostError::PortsInUse(ports))
    );
    host.connect(7).unwrap();
    assert_eq!(host.connect(7), Err(HostError::TooManyConnections(2)));
    host.listen(1).unwrap();
    assert_eq!(host.listen(1), Err(HostError::PortInUse(1)));
}

#[test]
fn a_listener_that_stops_resets_who_waits() {
    let mut guest = Guest::new();
    guest.device.host_mut().listen(HOST_PORT).unwrap();
    guest.exchange(&header(Operation::Request), b"");
    guest.device.host_mut().stop_listening(HOST_PORT);
    assert_eq!(operations(&guest.poll()), [Operation::Reset]);
    let answers = guest.exchange(&header(Operation::Request), b"");
    assert_eq!(operations(&answers), [Operation::Reset]);
}

#[test]
fn resets_that_cross_each_other_are_no_misuse() {
    let (mut guest, id) = Guest::connected();
    guest.device.host_mut().reset(id).unwrap();
    assert_eq!(guest.exchange(&header(Operation::Reset), b"").len(), 1);
    assert_eq!(guest.device.transport().misuse().total(), 0);
}

#[test]
fn buffers_of_the_guest_come_back_in_bulk() {
    for features in [ALL_FEATURES, WITHOUT_EVENT_IDX] {
        let mut guest = Guest::with(Limits::default(), features);
        let id = guest.connect();
        // One packet was sent; 7 more of 2 descriptors do not fill a quarter.
        let (mut interrupts, mut given_back) = (0, Vec::new());
        for _ in 0..32 {
            guest.driver.send(&mut guest.device, &data_of(3), b"abc");
            given_back.push(guest.driver.given_back(1));
            interrupts += u32::from(guest.device.transport().interrupt_level());
            guest.driver.receive(&mut guest.device);
            guest.driver.ask_for_interrupt(1);
        }
        assert_eq!(given_back[..7], [0; 7]);
        assert_eq!(given_back[7..15], [9; 8]);
        assert_eq!(given_back[15..23], [17; 8]);
        assert_eq!(interrupts, 4);
        let (data, _) = guest.device.host().received(id).unwrap();
        assert_eq!(data.len(), 96);
    }
}

fn data_of(len: u32) -> Header {
    Header {
        len,
        ..header(Operation::ReadWrite)
    }
}
