//! Operations on memory.

use super::{MapSlot, OpIndex};
use crate::field::choices;
use crate::record::record;
use crate::value::Pointer;

choices! {
    /// What a map slot maps.
    pub enum MapKind {
        /// Private anonymous memory, readable and writable.
        Anonymous = "anonymous",
        /// The same, shared.
        SharedAnonymous = "shared",
        /// Read-only anonymous memory.
        ReadOnly = "read-only",
        /// PROT_NONE.
        NoAccess = "none",
        /// FUSE file 0, private.
        Fuse0 = "fuse0",
        /// FUSE file 1, private.
        Fuse1 = "fuse1",
        /// FUSE file 2, private.
        Fuse2 = "fuse2",
        /// FUSE file 3, private.
        Fuse3 = "fuse3",
        /// A tmpfs file of one page, shared: touching what lies behind its
        /// end is SIGBUS or EFAULT.
        File = "file",
    }
}

choices! {
    /// Protections for [`Protect`].
    pub enum Protection {
        /// PROT_NONE.
        None = "none",
        /// PROT_READ.
        Read = "read",
        /// PROT_WRITE.
        Write = "write",
        /// PROT_READ | PROT_WRITE.
        ReadWrite = "read-write",
    }
}

choices! {
    /// Which cell of a call [`Poke`] writes to.
    pub enum PokeTarget {
        /// The argument block, as resolved.
        Args = "args",
        /// The status cell, as resolved.
        Status = "status",
        /// The own result buffer.
        Buffer = "buffer",
    }
}

record! {
    /// Maps pages at a slot.
    pub struct Map {
        /// The slot.
        pub slot: MapSlot,
        /// What is mapped.
        pub kind: MapKind,
        /// Pages, modulo 4, plus 1.
        pub pages: u8,
    }
}

record! {
    /// Changes a slot's protection.
    pub struct Protect {
        /// The slot.
        pub slot: MapSlot,
        /// The new protection.
        pub to: Protection,
    }
}

record! {
    /// Unmaps a slot.
    pub struct Unmap {
        /// The slot.
        pub slot: MapSlot,
    }
}

record! {
    /// Drops a slot's pages.
    pub struct Discard {
        /// The slot.
        pub slot: MapSlot,
    }
}

record! {
    /// Writes one word where a call reads or writes.
    pub struct Poke {
        /// Whose cell.
        pub op: OpIndex,
        /// Which cell.
        pub cell: PokeTarget,
        /// Which word of it, modulo 8.
        pub word: u8,
        /// The value: this argument, resolved as if it were that call's.
        pub value: crate::value::Arg,
    }
}

record! {
    /// Reads one byte.
    pub struct Touch {
        /// Where; `own` means nothing here and reads the shared cell 0.
        pub at: Pointer,
    }
}
