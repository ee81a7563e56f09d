//! What the host's end has to say: which stream's turn it is.

use super::super::packet::{HOST_CID, Header, Operation};
use super::state::ResetReply;
use super::{ConnectionId, Ports, VsockHost};

impl VsockHost {
    pub(super) fn push_reset(&mut self, ports: Ports, kind: u16) {
        self.state.resets.push_back(ResetReply { ports, kind });
    }

    /// Queues a stream to be asked for packets, if it has any.
    pub(super) fn wake(&mut self, id: ConnectionId) {
        let Some(connection) = self.state.connections.get_mut(&id) else {
            return;
        };
        if !connection.queued && connection.has_packet() {
            connection.queued = true;
            self.state.ready.push_back(id);
        }
    }

    /// Whether there is a packet for the guest.
    pub(in super::super) fn has_packet(&mut self) -> bool {
        while self.state.resets.is_empty() {
            let Some(id) = self.state.ready.front() else {
                return false;
            };
            match self.state.connections.get_mut(id) {
                Some(connection) if connection.has_packet() => return true,
                Some(connection) => connection.queued = false,
                None => {}
            }
            self.state.ready.pop_front();
        }
        true
    }

    /// The next packet for a buffer with room for `room` bytes of payload.
    /// Streams take turns. `None` if there is no packet, or none that fits.
    pub(in super::super) fn next_packet(
        &mut self,
        room: u32,
        payload: &mut Vec<u8>,
    ) -> Option<Header> {
        payload.clear();
        if !self.has_packet() {
            return None;
        }
        let mut header = match self.state.resets.pop_front() {
            Some(reply) => reset_header(reply),
            None => self.next_of_connections(room, payload)?,
        };
        header.src_cid = HOST_CID;
        header.dst_cid = self.guest_cid;
        Some(header)
    }

    fn next_of_connections(&mut self, room: u32, payload: &mut Vec<u8>) -> Option<Header> {
        let id = *self.state.ready.front()?;
        let connection = self.state.connections.get_mut(&id)?;
        let header = connection.next_packet(room, payload)?;
        connection.queued = connection.has_packet();
        let again = connection.queued;
        self.state.ready.pop_front();
        if again {
            self.state.ready.push_back(id);
        }
        Some(header)
    }
}

fn reset_header(reply: ResetReply) -> Header {
    Header {
        src_port: reply.ports.host,
        dst_port: reply.ports.guest,
        kind: reply.kind,
        op: Operation::Reset as u16,
        ..Header::default()
    }
}
