//! Traces: what the agent reports, event by event.
//!
//! An event takes 32 bytes: kind, thread, operation, 0, the task that
//! reports (thread id), then six words whose meaning depends on the kind.
//! Events stand in the order in which they happened. A trace is bounded:
//! what no longer fits is counted, not kept.

use core::fmt;

use crate::field::Field;

/// Bytes of an event.
pub const EVENT: usize = 32;
/// Events of a trace at most.
pub const MAX_EVENTS: usize = 768;
/// Operation number of an event that belongs to none.
pub const NO_OP: u8 = 0xff;

macro_rules! events {
    ($(
        $(#[$meta:meta])*
        $code:literal $word:literal $kind:ident {
            $($(#[$field_meta:meta])* $field:ident,)*
        }
    )+) => {
        /// What an event says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Detail {
            $($(#[$meta])* $kind { $($(#[$field_meta])* $field: u32,)* },)+
            /// A kind that this version does not know.
            Unknown {
                /// Its code.
                code: u8,
                /// Its words.
                words: [u32; 6],
            },
        }

        impl Detail {
            /// The kind's code and the words.
            #[allow(unused_assignments, unused_mut)]
            fn to_words(self) -> (u8, [u32; 6]) {
                let mut words = [0; 6];
                match self {
                    $(Self::$kind { $($field,)* } => {
                        let mut at = 0;
                        $(
                            words[at] = $field;
                            at += 1;
                        )*
                        ($code, words)
                    })+
                    Self::Unknown { code, words } => (code, words),
                }
            }

            #[allow(unused_assignments, unused_mut)]
            fn from_words(code: u8, words: [u32; 6]) -> Self {
                match code {
                    $($code => {
                        let mut at = 0;
                        $(
                            let $field = words[at];
                            at += 1;
                        )*
                        Self::$kind { $($field,)* }
                    })+
                    _ => Self::Unknown { code, words },
                }
            }

            /// The kind's word in the text form.
            #[must_use]
            pub const fn word(&self) -> &'static str {
                match self {
                    $(Self::$kind { .. } => $word,)+
                    Self::Unknown { .. } => "unknown",
                }
            }

            /// The names of the words that the kind uses, in order.
            #[must_use]
            pub const fn fields(&self) -> &'static [&'static str] {
                match self {
                    $(Self::$kind { .. } => &[$(stringify!($field)),*],)+
                    Self::Unknown { .. } => &["w0", "w1", "w2", "w3", "w4", "w5"],
                }
            }
        }

        /// Words of all kinds, with the names of their fields.
        pub const KINDS: &[(&str, &[&str])] = &[
            $(($word, &[$(stringify!($field)),*]),)+
        ];
    };
}

events! {
    /// The victim begins the program.
    1 "begin" Begin {
        /// The victim's process id.
        pid,
        /// Its parent's.
        parent,
        /// Tasks in the whole machine, the parked victim included.
        tasks,
        /// 0: async, 1: control run.
        flavour,
        /// The guest's monotonic clock, in milliseconds.
        ms,
    }
    /// A call is about to be made.
    2 "issued" Issued {
        /// The status pointer.
        status,
        /// The argument pointer.
        args,
        /// The descriptor index (in the control run: the system call number).
        index,
        /// Where the result buffer starts, 0 for none.
        buffer,
        /// Which repetition this is, from 0.
        round,
        /// Hash of the result buffer.
        hash,
    }
    /// A call came back to user space, in the task that reports.
    3 "returned" Returned {
        /// What it returned.
        value,
        /// The thread id that issued it.
        from,
        /// Continuations so far.
        continuations,
        /// The status cell, as far as it can be read.
        status,
        /// Hash of the result buffer.
        hash,
        /// Which canaries are damaged: 1, 2 around the status; 4, 8 around
        /// the arguments; 16, 32 around the buffer.
        canaries,
    }
    /// The status cell of a call was seen with another value than before.
    4 "status" Status {
        /// What it held when last seen.
        old,
        /// What it holds.
        new,
        /// Hash of the result buffer at this moment.
        hash,
        /// How often a change was seen, this one included.
        changes,
        /// 1: it arrived after the return; 0: it was there at the return.
        late,
    }
    /// What a call has left at the end.
    5 "final" Final {
        /// Continuations in all.
        continuations,
        /// The status cell.
        status,
        /// How often it changed, as far as was seen.
        changes,
        /// Hash of the result buffer.
        hash,
        /// Damaged canaries, as in `returned`.
        canaries,
        /// 1 where the argument block was altered.
        altered,
    }
    /// A second continuation of the same call arrived; it ended at once.
    6 "second" Second {
        /// Its thread id.
        second,
        /// Continuations so far.
        continuations,
    }
    /// A register came back with another value.
    7 "register" Register {
        /// Which: an index into [`REGISTERS`].
        which,
        /// What it held at the call.
        before,
        /// What it holds.
        after,
    }
    /// A row of the per-task table.
    8 "row" RowSeen {
        /// Which: the number of a [`crate::op::Row`].
        row,
        /// Before the call (in an observation: the value).
        before,
        /// After the call (in an observation: the value).
        after,
        /// 1 where both are the same.
        same,
    }
    /// A signal handler ran.
    9 "handler" Handler {
        /// Signal number.
        sig,
        /// si_code.
        code,
        /// The queued value.
        value,
        /// 1 where it ran on the alternate stack.
        on_alt,
        /// 1 where the task is known as a worker: it issued a call that
        /// continued in another task.
        worker,
        /// How many handlers of this signal ran so far.
        count,
    }
    /// A child of the victim ended.
    10 "child" Child {
        /// Its process id.
        pid,
        /// Its wait status.
        status,
        /// Its number among the program's children.
        number,
    }
    /// The victim ended, as its parent sees it.
    11 "victim" Victim {
        /// Its process id.
        pid,
        /// Its wait status.
        status,
        /// Whether the program was over (1) or not (0).
        over,
        /// Live tasks that it had just before, if the agent ended it.
        tasks,
        /// The guest's monotonic clock, in milliseconds.
        ms,
    }
    /// A task of the victim.
    12 "task" Task {
        /// Its id.
        id,
        /// Its state: the letter of `/proc/pid/stat`.
        state,
        /// 1 where it is the group's leader.
        leader,
        /// First four bytes of its name.
        comm,
    }
    /// An observation.
    13 "observed" Observed {
        /// Which: the number of an [`crate::op::Observation`].
        what,
        /// First value.
        a,
        /// Second value.
        b,
        /// Third value.
        c,
        /// Fourth value.
        d,
    }
    /// The FUSE server got or answered a request.
    14 "fuse" FuseRequest {
        /// Which file; 255 for others.
        file,
        /// The request's opcode.
        opcode,
        /// 0: answered, 1: held, 2: answered late, 3: failed, 4: aborted.
        action,
        /// Requests held on the file now.
        held,
    }
    /// An operation that is no call ended.
    15 "done" Done {
        /// Its result, negative errors included.
        value,
        /// The result of its second system call, if there is one.
        second,
    }
    /// A thread has no more steps.
    16 "thread-end" ThreadEnd {
        /// The thread id that it had at its start.
        first,
    }
    /// A counter of the leak check.
    17 "leak" Leak {
        /// Which: 0 tasks, 1 free KiB, then objects of the slab caches
        /// 2 task_struct, 3 signal_cache, 4 sighand_cache, 5 files_cache,
        /// 6 fs_cache, 7 mm_struct, 8 vm_area_struct, 9 cred_jar, 10 pid,
        /// 11 filp, then KiB: 12 of slabs that cannot be reclaimed, 13 of
        /// kernel stacks, 14 of page tables.
        what,
        /// After N repetitions.
        once,
        /// After 2N.
        twice,
        /// After 3N.
        thrice,
        /// N.
        repeats,
        /// 1 where it is a number of tasks or objects that grew by at least
        /// half of N both times: kernel threads come one at a time.
        grows,
    }
    /// The agent could not do something.
    18 "agent-error" AgentError {
        /// Where: an [`AgentFault`] number.
        code,
        /// The system call's error, or another number.
        value,
    }
    /// The program is over; always the last event.
    19 "end" End {
        /// How it ended: the number of an [`Outcome`].
        outcome,
        /// The victim's live tasks once quiet, without the zombie leader.
        tasks,
        /// Calls whose status is not there.
        pending,
        /// Continuations alive: threads of the program that have not ended.
        continuations,
        /// Events that did not fit.
        lost,
        /// The guest's monotonic clock, in milliseconds.
        ms,
    }
    /// Bytes of a call's result buffer.
    20 "bytes" Bytes {
        /// Offset of the first.
        offset,
        /// Bytes 0 to 3, little-endian.
        b0,
        /// Bytes 4 to 7.
        b4,
        /// Bytes 8 to 11.
        b8,
        /// Bytes 12 to 15.
        b12,
        /// Bytes 16 to 19.
        b16,
    }
    /// An image that the victim executed runs.
    21 "executed" Executed {
        /// Its process id.
        pid,
        /// Tasks in its thread group.
        tasks,
        /// Open descriptors.
        descriptors,
    }
    /// The kernel's own account of an async call, from its event block (the
    /// guest kernel's `uapi/linux/harness.h`): a cell of the call's descriptor
    /// that grew since any thread looked at that descriptor. Looked at when a
    /// call came back with 0 in the same task, and at the end for a call that
    /// forked; a cell of a call that did not sleep is left out.
    22 "kernel" Kernel {
        /// Which cell: descriptor x 128 + `how` x 4 + `outcome`.
        cell,
        /// By how much it grew (cells stay at 255).
        count,
        /// 0: refused with -EINVAL, 1: with -EFAULT, 2: did not sleep, 3: forked,
        /// 4 and more: the clone failed, at that step of `copy_process` + 4.
        how,
        /// Of the stored result. 0: no error, 1: interrupted, 2: -EFAULT,
        /// 3: another error.
        outcome,
    }
    /// The helper's ptrace stop.
    23 "traced" Traced {
        /// The thread id.
        id,
        /// The wait status.
        status,
    }
    /// A worker was seen to be gone.
    24 "worker-gone" WorkerGone {
        /// The thread id.
        id,
        /// 1 where it is a zombie leader.
        zombie,
    }
    /// A mask of damage: what the caller's wait for a status found.
    25 "waited" Waited {
        /// 1: it came; 0: the time limit came first.
        came,
        /// What was waited for holds now.
        value,
    }
    /// The result buffer of a call where it is not the start of the own one:
    /// what lies there, as far as it can be read without waiting.
    26 "result" ResultSeen {
        /// When: 0 issued, 1 returned, 2 status seen, 3 at the end. Stands
        /// behind the event that it belongs to.
        when,
        /// Address of the buffer.
        at,
        /// How many of its bytes could be read, at most the size of the own
        /// one. Hashes of different lengths say nothing about each other.
        bytes,
        /// Their hash, whole words, without times and inode numbers.
        hash,
    }
    /// A thread of the program once all is quiet.
    27 "continuation" Continuation {
        /// The thread id that it had when it was seen last.
        id,
        /// 1: it has steps left, 2: it has done them.
        phase,
        /// 1 where the victim has a task of that id.
        lives,
    }
    /// The thread is about to do what may end it, its process or its image.
    28 "leaving" Leaving {
        /// How: 0 exit, 1 exit_group, 2 execve, 3 a signal to its process or
        /// to a thread of it whose default action ends the process.
        how,
        /// The exit code, or the signal.
        code,
    }
    /// A process that is still there after the victim and all its children
    /// ended or were killed.
    29 "survivor" Survivor {
        /// Its process id.
        id,
        /// Its state: the letter of `/proc/pid/stat`.
        state,
        /// Its parent's process id.
        parent,
        /// Its tasks.
        tasks,
    }
    /// The victim stopped or continued, as its parent sees it; its tasks
    /// stand before this, one event each.
    30 "job" Job {
        /// Its process id.
        pid,
        /// Its wait status: the low byte is 0x7f for a stop, 0xffff is a
        /// continue.
        status,
        /// Its live tasks.
        tasks,
        /// How many of them are stopped.
        stopped,
    }
}

/// The registers that `register` events name.
///
/// The x87 pointers are compared with what the machine kept of known values
/// (a processor may keep none). Those from `mxcsr` on are compared only where
/// the kernel says that it uses FXSR and SSE; of an SSE register the hash of
/// its four words.
pub const REGISTERS: [&str; 33] = [
    "eax",
    "ecx",
    "edx",
    "ebx",
    "esp",
    "ebp",
    "esi",
    "edi",
    "es",
    "cs",
    "ss",
    "ds",
    "fs",
    "gs",
    "eflags",
    "x87-control",
    "x87-status",
    "x87-stack",
    "x87-tags",
    "x87-instruction",
    "x87-code-segment",
    "x87-opcode",
    "x87-operand",
    "x87-data-segment",
    "mxcsr",
    "xmm0",
    "xmm1",
    "xmm2",
    "xmm3",
    "xmm4",
    "xmm5",
    "xmm6",
    "xmm7",
];

crate::field::choices! {
    /// How a program ended.
    pub enum Outcome {
        /// All steps done, the victim ended as its setup says.
        Done = "done",
        /// The victim ended by itself before its last step.
        Died = "died",
        /// The watchdog ended it.
        Hung = "hung",
        /// It did not end even when killed.
        Stuck = "stuck",
        /// The agent could not start it.
        NotStarted = "not-started",
        /// The program ended and the victim was left for the reset.
        LeftRunning = "left-running",
    }
}

crate::field::choices! {
    /// Where the agent failed.
    pub enum AgentFault {
        /// Making a victim.
        Fork = "fork",
        /// Mapping the victim's memory.
        Map = "map",
        /// Talking to the helper.
        Helper = "helper",
        /// Reading from /proc.
        Proc = "proc",
        /// Making a thread.
        Thread = "thread",
        /// The FUSE mount.
        Fuse = "fuse",
        /// An operation that this kernel does not offer.
        Unsupported = "unsupported",
    }
}

/// Registers (by their name in [`REGISTERS`]) that an engine may lose: KVM keeps
/// the x87's pointers in their 64-bit form, without selectors, and processors of
/// AMD keep them only while an exception waits (APM volume 2, 11.4.4.3).
pub const LOST_REGISTERS: &[&str] = &[
    "x87-instruction",
    "x87-code-segment",
    "x87-opcode",
    "x87-operand",
    "x87-data-segment",
];

/// Fields that differ between engines, hosts or runs though nothing is wrong:
/// ids, times, addresses. `(kind, field)`; the task that reports varies in
/// every kind.
pub const VARYING: &[(&str, &str)] = &[
    ("begin", "pid"),
    ("begin", "parent"),
    ("begin", "tasks"),
    ("begin", "ms"),
    ("returned", "from"),
    // Whether the worker is done by then.
    ("returned", "status"),
    ("returned", "hash"),
    ("status", "late"),
    ("second", "second"),
    ("child", "pid"),
    ("victim", "pid"),
    ("victim", "ms"),
    // Contents that a time or an id is part of.
    ("final", "hash"),
    // Serial numbers of keys, signals that wait.
    ("row", "before"),
    ("row", "after"),
    ("task", "id"),
    ("task", "state"),
    // How often the kernel came by, waiting included.
    ("kernel", "count"),
    ("observed", "a"),
    ("observed", "b"),
    ("observed", "c"),
    ("observed", "d"),
    ("thread-end", "first"),
    ("leak", "once"),
    ("leak", "twice"),
    ("leak", "thrice"),
    ("end", "ms"),
    ("executed", "pid"),
    ("traced", "id"),
    ("worker-gone", "id"),
    ("continuation", "id"),
    ("survivor", "id"),
    ("job", "pid"),
];

/// Kinds of which a run has more or fewer though nothing is wrong: a file gets
/// as many requests as the kernel's caches have forgotten answers by then.
pub const VARYING_KINDS: &[&str] = &["fuse"];

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The program's thread; 255 where the agent itself reports.
    pub thread: u8,
    /// The operation; [`NO_OP`] for none.
    pub op: u8,
    /// The thread id of the task that reports.
    pub tid: u32,
    /// What it says.
    pub detail: Detail,
}

impl Default for Event {
    fn default() -> Self {
        Self::decode(&[])
    }
}

impl Event {
    /// Decodes any bytes; missing ones read as 0.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let rest = |at: usize| bytes.get(at..).unwrap_or(&[]);
        let mut words = [0; 6];
        for (at, word) in words.iter_mut().enumerate() {
            *word = u32::get(rest(8 + 4 * at));
        }
        Self {
            thread: u8::get(rest(1)),
            op: u8::get(rest(2)),
            tid: u32::get(rest(4)),
            detail: Detail::from_words(u8::get(bytes), words),
        }
    }

    /// The event's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; EVENT] {
        let (code, words) = self.detail.to_words();
        let mut bytes = [0; EVENT];
        bytes[0] = code;
        bytes[1] = self.thread;
        bytes[2] = self.op;
        self.tid.put(&mut bytes[4..]);
        for (at, word) in words.iter().enumerate() {
            word.put(&mut bytes[8 + 4 * at..]);
        }
        bytes
    }

    /// The value of the field `name`: `op`, `thread`, `tid` or one of the
    /// kind's own.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<u32> {
        match name {
            "op" => Some(u32::from(self.op)),
            "thread" => Some(u32::from(self.thread)),
            "tid" => Some(self.tid),
            _ => {
                let at = self
                    .detail
                    .fields()
                    .iter()
                    .position(|field| *field == name)?;
                self.detail.to_words().1.get(at).copied()
            }
        }
    }

    /// Whether another engine must give this event too, but for its fields that
    /// vary.
    #[must_use]
    pub fn must_recur(&self) -> bool {
        !self.is_lost_register() && !VARYING_KINDS.contains(&self.detail.word())
    }

    /// Whether it says of a register that an engine may lose.
    #[must_use]
    pub fn is_lost_register(&self) -> bool {
        let Detail::Register { which, .. } = self.detail else {
            return false;
        };
        let name = usize::try_from(which).ok().and_then(|at| REGISTERS.get(at));
        name.is_some_and(|name| LOST_REGISTERS.contains(name))
    }

    /// Whether the field `name` may differ between engines.
    #[must_use]
    pub fn varies(&self, name: &str) -> bool {
        name == "tid" || VARYING.contains(&(self.detail.word(), name))
    }
}

