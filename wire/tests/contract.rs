//! The agent's scenarios hold what they are meant to hold: one or more for each
//! property, each row of the per-task table, each hazard, and each kind of
//! everything that a program can do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use latefork_wire::call::{DESCRIPTORS, Flags, Watch};
use latefork_wire::op::{
    AltStackKind, ExecKind, FaultKind, ForkKind, FuseAction, FuseOps, Handling, KernelLimitKind,
    MapKind, MaskHow, ObjectKind, Observation, OpCode, PokeTarget, PrivilegeCase, Protection,
    PtraceAction, Resource, Row, Sender, Target, TimerKind,
};
use latefork_wire::program::{Ending, Program, Start};
use latefork_wire::text::scenario::scenarios;
use latefork_wire::value::{Arg, Place, Scalar};

const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-agent");

/// What all scenario files say together.
#[derive(Default)]
struct Everything {
    names: Vec<String>,
    /// Directives with each of their words: `property P5`.
    directives: BTreeSet<String>,
    programs: Vec<Program>,
}

fn everything() -> Everything {
    let mut all = Everything::default();
    let folder = Path::new(AGENT).join("scenarios");
    let files = fs::read_dir(&folder).unwrap();
    for path in files.map(|file| file.unwrap().path()) {
        let text = fs::read_to_string(&path).unwrap();
        for scenario in scenarios(&text) {
            let name = scenario.name;
            for directive in ["property", "hazard", "row", "flavour"] {
                let words = scenario.words(directive);
                all.directives
                    .extend(words.map(|word| format!("{directive} {word}")));
            }
            let program = scenario.program();
            all.programs
                .push(program.unwrap_or_else(|error| panic!("{name}: {error}")));
            all.names.push(name.to_owned());
        }
    }
    all
}

/// Those of `wanted` that `there` lacks.
fn missing<'a>(wanted: impl Iterator<Item = &'a str>, there: &BTreeSet<String>) -> Vec<&'a str> {
    wanted.filter(|word| !there.contains(*word)).collect()
}

/// Words that field `field` of operation `op` has in any scenario, defaults
/// included.
fn words_of(all: &Everything, op: OpCode, field: &str) -> BTreeSet<String> {
    let steps = all.programs.iter().flat_map(|program| program.steps.iter());
    let texts = steps
        .filter(|step| step.op.code() == op)
        .map(ToString::to_string);
    texts.map(|text| value_in(&text, field)).collect()
}

/// The value of `field` without its parameter; `default` where it is left out.
fn value_in(text: &str, field: &str) -> String {
    let mut words = text.split(' ');
    let value = words.find_map(|word| word.strip_prefix(field)?.strip_prefix('='));
    let class = value.and_then(|value| value.split(':').next());
    class.unwrap_or("default").to_owned()
}

/// Checks that every choice of a field stands in some scenario; the first one
/// is the default.
fn check_choices<'a>(op: OpCode, field: &str, words: impl Iterator<Item = &'a str>) {
    let all = everything();
    let there = words_of(&all, op, field);
    let wanted = words
        .enumerate()
        .map(|(at, word)| if at == 0 { "default" } else { word });
    let missing = missing(wanted, &there);
    assert!(missing.is_empty(), "{} {field}: {missing:?}", op.word());
}

#[test]
fn every_property_hazard_and_row_has_a_scenario() {
    let all = everything();
    for number in 1..=13 {
        let property = format!("property P{number}");
        assert!(all.directives.contains(&property), "no {property}");
    }
    for number in 1..=14 {
        let hazard = format!("hazard {number}");
        assert!(all.directives.contains(&hazard), "no {hazard}");
    }
    for row in Row::ALL {
        let row = format!("row {}", row.word());
        assert!(all.directives.contains(&row), "no scenario for {row}");
    }
}

#[test]
fn names_are_unique_and_directives_name_what_exists() {
    let all = everything();
    let names: BTreeSet<_> = all.names.iter().collect();
    assert_eq!(names.len(), all.names.len(), "a name stands there twice");
    for directive in &all.directives {
        let known = match directive.split_once(' ').unwrap() {
            ("property", word) => (1..=13).any(|number| word == format!("P{number}")),
            ("hazard", word) => (1..=14).any(|number| word == number.to_string()),
            ("row", word) => Row::ALL.iter().any(|row| row.word() == word),
            _ => true,
        };
        assert!(known, "{directive}");
    }
}

