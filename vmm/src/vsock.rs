//! virtio-vsock (virtio 1.2, section 5.10): stream sockets between the guest
//! and this process.
//!
//! A stream is named by two ports, one on each side; the guest's context
//! identifier is [`GUEST_CID`] unless asked otherwise, the host's is
//! [`HOST_CID`]. Packets have a 44-byte header and go through two virtqueues:
//!
//! | operation | says |
//! |---|---|
//! | `REQUEST` / `RESPONSE` | open a stream / it is open |
//! | `RST` | there is no such stream (any more) |
//! | `SHUTDOWN` | the sender will not receive, or not send, any more |
//! | `RW` | data |
//! | `CREDIT_UPDATE` / `CREDIT_REQUEST` | how much room there is / tell me |
//!
//! Every header also tells the sender's receive buffer (`buf_alloc`) and how
//! many bytes have left it (`fwd_cnt`, wrapping): so each side knows how much it
//! may send, and nothing is ever dropped for want of room.
//!
//! [`VsockHost`] is the host's end: an embedding program listens, accepts,
//! connects, sends and receives through it, without threads or clocks. Nothing
//! moves until the machine lets [`VirtioVsock`] serve its rings between two runs
//! of the CPU. So a run is a function of what was sent before it.
//! [`UnixBridge`] gives other programs the same, by Firecracker's convention.

mod bridge;
mod connection;
mod device;
mod host;
mod packet;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use bridge::{BridgeError, UnixBridge};
pub use connection::{ConnectionStatus, Ports};
pub use device::{VirtioVsock, VsockState};
pub use host::{ConnectionId, HostError, HostState, Limits, VsockHost};
pub use packet::{GUEST_CID, HOST_CID, Header, Operation};
