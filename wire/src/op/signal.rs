//! Operations on signals and timers.

use super::{OpIndex, Thread};
use crate::field::choices;
use crate::record::record;

choices! {
    /// Signals that programs use.
    pub enum Sig {
        /// SIGUSR1.
        Usr1 = "usr1",
        /// SIGUSR2.
        Usr2 = "usr2",
        /// The first real-time signal after the C library's: 34.
        Rt = "rt",
        /// SIGALRM.
        Alrm = "alrm",
        /// SIGCHLD.
        Chld = "chld",
        /// SIGSTOP.
        Stop = "stop",
        /// SIGCONT.
        Cont = "cont",
        /// SIGTSTP.
        Tstp = "tstp",
        /// SIGTERM.
        Term = "term",
        /// SIGKILL.
        Kill = "kill",
        /// SIGSEGV.
        Segv = "segv",
        /// SIGQUIT: dumps core.
        Quit = "quit",
        /// SIGPIPE.
        Pipe = "pipe",
        /// SIGURG: ignored by default.
        Urg = "urg",
        /// A second real-time signal: 35.
        Rt2 = "rt2",
    }
}

impl Sig {
    /// The i386 signal number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Usr1 => 10,
            Self::Usr2 => 12,
            Self::Rt => 34,
            Self::Alrm => 14,
            Self::Chld => 17,
            Self::Stop => 19,
            Self::Cont => 18,
            Self::Tstp => 20,
            Self::Term => 15,
            Self::Kill => 9,
            Self::Segv => 11,
            Self::Quit => 3,
            Self::Pipe => 13,
            Self::Urg => 23,
            Self::Rt2 => 35,
        }
    }
}

choices! {
    /// What [`Handle`] installs.
    pub enum Handling {
        /// A handler that puts an event into the trace.
        Record = "record",
        /// The same with SA_RESTART.
        Restart = "restart",
        /// The same on the alternate stack.
        OnStack = "on-stack",
        /// The same with SA_NODEFER.
        NoDefer = "no-defer",
        /// The same, once (SA_RESETHAND).
        Once = "once",
        /// A handler that also makes the prepared call `op` through `async`.
        Call = "call",
        /// The same on the alternate stack.
        CallOnStack = "call-on-stack",
        /// SIG_IGN.
        Ignore = "ignore",
        /// SIG_DFL.
        Default = "default",
    }
}

choices! {
    /// How [`Mask`] changes the mask.
    pub enum MaskHow {
        /// SIG_BLOCK.
        Block = "block",
        /// SIG_UNBLOCK.
        Unblock = "unblock",
        /// SIG_SETMASK.
        Set = "set",
    }
}

choices! {
    /// Sets of signals.
    pub enum SigSet {
        /// SIGUSR1.
        Usr1 = "usr1",
        /// SIGUSR2.
        Usr2 = "usr2",
        /// Both real-time signals.
        Rt = "rt",
        /// SIGALRM.
        Alrm = "alrm",
        /// SIGCHLD.
        Chld = "chld",
        /// All that can be blocked.
        All = "all",
        /// None.
        Empty = "empty",
    }
}

impl SigSet {
    /// The kernel's 64-bit set.
    #[must_use]
    pub const fn bits(self) -> u64 {
        match self {
            Self::Usr1 => 1 << (Sig::Usr1.number() - 1),
            Self::Usr2 => 1 << (Sig::Usr2.number() - 1),
            Self::Rt => 1 << (Sig::Rt.number() - 1) | 1 << (Sig::Rt2.number() - 1),
            Self::Alrm => 1 << (Sig::Alrm.number() - 1),
            Self::Chld => 1 << (Sig::Chld.number() - 1),
            Self::All => u64::MAX,
            Self::Empty => 0,
        }
    }
}

choices! {
    /// Whom [`Send`] sends to.
    pub enum Target {
        /// The victim's process (kill).
        Process = "process",
        /// The thread, by the id that it has now (tgkill).
        Thread = "thread",
        /// The thread, by the id that it had at its start (tgkill).
        OldThread = "old-thread",
        /// The victim's process, queued with a value (rt_sigqueueinfo).
        Queue = "queue",
        /// The thread as it is now, queued with a value (rt_tgsigqueueinfo).
        QueueThread = "queue-thread",
        /// The last child that the program made.
        Child = "child",
    }
}

choices! {
    /// Who sends.
    pub enum Sender {
        /// The thread itself.
        Thread = "self",
        /// The helper process outside the victim, as root.
        Helper = "helper",
        /// The helper, so many ticks of 10 ms later (`value`).
        HelperLater = "helper-later",
    }
}

choices! {
    /// What [`AltStack`] sets.
    pub enum AltStackKind {
        /// A stack of 8 KiB.
        On = "on",
        /// One of 2 KiB, the least that the kernel takes.
        Small = "small",
        /// SS_DISABLE.
        Off = "off",
    }
}

choices! {
    /// Timers.
    pub enum TimerKind {
        /// setitimer(ITIMER_REAL): SIGALRM to the process.
        Real = "real",
        /// timer_create, signal to the process.
        Process = "process",
        /// timer_create, SIGEV_THREAD_ID: signal to the thread's id of now.
        Thread = "thread",
        /// Disarms all.
        Disarm = "disarm",
    }
}

record! {
    /// Sets a signal's action.
    pub struct Handle {
        /// Which signal.
        pub sig: Sig,
        /// What it does.
        pub how: Handling,
        /// For the kinds that call: the prepared call.
        pub op: OpIndex,
    }
}

record! {
    /// Changes the mask.
    pub struct Mask {
        /// How.
        pub how: MaskHow,
        /// Which signals.
        pub set: SigSet,
    }
}

record! {
    /// Sends a signal.
    pub struct Send {
        /// Which.
        pub sig: Sig,
        /// To whom.
        pub to: Target,
        /// Whose thread id, for targets that are threads.
        pub thread: Thread,
        /// Who sends it.
        pub from: Sender,
        /// How often more (at most 15).
        pub more: u8,
        /// The queued value, or the helper's delay in ticks.
        pub value: u8,
    }
}

record! {
    /// Sets the alternate stack.
    pub struct AltStack {
        /// What kind.
        pub kind: AltStackKind,
    }
}

record! {
    /// Arms a timer.
    pub struct Timer {
        /// What kind.
        pub kind: TimerKind,
        /// The signal, where the kind has one.
        pub sig: Sig,
        /// Ticks of 10 ms until it fires.
        pub ticks: u8,
    }
}

record! {
    /// Waits for a signal.
    pub struct SigWait {
        /// Which signals.
        pub set: SigSet,
        /// Ticks of 10 ms until it gives up.
        pub ticks: u8,
    }
}
