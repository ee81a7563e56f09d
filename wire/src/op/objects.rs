//! Operations on descriptors and on the FUSE server.

use super::{End, FuseFile, ObjectSlot};
use crate::field::choices;
use crate::record::record;

choices! {
    /// What an object slot holds. Kinds with one descriptor have the same
    /// object at both ends.
    pub enum ObjectKind {
        /// A pipe: end 0 reads, end 1 writes.
        Pipe = "pipe",
        /// A full pipe.
        FullPipe = "full-pipe",
        /// A connected pair of UNIX stream sockets.
        StreamPair = "stream",
        /// A connected pair of UNIX datagram sockets.
        DatagramPair = "datagram",
        /// The FIFO `/t/fifo`, both ends opened read-write.
        Fifo = "fifo",
        /// The tmpfs file `/t/file`, read-write.
        File = "file",
        /// An eventfd with count 0.
        EventFd = "eventfd",
        /// An epoll descriptor without members.
        Epoll = "epoll",
        /// The folder `/t/dir`.
        Folder = "folder",
        /// FUSE file 0, opened now (waits where the server holds opens).
        Fuse0 = "fuse0",
        /// FUSE file 1.
        Fuse1 = "fuse1",
        /// FUSE file 2.
        Fuse2 = "fuse2",
        /// FUSE file 3.
        Fuse3 = "fuse3",
        /// A signalfd for all handled signals.
        SignalFd = "signalfd",
    }
}

choices! {
    /// What the FUSE server does from now on.
    pub enum FuseAction {
        /// Withholds replies until released.
        Hold = "hold",
        /// Answers what is withheld and holds no more.
        Release = "release",
        /// Answers one withheld request and goes on holding.
        ReleaseOne = "release-one",
        /// Answers each request after `value` ticks of 10 ms.
        Delay = "delay",
        /// Answers with the error `-value`.
        Fail = "fail",
        /// Answers everything at once again.
        Answer = "answer",
    }
}

choices! {
    /// Which requests a [`Fuse`] is about.
    pub enum FuseOps {
        /// All of them.
        All = "all",
        /// LOOKUP.
        Lookup = "lookup",
        /// GETATTR.
        Getattr = "getattr",
        /// OPEN.
        Open = "open",
        /// READ, page faults on a mapping included.
        Read = "read",
        /// WRITE.
        Write = "write",
        /// FSYNC.
        Fsync = "fsync",
        /// ACCESS.
        Access = "access",
    }
}

record! {
    /// Makes an object.
    pub struct Create {
        /// Where; an object that is there is closed first.
        pub slot: ObjectSlot,
        /// What.
        pub kind: ObjectKind,
    }
}

record! {
    /// Closes an end.
    pub struct Close {
        /// Of which object.
        pub slot: ObjectSlot,
        /// Which end.
        pub end: End,
    }
}

record! {
    /// Writes to an end.
    pub struct Feed {
        /// Of which object.
        pub slot: ObjectSlot,
        /// Which end.
        pub end: End,
        /// Bytes, at most 128 count.
        pub bytes: u8,
    }
}

record! {
    /// Reads from an end.
    pub struct Drain {
        /// Of which object.
        pub slot: ObjectSlot,
        /// Which end.
        pub end: End,
        /// Bytes, in units of 64.
        pub chunks: u8,
    }
}

record! {
    /// Switches O_NONBLOCK.
    pub struct NonBlock {
        /// Of which object.
        pub slot: ObjectSlot,
        /// Which end.
        pub end: End,
        /// Odd: on; even: off.
        pub on: u8,
    }
}

record! {
    /// Controls the FUSE server.
    pub struct Fuse {
        /// Which file.
        pub file: FuseFile,
        /// What it does.
        pub action: FuseAction,
        /// For which requests.
        pub on: FuseOps,
        /// Ticks or error number.
        pub value: u8,
    }
}

record! {
    /// Waits for held requests.
    pub struct AwaitHeld {
        /// On which file.
        pub file: FuseFile,
        /// How many must be held.
        pub count: u8,
        /// Ticks of 10 ms until it gives up.
        pub ticks: u8,
    }
}
