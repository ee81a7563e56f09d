//! The bytes of a stream: what the embedding program sends and receives.

use super::{ConnectionId, HostError, VsockHost, not_open};

impl VsockHost {
    /// Queues as much of `data` as there is room for, and returns how much that is.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`]; [`HostError::NotOpen`] if the stream has
    /// ended or either side has shut this direction down.
    pub fn send(&mut self, id: ConnectionId, data: &[u8]) -> Result<usize, HostError> {
        let limit = self.limits.send_buffer;
        let connection = self.connection_mut(id)?;
        if !connection.can_send() {
            return Err(not_open(connection));
        }
        let count = data
            .len()
            .min(limit.saturating_sub(connection.unsent_len()));
        connection.push(&data[..count]);
        self.wake(id);
        Ok(count)
    }

    /// Bytes that were queued and that the guest has not taken yet.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn unsent(&self, id: ConnectionId) -> Result<usize, HostError> {
        Ok(self.connection(id)?.unsent_len())
    }

    /// How much [`Self::send`] would take now.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn send_room(&self, id: ConnectionId) -> Result<usize, HostError> {
        let connection = self.connection(id)?;
        let room = self
            .limits
            .send_buffer
            .saturating_sub(connection.unsent_len());
        Ok(if connection.can_send() { room } else { 0 })
    }

    /// What was received and not read yet, as the two halves of a ring buffer.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn received(&self, id: ConnectionId) -> Result<(&[u8], &[u8]), HostError> {
        Ok(self.connection(id)?.received().as_slices())
    }

    /// Drops the first `count` received bytes (or all), which gives the guest
    /// credit for as many.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn consume(&mut self, id: ConnectionId, count: usize) -> Result<(), HostError> {
        self.connection_mut(id)?.consume(count);
        self.wake(id);
        Ok(())
    }

    /// Moves all that was received to the end of `data`; returns how much that is.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn receive(&mut self, id: ConnectionId, data: &mut Vec<u8>) -> Result<usize, HostError> {
        let (first, second) = self.received(id)?;
        let count = first.len() + second.len();
        data.extend_from_slice(first);
        data.extend_from_slice(second);
        self.consume(id, count)?;
        Ok(count)
    }

    /// Whether the guest will send nothing more: what was received is all.
    ///
    /// # Errors
    ///
    /// [`HostError::NoSuchConnection`].
    pub fn at_end(&self, id: ConnectionId) -> Result<bool, HostError> {
        Ok(self.connection(id)?.at_end())
    }
}
