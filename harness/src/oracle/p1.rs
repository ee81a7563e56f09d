//! P1: `async` returns 0, -EINVAL or -EFAULT and nothing else, the errors
//! exactly when rules 1 to 4 say so.
//!
//! Rule 4 (no nesting) shows in the inner call alone, whose value lies in a
//! status; so a call that comes straight from user space meets rules 1 to 3.

use latefork_wire::call::DESCRIPTORS;

use super::cells::{Readable, allocations_may_fail, readable};
use super::journal::{Issue, Journal};
use super::{Fault, Property, Violation};

const EFAULT: i32 = -14;
const EINVAL: i32 = -22;
/// Most arguments that the kernel passes (rule 2).
const MOST_ARGUMENTS: u8 = 6;

/// What the rules allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    Only(i32),
    /// 0 or -EFAULT: whether the arguments can be read is not known.
    Readable,
}

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let faults = journal.issues.iter().filter_map(|issue| {
        let value = issue.returned?.value;
        let fault = judge(value, allowed(journal, issue))?;
        Some(Journal::violation(Property::ReturnValue, issue, fault))
    });
    faults.collect()
}

fn judge(value: i32, allowed: Allowed) -> Option<Fault> {
    if ![0, EINVAL, EFAULT].contains(&value) {
        return Some(Fault::StrangeValue { value });
    }
    match allowed {
        Allowed::Only(wanted) if value != wanted => Some(Fault::WrongValue { value, wanted }),
        Allowed::Readable if value == EINVAL => Some(Fault::WrongValue { value, wanted: 0 }),
        _ => None,
    }
}

fn allowed(journal: &Journal<'_>, issue: &Issue) -> Allowed {
    let row = usize::try_from(issue.index)
        .ok()
        .and_then(|index| DESCRIPTORS.get(index));
    let Some(row) = row else {
        return Allowed::Only(EINVAL);
    };
    let is_empty = row.claims == 0 && row.plain.is_none();
    if is_empty || row.claims > MOST_ARGUMENTS {
        return Allowed::Only(EINVAL);
    }
    match readable(journal.program, issue.args, u32::from(row.claims) * 4) {
        Readable::No => Allowed::Only(EFAULT),
        // Reading may need a page, or a page table.
        Readable::Yes if row.claims > 0 && allocations_may_fail(journal.program) => {
            Allowed::Readable
        }
        Readable::Yes => Allowed::Only(0),
        Readable::Unknown => Allowed::Readable,
    }
}
