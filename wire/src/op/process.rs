//! Operations on threads, processes and order, and observations.

use super::{OpIndex, Thread};
use crate::field::choices;
use crate::record::record;

choices! {
    /// How [`Fork`] makes its child.
    pub enum ForkKind {
        /// fork.
        Fork = "fork",
        /// vfork: the parent waits until the child exits or executes.
        Vfork = "vfork",
        /// clone with CLONE_PARENT: a sibling of the victim.
        Sibling = "sibling",
    }
}

choices! {
    /// What [`Exec`] executes.
    pub enum ExecKind {
        /// The agent itself, which reports that it runs and exits with 42.
        Agent = "agent",
        /// A file that does not exist.
        Missing = "missing",
        /// A file that is no program.
        NoProgram = "no-program",
    }
}

choices! {
    /// What the helper does to a thread with ptrace.
    pub enum PtraceAction {
        /// PTRACE_SEIZE with exit and clone events.
        Seize = "seize",
        /// PTRACE_ATTACH, waits for the stop, continues.
        Attach = "attach",
        /// PTRACE_INTERRUPT, waits for the stop.
        Interrupt = "interrupt",
        /// PTRACE_CONT.
        Continue = "continue",
        /// PTRACE_SYSCALL.
        Syscall = "syscall",
        /// PTRACE_DETACH.
        Detach = "detach",
    }
}

choices! {
    /// Per-task state: the rows of P6's table.
    pub enum Row {
        /// Thread id.
        Tid = "tid",
        /// Process id.
        Pid = "pid",
        /// Parent's process id.
        ParentPid = "parent",
        /// User and group ids, real, effective, saved.
        Ids = "ids",
        /// Effective and permitted capabilities.
        Capabilities = "capabilities",
        /// Blocked signals.
        SignalMask = "signal-mask",
        /// Pending signals of thread and process.
        Pending = "pending",
        /// Alternate signal stack.
        AltStack = "altstack",
        /// The word that the kernel clears at exit (clear_child_tid).
        ClearChildTid = "clear-child-tid",
        /// The robust futex list.
        RobustList = "robust-list",
        /// The signal at the parent's death.
        ParentDeathSignal = "pdeathsig",
        /// The name (comm).
        Comm = "comm",
        /// Scheduling class.
        SchedClass = "sched-class",
        /// Nice value.
        Nice = "nice",
        /// I/O priority.
        IoPriority = "ioprio",
        /// Seccomp mode.
        Seccomp = "seccomp",
        /// no_new_privs.
        NoNewPrivs = "no-new-privs",
        /// The thread keyring.
        ThreadKeyring = "keyring",
        /// Whether rseq is registered.
        Rseq = "rseq",
        /// Timer slack.
        TimerSlack = "timer-slack",
        /// Current directory.
        Cwd = "cwd",
        /// File mode creation mask.
        Umask = "umask",
        /// Open descriptors.
        Descriptors = "descriptors",
        /// The TLS entries of the GDT.
        Tls = "tls",
        /// Personality.
        Personality = "personality",
        /// CPU affinity.
        Affinity = "affinity",
        /// I/O accounting of the thread: bytes read so far.
        IoAccounting = "io-accounting",
        /// Memory limit of the semaphore undo list: adjustments pending.
        SemUndo = "sem-undo",
        /// Timers bound to the thread's id that still fire.
        ThreadTimers = "thread-timers",
        /// Whether the temporary mask of a ppoll is gone again.
        TemporaryMask = "temporary-mask",
        /// Whether the thread itself has children (waitid, __WNOTHREAD).
        Children = "children",
        /// In a vfork child: 1 while its parent waits for it.
        Vfork = "vfork",
        /// The LDT, and whether the processor uses it.
        Ldt = "ldt",
    }
}

choices! {
    /// What [`Observe`] looks at.
    pub enum Observation {
        /// Thread ids and process ids.
        Ids = "ids",
        /// The victim's tasks: id, state, name.
        Tasks = "tasks",
        /// Free memory, slab and task counters.
        Memory = "memory",
        /// The whole per-task table.
        Table = "table",
        /// `/proc/self/{fd,cwd,exe}`, usable or not.
        ProcSelf = "proc-self",
        /// How many plain clones still fit under RLIMIT_NPROC (at most 8).
        Clones = "clones",
        /// Signals pending and blocked.
        Signals = "signals",
        /// Status and buffer of every call so far.
        Calls = "calls",
    }
}

record! {
    /// Starts a thread.
    pub struct Spawn {
        /// Which.
        pub thread: Thread,
        /// Odd: on a stack of one page; even: on an ordinary one.
        pub tiny: u8,
    }
}

record! {
    /// Makes a child.
    pub struct Fork {
        /// How.
        pub kind: ForkKind,
        /// How many of this thread's following operations it runs.
        pub ops: u8,
        /// Its exit code.
        pub code: u8,
    }
}

record! {
    /// Waits for the oldest child.
    pub struct Wait {
        /// Ticks of 10 ms until it gives up.
        pub ticks: u8,
    }
}

record! {
    /// Executes.
    pub struct Exec {
        /// What.
        pub kind: ExecKind,
    }
}

record! {
    /// Ends a thread or the victim.
    pub struct Exit {
        /// The exit code.
        pub code: u8,
    }
}

record! {
    /// Traces.
    pub struct Ptrace {
        /// What the helper does.
        pub action: PtraceAction,
        /// To which thread, by the id that it has now.
        pub thread: Thread,
    }
}

record! {
    /// Raises a flag.
    pub struct Raise {
        /// Which, modulo 8.
        pub flag: u8,
    }
}

record! {
    /// Waits for a flag.
    pub struct Await {
        /// Which, modulo 8.
        pub flag: u8,
        /// Ticks of 10 ms until it gives up.
        pub ticks: u8,
    }
}

record! {
    /// Waits for a status.
    pub struct AwaitStatus {
        /// Of which call.
        pub op: OpIndex,
        /// Ticks of 10 ms until it gives up.
        pub ticks: u8,
    }
}

record! {
    /// Waits for a worker's end.
    pub struct AwaitWorker {
        /// Of which call.
        pub op: OpIndex,
        /// Ticks of 10 ms until it gives up.
        pub ticks: u8,
    }
}

record! {
    /// Sleeps.
    pub struct Sleep {
        /// Ticks of 10 ms, at most 50 count.
        pub ticks: u8,
    }
}

record! {
    /// Yields.
    pub struct Yield {
        /// How often more (at most 15).
        pub more: u8,
    }
}

record! {
    /// Arms per-task state.
    pub struct Arm {
        /// Which row.
        pub row: Row,
        /// A value, where the row takes one.
        pub value: u8,
    }
}

record! {
    /// Observes.
    pub struct Observe {
        /// What.
        pub what: Observation,
    }
}
