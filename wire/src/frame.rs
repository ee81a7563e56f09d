//! Frames: how programs and traces travel over the vsock connection.
//!
//! The agent connects to CID 2, port [`PORT`], and sends a hello. Then the
//! host sends a run frame, the agent answers with a trace frame, and so on.
//!
//! ```text
//! offset  size  what
//!      0     2  [`MAGIC`]
//!      2     1  [`VERSION`]
//!      3     1  kind
//!      4     4  bytes that follow
//! ```

use core::fmt;

use crate::field::{Field, choices};
use crate::program::MAX_BYTES;
use crate::record::{Record, record};
use crate::trace::{EVENT, MAX_EVENTS};

/// vsock port of the host.
pub const PORT: u32 = 0x4c46;
/// CID of the host.
pub const HOST_CID: u32 = 2;
/// First two bytes of a frame: "LF".
pub const MAGIC: u16 = 0x464c;
/// Version of this protocol, programs and traces included. Version 2 has the
/// events from `result` on, `kernel` with four words, and the rows from
/// `children` on.
pub const VERSION: u8 = 2;
/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 8;
/// Bytes of a run frame before the program.
pub const RUN_HEADER: usize = 8;
/// Longest payload of a run frame.
pub const MAX_RUN: usize = RUN_HEADER + MAX_BYTES;
/// Longest payload of a trace frame.
pub const MAX_TRACE: usize = EVENT * MAX_EVENTS;

choices! {
    /// Kinds of frames.
    pub enum FrameKind {
        /// Agent to host, once: a [`Hello`].
        Hello = "hello",
        /// Host to agent: [`RunOptions`], then a program.
        Run = "run",
        /// Agent to host: events.
        Trace = "trace",
        /// Agent to host: a refused frame, one byte of [`Refusal`].
        Refused = "refused",
    }
}

choices! {
    /// Why the agent refused a frame.
    pub enum Refusal {
        /// Not [`MAGIC`].
        Magic = "magic",
        /// Another [`VERSION`].
        Version = "version",
        /// A kind that only the agent sends.
        Kind = "kind",
        /// Longer than [`MAX_RUN`].
        Oversized = "oversized",
        /// Shorter than its options.
        Truncated = "truncated",
    }
}

choices! {
    /// How async calls are made.
    pub enum Flavour {
        /// Through `async`.
        Async = "async",
        /// The control run: each becomes the plain call in a helper thread.
        /// Objects are made anew for every run, so this is also the twin
        /// process on twin objects of P3.
        Control = "control",
    }
}

choices! {
    /// What happens to the victim after the trace.
    pub enum Teardown {
        /// It ends as the setup says, and its end is part of the trace.
        Full = "full",
        /// It stays for the reset to drop: the machine restores a snapshot.
        Leave = "leave",
    }
}

record! {
    /// How a program is run.
    pub struct RunOptions {
        /// How async calls are made.
        pub flavour: Flavour,
        /// What happens afterwards.
        pub teardown: Teardown,
        /// Leak check: repeats N times, then N and N times more; 0 for none.
        pub leak_repeats: u16,
        /// Ticks of 10 ms after which the watchdog ends the program; 0 for
        /// the agent's own limit.
        pub watchdog_ticks: u16,
    }
}

record! {
    /// What the agent says of itself.
    pub struct Hello {
        /// System call number of `async`.
        pub async_number: u16,
        /// Rows of the kernel's descriptor table.
        pub descriptors: u8,
        /// 1 where the kernel's coverage mark works.
        pub marked: u8,
        /// 1 where FUSE is mounted.
        pub fuse: u8,
    }
}

/// Why a frame's header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// What is wrong.
    pub refusal: Refusal,
    /// The value that was found.
    pub found: u32,
}

impl fmt::Display for FrameError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found;
        match self.refusal {
            Refusal::Magic => write!(out, "frame starts with {found:#x}, not {MAGIC:#x}"),
            Refusal::Version => write!(
                out,
                "protocol version {found} is not {VERSION}: build host and agent from the same tree"
            ),
            Refusal::Kind => write!(out, "frame kind {found} is not expected here"),
            Refusal::Oversized => write!(out, "frame of {found} bytes is longer than allowed"),
            Refusal::Truncated => write!(out, "frame of {found} bytes is too short"),
        }
    }
}

impl core::error::Error for FrameError {}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What follows.
    pub kind: FrameKind,
    /// How many bytes follow.
    pub len: u32,
}

impl FrameHeader {
    /// Reads a header.
    ///
    /// # Errors
    /// Wrong magic, another version, an unknown kind, or a length beyond the
    /// kind's limit.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the limits are far below 4 GiB"
    )]
    pub fn decode(bytes: [u8; FRAME_HEADER]) -> Result<Self, FrameError> {
        let refuse = |refusal, found| Err(FrameError { refusal, found });
        let magic = u16::get(&bytes);
        if magic != MAGIC {
            return refuse(Refusal::Magic, u32::from(magic));
        }
        if bytes[2] != VERSION {
            return refuse(Refusal::Version, u32::from(bytes[2]));
        }
        let Some(kind) = FrameKind::ALL.get(usize::from(bytes[3])).copied() else {
            return refuse(Refusal::Kind, u32::from(bytes[3]));
        };
        let len = u32::get(&bytes[4..]);
        let (least, most) = match kind {
            FrameKind::Hello => (Hello::SIZE, Hello::SIZE),
            FrameKind::Run => (RUN_HEADER, MAX_RUN),
            FrameKind::Trace => (0, MAX_TRACE),
            FrameKind::Refused => (1, 1),
        };
        if len > most as u32 {
            return refuse(Refusal::Oversized, len);
        }
        if len < least as u32 {
            return refuse(Refusal::Truncated, len);
        }
        Ok(Self { kind, len })
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        MAGIC.put(&mut bytes);
        bytes[2] = VERSION;
        bytes[3] = self.kind as u8;
        self.len.put(&mut bytes[4..]);
        bytes
    }
}
