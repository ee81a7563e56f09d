//! P10: what ends the process, or replaces its image, ends every worker.
//!
//! A process that does not end though killed is the verdict's `Stuck`. Here:
//! the new image of an execve runs alone.

use latefork_wire::trace::Detail;

use super::journal::{Journal, of_process};
use super::{Fault, Property, Violation};

pub(super) fn check(journal: &Journal<'_>) -> Vec<Violation> {
    let faults = journal
        .events
        .iter()
        .filter_map(|event| match event.detail {
            Detail::Executed { tasks, .. } if tasks > 1 => {
                let fault = Fault::SurvivedExec { tasks };
                Some(of_process(Property::EndsAll, "execve", fault))
            }
            _ => None,
        });
    faults.collect()
}
