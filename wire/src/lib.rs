//! Programs and traces: what the host and the guest agent say to each other.
