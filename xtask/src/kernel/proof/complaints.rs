//! Whether complaints reach the panic port, after the console has their text:
//! the kernel's own test module (LKDTM) provokes them, one a boot.

use anyhow::{Result, bail};

use super::guest::{EXIT_PORT, Guest, PVPANIC};
use super::side_by_side;
use crate::kernel::variant::{Config, Variant};
use crate::qemu::Run;

/// QEMU's exit code for a write of HARNESS_PORT_PANIC.
const PANIC: Option<i32> = Some(3);
/// QEMU's exit code for a write of HARNESS_PORT_COMPLAINT.
const COMPLAINT: Option<i32> = Some(0x41);
/// QEMU's exit code for a panic that pvpanic was told of.
const PVPANIC_CODE: Option<i32> = Some(1);
/// QEMU's exit code for an orderly end.
const SILENCE: Option<i32> = Some(0);

/// A provocation, and what must come of it.
struct Case {
    /// What LKDTM is told
    what: &'static str,
    /// Added to the command line
    append: &'static str,
    /// Devices of the machine
    devices: &'static [&'static str],
    /// How QEMU ends
    code: Option<i32>,
    /// What the console holds then, in this order
    texts: &'static [&'static str],
    /// What it does not hold
    absent: &'static str,
}

const OOPS: Case = Case {
    what: "EXCEPTION",
    append: "",
    devices: &EXIT_PORT,
    code: COMPLAINT,
    texts: &[
        "BUG: kernel NULL pointer dereference",
        "Oops: ",
        "EIP: lkdtm_EXCEPTION",
        "Call Trace:",
        "---[ end trace ",
        "EIP: lkdtm_EXCEPTION",
        "CR0: ",
    ],
    absent: "Kernel panic",
};

const WARNING: Case = Case {
    what: "WARNING",
    append: "panic_on_warn=0",
    texts: &["WARNING: CPU: 0", "Call Trace:", "---[ end trace "],
    ..OOPS
};

const CASES: &[Case] = &[
    OOPS,
    Case {
        devices: &PVPANIC,
        code: PVPANIC_CODE,
        texts: &[
            "Oops: ",
            "---[ end trace ",
            "Kernel panic - not syncing: Fatal exception",
        ],
        absent: "Rebooting",
        ..OOPS
    },
    WARNING,
    Case {
        append: "panic_on_warn=1",
        code: PANIC,
        texts: &[
            "WARNING: CPU: 0",
            "Kernel panic - not syncing: kernel: panic_on_warn set",
        ],
        absent: "Rebooting",
        ..WARNING
    },
    Case {
        what: "BUG",
        texts: &["kernel BUG at", "Call Trace:", "---[ end trace ", "CR0: "],
        ..OOPS
    },
    Case {
        what: "PANIC",
        code: PANIC,
        texts: &["Kernel panic - not syncing: dumptest", "Call Trace:"],
        absent: "Rebooting",
        ..OOPS
    },
    Case {
        what: "ARRAY_BOUNDS",
        texts: &[
            "UBSAN: array-index-out-of-bounds",
            "Call Trace:",
            "---[ end trace ]---",
        ],
        ..OOPS
    },
    Case {
        what: "CORRUPT_LIST_ADD",
        texts: &["list_add corruption", "kernel BUG at", "---[ end trace "],
        ..OOPS
    },
    Case {
        what: "HUNG_TASK",
        code: PANIC,
        texts: &[
            "blocked for more than 2 seconds",
            "Call Trace:",
            "Kernel panic - not syncing: hung_task: blocked tasks",
        ],
        absent: "Rebooting",
        ..OOPS
    },
    // Off unless the command line turns them on.
    Case {
        what: "WRITE_BUDDY_AFTER_FREE",
        code: SILENCE,
        texts: &[],
        absent: "Call Trace:",
        ..OOPS
    },
    Case {
        what: "WRITE_BUDDY_AFTER_FREE",
        append: "page_poison=1",
        texts: &["pagealloc: memory corruption", "Call Trace:", "page: "],
        ..OOPS
    },
    Case {
        what: "WRITE_BUDDY_AFTER_FREE",
        append: "debug_pagealloc=on",
        texts: &[
            "BUG: unable to handle page fault",
            "EIP: ",
            "---[ end trace ",
        ],
        ..OOPS
    },
    Case {
        what: "WRITE_AFTER_FREE",
        code: SILENCE,
        texts: &[],
        absent: "Call Trace:",
        ..OOPS
    },
    Case {
        what: "WRITE_AFTER_FREE",
        append: "slub_debug=FZP panic_on_warn=1",
        devices: &PVPANIC,
        code: PVPANIC_CODE,
        texts: &[
            "[Poison overwritten]",
            "BUG kmalloc-1k",
            "Call Trace:",
            "Kernel panic - not syncing: kernel: panic_on_warn set",
        ],
        absent: "Rebooting",
    },
];

/// A lock that is still held on the way back to user space.
const LOCKDEP: Case = Case {
    what: "SPINLOCKUP",
    texts: &[
        "WARNING: lock held when returning to user space!",
        "lock_me_up",
    ],
    ..OOPS
};

/// Provokes one complaint after the other; returns how many.
///
/// # Errors
/// Names the first one that did not end as it must, with the console.
pub(super) fn prove(variant: &Variant, guest: &Guest) -> Result<usize> {
    let mut cases: Vec<&Case> = CASES.iter().collect();
    if variant.config() == Config::Lockdep {
        cases.push(&LOCKDEP);
    }
    side_by_side(&cases, |case| {
        let run = guest.provoke(case.what, case.append, case.devices)?;
        if let Some(wrong) = case.wrong(&run) {
            bail!(
                "{} `{}`: {wrong}; the console:\n{}",
                case.what,
                case.append,
                run.console
            );
        }
        Ok(())
    })?;
    Ok(cases.len())
}

impl Case {
    /// What of `run` is not as it must be.
    fn wrong(&self, run: &Run) -> Option<String> {
        if run.code != self.code {
            return Some(format!(
                "QEMU ended with {:?}, not {:?}",
                run.code, self.code
            ));
        }
        let mut rest = run.console.as_str();
        for text in self.texts {
            let Some(at) = rest.find(text) else {
                return Some(format!("`{text}` is not on the console, or not in order"));
            };
            rest = &rest[at + text.len()..];
        }
        run.console
            .contains(self.absent)
            .then(|| format!("`{}` is on the console", self.absent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(console: &str, code: Option<i32>) -> bool {
        let case = Case {
            texts: &["one", "two"],
            absent: "three",
            ..OOPS
        };
        let run = Run {
            console: console.to_owned(),
            code,
        };
        case.wrong(&run).is_some()
    }

    #[test]
    fn a_case_holds_with_its_code_and_its_texts_in_order() {
        assert!(!wrong("zero one\nand two\n", COMPLAINT));
        assert!(wrong("zero one\nand two\n", PANIC));
        assert!(wrong("two one\n", COMPLAINT));
        assert!(wrong("one\n", COMPLAINT));
        assert!(wrong("one two three\n", COMPLAINT));
    }
}
