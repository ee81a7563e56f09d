//! The host's end as plain data.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::super::connection::{Connection, Ports};
use super::ConnectionId;

/// The state of a [`super::VsockHost`]: part of a snapshot, open streams and all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostState {
    pub(super) next_id: u64,
    pub(super) ports_used: u32,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    /// Listening ports, with the streams that wait to be accepted.
    pub(super) listeners: BTreeMap<u32, VecDeque<ConnectionId>>,
    /// Streams to ports without a listener, if somebody decides on those.
    pub(super) requests: Option<VecDeque<ConnectionId>>,
    /// Streams that may have something to send, in turn.
    pub(super) ready: VecDeque<ConnectionId>,
    pub(super) resets: VecDeque<ResetReply>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct ResetReply {
    pub(super) ports: Ports,
    pub(super) kind: u16,
}

impl HostState {
    /// Whether there is no stream and nothing to send; listeners do not count.
    pub fn is_empty(&self) -> bool {
        let waits = !self.ready.is_empty() || !self.resets.is_empty();
        self.connections.is_empty() && !waits
    }

    /// Whether the lists name streams that exist, each once where it must be;
    /// returns the live streams by their ports.
    pub(super) fn check(&self) -> Result<BTreeMap<Ports, ConnectionId>, String> {
        let mut by_ports = BTreeMap::new();
        for (&id, connection) in &self.connections {
            if id.0 >= self.next_id {
                return Err(format!("connection {} of the future", id.0));
            }
            let twice =
                connection.status.is_live() && by_ports.insert(connection.ports, id).is_some();
            if twice {
                return Err(format!("two connections between {:?}", connection.ports));
            }
        }
        let mut queued = self.connections.values().filter(|c| c.queued).count();
        for id in &self.ready {
            match self.connections.get(id) {
                Some(connection) if connection.queued && queued > 0 => queued -= 1,
                Some(_) => return Err(format!("connection {} is queued twice", id.0)),
                None => {}
            }
        }
        if queued > 0 {
            return Err("a queued connection is not in the queue".to_owned());
        }
        Ok(by_ports)
    }
}
