//! One stream: its two buffers, its credit, and what it has to say next.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::packet::{
    Header, Operation, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM,
};
use crate::virtio::Misuse;

/// A receiver tells of new room when its peer knows of less than this.
/// Linux uses the same threshold (its largest packet).
const CREDIT_THRESHOLD: u32 = 64 * 1024;

/// However much the guest announces, no more is under way: the counts wrap, and
/// must stay comparable.
const MOST_OUTSTANDING: u32 = 1 << 30;

/// The two ports that name a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ports {
    /// The port on this side.
    pub host: u32,
    /// The port on the guest's side.
    pub guest: u32,
}

/// How a stream stands, for the embedding program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConnectionStatus {
    /// The guest has not answered the `REQUEST` yet.
    Connecting,
    /// The guest's `REQUEST` has not been answered yet: see [`VsockHost::answer`].
    ///
    /// [`VsockHost::answer`]: super::VsockHost::answer
    Requested,
    /// Open; each direction may have been shut down since.
    Open,
    /// Both sides are done, in good order.
    Closed,
    /// The guest answered the `REQUEST` with `RST`.
    Refused,
    /// Cut off by the guest, or by this side for the guest's misuse.
    Reset,
}

impl ConnectionStatus {
    /// Whether packets can still be exchanged.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Connecting | Self::Requested | Self::Open)
    }
}

/// Control packets that wait to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) request: bool,
    pub(super) response: bool,
    pub(super) credit_update: bool,
    pub(super) credit_request: bool,
}

/// A stream, from its first packet until the embedding program lets go of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Connection {
    pub(super) ports: Ports,
    pub(super) status: ConnectionStatus,
    /// The embedding program has closed it; it lives until the guest agrees.
    pub(super) orphan: bool,
    /// It stands in the host's queue of connections with something to send.
    pub(super) queued: bool,
    pub(super) pending: Pending,
    /// What the guest will not do any more, as `SHUTDOWN` flags.
    guest_shutdown: u32,
    /// What this side will not do any more.
    host_shutdown: u32,
    /// What of that the guest was told.
    told_shutdown: u32,
    received: VecDeque<u8>,
    /// Bytes of the receive buffer, as announced.
    buf_alloc: u32,
    /// Bytes that left the receive buffer.
    fwd_cnt: u32,
    /// The same, as the guest knows it.
    told_fwd_cnt: u32,
    unsent: VecDeque<u8>,
    /// Bytes sent.
    tx_cnt: u32,
    guest_buf_alloc: u32,
    guest_fwd_cnt: u32,
    /// A `CREDIT_REQUEST` went out, and no credit has come since.
    asked_for_credit: bool,
}

impl Connection {
    pub(super) fn new(ports: Ports, status: ConnectionStatus, buf_alloc: u32) -> Self {
        Self {
            ports,
            status,
            orphan: false,
            queued: false,
            pending: Pending::default(),
            guest_shutdown: 0,
            host_shutdown: 0,
            told_shutdown: 0,
            received: VecDeque::new(),
            buf_alloc,
            fwd_cnt: 0,
            told_fwd_cnt: 0,
            unsent: VecDeque::new(),
            tx_cnt: 0,
            guest_buf_alloc: 0,
            guest_fwd_cnt: 0,
            asked_for_credit: false,
        }
    }

    /// Takes the credit that every header of the guest carries.
    ///
    /// Headers may overtake each other inside the guest, so an older count is
    /// no misuse; one ahead of what was sent is.
    pub(super) fn take_credit(&mut self, header: &Header) -> Result<(), Misuse> {
        if is_ahead(header.fwd_cnt, self.tx_cnt) {
            return Err(Misuse::CreditForged);
        }
        if is_ahead(header.fwd_cnt, self.guest_fwd_cnt) {
            self.guest_fwd_cnt = header.fwd_cnt;
        }
        self.guest_buf_alloc = header.buf_alloc;
        if self.credit() > 0 {
            self.asked_for_credit = false;
            self.pending.credit_request = false;
        }
        Ok(())
    }

    /// Bytes that the guest has room for.
    fn credit(&self) -> u32 {
        let outstanding = self.tx_cnt.wrapping_sub(self.guest_fwd_cnt);
        self.guest_buf_alloc
            .min(MOST_OUTSTANDING)
            .saturating_sub(outstanding)
    }

    /// Bytes that the guest may send.
    pub(super) fn room(&self) -> u32 {
        let held = u32::try_from(self.received.len()).unwrap_or(u32::MAX);
        self.buf_alloc.saturating_sub(held)
    }

    /// Bytes received and not read yet.
    pub(super) fn received(&self) -> &VecDeque<u8> {
        &self.received
    }

    /// Bytes that wait to be sent.
    pub(super) fn unsent_len(&self) -> usize {
        self.unsent.len()
    }

    /// Whether the guest will send nothing more.
    pub(super) fn at_end(&self) -> bool {
        !self.status.is_live() || self.guest_shutdown & SHUTDOWN_SEND != 0
    }

    /// Whether data may still be queued to be sent.
    pub(super) fn can_send(&self) -> bool {
        let stopped = self.host_shutdown & SHUTDOWN_SEND | self.guest_shutdown & SHUTDOWN_RECEIVE;
        self.status.is_live() && stopped == 0
    }

