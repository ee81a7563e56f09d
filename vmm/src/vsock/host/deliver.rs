//! What a packet of the guest does to the host's end.

use super::super::packet::{HOST_CID, Header, Operation, SHUTDOWN_BOTH, TYPE_STREAM};
use super::{ConnectionId, ConnectionStatus, Ports, VsockHost};
use crate::virtio::Misuse;

impl VsockHost {
    /// Whether one more packet of the guest may be taken: each may need an answer.
    pub(in super::super) fn can_answer(&self) -> bool {
        self.state.resets.len() < self.limits.resets
    }

    /// Takes one packet of the guest. `payload` holds `header.len` bytes if the
    /// operation carries data and they could fit, else nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with the packet; it has been answered as the specification
    /// asks, if it does.
    pub(in super::super) fn deliver(
        &mut self,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Misuse> {
        if header.src_cid != self.guest_cid {
            return Err(Misuse::PacketSource);
        }
        if header.dst_cid != HOST_CID {
            return Err(Misuse::PacketDestination);
        }
        let ports = Ports {
            host: header.dst_port,
            guest: header.src_port,
        };
        let operation = Operation::from_number(header.op);
        if header.kind != TYPE_STREAM {
            // Streams and other sockets have separate ports, so no stream ends.
            if operation != Some(Operation::Reset) {
                self.push_reset(ports, header.kind);
            }
            return Err(Misuse::PacketType);
        }
        let known = self.by_ports.get(&ports).copied();
        let result = match (operation, known) {
            (None, _) => Err(Misuse::PacketOperation),
            (Some(operation), _) if operation != Operation::ReadWrite && header.len != 0 => {
                Err(Misuse::PacketPayload)
            }
            (Some(Operation::Request), None) => return self.request(ports, header),
            // Both sides may end a stream at the same time.
            (Some(Operation::Reset), None) => return Ok(()),
            (Some(_), None) => Err(Misuse::NoConnection),
            (Some(operation), Some(id)) => self.deliver_to(id, operation, header, payload),
        };
        if let Err(misuse) = result {
            self.punish(ports, operation, misuse);
        }
        result
    }

    /// Ends the stream that was misused, if there is one, and tells the guest;
    /// but never answers an `RST`, nor ends a stream for mere shutdown flags.
    fn punish(&mut self, ports: Ports, operation: Option<Operation>, misuse: Misuse) {
        if misuse == Misuse::ShutdownFlags {
            return;
        }
        if let Some(&id) = self.by_ports.get(&ports) {
            self.finish(id, ConnectionStatus::Reset);
        }
        if operation != Some(Operation::Reset) {
            self.push_reset(ports, TYPE_STREAM);
        }
    }

    /// The guest opens a stream.
    fn request(&mut self, ports: Ports, header: &Header) -> Result<(), Misuse> {
        let result = self.try_request(ports, header);
        if result != Ok(true) {
            self.push_reset(ports, TYPE_STREAM);
        }
        result.map(|_| ())
    }

    /// Returns whether there is somebody to take the stream.
    fn try_request(&mut self, ports: Ports, header: &Header) -> Result<bool, Misuse> {
        let full = self.state.connections.len() >= self.limits.connections;
        let backlog = self.limits.backlog;
        let (waiting, status) = match self.state.listeners.get(&ports.host) {
            Some(waiting) => (waiting, ConnectionStatus::Open),
            None => match &self.state.requests {
                Some(waiting) => (waiting, ConnectionStatus::Requested),
                None => return Ok(false),
            },
        };
        if full || waiting.len() >= backlog {
            return Err(Misuse::ConnectionLimit);
        }
        let mut connection = self.new_connection(ports, status);
        connection.take_credit(header)?;
        connection.pending.response = status == ConnectionStatus::Open;
        let id = self.insert(connection);
        match self.state.listeners.get_mut(&ports.host) {
            Some(waiting) => waiting.push_back(id),
            None => self.state.requests.get_or_insert_default().push_back(id),
        }
        self.wake(id);
        Ok(true)
    }

    fn deliver_to(
        &mut self,
        id: ConnectionId,
        operation: Operation,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Misuse> {
        let known = self.state.connections.get_mut(&id);
        let connection = known.ok_or(Misuse::NoConnection)?;
        if operation != Operation::Reset {
            connection.take_credit(header)?;
        }
        let open = connection.status == ConnectionStatus::Open;
        let mut result = Ok(());
        match operation {
            Operation::Reset => {
                let status = connection.end_by_reset();
                self.finish(id, status);
                return Ok(());
            }
            Operation::Response if connection.status == ConnectionStatus::Connecting => {
                connection.open();
            }
            Operation::ReadWrite if connection.may_receive() => {
                if header.len > connection.room() {
                    return Err(Misuse::CreditExceeded);
                }
                connection.receive(payload);
            }
            Operation::Shutdown if open => {
                let unknown = header.flags & !SHUTDOWN_BOTH != 0;
                if unknown || header.flags & SHUTDOWN_BOTH == 0 {
                    result = Err(Misuse::ShutdownFlags);
                }
                if connection.shut_by_guest(header.flags) {
                    self.finish(id, ConnectionStatus::Closed);
                    self.push_reset(Ports::of(header), TYPE_STREAM);
                    return result;
                }
            }
            Operation::CreditUpdate => {}
            Operation::CreditRequest => connection.pending.credit_update = true,
            _ => return Err(Misuse::PacketState),
        }
        self.wake(id);
        result
    }

    /// Ends a live stream. It stays known to the embedding program, unless that
    /// has let go of it.
    fn finish(&mut self, id: ConnectionId, status: ConnectionStatus) {
        let Some(connection) = self.state.connections.get_mut(&id) else {
            return;
        };
        connection.end(status);
        self.by_ports.remove(&connection.ports);
        if connection.orphan {
            self.state.connections.remove(&id);
        }
    }

    /// The driver reset the device: the guest knows of no stream any more.
    pub(in super::super) fn guest_is_gone(&mut self) {
        let live: Vec<ConnectionId> = self.by_ports.values().copied().collect();
        for id in live {
            self.finish(id, ConnectionStatus::Reset);
        }
        self.state.resets.clear();
    }
}

impl Ports {
    fn of(header: &Header) -> Self {
        Self {
            host: header.dst_port,
            guest: header.src_port,
        }
    }
}
