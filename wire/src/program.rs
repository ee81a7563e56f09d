//! Programs: what the host sends to the agent.
//!
//! ```text
//! offset  size  what
//!      0     1  schedule points, modulo 33 (P)
//!      1     1  start of the threads
//!      2     1  privilege case
//!      3     1  RLIMIT_NPROC, 0: none
//!      4     1  ending
//!      5     1  exit code
//!      6     1  ticks of rest before the end
//!      7     1  0
//!      8    4P  points: operation (mod 64), then 24 bits of instructions
//!   8+4P   24N  steps: operation code, thread (mod 4), 22 bytes of payload
//! ```
//! Any bytes decode: missing bytes are 0, what lies behind step 64 is
//! dropped. [`Program::encode`] gives the one canonical form.

use crate::bounded::Bounded;
use crate::field::{Field, Token, choices};
use crate::op::{Op, OpIndex, PAYLOAD, PrivilegeCase, Thread};
use crate::record::record;

/// Steps of a program at most.
pub const MAX_STEPS: usize = 64;
/// Schedule points at most.
pub const MAX_POINTS: usize = 32;
/// Bytes of the header.
pub const HEADER: usize = 8;
/// Bytes of a point.
pub const POINT: usize = 4;
/// Bytes of a step.
pub const STEP: usize = PAYLOAD + 2;
/// Bytes of the longest program.
pub const MAX_BYTES: usize = HEADER + MAX_POINTS * POINT + MAX_STEPS * STEP;

choices! {
    /// When the threads start.
    pub enum Start {
        /// All that have steps, before the first step.
        All = "all",
        /// Thread 0 alone; `spawn` starts the others.
        Manual = "manual",
    }
}

choices! {
    /// What ends the victim after its last step.
    pub enum Ending {
        /// The agent lets thread 0 call exit_group.
        ExitGroup = "exit-group",
        /// Every thread calls exit.
        Exit = "exit",
        /// The agent kills it.
        Kill = "kill",
    }
}

record! {
    /// What holds before the first step.
    pub struct Setup {
        /// Start of the threads.
        pub start: Start,
        /// The victim's privilege case.
        pub privilege: PrivilegeCase,
        /// RLIMIT_NPROC, 0: none.
        pub nproc: u8,
        /// What ends the victim.
        pub ending: Ending,
        /// The exit code, where the ending has one.
        pub code: u8,
        /// Ticks of 10 ms that the agent lets pass after the last step, at
        /// most 50 count.
        pub rest: u8,
    }
}

/// One point of a schedule: the machine switches to another task there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Point {
    /// The call from whose entry is counted.
    pub op: OpIndex,
    /// Retired instructions after the entry, below 2^24.
    pub after: Instructions24,
}

/// A count of instructions below 2^24.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instructions24(u32);

impl Instructions24 {
    /// `count`, or the largest value if it is larger.
    #[must_use]
    pub const fn new(count: u32) -> Self {
        Self(if count < 1 << 24 {
            count
        } else {
            (1 << 24) - 1
        })
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Field for Point {
    const SIZE: usize = POINT;

    fn get(bytes: &[u8]) -> Self {
        let word = u32::get(bytes).to_le_bytes();
        Self {
            op: OpIndex::new(word[0]),
            after: Instructions24(u32::from_le_bytes([word[1], word[2], word[3], 0])),
        }
    }

    fn put(self, bytes: &mut [u8]) {
        (u32::from(self.op.number()) | self.after.0 << 8).put(bytes);
    }
}

impl Token for Point {
    fn write_token(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        write!(out, "{}+{}", self.op.number(), self.after.0)
    }

    fn parse_token(text: &str) -> Option<Self> {
        let (op, after) = text.split_once('+')?;
        let after = u32::parse_token(after)?;
        (after < 1 << 24).then_some(Self {
            op: OpIndex::parse_token(op)?,
            after: Instructions24(after),
        })
    }
}

/// One operation of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// Who does it.
    pub thread: Thread,
    /// What.
    pub op: Op,
}

impl Default for Step {
    fn default() -> Self {
        Self {
            thread: Thread::default(),
            op: Op::Nop(crate::op::Nothing {}),
        }
    }
}

impl Step {
    /// Decodes one step; missing bytes read as 0.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        Self {
            thread: Thread::get(bytes.get(1..).unwrap_or(&[])),
            op: Op::decode(u8::get(bytes), bytes.get(2..).unwrap_or(&[])),
        }
    }

    /// The step's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; STEP] {
        let mut bytes = [0; STEP];
        bytes[0] = self.op.code() as u8;
        bytes[1] = self.thread.number();
        self.op.encode(&mut bytes[2..]);
        bytes
    }
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// What holds before the first step.
    pub setup: Setup,
    /// Where the machine switches tasks.
    pub schedule: Bounded<Point, MAX_POINTS>,
    /// The steps of all threads, in one order; a step's place is its number.
    pub steps: Bounded<Step, MAX_STEPS>,
}