    /// Queues `bytes` to be sent.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
        self.want_credit();
    }

    /// Takes a payload of the guest, at most [`Self::room`] bytes; drops it if
    /// nobody will read it.
    pub(super) fn receive(&mut self, payload: &[u8]) {
        self.received.extend(payload);
        if self.host_shutdown & SHUTDOWN_RECEIVE != 0 {
            self.consume(payload.len());
        }
    }

    /// Whether the guest may still send data.
    pub(super) fn may_receive(&self) -> bool {
        self.status == ConnectionStatus::Open && self.guest_shutdown & SHUTDOWN_SEND == 0
    }

    /// Drops the first `count` received bytes (or all), and tells the guest of
    /// the room when that matters to it.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.received.len());
        self.received.drain(..count);
        // The buffer holds at most `buf_alloc` bytes, so the count fits.
        self.fwd_cnt = self.fwd_cnt.wrapping_add(u32::try_from(count).unwrap_or(0));
        let untold = self.fwd_cnt.wrapping_sub(self.told_fwd_cnt);
        let known_room = self.room().saturating_sub(untold);
        let threshold = CREDIT_THRESHOLD.min(self.buf_alloc / 2);
        if untold > 0 && known_room < threshold && self.may_receive() {
            self.pending.credit_update = true;
        }
    }

    /// The guest's `SHUTDOWN`. Returns whether both sides are done now.
    pub(super) fn shut_by_guest(&mut self, flags: u32) -> bool {
        self.guest_shutdown |= flags & SHUTDOWN_BOTH;
        if self.guest_shutdown & SHUTDOWN_RECEIVE != 0 {
            self.unsent.clear();
        }
        self.guest_shutdown == SHUTDOWN_BOTH
    }

    /// This side's `SHUTDOWN`, sent after the data before it.
    pub(super) fn shut_by_host(&mut self, flags: u32) {
        self.host_shutdown |= flags;
        if flags & SHUTDOWN_RECEIVE != 0 {
            self.consume(self.received.len());
        }
    }

    /// Ends the stream; what was received stays readable.
    pub(super) fn end(&mut self, status: ConnectionStatus) {
        self.status = status;
        self.unsent.clear();
        self.pending = Pending::default();
    }

    /// How the guest's `RST` ends the stream.
    pub(super) fn end_by_reset(&self) -> ConnectionStatus {
        if self.status == ConnectionStatus::Connecting {
            return ConnectionStatus::Refused;
        }
        let agreed = self.told_shutdown | self.guest_shutdown;
        match agreed == SHUTDOWN_BOTH {
            true => ConnectionStatus::Closed,
            false => ConnectionStatus::Reset,
        }
    }

    /// Whether a packet could go out now.
    pub(super) fn has_packet(&self) -> bool {
        self.next_operation().is_some()
    }

    fn next_operation(&self) -> Option<Operation> {
        let open = self.status == ConnectionStatus::Open;
        let pending = &self.pending;
        if pending.request {
            Some(Operation::Request)
        } else if pending.response {
            Some(Operation::Response)
        } else if !open {
            None
        } else if !self.unsent.is_empty() && self.credit() > 0 {
            Some(Operation::ReadWrite)
        } else if pending.credit_request {
            Some(Operation::CreditRequest)
        } else if self.unsent.is_empty() && self.host_shutdown != self.told_shutdown {
            Some(Operation::Shutdown)
        } else if pending.credit_update {
            Some(Operation::CreditUpdate)
        } else {
            None
        }
    }

    /// Makes the next packet for a buffer with room for `room` bytes of payload:
    /// the header, and the payload into `payload`. `None` if there is nothing to
    /// say, or data and no room for any of it.
    pub(super) fn next_packet(&mut self, room: u32, payload: &mut Vec<u8>) -> Option<Header> {
        payload.clear();
        let operation = self.next_operation()?;
        let mut header = Header {
            op: operation as u16,
            ..Header::default()
        };
        match operation {
            Operation::Request => self.pending.request = false,
            Operation::Response => self.pending.response = false,
            Operation::CreditRequest => {
                self.pending.credit_request = false;
                self.asked_for_credit = true;
            }
            Operation::Shutdown => {
                header.flags = self.host_shutdown;
                self.told_shutdown = self.host_shutdown;
            }
            Operation::ReadWrite => header.len = self.take_payload(room, payload)?,
            Operation::CreditUpdate | Operation::Reset => {}
        }
        self.stamp(&mut header);
        self.want_credit();
        Some(header)
    }

    /// Moves as much as may be sent into `payload`; `None` if that is nothing.
    fn take_payload(&mut self, room: u32, payload: &mut Vec<u8>) -> Option<u32> {
        let unsent = u32::try_from(self.unsent.len()).unwrap_or(u32::MAX);
        let len = unsent.min(self.credit()).min(room);
        if len == 0 {
            return None;
        }
        payload.extend(self.unsent.drain(..len as usize));
        self.tx_cnt = self.tx_cnt.wrapping_add(len);
        Some(len)
    }

    /// Asks for credit once when data waits and there is none.
    fn want_credit(&mut self) {
        let stuck = !self.unsent.is_empty() && self.credit() == 0;
        if stuck && self.status == ConnectionStatus::Open && !self.asked_for_credit {
            self.pending.credit_request = true;
        }
    }

    /// Fills in the ports and the credit; that is a credit update by itself.
    fn stamp(&mut self, header: &mut Header) {
        header.src_port = self.ports.host;
        header.dst_port = self.ports.guest;
        header.kind = TYPE_STREAM;
        header.buf_alloc = self.buf_alloc;
        header.fwd_cnt = self.fwd_cnt;
        self.told_fwd_cnt = self.fwd_cnt;
        self.pending.credit_update = false;
    }

    /// Opens a connecting stream, on the guest's `RESPONSE`.
    pub(super) fn open(&mut self) {
        self.status = ConnectionStatus::Open;
        self.want_credit();
    }
}

/// Whether the wrapping count `a` is further than `b`.
fn is_ahead(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < 1 << 31
}
