//! Events and frames: total decoding, stable encoding, bounds.

use latefork_wire::Field;
use latefork_wire::Record;
use latefork_wire::frame::{
    FrameHeader, FrameKind, Hello, MAGIC, MAX_RUN, RUN_HEADER, Refusal, RunOptions, VERSION,
};
use latefork_wire::trace::{self, Detail, EVENT, Event, KINDS, MAX_EVENTS, VARYING};
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_bytes_are_an_event(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let event = Event::decode(&bytes);
        prop_assert_eq!(Event::decode(&event.encode()), event);
        for name in event.detail.fields() {
            prop_assert!(event.field(name).is_some());
        }
        prop_assert!(!event.to_string().is_empty());
    }

    #[test]
    fn a_trace_is_bounded(events in 0_usize..2 * MAX_EVENTS, odd in 0_usize..EVENT) {
        let bytes = vec![1; events * EVENT + odd];
        prop_assert_eq!(trace::events(&bytes).count(), events.min(MAX_EVENTS));
    }

    #[test]
    fn header_decodes_or_says_why(bytes in any::<[u8; 8]>()) {
        if let Ok(header) = FrameHeader::decode(bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }
}

fn refused(header: [u8; 8]) -> Refusal {
    FrameHeader::decode(header)
        .expect_err("the header is refused")
        .refusal
}

#[test]
fn frames_of_another_kind_are_refused_by_name() {
    let good = FrameHeader {
        kind: FrameKind::Run,
        len: u32::try_from(RUN_HEADER).expect("it is small"),
    };
    let bytes = good.encode();
    assert_eq!(FrameHeader::decode(bytes), Ok(good));
    let mut magic = bytes;
    magic[0] ^= 1;
    assert_eq!(refused(magic), Refusal::Magic);
    let mut version = bytes;
    version[2] = VERSION + 1;
    assert_eq!(refused(version), Refusal::Version);
    let mut kind = bytes;
    kind[3] = 0xee;
    assert_eq!(refused(kind), Refusal::Kind);
    let mut long = bytes;
    u32::try_from(MAX_RUN + 1)
        .expect("it is small")
        .put(&mut long[4..]);
    assert_eq!(refused(long), Refusal::Oversized);
    let mut short = bytes;
    3_u32.put(&mut short[4..]);
    assert_eq!(refused(short), Refusal::Truncated);
    assert_eq!(u16::from_le_bytes([bytes[0], bytes[1]]), MAGIC);
}

#[test]
fn records_of_frames_fit_their_headers() {
    const { assert!(RunOptions::SIZE <= RUN_HEADER) };
    let hello = Hello {
        async_number: 463,
        descriptors: 16,
        marked: 1,
        fuse: 1,
    };
    let mut bytes = [0; 16];
    hello.put(&mut bytes);
    assert_eq!(Hello::get(&bytes), hello);
}

#[test]
fn varying_fields_exist() {
    for (kind, field) in VARYING {
        let fields = KINDS
            .iter()
            .find(|(word, _)| word == kind)
            .map(|(_, fields)| fields);
        assert!(
            fields.is_some_and(|fields| fields.contains(field)),
            "{kind} {field}"
        );
    }
}

#[test]
fn unknown_kind_keeps_its_words() {
    let mut bytes = [7; EVENT];
    bytes[0] = 200;
    bytes[3] = 0;
    let event = Event::decode(&bytes);
    assert!(matches!(event.detail, Detail::Unknown { code: 200, .. }));
    assert_eq!(event.encode(), bytes);
}