impl fmt::Display for Event {
    /// One line: kind, then every field.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.detail.word())?;
        if self.thread != u8::MAX {
            write!(out, " thread={}", self.thread)?;
        }
        if self.op != NO_OP {
            write!(out, " op={}", self.op)?;
        }
        write!(out, " tid={}", self.tid)?;
        let (_, words) = self.detail.to_words();
        for (name, value) in self.detail.fields().iter().zip(words) {
            write!(out, " {name}=")?;
            write_value(out, value)?;
        }
        Ok(())
    }
}

/// Writes a word as a person reads it: small ones and errors in decimal, the
/// rest in hexadecimal.
fn write_value(out: &mut dyn fmt::Write, value: u32) -> fmt::Result {
    match value {
        0..=99_999 => write!(out, "{value}"),
        0xffff_f000..=u32::MAX => write!(out, "{}", value.cast_signed()),
        _ => write!(out, "{value:#x}"),
    }
}

/// The events of a trace's bytes, in order; a last one that is cut off is
/// left out.
pub fn events(bytes: &[u8]) -> impl Iterator<Item = Event> + '_ {
    bytes
        .chunks_exact(EVENT)
        .take(MAX_EVENTS)
        .map(Event::decode)
}

/// FNV-1a, word by word: the hash of result buffers in traces.
#[must_use]
pub fn hash(words: impl IntoIterator<Item = u32>) -> u32 {
    words.into_iter().fold(HASH_START, hash_word)
}

/// The hash of no words: FNV-1a's offset basis.
pub const HASH_START: u32 = 0x811c_9dc5;

/// The hash of some words and one more, from the hash of those.
#[must_use]
pub const fn hash_word(hash: u32, word: u32) -> u32 {
    (hash ^ word).wrapping_mul(0x0100_0193)
}
