//! Argument values and pointers, chosen by class.
//!
//! A program never holds a raw address: it names a class, and the agent makes
//! the address from it (`layout` says where everything lies). So a byte more
//! or less in a class is another meaningful program.

use core::fmt;

use crate::field::{Field, Token, choices};

choices! {
    /// Where a pointer points. The parameter's meaning stands beside each.
    pub enum Place {
        /// The call's own cell for this role, plus parameter x 4 bytes.
        Own = "own",
        /// Address 0 plus the parameter.
        Null = "null",
        /// The kernel's half: one of [`crate::layout::KERNEL_ADDRESSES`].
        Kernel = "kernel",
        /// Parameter + 1 bytes below the kernel's half: an object crosses.
        KernelSeam = "kernel-seam",
        /// A hole, parameter x 4 bytes into it.
        Unmapped = "unmapped",
        /// The own cell, seen through a mapping that is read-only.
        ReadOnly = "read-only",
        /// The own cell, seen through a mapping with PROT_WRITE alone.
        WriteOnly = "write-only",
        /// Parameter + 1 bytes before a hole.
        Edge = "edge",
        /// Parameter + 1 bytes before 4 GiB: an object wraps.
        Wrap = "wrap",
        /// The own cell, 1 to 3 bytes off.
        Unaligned = "unaligned",
        /// A page of FUSE file (parameter mod 4): its first touch waits for
        /// the server.
        Slow = "slow",
        /// On an ordinary page, 4 x (parameter mod 8 + 1) bytes (for a
        /// status, parameter mod 8 + 1) before the slow page of FUSE file
        /// (parameter / 8 mod 4).
        SlowSeam = "slow-seam",
        /// Map slot (parameter mod 8), at its start plus role offset.
        Slot = "slot",
        /// Shared cell (parameter mod 8), the same for every call.
        Shared = "shared",
        /// The status cell of this call, plus parameter bytes (mod 8).
        OverStatus = "over-status",
        /// The argument block of this call, plus parameter bytes (mod 32).
        OverArgs = "over-args",
        /// The result buffer of this call, plus parameter bytes (mod 128).
        OverBuffer = "over-buffer",
        /// The resolved status pointer of the operation numbered by the
        /// parameter (for nested calls and for overlap between calls).
        StatusOf = "status-of",
        /// The resolved argument block of that operation.
        ArgsOf = "args-of",
        /// The own result buffer of that operation.
        BufferOf = "buffer-of",
        /// In the cells at the top of the thread's stack, parameter x 4 bytes
        /// from their start.
        Stack = "stack",
    }
}

choices! {
    /// An argument that is no buffer pointer. The parameter's meaning stands
    /// beside each.
    pub enum Scalar {
        /// The parameter itself.
        Int = "int",
        /// Minus the parameter, minus 1.
        Minus = "minus",
        /// One of [`BIG_VALUES`].
        Big = "big",
        /// One of [`LENGTHS`].
        Len = "len",
        /// Object slot (parameter / 2 mod 8), its first or second end
        /// (parameter mod 2).
        Fd = "fd",
        /// A descriptor that is not open: 200 plus the parameter.
        BadFd = "bad-fd",
        /// Pointer to one of [`PATHS`].
        Path = "path",
        /// Pointer to that path, lying on the slow page of file
        /// (parameter / 16 mod 4).
        SlowPath = "slow-path",
        /// Pointer to a 64-bit `timespec` of one of [`DURATIONS_MS`].
        Time = "time",
        /// Pointer to that `timespec`, lying on the slow page of file
        /// (parameter / 8 mod 4).
        SlowTime = "slow-time",
        /// Pointer to a `pollfd` in the own buffer, for object slot
        /// (parameter / 2 mod 8), end (parameter mod 2), POLLIN (first bit of
        /// parameter / 16 clear) or POLLOUT.
        Poll = "poll",
        /// Pointer to futex word (parameter mod 4).
        Futex = "futex",
        /// Process id of the program's child number (parameter mod 4).
        Child = "child",
        /// Thread id that thread (parameter mod 4) had at its start.
        Tid = "tid",
        /// Descriptor index of the operation numbered by the parameter: what
        /// a nested call names.
        IndexOf = "index-of",
        /// Pointer to the bits of signal set (parameter modulo their number).
        SigSet = "sigset",
        /// Id of the System V semaphore set that the agent made.
        Sem = "sem",
        /// Pointer to a `sembuf` that takes semaphore 0 (even) or gives it
        /// (odd), undone at exit where the second bit is set.
        SemOp = "semop",
        /// Pointer to a `flock` of the whole file: for reading (even) or for
        /// writing (odd).
        Lock = "lock",
    }
}

