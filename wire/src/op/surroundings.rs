//! Operations on privileges, limits and injected failures.

use crate::field::choices;
use crate::record::record;

choices! {
    /// The privilege cases: three that the RLIMIT_NPROC check lets pass, and
    /// the one that it does not.
    pub enum PrivilegeCase {
        /// The initial user with every capability: the check is skipped.
        Root = "root",
        /// User 1000 without capabilities: the check counts.
        User = "user",
        /// User 1000 with CAP_SYS_RESOURCE.
        SysResource = "sys-resource",
        /// User 1000 with CAP_SYS_ADMIN.
        SysAdmin = "sys-admin",
    }
}

choices! {
    /// Resource limits, and the unit of their value.
    pub enum Resource {
        /// RLIMIT_NPROC: tasks.
        Nproc = "nproc",
        /// RLIMIT_NOFILE: descriptors.
        Nofile = "nofile",
        /// RLIMIT_STACK: 64 KiB.
        Stack = "stack",
        /// RLIMIT_AS: 64 KiB.
        AddressSpace = "as",
        /// RLIMIT_DATA: 64 KiB.
        Data = "data",
        /// RLIMIT_FSIZE: bytes.
        FileSize = "fsize",
        /// RLIMIT_SIGPENDING: signals.
        SigPending = "sigpending",
        /// RLIMIT_MEMLOCK: 64 KiB.
        Memlock = "memlock",
        /// RLIMIT_CPU: seconds.
        Cpu = "cpu",
        /// RLIMIT_CORE: 64 KiB.
        Core = "core",
    }
}

choices! {
    /// Limits of the whole kernel.
    pub enum KernelLimitKind {
        /// threads-max: that many tasks may still be made.
        ThreadsMax = "threads-max",
        /// pid_max: that many process ids are still free.
        PidMax = "pid-max",
    }
}

choices! {
    /// Fault injection that is not fail-nth.
    pub enum FaultKind {
        /// failslab, in this thread's calls only.
        Slab = "slab",
        /// fail_page_alloc, in this thread's calls only.
        Page = "page",
        /// Off again.
        Off = "off",
    }
}

record! {
    /// Takes a privilege case.
    pub struct Privilege {
        /// Which.
        pub case: PrivilegeCase,
    }
}

record! {
    /// Sets a resource limit.
    pub struct Rlimit {
        /// Which.
        pub which: Resource,
        /// In the resource's unit; 255 is no limit.
        pub value: u8,
    }
}

record! {
    /// Sets a limit of the whole kernel.
    pub struct KernelLimit {
        /// Which.
        pub which: KernelLimitKind,
        /// How many still fit; 255 restores.
        pub headroom: u8,
    }
}

record! {
    /// Arms fault injection.
    pub struct Fault {
        /// What kind.
        pub kind: FaultKind,
        /// Every how many-th allocation fails.
        pub interval: u8,
        /// How many fail at most.
        pub times: u8,
    }
}
