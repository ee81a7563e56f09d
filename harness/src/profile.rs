//! Where the instructions of executions go: the machine is stopped at every so
//! many of them, and the kernel's stack says what it was about.
//!
//! Stopping changes nothing in the guest, and the software engine retires the
//! same instructions each time, so the same programs give the same profile.

use latefork_cpu::Instructions;
use latefork_vmm::machine::{Machine, MachineError};
use latefork_wire::layout::KERNEL_START;
use latefork_wire::program::Program;
use vm_memory::GuestAddress;

use crate::executor::Executor;
use crate::symbols::Symbols;

/// Instructions between two samples: a prime, so that no loop of the guest keeps
/// step with it.
const EVERY: Instructions = Instructions(61);
/// Bytes of a kernel stack (THREAD_SIZE of i386).
const STACK: u32 = 8192;
/// ESP.
const ESP: usize = 4;

/// What instructions are spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The agent, in user mode: victim, helper and init.
    Agent,
    /// Counting edges for the fuzzer.
    Coverage,
    /// Checks that the kernel's debug options add to ordinary code.
    DebugChecks,
    /// The console.
    Console,
    /// The stream to the host, interrupts and its worker included.
    Vsock,
    /// Making tasks: the delayed fork of blocked calls, threads and children.
    Fork,
    /// The end of tasks.
    Exit,
    /// FUSE, both ends.
    Fuse,
    /// Switching tasks, waking them, timers, idling.
    Scheduling,
    /// Page faults.
    Faults,
    /// System calls, otherwise.
    Calls,
    /// Entry, exit and what no symbol names.
    Other,
}

impl Part {
    /// Every part, in the order of reports.
    pub const ALL: [Self; 12] = [
        Self::Agent,
        Self::Coverage,
        Self::DebugChecks,
        Self::Console,
        Self::Vsock,
        Self::Fork,
        Self::Exit,
        Self::Fuse,
        Self::Scheduling,
        Self::Faults,
        Self::Calls,
        Self::Other,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Coverage => "coverage",
            Self::DebugChecks => "debug checks",
            Self::Console => "console",
            Self::Vsock => "vsock",
            Self::Fork => "fork",
            Self::Exit => "exit",
            Self::Fuse => "fuse",
            Self::Scheduling => "scheduling",
            Self::Faults => "page faults",
            Self::Calls => "system calls",
            Self::Other => "other",
        }
    }
}

/// Beginnings of the names of functions that are checks wherever they are.
const CHECKS: &[&str] = &[
    "__might_",
    "__list_add_valid",
    "__list_del_entry_valid",
    "should_fail",
    "should_failslab",
    "__should_fail",
    "__ubsan",
    "check_",
    "debug_",
    "kfence",
    "__schedule_bug",
];

/// Beginnings of names on the stack, and the part that they stand for; the first
/// row that any name matches wins.
const ROOTS: &[(Part, &[&str])] = &[
    (
        Part::Console,
        &["vprintk", "console_", "serial8250", "uart_", "tty_"],
    ),
    (Part::Vsock, &["virtio", "vsock", "vm_interrupt", "vring"]),
    (
        Part::Fork,
        &[
            "schedule_async",
            "kernel_clone",
            "copy_process",
            "ret_from_fork",
        ],
    ),
    (Part::Exit, &["do_exit", "do_group_exit", "release_task"]),
    (Part::Fuse, &["fuse_"]),
    (
        Part::Scheduling,
        &[
            "schedule",
            "__schedule",
            "preempt_schedule",
            "try_to_wake_up",
            "tick_",
            "timer_interrupt",
            "do_idle",
            "__do_softirq",
            "handle_softirqs",
            "sched_",
        ],
    ),
    (Part::Faults, &["exc_page_fault"]),
    (Part::Calls, &["__ia32_sys_"]),
];

/// Instructions by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Programs that were run.
    pub programs: usize,
    /// Instructions of all of them.
    pub instructions: u64,
    spent: [u64; Part::ALL.len()],
}

impl Profile {
    /// Runs each of `programs` once and says where its instructions went.
    /// `symbols` are the kernel's.
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn measure(
        executor: &mut Executor,
        symbols: &Symbols,
        programs: &[Program],
    ) -> Result<Self, MachineError> {
        let mut profile = Self {
            programs: programs.len(),
            instructions: 0,
            spent: [0; Part::ALL.len()],
        };
        for program in programs {
            let mut last = None;
            executor.sample(program, EVERY, &mut |machine| {
                let now = machine.retired().0;
                let ran = now - last.replace(now).unwrap_or(now);
                profile.instructions += ran;
                profile.spent[part_at(machine, symbols) as usize] += ran;
            })?;
        }
        Ok(profile)
    }

    /// Instructions that a program spent on `part`, on average.
    pub fn mean(&self, part: Part) -> u64 {
        self.spent[part as usize] / self.programs.max(1) as u64
    }

    /// Instructions of a program, on average.
    pub fn mean_of_all(&self) -> u64 {
        self.instructions / self.programs.max(1) as u64
    }
}

fn part_at(machine: &mut Machine, symbols: &Symbols) -> Part {
    let Some(registers) = machine.engine_mut().soft().map(|cpu| cpu.user_registers()) else {
        return Part::Other;
    };
    if registers.cpl != 0 {
        return Part::Agent;
    }
    if symbols.counts_an_edge(registers.eip) {
        return Part::Coverage;
    }
    let here = symbols.function_at(registers.eip).unwrap_or_default();
    if CHECKS.iter().any(|check| here.starts_with(check)) {
        return Part::DebugChecks;
    }
    let stack = stack(machine, symbols, registers.gpr[ESP]);
    let names = || stack.iter().copied().chain([here]);
    let matches = |marks: &[&str]| names().any(|name| marks.iter().any(|m| name.starts_with(m)));
    let found = ROOTS.iter().find(|(_, marks)| matches(marks));
    found.map_or(Part::Other, |(part, _)| *part)
}

/// The functions whose return addresses lie on the kernel's stack. A word that
/// is left over from an older call may be among them.
fn stack<'a>(machine: &Machine, symbols: &'a Symbols, esp: u32) -> Vec<&'a str> {
    let top = (esp | (STACK - 1)).saturating_add(1);
    let Some(physical) = esp.checked_sub(KERNEL_START) else {
        return Vec::new();
    };
    let mut bytes = vec![0; (top - esp) as usize];
    let at = GuestAddress(u64::from(physical));
    if machine.ram().read(at, &mut bytes).is_err() {
        return Vec::new();
    }
    let (words, _) = bytes.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_le_bytes(*word));
    words.filter_map(|word| symbols.function_at(word)).collect()
}