/// Why bytes are no canonical program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// More bytes than the longest program has.
    Oversized {
        /// How many there are.
        bytes: usize,
    },
    /// The last step or point is cut off, or the header is.
    Truncated {
        /// How many there are.
        bytes: usize,
        /// How many the whole would have.
        wanted: usize,
    },
    /// A byte differs from what encoding the decoded program gives.
    NotCanonical {
        /// The first such byte.
        offset: usize,
    },
}

impl core::fmt::Display for FormError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Oversized { bytes } => {
                write!(
                    out,
                    "{bytes} bytes are more than the {MAX_BYTES} of the longest program"
                )
            }
            Self::Truncated { bytes, wanted } => {
                write!(
                    out,
                    "cut off after {bytes} bytes, the last step ends at {wanted}"
                )
            }
            Self::NotCanonical { offset } => {
                write!(
                    out,
                    "byte {offset} has a value that this version does not write"
                )
            }
        }
    }
}

impl core::error::Error for FormError {}

impl Program {
    /// Decodes any bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        Self {
            setup: view.setup(),
            schedule: (0..view.points()).map(|at| view.point(at)).collect(),
            steps: (0..view.len()).map(|at| view.step(at)).collect(),
        }
    }

    /// Decodes bytes that [`Self::encode`] wrote: for files that people keep.
    ///
    /// # Errors
    /// The bytes are too many, cut off, or not canonical.
    pub fn decode_canonical(bytes: &[u8]) -> Result<Self, FormError> {
        if bytes.len() > MAX_BYTES {
            return Err(FormError::Oversized { bytes: bytes.len() });
        }
        let view = View::new(bytes);
        let points = HEADER + view.points() * POINT;
        let steps = bytes.len().saturating_sub(points).div_ceil(STEP);
        let wanted = points + steps * STEP;
        if bytes.len() != wanted {
            return Err(FormError::Truncated {
                bytes: bytes.len(),
                wanted,
            });
        }
        let program = Self::decode(bytes);
        let mut canonical = [0; MAX_BYTES];
        let len = program.encode(&mut canonical);
        let differs = canonical[..len].iter().zip(bytes).position(|(a, b)| a != b);
        match differs {
            Some(offset) => Err(FormError::NotCanonical { offset }),
            None => Ok(program),
        }
    }

    /// Writes the canonical form and gives its length, at most [`MAX_BYTES`].
    #[allow(
        clippy::cast_possible_truncation,
        reason = "there are at most 32 points"
    )]
    pub fn encode(&self, bytes: &mut [u8; MAX_BYTES]) -> usize {
        bytes.fill(0);
        bytes[0] = self.schedule.len() as u8;
        crate::record::Record::put(&self.setup, &mut bytes[1..HEADER]);
        let mut at = HEADER;
        for point in self.schedule.iter() {
            point.put(&mut bytes[at..]);
            at += POINT;
        }
        for step in self.steps.iter() {
            bytes[at..at + STEP].copy_from_slice(&step.encode());
            at += STEP;
        }
        at
    }
}

/// A program's bytes, decoded piece by piece: what the agent runs from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    bytes: &'a [u8],
    /// What is behind the schedule: each of a program's threads looks through
    /// all steps for its own.
    steps: &'a [u8],
}

impl<'a> View<'a> {
    /// A view of any bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut view = Self { bytes, steps: &[] };
        let start = HEADER + view.points() * POINT;
        view.steps = bytes.get(start..).unwrap_or(&[]);
        view
    }

    /// What holds before the first step.
    #[must_use]
    pub fn setup(&self) -> Setup {
        crate::record::Record::get(self.bytes.get(1..).unwrap_or(&[]))
    }

    /// Number of schedule points.
    #[must_use]
    pub fn points(&self) -> usize {
        usize::from(u8::get(self.bytes)) % (MAX_POINTS + 1)
    }

    /// Point `at`; all 0 behind the end.
    #[must_use]
    pub fn point(&self, at: usize) -> Point {
        let start = HEADER + at.min(MAX_POINTS) * POINT;
        Point::get(self.bytes.get(start..).unwrap_or(&[]))
    }

    /// Number of steps; a last one that is cut off counts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len().div_ceil(STEP).min(MAX_STEPS)
    }

    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of step `at`, fewer or none where it is cut off.
    #[must_use]
    pub fn step_bytes(&self, at: usize) -> &'a [u8] {
        let start = at.min(MAX_STEPS) * STEP;
        let rest = self.steps.get(start..).unwrap_or(&[]);
        rest.get(..STEP).unwrap_or(rest)
    }

    /// Step `at`; a `nop` of thread 0 behind the end.
    #[must_use]
    pub fn step(&self, at: usize) -> Step {
        Step::decode(self.step_bytes(at))
    }

    /// The thread of step `at`, without decoding the rest.
    #[must_use]
    pub fn thread(&self, at: usize) -> Thread {
        let byte = self.steps.get(at.min(MAX_STEPS) * STEP + 1);
        Thread::new(byte.copied().unwrap_or(0))
    }
}