/// Lengths that [`Scalar::Len`] names, parameter modulo their number.
pub const LENGTHS: [u32; 16] = [
    0,
    1,
    2,
    3,
    4,
    8,
    15,
    16,
    63,
    64,
    100,
    128,
    4095,
    4096,
    0x7fff_ffff,
    0xffff_ffff,
];

/// Values that [`Scalar::Big`] names, parameter modulo their number.
pub const BIG_VALUES: [u32; 16] = [
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_ffff,
    0xffff_fffe,
    0xffff_f000,
    0xffff_efff,
    0x0001_0000,
    0x0000_ffff,
    0x0000_0100,
    0x0000_1000,
    0x4000_0000,
    0xc000_0000,
    0x0010_0000,
    0x00ff_ffff,
    0xaaaa_aaaa,
];

/// Durations in milliseconds that [`Scalar::Time`] names, parameter modulo
/// their number. The last is no valid time: its nanoseconds are 10^9.
pub const DURATIONS_MS: [u32; 8] = [0, 1, 10, 20, 50, 100, 300, u32::MAX];

/// Paths that [`Scalar::Path`] names, parameter modulo their number. The
/// agent makes what must exist before READY.
pub const PATHS: [&str; 16] = [
    "/t/file",
    "/t/missing",
    "/t/dir",
    "/t/fifo",
    "/f/0",
    "/f/1",
    "/f/2",
    "/f/3",
    "/f/missing",
    "",
    "/t/loop",
    "/t/private",
    "/dev/null",
    "/proc/self/stat",
    "/t/file/below",
    "/t/dir/new",
];

/// A pointer by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pointer {
    /// The class.
    pub place: Place,
    /// The class's parameter.
    pub param: u8,
}

impl Pointer {
    /// A pointer of class `place`.
    #[must_use]
    pub const fn new(place: Place, param: u8) -> Self {
        Self { place, param }
    }
}

impl Field for Pointer {
    const SIZE: usize = 2;

    fn get(bytes: &[u8]) -> Self {
        Self {
            place: Place::get(bytes),
            param: u8::get(bytes.get(1..).unwrap_or(&[])),
        }
    }

    fn put(self, bytes: &mut [u8]) {
        self.place.put(bytes);
        if let Some(rest) = bytes.get_mut(1..) {
            self.param.put(rest);
        }
    }
}

/// Writes `word`, or `word:param` where the parameter is not 0.
fn write_class(out: &mut dyn fmt::Write, word: &str, param: u8) -> fmt::Result {
    out.write_str(word)?;
    if param != 0 {
        write!(out, ":{param}")?;
    }
    Ok(())
}

fn split_class(text: &str) -> Option<(&str, u8)> {
    match text.split_once(':') {
        Some((word, param)) => Some((word, u8::parse_token(param)?)),
        None => Some((text, 0)),
    }
}

impl Token for Pointer {
    fn write_token(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write_class(out, self.place.word(), self.param)
    }

    fn parse_token(text: &str) -> Option<Self> {
        let (word, param) = split_class(text)?;
        Some(Self::new(Place::parse_token(word)?, param))
    }
}

/// One argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arg {
    /// A number, a descriptor or a pointer to prepared data.
    Scalar(Scalar, u8),
    /// A pointer to a result buffer.
    Buffer(Pointer),
}

impl Default for Arg {
    fn default() -> Self {
        Self::Scalar(Scalar::Int, 0)
    }
}

impl Field for Arg {
    const SIZE: usize = 2;

    fn get(bytes: &[u8]) -> Self {
        let kinds = Scalar::ALL.len() + Place::ALL.len();
        let kind = usize::from(u8::get(bytes)) % kinds;
        let param = u8::get(bytes.get(1..).unwrap_or(&[]));
        match Scalar::ALL.get(kind) {
            Some(scalar) => Self::Scalar(*scalar, param),
            None => Self::Buffer(Pointer::new(Place::ALL[kind - Scalar::ALL.len()], param)),
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "there are fewer than 256 kinds"
    )]
    fn put(self, bytes: &mut [u8]) {
        let (kind, param) = match self {
            Self::Scalar(scalar, param) => (scalar as u8, param),
            Self::Buffer(pointer) => (Scalar::ALL.len() as u8 + pointer.place as u8, pointer.param),
        };
        kind.put(bytes);
        if let Some(rest) = bytes.get_mut(1..) {
            param.put(rest);
        }
    }
}

impl Token for Arg {
    fn write_token(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Self::Scalar(scalar, param) => write_class(out, scalar.word(), *param),
            Self::Buffer(pointer) => pointer.write_token(out),
        }
    }

    fn parse_token(text: &str) -> Option<Self> {
        if let Some(pointer) = Pointer::parse_token(text) {
            return Some(Self::Buffer(pointer));
        }
        let (word, param) = split_class(text)?;
        Some(Self::Scalar(Scalar::parse_token(word)?, param))
    }
}