#[test]
fn every_operation_is_used() {
    let all = everything();
    let steps = all.programs.iter().flat_map(|program| program.steps.iter());
    let there = steps.map(|step| step.op.code().word().to_owned()).collect();
    let missing = missing(OpCode::ALL.iter().map(|code| code.word()), &there);
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_descriptor_pointer_class_and_kind_of_argument_is_used() {
    let all = everything();
    let indexes = words_of(&all, OpCode::Async, "index");
    // The first descriptor is the default.
    let names = DESCRIPTORS.iter().skip(1).map(|row| row.name);
    assert_eq!(missing(names, &indexes), Vec::<&str>::new());

    let mut places = BTreeSet::new();
    let mut scalars = BTreeSet::new();
    for program in &all.programs {
        for step in program.steps.iter() {
            use latefork_wire::op::Op;
            let (Op::Async(call) | Op::Plain(call) | Op::Prepare(call)) = &step.op else {
                continue;
            };
            places.extend([call.status.place.word(), call.args.place.word()].map(str::to_owned));
            for arg in call.args_in_order() {
                match arg {
                    Arg::Scalar(scalar, _) => scalars.insert(scalar.word().to_owned()),
                    Arg::Buffer(pointer) => places.insert(pointer.place.word().to_owned()),
                };
            }
        }
    }
    let no_place = missing(Place::ALL.iter().map(|place| place.word()), &places);
    assert!(no_place.is_empty(), "{no_place:?}");
    let no_scalar = missing(Scalar::ALL.iter().map(|scalar| scalar.word()), &scalars);
    assert!(no_scalar.is_empty(), "{no_scalar:?}");
}

macro_rules! choices_are_used {
    ($($test:ident: $type:ident is $op:ident $field:literal;)+) => {$(
        #[test]
        fn $test() {
            let words = $type::ALL.iter().map(|choice| choice.word());
            check_choices(OpCode::$op, $field, words);
        }
    )+};
}

choices_are_used! {
    every_kind_of_flags_is_used: Flags is Async "flags";
    every_kind_of_watch_is_used: Watch is Async "watch";
    every_object_is_used: ObjectKind is Create "kind";
    every_map_is_used: MapKind is Map "kind";
    every_protection_is_used: Protection is Protect "to";
    every_cell_is_poked: PokeTarget is Poke "cell";
    every_resource_is_limited: Resource is Rlimit "which";
    every_kernel_limit_is_set: KernelLimitKind is KernelLimit "which";
    every_privilege_is_taken: PrivilegeCase is Privilege "case";
    every_fault_is_armed: FaultKind is Fault "kind";
    every_fuse_action_is_used: FuseAction is Fuse "action";
    every_fuse_request_is_named: FuseOps is Fuse "on";
    every_handling_is_used: Handling is Handle "how";
    every_change_of_the_mask_is_used: MaskHow is Mask "how";
    every_target_is_sent_to: Target is Send "to";
    every_sender_sends: Sender is Send "from";
    every_alternate_stack_is_used: AltStackKind is AltStack "kind";
    every_timer_is_used: TimerKind is Timer "kind";
    every_fork_is_used: ForkKind is Fork "kind";
    every_exec_is_used: ExecKind is Exec "kind";
    every_trace_request_is_used: PtraceAction is Ptrace "action";
    every_observation_is_made: Observation is Observe "what";
}

#[test]
fn every_start_ending_and_schedule_is_used() {
    let all = everything();
    for start in Start::ALL {
        let is = |program: &Program| program.setup.start == *start;
        assert!(all.programs.iter().any(is), "{}", start.word());
    }
    for ending in Ending::ALL {
        let is = |program: &Program| program.setup.ending == *ending;
        assert!(all.programs.iter().any(is), "{}", ending.word());
    }
    assert!(all.programs.iter().any(|p| !p.schedule.is_empty()));
    assert!(all.directives.contains("flavour control"));
}

/// The list of faithful's failures names scenarios that exist, each with a
/// hazard that the scenario is for, and with a mechanism.
#[test]
fn listed_failures_are_of_scenarios_for_their_hazard() {
    let list = fs::read_to_string(Path::new(AGENT).join("expected/faithful.txt")).unwrap();
    let mut hazards = BTreeSet::new();
    for line in list.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.splitn(3, ' ');
        let (name, hazard) = (words.next().unwrap(), words.next().unwrap());
        assert!(words.next().is_some_and(|text| text.len() > 5), "{line}");
        assert!(is_for(name, hazard), "{name} is not for hazard {hazard}");
        hazards.insert(hazard.to_owned());
    }
    assert!(hazards.contains("13"), "nested calls");
}

fn is_for(name: &str, hazard: &str) -> bool {
    let folder = Path::new(AGENT).join("scenarios");
    let files = fs::read_dir(&folder).unwrap();
    files.map(|file| file.unwrap().path()).any(|path| {
        let text = fs::read_to_string(&path).unwrap();
        scenarios(&text)
            .filter(|scenario| scenario.name == name)
            .any(|scenario| scenario.words("hazard").any(|number| number == hazard))
    })
}
