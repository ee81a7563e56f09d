//! The host's end of the guest's streams, for the program that embeds the machine.

mod data;
mod deliver;
mod outgoing;
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::net::Shutdown;

use serde::{Deserialize, Serialize};

use super::connection::{Connection, ConnectionStatus, Ports};
use super::packet::{SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

pub use self::state::HostState;

/// First port that [`VsockHost::connect`] uses on this side.
const FIRST_LOCAL_PORT: u32 = 1 << 30;

/// A stream's handle. Never used twice in the life of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(u64);

/// How much the host's end holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams at one time, from their first packet until they are let go of.
    pub connections: usize,
    /// Streams of one listener that wait to be accepted.
    pub backlog: usize,
    /// Bytes of a stream that were received and not read: its `buf_alloc`.
    pub receive_buffer: u32,
    /// Bytes of a stream that wait to be sent.
    pub send_buffer: usize,
    /// `RST` packets that wait to be sent. When so many wait, the device takes
    /// no more packets from the guest until it makes room for them.
    pub resets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            backlog: 16,
            receive_buffer: 256 * 1024,
            send_buffer: 1024 * 1024,
            resets: 64,
        }
    }
}

/// Why the host's end refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The stream was let go of, or never was.
    #[error("there is no such vsock connection")]
    NoSuchConnection,
    /// The stream cannot carry data that way any more, or the port is not known.
    #[error("the vsock connection to guest port {port} is not open for that ({status:?})")]
    NotOpen {
        /// The guest's port.
        port: u32,
        /// How the stream stands.
        status: ConnectionStatus,
    },
    /// Somebody listens on that port already.
    #[error("vsock port {0} is already listened on: choose another")]
    PortInUse(u32),
    /// A stream between these two ports exists already.
    #[error("a vsock connection from port {} to guest port {} exists already", .0.host, .0.guest)]
    PortsInUse(Ports),
    /// As many streams as [`Limits::connections`] exist.
    #[error("there are {0} vsock connections already: close one first")]
    TooManyConnections(usize),
}

/// The host's end: listeners and streams.
///
/// All calls only touch what is buffered here; packets come and go when the
/// machine serves the device's rings.
#[derive(Debug)]
pub struct VsockHost {
    guest_cid: u64,
    limits: Limits,
    state: HostState,
    /// Derived from the state: the live streams by their ports.
    by_ports: BTreeMap<Ports, ConnectionId>,
}

impl VsockHost {
    /// A host's end without listeners and streams, for the guest `guest_cid`.
    pub fn new(guest_cid: u64, limits: Limits) -> Self {
        Self {
            guest_cid,
            limits,
            state: HostState::default(),
            by_ports: BTreeMap::new(),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets the guest connect to `port`.
    ///
    /// # Errors
    ///
    /// [`HostError::PortInUse`].
    pub fn listen(&mut self, port: u32) -> Result<(), HostError> {
        if self.state.listeners.contains_key(&port) {
            return Err(HostError::PortInUse(port));
        }
        self.state.listeners.insert(port, VecDeque::new());
        Ok(())
    }

    /// Whether somebody listens on `port`.
    pub fn is_listening(&self, port: u32) -> bool {
        self.state.listeners.contains_key(&port)
    }

    /// Stops listening on `port`; streams that wait to be accepted are reset.
    pub fn stop_listening(&mut self, port: u32) {
        for id in self.state.listeners.remove(&port).unwrap_or_default() {
            self.drop_connection(id);
        }
    }

    /// The oldest stream that the guest opened to `port` and that was not
    /// accepted yet. It may have ended since.
    pub fn accept(&mut self, port: u32) -> Option<ConnectionId> {
        self.state.listeners.get_mut(&port)?.pop_front()
    }

    /// From now on the guest's requests for ports without a listener wait for
    /// [`Self::next_request`], instead of being refused.
    pub fn keep_requests(&mut self) {
        self.state.requests.get_or_insert_default();
    }

    /// The oldest request that waits for a decision: [`Self::answer`], or
    /// [`Self::reset`] to refuse it. The guest may have given up since.
    pub fn next_request(&mut self) -> Option<ConnectionId> {
        self.state.requests.as_mut()?.pop_front()
    }

    /// Opens a stream that [`Self::next_request`] returned.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`]; [`HostError::NotOpen`] if the stream does
    /// not wait for an answer.
    pub fn answer(&mut self, id: ConnectionId) -> Result<(), HostError> {
        let connection = self.connection_mut(id)?;
        if connection.status != ConnectionStatus::Requested {
            return Err(not_open(connection));
        }
        connection.open();
        connection.pending.response = true;
        self.wake(id);
        Ok(())
    }

    /// Opens a stream to `guest_port`, from a port that nothing else uses.
    ///
    /// # Errors
    ///
    /// [`HostError::TooManyConnections`].
    pub fn connect(&mut self, guest_port: u32) -> Result<ConnectionId, HostError> {
        loop {
            let host = FIRST_LOCAL_PORT | self.state.ports_used & (FIRST_LOCAL_PORT - 1);
            self.state.ports_used = self.state.ports_used.wrapping_add(1);
            let ports = Ports {
                host,
                guest: guest_port,
            };
            match self.connect_between(ports) {
                Err(HostError::PortsInUse(_)) => {}
                done => return done,
            }
        }
    }

    /// Opens a stream between two given ports.
    ///
    /// # Errors
    ///
    /// [`HostError::TooManyConnections`], [`HostError::PortsInUse`].
    pub fn connect_between(&mut self, ports: Ports) -> Result<ConnectionId, HostError> {
        if self.state.connections.len() >= self.limits.connections {
            return Err(HostError::TooManyConnections(self.limits.connections));
        }
        if self.by_ports.contains_key(&ports) {
            return Err(HostError::PortsInUse(ports));
        }
        let mut connection = self.new_connection(ports, ConnectionStatus::Connecting);
        connection.pending.request = true;
        let id = self.insert(connection);
        self.wake(id);
        Ok(id)
    }

    /// How a stream stands.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn status(&self, id: ConnectionId) -> Result<ConnectionStatus, HostError> {
        Ok(self.connection(id)?.status)
    }

    /// The two ports of a stream.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn ports(&self, id: ConnectionId) -> Result<Ports, HostError> {
        Ok(self.connection(id)?.ports)
    }

