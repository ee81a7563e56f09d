//! What a hostile guest and a clumsy embedding program do, decoded from bytes.

use std::fmt;
use std::net::Shutdown;

use arbitrary::{Arbitrary, Unstructured};

use super::super::driver::GuestDriver;
use crate::vsock::packet::{HEADER_SIZE, Header};
use crate::vsock::{GUEST_CID, HOST_CID};

/// Steps of one scenario at most.
const MOST_STEPS: usize = 400;

/// What the guest and the embedding program do, in order.
#[derive(Debug)]
pub struct Scenario {
    pub(super) steps: Vec<Step>,
}

/// A guest's or the embedding program's next step.
#[derive(Debug, Arbitrary)]
pub(super) enum Step {
    Probe {
        features: Features,
    },
    Write {
        offset: u16,
        width: u8,
        value: u32,
    },
    WriteRegister {
        register: u8,
        value: u32,
    },
    Read {
        offset: u16,
        width: u8,
    },
    Memory {
        queue: u8,
        offset: u16,
        value: u32,
    },
    Descriptor {
        queue: u8,
        index: u8,
        address: Place,
        len: Length,
        flags: u8,
        next: u8,
    },
    Publish {
        queue: u8,
        head: u8,
    },
    AvailableIndex {
        queue: u8,
        index: u16,
    },
    Notify {
        queue: u8,
    },
    Packet {
        header: RawHeader,
        payload: u16,
    },
    Receive {
        refill: bool,
    },
    Serve,
    Listen {
        port: u8,
    },
    KeepRequests,
    NextRequest {
        accept: bool,
    },
    StopListening {
        port: u8,
    },
    Accept {
        port: u8,
    },
    Connect {
        port: u8,
    },
    Send {
        connection: u8,
        len: u16,
    },
    Consume {
        connection: u8,
        count: u16,
    },
    Shutdown {
        connection: u8,
        how: u8,
    },
    Close {
        connection: u8,
    },
    Reset {
        connection: u8,
    },
    Restore,
}

#[derive(Debug, Arbitrary)]
pub(super) enum Features {
    Usual,
    WithoutEventIdx,
    Any(u64),
}

#[derive(Debug, Arbitrary)]
pub(super) enum Place {
    Buffer(u8),
    Ring(u8, u16),
    Anywhere(u64),
}

#[derive(Debug, Arbitrary)]
pub(super) enum Length {
    Header,
    Short(u8),
    Any(u32),
}

/// A header whose fields are usually, but not always, plausible.
#[derive(Debug, Arbitrary)]
pub(super) struct RawHeader {
    op: u8,
    guest_port: u8,
    host_port: u8,
    flags: u8,
    credit: Credit,
    pub(super) strange: Option<Strange>,
}

#[derive(Debug, Arbitrary)]
pub(super) enum Credit {
    Plenty,
    Little(u8),
    Any { buf_alloc: u32, fwd_cnt: u32 },
}

#[derive(Debug, Arbitrary)]
pub(super) enum Strange {
    Source(u64),
    Destination(u64),
    Kind(u16),
    Operation(u16),
    Len(u32),
    Flags(u32),
}

impl<'a> Arbitrary<'a> for Scenario {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut steps = Vec::new();
        while !input.is_empty() && steps.len() < MOST_STEPS {
            steps.push(Step::arbitrary(input)?);
        }
        Ok(Self { steps })
    }
}

impl Scenario {
    /// The scenario that `bytes` describe; any bytes describe one.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut input = Unstructured::new(bytes);
        Self::arbitrary(&mut input).unwrap_or(Self { steps: Vec::new() })
    }
}

/// One line a step: how people read a seed, whose bytes mean nothing to them.
impl fmt::Display for Scenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps = self.steps.iter();
        steps.try_for_each(|step| writeln!(out, "{step:?}"))
    }
}

impl RawHeader {
    pub(super) fn build(&self) -> Header {
        let (buf_alloc, fwd_cnt) = match self.credit {
            Credit::Plenty => (0x4_0000, 0),
            Credit::Little(room) => (room.into(), 0),
            Credit::Any { buf_alloc, fwd_cnt } => (buf_alloc, fwd_cnt),
        };
        let mut header = Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: port_of(self.guest_port),
            dst_port: match self.host_port % 8 {
                // The first ports that the host's end picks for itself.
                own @ 4..8 => (1 << 30) + u32::from(own - 4),
                port => port.into(),
            },
            len: 0,
            kind: 1,
            op: u16::from(self.op % 7) + 1,
            flags: u32::from(self.flags % 4),
            buf_alloc,
            fwd_cnt,
        };
        match self.strange {
            Some(Strange::Source(cid)) => header.src_cid = cid,
            Some(Strange::Destination(cid)) => header.dst_cid = cid,
            Some(Strange::Kind(kind)) => header.kind = kind,
            Some(Strange::Operation(op)) => header.op = op,
            Some(Strange::Len(len)) => header.len = len,
            Some(Strange::Flags(flags)) => header.flags = flags,
            None => {}
        }
        header
    }
}

pub(super) fn place(place: &Place) -> u64 {
    match *place {
        Place::Buffer(slot) => 0x2_0000 + u64::from(slot) * 0x400,
        Place::Ring(queue, offset) => GuestDriver::base(queue_of(queue)) + u64::from(offset),
        Place::Anywhere(address) => address,
    }
}

pub(super) fn length(length: &Length) -> u32 {
    match *length {
        Length::Header => u32::try_from(HEADER_SIZE).unwrap_or(0),
        Length::Short(len) => len.into(),
        Length::Any(len) => len,
    }
}

pub(super) fn queue_of(choice: u8) -> usize {
    usize::from(choice % 3)
}

pub(super) fn port_of(choice: u8) -> u32 {
    u32::from(choice % 4)
}

pub(super) fn width_of(choice: u8) -> usize {
    [1, 2, 4, 3][usize::from(choice % 4)]
}

pub(super) fn how_of(choice: u8) -> Shutdown {
    match choice % 3 {
        0 => Shutdown::Read,
        1 => Shutdown::Write,
        _ => Shutdown::Both,
    }
}
