//! Frames on the agent's stream ([`latefork_wire::frame`]).
//!
//! What comes from the guest is not to be trusted: a program under test may
//! have broken the agent or the kernel. So nothing here waits, panics or reads
//! past what was received.

use latefork_vmm::vsock::{ConnectionId, HostError, VsockHost};
use latefork_wire::Record;
use latefork_wire::frame::{
    FRAME_HEADER, FrameError, FrameHeader, FrameKind, Hello, PORT, RUN_HEADER, Refusal, RunOptions,
};
use latefork_wire::program::{MAX_BYTES, Program};
use latefork_wire::trace::{Event, events};

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It is ready.
    Hello(Hello),
    /// What came of a program.
    Trace(Vec<Event>),
    /// It did not take a program.
    Refused(Refusal),
}

/// Why the stream is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The bytes are no frame of this version.
    #[error("the agent does not speak this protocol: {0}")]
    Frame(FrameError),
    /// A frame that only the host sends, or with bytes that it cannot have.
    #[error("the agent sent a {0:?} frame that makes no sense")]
    Nonsense(FrameKind),
    /// The stream has ended.
    #[error("the agent's connection has ended")]
    Ended,
    /// The stream does not exist.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Takes the next message off the stream; `None` while it is not whole.
///
/// # Errors
///
/// The stream is of no use any more.
pub fn receive(host: &mut VsockHost, id: ConnectionId) -> Result<Option<Message>, LinkError> {
    let (first, second) = host.received(id)?;
    let len = first.len() + second.len();
    let mut bytes = first.iter().chain(second).copied();
    let mut header = [0; FRAME_HEADER];
    if len < FRAME_HEADER {
        return if host.at_end(id)? {
            Err(LinkError::Ended)
        } else {
            Ok(None)
        };
    }
    header.fill_with(|| bytes.next().unwrap_or(0));
    let header = FrameHeader::decode(header).map_err(LinkError::Frame)?;
    let whole = FRAME_HEADER + header.len as usize;
    if len < whole {
        return if host.at_end(id)? {
            Err(LinkError::Ended)
        } else {
            Ok(None)
        };
    }
    let payload: Vec<u8> = bytes.take(header.len as usize).collect();
    let message = decode(header.kind, &payload)?;
    host.consume(id, whole)?;
    Ok(Some(message))
}

fn decode(kind: FrameKind, payload: &[u8]) -> Result<Message, LinkError> {
    match kind {
        FrameKind::Hello => Ok(Message::Hello(Hello::get(payload))),
        FrameKind::Trace => Ok(Message::Trace(events(payload).collect())),
        FrameKind::Refused => {
            let number = payload.first().copied().map(usize::from);
            let refusal = number.and_then(|number| Refusal::ALL.get(number));
            let refusal = refusal.ok_or(LinkError::Nonsense(kind))?;
            Ok(Message::Refused(*refusal))
        }
        FrameKind::Run => Err(LinkError::Nonsense(kind)),
    }
}

/// Waits for the agent's first message.
#[derive(Debug, Default)]
pub struct Greeting {
    connection: Option<ConnectionId>,
    said: Option<Result<Message, LinkError>>,
}

impl Greeting {
    /// Takes what has come since; whether the message is there, or never will be.
    pub fn poll(&mut self, host: &mut VsockHost) -> bool {
        if self.connection.is_none() {
            self.connection = host.accept(PORT);
        }
        if let (Some(id), None) = (self.connection, &self.said) {
            self.said = receive(host, id).transpose();
        }
        self.said.is_some()
    }

    /// The agent's stream and its hello; `None` while it has said nothing.
    ///
    /// # Errors
    ///
    /// What the agent says makes no sense.
    pub fn hello(self) -> Result<Option<(ConnectionId, Hello)>, LinkError> {
        match (self.connection, self.said) {
            (Some(id), Some(Ok(Message::Hello(hello)))) => Ok(Some((id, hello))),
            (_, Some(Ok(Message::Trace(_)))) => Err(LinkError::Nonsense(FrameKind::Trace)),
            (_, Some(Ok(Message::Refused(_)))) => Err(LinkError::Nonsense(FrameKind::Refused)),
            (_, Some(Err(error))) => Err(error),
            _ => Ok(None),
        }
    }
}

/// The bytes of a run frame.
pub fn run_frame(options: &RunOptions, program: &Program) -> Vec<u8> {
    let mut encoded = [0; MAX_BYTES];
    let len = program.encode(&mut encoded);
    let mut run = [0; RUN_HEADER];
    options.put(&mut run);
    let header = FrameHeader {
        kind: FrameKind::Run,
        len: u32::try_from(RUN_HEADER + len).expect("a program has few bytes"),
    };
    [&header.encode()[..], &run, &encoded[..len]].concat()
}

/// Queues a program for the agent.
///
/// # Errors
///
/// The stream is of no use any more.
pub fn send_run(
    host: &mut VsockHost,
    id: ConnectionId,
    options: &RunOptions,
    program: &Program,
) -> Result<(), LinkError> {
    let frame = run_frame(options, program);
    if host.send(id, &frame)? < frame.len() {
        // The agent takes one program at a time, so the buffer was empty.
        return Err(LinkError::Ended);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
