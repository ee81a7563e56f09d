//! The self-test: scenarios, as TAP on the console.

use latefork_wire::program::MAX_BYTES;
use latefork_wire::text::scenario::{Scenario, scenarios};
use latefork_wire::trace;

use crate::console;
use crate::shared::{set, shared};
use crate::supervise::Supervisor;

/// The scenario files, in the order of their numbers.
const FILES: &[&str] = &[
    include_str!("../scenarios/abi.txt"),
    include_str!("../scenarios/fork.txt"),
    include_str!("../scenarios/state.txt"),
    include_str!("../scenarios/limits.txt"),
    include_str!("../scenarios/lifecycle.txt"),
    include_str!("../scenarios/signals.txt"),
    include_str!("../scenarios/hazards.txt"),
    include_str!("../scenarios/kinds.txt"),
];

/// Ticks that a scenario gets unless it says otherwise: a loaded host runs the
/// machine ten times slower than its clock.
const WATCHDOG_TICKS: u16 = 3000;

/// What is to be run.
pub struct Selection<'a> {
    /// Scenarios before this number are left out.
    pub first: usize,
    /// Only the scenario of this name, if there is one.
    pub only: Option<&'a str>,
    /// Only scenarios for this property; the others have no number either.
    pub property: Option<&'a str>,
    /// Traces of scenarios that pass are printed too.
    pub verbose: bool,
}

/// Runs the scenarios; how many failed.
pub fn run(supervisor: &mut Supervisor, selection: &Selection<'_>) -> usize {
    set(&shared().stepwise, 1);
    let all = || {
        let all = FILES.iter().flat_map(|file| scenarios(file));
        all.filter(|scenario| {
            let mut properties = scenario.words("property");
            selection
                .property
                .is_none_or(|wanted| properties.any(|property| property == wanted))
        })
    };
    console::line(format_args!("TAP version 13"));
    console::line(format_args!("1..{}", all().count()));
    let mut failed = 0;
    for (at, scenario) in all().enumerate() {
        let chosen = selection.only.is_none_or(|only| only == scenario.name);
        if at + 1 < selection.first || !chosen {
            continue;
        }
        if !run_one(supervisor, at + 1, &scenario, selection.verbose) {
            failed += 1;
        }
    }
    console::line(format_args!("# {failed} failed"));
    failed
}

fn run_one(
    supervisor: &mut Supervisor,
    number: usize,
    scenario: &Scenario<'_>,
    verbose: bool,
) -> bool {
    let name = scenario.name;
    // Before it runs: whoever reads the console knows which one was last.
    console::line(format_args!("# begin {number} {name}"));
    let program = match scenario.program() {
        Ok(program) => program,
        Err(error) => {
            console::line(format_args!("not ok {number} - {name} # {error}"));
            return false;
        }
    };
    let mut bytes = [0; MAX_BYTES];
    let len = program.encode(&mut bytes);
    let mut options = scenario.options();
    if options.watchdog_ticks == 0 {
        options.watchdog_ticks = WATCHDOG_TICKS;
    }
    supervisor.run(&bytes[..len], &options);
    let verdict = scenario.check(|| trace::events(shared().trace()));
    if verdict.is_err() || verbose {
        print_trace();
    }
    match verdict {
        Ok(()) => console::line(format_args!("ok {number} - {name}")),
        Err(failure) => console::line(format_args!("not ok {number} - {name} # {failure}")),
    }
    verdict.is_ok()
}

/// Prints the trace of the last program, one event a line.
pub fn print_trace() {
    for event in trace::events(shared().trace()) {
        console::line(format_args!("#   {event}"));
    }
}