    /// The streams that were not let go of, oldest first.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        let all = self.state.connections.iter();
        all.filter(|(_, connection)| !connection.orphan)
            .map(|(&id, _)| id)
    }

    /// Ends one direction or both; what was queued is sent before.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`]; [`HostError::NotOpen`] if the stream has ended.
    pub fn shutdown(&mut self, id: ConnectionId, how: Shutdown) -> Result<(), HostError> {
        let connection = self.connection_mut(id)?;
        if !connection.status.is_live() {
            return Err(not_open(connection));
        }
        connection.shut_by_host(match how {
            Shutdown::Read => SHUTDOWN_RECEIVE,
            Shutdown::Write => SHUTDOWN_SEND,
            Shutdown::Both => SHUTDOWN_BOTH,
        });
        self.wake(id);
        Ok(())
    }

    /// Lets go of a stream in good order: what was queued is still sent, then
    /// both directions are shut down; what arrives meanwhile is dropped. The
    /// handle is not valid any more.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn close(&mut self, id: ConnectionId) -> Result<(), HostError> {
        let connection = self.connection_mut(id)?;
        if connection.status == ConnectionStatus::Open {
            connection.orphan = true;
            connection.shut_by_host(SHUTDOWN_BOTH);
            self.wake(id);
            return Ok(());
        }
        self.drop_connection(id);
        Ok(())
    }

    /// Cuts a stream off and lets go of it. The handle is not valid any more.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn reset(&mut self, id: ConnectionId) -> Result<(), HostError> {
        self.connection(id)?;
        self.drop_connection(id);
        Ok(())
    }

    /// The state, open streams and all.
    pub fn save(&self) -> HostState {
        self.state.clone()
    }

    /// Puts the host's end into `state`.
    ///
    /// # Errors
    ///
    /// What in `state` contradicts itself; nothing is changed then.
    pub fn restore(&mut self, state: &HostState) -> Result<(), String> {
        self.by_ports = state.check()?;
        self.state.clone_from(state);
        Ok(())
    }

    fn connection(&self, id: ConnectionId) -> Result<&Connection, HostError> {
        let connection = self.state.connections.get(&id);
        connection
            .filter(|connection| !connection.orphan)
            .ok_or(HostError::NoSuchConnection)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Result<&mut Connection, HostError> {
        let connection = self.state.connections.get_mut(&id);
        connection
            .filter(|connection| !connection.orphan)
            .ok_or(HostError::NoSuchConnection)
    }

    fn new_connection(&self, ports: Ports, status: ConnectionStatus) -> Connection {
        Connection::new(ports, status, self.limits.receive_buffer)
    }

    fn insert(&mut self, connection: Connection) -> ConnectionId {
        let id = ConnectionId(self.state.next_id);
        self.state.next_id += 1;
        self.by_ports.insert(connection.ports, id);
        self.state.connections.insert(id, connection);
        id
    }

    /// Removes a stream at once, with an `RST` if the guest knows of it.
    fn drop_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.state.connections.remove(&id) else {
            return;
        };
        if connection.status.is_live() {
            self.by_ports.remove(&connection.ports);
            if !connection.pending.request {
                self.push_reset(connection.ports, super::packet::TYPE_STREAM);
            }
        }
    }
}

fn not_open(connection: &Connection) -> HostError {
    HostError::NotOpen {
        port: connection.ports.guest,
        status: connection.status,
    }
}
