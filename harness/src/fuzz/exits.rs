//! Which error exits of `copy_process()` (Linux 6.12, `kernel/fork.c`) the
//! clones of async calls took, by the guest kernel's event block
//! (`include/uapi/linux/harness.h` of its harness patch).

use std::fmt;

use latefork_vmm::layout::COVERAGE_EVENTS_SIZE;

/// Bytes of one operation's events.
const OPERATION: usize = 128;
/// Outcomes of one way that a call went.
const OUTCOMES: usize = 4;
/// `HARNESS_HOW_FORKED`.
const FORKED: usize = 3;
/// `HARNESS_HOW_FAILED`: the step is added.
const FAILED: usize = 4;

/// One step of `copy_process()` that can fail, in the order of
/// `HARNESS_STEP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done, by the kernel's own name.
    pub name: &'static str,
    /// When it fails.
    pub fails: &'static str,
    /// Why no program makes it fail; `None` where one can.
    pub unreachable: Option<&'static str>,
}

const fn reachable(name: &'static str, fails: &'static str) -> Step {
    Step {
        name,
        fails,
        unreachable: None,
    }
}

const fn unreachable(name: &'static str, fails: &'static str, why: &'static str) -> Step {
    Step {
        name,
        fails,
        unreachable: Some(why),
    }
}

/// The steps, by number.
pub const STEPS: [Step; 22] = [
    unreachable(
        "clone flags",
        "flags that contradict each other, CLONE_PARENT in an init, pid namespaces",
        "the flags are fixed and agree, no victim is an init, namespaces are not built",
    ),
    reachable("pending signal", "a signal waits for the caller"),
    reachable("dup_task_struct", "no memory for task, stack or FPU state"),
    unreachable(
        "copy_creds",
        "no memory for credentials, where the thread has a keyring",
        "hardened shares credentials and keyring; faithful copies and can fail",
    ),
    reachable(
        "RLIMIT_NPROC",
        "over the limit, not the initial user, neither CAP_SYS_RESOURCE nor CAP_SYS_ADMIN",
    ),
    reachable("threads-max", "as many tasks as the kernel allows"),
    unreachable(
        "sched_fork",
        "a deadline task",
        "no operation of a program takes a deadline policy",
    ),
    unreachable(
        "perf_event_init_task",
        "no memory for inherited events",
        "no operation of a program opens a performance event",
    ),
    unreachable(
        "audit_alloc",
        "no memory for an audit context",
        "auditing is not built (CONFIG_AUDIT)",
    ),
    unreachable(
        "security_task_alloc",
        "a security module refuses",
        "there is none (CONFIG_SECURITY)",
    ),
    reachable(
        "copy_semundo",
        "no memory for the list of undone semaphores that hardened shares",
    ),
    unreachable(
        "copy_files",
        "no memory for a descriptor table",
        "CLONE_FILES shares it",
    ),
    unreachable(
        "copy_fs",
        "no memory, or an execve runs",
        "CLONE_FS shares it, and an execve ends other threads first",
    ),
    unreachable(
        "copy_sighand",
        "no memory for signal handlers",
        "CLONE_SIGHAND shares them",
    ),
    unreachable(
        "copy_signal",
        "no memory for a signal_struct",
        "CLONE_THREAD shares it",
    ),
    unreachable(
        "copy_mm",
        "no memory for an address space",
        "CLONE_VM shares it",
    ),
    unreachable(
        "copy_namespaces",
        "no memory for namespaces, or no right to them",
        "no flag asks for a new one",
    ),
    reachable(
        "copy_io",
        "no memory for an I/O context, where the thread has an I/O priority",
    ),
    unreachable(
        "copy_thread",
        "no shadow stack, or no TLS entry",
        "neither is asked for: the flags hold no CLONE_SETTLS, i386 has no shadow stacks",
    ),
    reachable("alloc_pid", "no free process id, or no memory for one"),
    unreachable(
        "cgroup_can_fork",
        "a control group's limit",
        "control groups are not built (CONFIG_CGROUPS)",
    ),
    reachable(
        "last look",
        "a fatal signal came during the fork, or the pid namespace died",
    ),
];

/// How often the clones of async calls took each exit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloneExits {
    failed: [u64; STEPS.len()],
    forked: u64,
}

impl CloneExits {
    /// Adds what the event block of one execution holds.
    pub fn count(&mut self, events: &[u8; COVERAGE_EVENTS_SIZE]) {
        for operation in events.chunks_exact(OPERATION) {
            let sum = |how: usize| {
                let cells = &operation[how * OUTCOMES..(how + 1) * OUTCOMES];
                cells.iter().map(|cell| u64::from(*cell)).sum::<u64>()
            };
            self.forked += sum(FORKED);
            for (step, count) in self.failed.iter_mut().enumerate() {
                *count += sum(FAILED + step);
            }
        }
    }

    /// How often the clone failed at step `step`; 0 for a step that there is
    /// not.
    pub fn failed_at(&self, step: usize) -> u64 {
        self.failed.get(step).copied().unwrap_or(0)
    }

    /// How often the clone did not fail.
    pub fn forked(&self) -> u64 {
        self.forked
    }

    /// Steps that some program can make fail, and none of these did.
    pub fn missing(&self) -> impl Iterator<Item = &'static Step> {
        let steps = STEPS.iter().zip(self.failed);
        steps
            .filter(|(step, count)| step.unreachable.is_none() && *count == 0)
            .map(|(step, _)| step)
    }
}

impl fmt::Display for CloneExits {
    /// A table, a line a step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error exits of copy_process() that async calls took:")?;
        writeln!(f, "{:>8}  no error", self.forked)?;
        for (step, count) in STEPS.iter().zip(self.failed) {
            let Step {
                name,
                fails,
                unreachable,
            } = step;
            match (count, unreachable) {
                (0, Some(why)) => writeln!(f, "       -  {name} ({fails}): not reachable, {why}")?,
                (0, None) => writeln!(f, "       0  {name} ({fails}): NOT REACHED YET")?,
                _ => writeln!(f, "{count:>8}  {name} ({fails})")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_counted_over_operations_and_outcomes() {
        let mut events = [0; COVERAGE_EVENTS_SIZE];
        events[6 * OPERATION + FORKED * OUTCOMES] = 2;
        events[OPERATION + (FAILED + 4) * OUTCOMES] = 3;
        events[20 * OPERATION + (FAILED + 4) * OUTCOMES + 3] = 1;
        events[31 * OPERATION] = 9;
        let mut exits = CloneExits::default();
        exits.count(&events);
        exits.count(&events);
        assert_eq!((exits.forked(), exits.failed_at(4)), (4, 8));
        assert!(!exits.missing().any(|step| step.name == "RLIMIT_NPROC"));
        assert!(exits.missing().any(|step| step.name == "alloc_pid"));
        let text = exits.to_string();
        assert!(text.contains("\n       8  RLIMIT_NPROC ("), "{text}");
        assert_eq!(text.lines().count(), STEPS.len() + 2);
    }
}
