//! Calls: what one `async` is given, and the kernel's table of what it can
//! reach.

use crate::field::choices;
use crate::record::record;
use crate::value::{Arg, Pointer};

/// A row of the guest kernel's `call_descriptor[]`, as the agent and the
/// oracles know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The name in the text form.
    pub name: &'static str,
    /// Arguments that the descriptor claims.
    pub claims: u8,
    /// i386 system call number of the same function; `None` for an empty slot.
    pub plain: Option<u16>,
    /// Which argument is the result buffer, if any.
    pub buffer: Option<u8>,
    /// Whether the function can sleep on what a program controls.
    pub blocks: bool,
}

const fn row(
    name: &'static str,
    claims: u8,
    plain: u16,
    buffer: Option<u8>,
    blocks: bool,
) -> Descriptor {
    Descriptor {
        name,
        claims,
        plain: Some(plain),
        buffer,
        blocks,
    }
}

/// The extended descriptor table of both flavours, by index: the order of the
/// guest kernel's `uapi/linux/async_call.h`. `seven` claims more than the ABI
/// allows, `recv` claims 4 of `recvfrom`'s 6, `async` has the number that the
/// kernel's build chose (0 stands for it).
pub const DESCRIPTORS: [Descriptor; 21] = [
    row("stat64", 2, 195, Some(1), true),
    row("read", 3, 3, Some(1), true),
    row("write", 3, 4, None, true),
    row("open", 3, 5, None, true),
    row("access", 2, 33, None, true),
    row("fsync", 1, 118, None, true),
    row("clock_nanosleep", 4, 407, Some(3), true),
    row("poll", 3, 168, Some(0), true),
    row("recvfrom", 6, 371, Some(1), true),
    row("futex", 6, 422, None, true),
    row("wait4", 4, 114, Some(1), true),
    row("pause", 0, 29, None, true),
    Descriptor {
        name: "empty",
        claims: 0,
        plain: None,
        buffer: None,
        blocks: false,
    },
    Descriptor {
        name: "seven",
        claims: 7,
        plain: None,
        buffer: None,
        blocks: false,
    },
    row("recv", 4, 371, Some(1), true),
    row("async", 4, 0, None, true),
    row("ppoll", 5, 414, Some(0), true),
    row("semtimedop", 4, 420, None, true),
    row("rt_sigsuspend", 2, 179, None, true),
    row("fcntl64", 3, 221, None, true),
    row("splice", 6, 313, None, true),
];

/// Index of the descriptor that reaches `async` itself.
pub const ASYNC_INDEX: u8 = 15;

/// Indexes beyond the table that bytes 240 to 255 of [`Call::index`] mean.
pub const FAR_INDEXES: [u32; 16] = [
    21,
    22,
    31,
    64,
    255,
    256,
    320,
    463,
    0xffff,
    0x0001_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];

choices! {
    /// What `flags` holds: accepted and ignored, says the ABI.
    pub enum Flags {
        /// 0.
        Zero = "0",
        /// 1.
        One = "1",
        /// All bits.
        Ones = "ones",
        /// The highest bit alone.
        High = "high",
        /// CLONE_VM | CLONE_THREAD and the like, as if they were passed on.
        Clone = "clone",
    }
}

impl Flags {
    /// The register's value.
    #[must_use]
    pub const fn value(self) -> u32 {
        match self {
            Self::Zero => 0,
            Self::One => 1,
            Self::Ones => u32::MAX,
            Self::High => 1 << 31,
            Self::Clone => 0x0001_0f00,
        }
    }
}

choices! {
    /// What the agent watches around one call, besides what it always does.
    pub enum Watch {
        /// Nothing more.
        Nothing = "none",
        /// Every general, flag, segment and x87 register, before and after.
        Registers = "registers",
        /// The per-task table (the rows of P6), before and after.
        Table = "table",
        /// Both.
        All = "all",
        /// The result buffer's first bytes in the trace, at the end.
        Bytes = "bytes",
    }
}

impl Watch {
    /// Whether registers are compared.
    #[must_use]
    pub const fn registers(self) -> bool {
        matches!(self, Self::Registers | Self::All)
    }

    /// Whether the per-task table is compared.
    #[must_use]
    pub const fn table(self) -> bool {
        matches!(self, Self::Table | Self::All)
    }
}

record! {
    /// One call: through `async`, plain, or only prepared.
    pub struct Call {
        /// Descriptor index: 0 to 239 as they are, 240 to 255 by
        /// [`FAR_INDEXES`].
        pub index: CallIndex,
        /// Where the status goes.
        pub status: Pointer,
        /// Where the argument block lies.
        pub args: Pointer,
        /// First argument.
        pub a0: Arg,
        /// Second argument.
        pub a1: Arg,
        /// Third argument.
        pub a2: Arg,
        /// Fourth argument.
        pub a3: Arg,
        /// Fifth argument.
        pub a4: Arg,
        /// Sixth argument.
        pub a5: Arg,
        /// The `flags` register.
        pub flags: Flags,
        /// fail-nth: which fault-injection point of the call fails; 0 for none.
        pub fail_nth: u8,
        /// What is watched around it.
        pub watch: Watch,
        /// Issued that many times more, with the same cells: floods. At most
        /// 63 count.
        pub repeat: u8,
    }
}

impl Call {
    /// The six arguments in order.
    #[must_use]
    pub const fn args_in_order(&self) -> [Arg; 6] {
        [self.a0, self.a1, self.a2, self.a3, self.a4, self.a5]
    }

    /// The row that the index names, if it lies in the table.
    #[must_use]
    pub fn descriptor(&self) -> Option<&'static Descriptor> {
        DESCRIPTORS.get(self.index.value() as usize)
    }

    /// How often the call is issued in all: 1 to 64.
    #[must_use]
    pub const fn times(&self) -> u32 {
        (self.repeat % 64) as u32 + 1
    }
}

/// A descriptor index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CallIndex(pub u8);

impl CallIndex {
    /// The value that the register gets.
    #[must_use]
    pub const fn value(self) -> u32 {
        match self.0.checked_sub(240) {
            Some(far) => FAR_INDEXES[far as usize],
            None => self.0 as u32,
        }
    }
}

impl crate::field::Field for CallIndex {
    const SIZE: usize = 1;

    fn get(bytes: &[u8]) -> Self {
        Self(u8::get(bytes))
    }

    fn put(self, bytes: &mut [u8]) {
        self.0.put(bytes);
    }
}

impl crate::field::Token for CallIndex {
    fn write_token(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        match DESCRIPTORS.get(usize::from(self.0)) {
            Some(row) => out.write_str(row.name),
            None => write!(out, "{}", self.0),
        }
    }

    fn parse_token(text: &str) -> Option<Self> {
        let named = DESCRIPTORS.iter().position(|row| row.name == text);
        match named {
            Some(index) => u8::try_from(index).ok().map(Self),
            None => u8::parse_token(text).map(Self),
        }
    }
}

/// Whether the word at byte `offset` of the result buffer of descriptor
/// `index` holds a time or an inode number: what hashes of buffers leave out.
#[must_use]
pub const fn is_masked(index: u32, offset: u32) -> bool {
    // struct stat64 of i386 (arch/x86/include/uapi/asm/stat.h): __st_ino at
    // 12, st_atime to st_ctime_nsec at 64 to 87, st_ino at 88.
    has_masked_words(index) && (offset == 12 || (offset >= 64 && offset < 96))
}

/// Whether the result buffer of descriptor `index` has such words at all.
#[must_use]
pub const fn has_masked_words(index: u32) -> bool {
    index == 0
}
