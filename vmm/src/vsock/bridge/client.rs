//! One program on the other side of the bridge.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::super::connection::ConnectionStatus;
use super::super::host::{ConnectionId, HostError, VsockHost};

/// The longest `CONNECT <port>\n`, with room for spaces.
const LONGEST_GREETING: usize = 32;

/// What [`Client::advance`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing.
    Idle,
    /// It moved data, or a step.
    Moved,
    /// The client is done with; it may be dropped.
    Over,
}

#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Its `CONNECT` has not come whole yet.
    Greeting(Vec<u8>),
    /// The guest has not answered yet.
    Connecting(ConnectionId),
    /// `OK` is on its way; what of it is left to write.
    Answering(ConnectionId, Vec<u8>),
    /// Data flows.
    Streaming(ConnectionId, Ends),
}

/// Which directions have ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    /// The program will write nothing more, and the guest was told.
    program: bool,
    /// The guest will send nothing more, and the program was told.
    guest: bool,
}

/// The client cannot go on: its stream or its socket broke.
#[derive(Debug)]
struct Broken;

impl From<HostError> for Broken {
    fn from(_: HostError) -> Self {
        Self
    }
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Client {
    /// A program that connected to the bridge.
    pub(super) fn greeting(stream: UnixStream) -> Self {
        let stage = Stage::Greeting(Vec::new());
        Self { stream, stage }
    }

    /// A program that the guest connected to.
    pub(super) fn streaming(stream: UnixStream, id: ConnectionId) -> Self {
        let stage = Stage::Streaming(id, Ends::default());
        Self { stream, stage }
    }

    /// Does what can be done without waiting.
    pub(super) fn advance(&mut self, host: &mut VsockHost, buffer: &mut [u8]) -> Progress {
        let result = match self.stage {
            Stage::Greeting(_) => self.greet(host),
            Stage::Connecting(id) => self.connect(host, id),
            Stage::Answering(id, _) => self.answer(id),
            Stage::Streaming(id, ends) => self.pump(host, id, ends, buffer),
        };
        result.unwrap_or_else(|Broken| {
            if let Some(id) = self.connection() {
                // Only a handle that is gone already cannot be reset.
                let _ = host.reset(id);
            }
            Progress::Over
        })
    }

    fn connection(&self) -> Option<ConnectionId> {
        match self.stage {
            Stage::Greeting(_) => None,
            Stage::Connecting(id) | Stage::Answering(id, _) | Stage::Streaming(id, _) => Some(id),
        }
    }

    fn greet(&mut self, host: &mut VsockHost) -> Result<Progress, Broken> {
        let Stage::Greeting(line) = &mut self.stage else {
            return Ok(Progress::Idle);
        };
        let before = line.len();
        // Byte by byte: what follows the line belongs to the stream.
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            match read(&mut self.stream, &mut byte)? {
                None => {
                    let moved = line.len() > before;
                    return Ok(if moved {
                        Progress::Moved
                    } else {
                        Progress::Idle
                    });
                }
                Some(0) => return Err(Broken),
                Some(_) if line.len() == LONGEST_GREETING => return Err(Broken),
                Some(_) => line.push(byte[0]),
            }
        }
        let port = port_of(line).ok_or(Broken)?;
        self.stage = Stage::Connecting(host.connect(port)?);
        Ok(Progress::Moved)
    }

    fn connect(&mut self, host: &mut VsockHost, id: ConnectionId) -> Result<Progress, Broken> {
        match host.status(id)? {
            ConnectionStatus::Connecting => Ok(Progress::Idle),
            ConnectionStatus::Open => {
                let answer = format!("OK {}\n", host.ports(id)?.host);
                self.stage = Stage::Answering(id, answer.into());
                self.answer(id)
            }
            _ => Err(Broken),
        }
    }

    fn answer(&mut self, id: ConnectionId) -> Result<Progress, Broken> {
        let Stage::Answering(_, rest) = &mut self.stage else {
            return Ok(Progress::Idle);
        };
        let written = write(&mut self.stream, rest)?;
        rest.drain(..written);
        if rest.is_empty() {
            self.stage = Stage::Streaming(id, Ends::default());
        }
        Ok(Progress::Moved)
    }

    fn pump(
        &mut self,
        host: &mut VsockHost,
        id: ConnectionId,
        mut ends: Ends,
        buffer: &mut [u8],
    ) -> Result<Progress, Broken> {
        let mut moved = self.feed_guest(host, id, &mut ends, buffer)?;
        moved |= self.feed_program(host, id, &mut ends)?;
        self.stage = Stage::Streaming(id, ends);
        if host.status(id)? == ConnectionStatus::Reset && ends.guest {
            return Err(Broken);
        }
        let done = ends.guest && (ends.program || !host.status(id)?.is_live());
        if done {
            host.close(id)?;
            return Ok(Progress::Over);
        }
        Ok(if moved {
            Progress::Moved
        } else {
            Progress::Idle
        })
    }

    fn feed_guest(
        &mut self,
        host: &mut VsockHost,
        id: ConnectionId,
        ends: &mut Ends,
        buffer: &mut [u8],
    ) -> Result<bool, Broken> {
        let room = host.send_room(id)?.min(buffer.len());
        if ends.program || room == 0 {
            return Ok(false);
        }
        match read(&mut self.stream, &mut buffer[..room])? {
            None => return Ok(false),
            Some(0) => {
                ends.program = true;
                host.shutdown(id, Shutdown::Write)?;
            }
            Some(count) => {
                host.send(id, &buffer[..count])?;
            }
        }
        Ok(true)
    }

    fn feed_program(
        &mut self,
        host: &mut VsockHost,
        id: ConnectionId,
        ends: &mut Ends,
    ) -> Result<bool, Broken> {
        let (first, _) = host.received(id)?;
        if !first.is_empty() {
            let written = write(&mut self.stream, first)?;
            host.consume(id, written)?;
            return Ok(written > 0);
        }
        if ends.guest || !host.at_end(id)? {
            return Ok(false);
        }
        ends.guest = true;
        // It may have hung up by itself.
        let _ = self.stream.shutdown(Shutdown::Write);
        Ok(true)
    }
}

/// The port that a greeting asks for.
fn port_of(line: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let port = match (words.next(), words.next(), words.next()) {
        (Some("CONNECT"), Some(port), None) => port,
        _ => return None,
    };
    port.parse().ok()
}

/// Reads without waiting: `None` if there is nothing, 0 at the end.
fn read(stream: &mut UnixStream, bytes: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match stream.read(bytes) {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes without waiting, as much as there is room for.
fn write(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
