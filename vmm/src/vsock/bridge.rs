//! Firecracker's vsock convention on Unix sockets, for ordinary programs.
//!
//! A program that wants to talk to a port of the guest connects to the bridge's
//! socket and writes `CONNECT <port>\n`; once the guest has accepted, it reads
//! `OK <port>\n`, with the port on the host's side, and then the stream's data.
//! A guest program that connects to host port `p` reaches whoever listens on
//! the Unix socket `<path>_<p>`; if nobody does, it is refused.
//!
//! There is no thread: whoever runs the machine calls [`UnixBridge::poll`]
//! between two runs. What arrives when depends on other programs, so a machine
//! with a bridge is not deterministic.

mod client;

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use self::client::{Client, Progress};
use super::host::{ConnectionId, VsockHost};

/// Programs connected at one time, at most; further ones wait.
const MOST_CLIENTS: usize = 64;

/// Why a bridge cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// There is something at the socket's path.
    #[error("socket path {} is in use: remove it or choose another", .0.display())]
    InUse(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen on socket path {}: {source}", .path.display())]
    Listen {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The bridge between one machine's streams and Unix sockets. Dropping it
/// removes its socket.
#[derive(Debug)]
pub struct UnixBridge {
    path: PathBuf,
    /// Which file is ours, by device and inode.
    identity: (u64, u64),
    listener: UnixListener,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
}

impl UnixBridge {
    /// Listens on `path`.
    ///
    /// # Errors
    ///
    /// [`BridgeError::InUse`] if anything is at `path`, be it a socket that
    /// nobody listens on any more; [`BridgeError::Listen`] otherwise.
    pub fn bind(path: &Path) -> Result<Self, BridgeError> {
        let failed = |source: io::Error| match source.kind() {
            ErrorKind::AddrInUse => BridgeError::InUse(path.to_owned()),
            _ => BridgeError::Listen {
                path: path.to_owned(),
                source,
            },
        };
        let listener = UnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            listener,
            clients: Vec::new(),
            buffer: vec![0; 64 * 1024].into(),
        })
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves what can be moved without waiting; returns whether anything did.
    ///
    /// To be called before the first run too: only from then on do the guest's
    /// requests wait for a listening program instead of being refused.
    pub fn poll(&mut self, host: &mut VsockHost) -> bool {
        host.keep_requests();
        let mut moved = self.take_programs();
        moved |= self.take_requests(host);
        let buffer = &mut self.buffer;
        self.clients
            .retain_mut(|client| match client.advance(host, buffer) {
                Progress::Idle => true,
                Progress::Moved => {
                    moved = true;
                    true
                }
                Progress::Over => {
                    moved = true;
                    false
                }
            });
        moved
    }

    /// Accepts programs that connect to the bridge's socket. Whatever goes
    /// wrong with one is its own loss.
    fn take_programs(&mut self) -> bool {
        let before = self.clients.len();
        while self.clients.len() < MOST_CLIENTS {
            let Ok((stream, _)) = self.listener.accept() else {
                break;
            };
            if stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client::greeting(stream));
            }
        }
        self.clients.len() > before
    }

    /// Connects the guest's requests to the programs that listen for them.
    fn take_requests(&mut self, host: &mut VsockHost) -> bool {
        let mut moved = false;
        while self.clients.len() < MOST_CLIENTS {
            let Some(id) = host.next_request() else {
                break;
            };
            moved = true;
            match self.connect(host, id) {
                Some(client) => self.clients.push(client),
                // Only a handle that is gone already cannot be reset.
                None => drop(host.reset(id)),
            }
        }
        moved
    }

    fn connect(&self, host: &mut VsockHost, id: ConnectionId) -> Option<Client> {
        let port = host.ports(id).ok()?.host;
        let stream = connect_at_once(&self.path_of(port)).ok()?;
        host.answer(id).ok()?;
        Some(Client::streaming(stream, id))
    }

    /// Where programs listen for the guest's connections to `port`.
    fn path_of(&self, port: u32) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(format!("_{port}"));
        path.into()
    }
}

/// Connects to the socket at `path`, without waiting for a listener that is
/// behind with accepting: the guest could hold the machine up with that.
fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

impl Drop for UnixBridge {
    fn drop(&mut self) {
        let ours = |file: fs::Metadata| (file.dev(), file.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // Nothing useful can be done if it stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
