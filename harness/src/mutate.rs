//! Programs made from other programs, for libFuzzer's custom mutator and
//! crossover: operations are inserted, dropped, swapped and tweaked, pointer
//! classes and schedules changed, so that nearly every input means something.
//!
//! All chance comes from libFuzzer's seed, by way of [`arbitrary`].

mod call;
mod generate;

use arbitrary::{Result, Unstructured};
use latefork_wire::op::{Op, OpIndex, PAYLOAD, Thread};
use latefork_wire::program::{HEADER, Instructions24, MAX_BYTES, MAX_STEPS, Point, Program, Step};

pub use self::generate::Bias;

/// Bytes of chance that one mutation may use: some steps' worth.
const CHANCE: usize = 1024;
/// Edits of one mutation at most.
const EDITS: u8 = 4;

/// Mutates the `size` bytes in `data` and gives how many they are then: 1 to
/// `max_size`, also where `size` is more than that (0 only where `data` has no
/// room for a byte).
pub fn mutate(bias: Bias, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut program = Program::decode(&data[..size.min(data.len())]);
    let chance = chance(seed);
    let mut chance = Unstructured::new(&chance);
    // An `Unstructured` that is used up gives its smallest values, no errors,
    // in all that is asked of it here.
    let edits = chance.int_in_range(1..=EDITS).unwrap_or(1);
    for _ in 0..edits {
        let _ = edit(bias, &mut program, &mut chance);
    }
    // What never calls says nothing of the call.
    if !calls(&program) {
        let _ = insert_call(bias, &mut program, &mut chance);
    }
    put(&mut program, data, max_size)
}

/// Writes the start of one program with the end of another to `out` and gives
/// the number of bytes, 1 at least (0 only where `out` has no room). If either
/// makes a call, so does what comes out.
pub fn crossover(one: &[u8], two: &[u8], out: &mut [u8], seed: u32) -> usize {
    let (one, two) = (Program::decode(one), Program::decode(two));
    let chance = chance(seed);
    let mut chance = Unstructured::new(&chance);
    let mut program = splice(&one, &two, &mut chance).unwrap_or_else(|_| one.clone());
    if !calls(&program) {
        let steps = one.steps.iter().chain(two.steps.iter());
        let call = steps.copied().find(|step| is_call(&step.op));
        call.into_iter().for_each(|step| append(&mut program, step));
    }
    put(&mut program, out, out.len())
}

/// Takes some of `one`'s steps from the start, and `two`'s from some place on.
fn splice(one: &Program, two: &Program, chance: &mut Unstructured<'_>) -> Result<Program> {
    let head = chance.int_in_range(0..=one.steps.len())?;
    let skip = chance.int_in_range(0..=two.steps.len())?;
    let chosen = if chance.arbitrary()? { one } else { two };
    let steps = one.steps[..head].iter().chain(&two.steps[skip..]);
    Ok(Program {
        setup: chosen.setup,
        schedule: chosen.schedule.iter().copied().collect(),
        steps: steps.copied().collect(),
    })
}

/// Bytes of chance from a seed (SplitMix64, Steele and others 2014).
fn chance(seed: u32) -> [u8; CHANCE] {
    let mut state = u64::from(seed);
    let mut bytes = [0; CHANCE];
    for word in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
    }
    bytes
}

/// Encodes into at most `max_size` bytes of `data`: steps that find no room go
/// first, the last call last of them, then points.
fn put(program: &mut Program, data: &mut [u8], max_size: usize) -> usize {
    let room = max_size.min(data.len());
    let mut bytes = [0; MAX_BYTES];
    let mut size = program.encode(&mut bytes);
    while size > room && (!program.steps.is_empty() || !program.schedule.is_empty()) {
        match expendable(program) {
            Some(step) => {
                program.steps.remove(step);
            }
            None => program.schedule.truncate(program.schedule.len() - 1),
        }
        size = program.encode(&mut bytes);
    }
    // Less than a header is left: missing bytes decode as 0.
    let size = size.min(room);
    data[..size].copy_from_slice(&bytes[..size]);
    size
}

/// One change of a program. Those that grow it come up as often as those that
/// shrink it; what tweaks does neither, and comes up most.
fn edit(bias: Bias, program: &mut Program, chance: &mut Unstructured<'_>) -> Result<()> {
    match chance.int_in_range(0..=15)? {
        0..=3 => insert(bias, program, chance),
        4..=5 => drop_one(program, chance),
        6 => swap(program, chance),
        7 => repeat_one(program, chance),
        8..=10 => tweak_byte(program, chance),
        11..=13 => tweak_call(bias, program, chance),
        14 => schedule(program, chance),
        _ => bias.setup(&mut program.setup, chance),
    }
}

/// A place of a step; `None` where there is none.
fn pick(program: &Program, chance: &mut Unstructured<'_>) -> Result<Option<usize>> {
    match program.steps.len() {
        0 => Ok(None),
        len => chance.int_in_range(0..=len - 1).map(Some),
    }
}

fn insert(bias: Bias, program: &mut Program, chance: &mut Unstructured<'_>) -> Result<()> {
    let len = program.steps.len();
    let at = chance.int_in_range(0..=len)?;
    let step = bias.step(at, chance)?;
    if len == MAX_STEPS {
        program.steps.remove(len - 1);
    }
    program.steps.insert(at, step);
    Ok(())
}

fn is_call(op: &Op) -> bool {
    matches!(op, Op::Async(_))
}

/// Whether the program goes through the call anywhere.
fn calls(program: &Program) -> bool {
    program.steps.iter().any(|step| is_call(&step.op))
}

/// The step that goes first where there is no room for all: the last, but a
/// program's only call after all others.
fn expendable(program: &Program) -> Option<usize> {
    let steps = program.steps.iter();
    let first_call = steps.clone().position(|step| is_call(&step.op));
    let mut others = (0..steps.len()).rev().filter(|at| Some(*at) != first_call);
    others.next().or(first_call)
}

/// Adds a step at the end, in place of the last one where all are taken.
fn append(program: &mut Program, step: Step) {
    program.steps.truncate(MAX_STEPS - 1);
    program.steps.push(step);
}

/// Lets thread 0 make a call.
fn insert_call(bias: Bias, program: &mut Program, chance: &mut Unstructured<'_>) -> Result<()> {
    let len = program.steps.len();
    let at = chance.int_in_range(0..=len)?;
    let step = Step {
        thread: Thread::new(0),
        op: Op::Async(call::any(bias, at, chance)?),
    };
    if len == MAX_STEPS {
        program.steps.remove(len - 1);
    }
    program.steps.insert(at, step);
    Ok(())
}

fn drop_one(program: &mut Program, chance: &mut Unstructured<'_>) -> Result<()> {
    if let Some(at) = pick(program, chance)? {
        program.steps.remove(at);
    }
    Ok(())
}

fn swap(program: &mut Program, chance: &mut Unstructured<'_>) -> Result<()> {
    if let (Some(one), Some(two)) = (pick(program, chance)?, pick(program, chance)?) {
        program.steps.as_mut_slice().swap(one, two);
    }
    Ok(())
}

fn repeat_one(program: &mut Program, chance: &mut Unstructured<'_>) -> Result<()> {
    if let Some(at) = pick(program, chance)? {
        let mut step = program.steps[at];
        step.thread = Thread::new(chance.int_in_range(0..=3)?);
        program.steps.insert(at + 1, step);
    }
    Ok(())
}

/// Changes one byte of a step's payload: to any value, or to its neighbour,
/// which in a class is the next class.
fn tweak_byte(program: &mut Program, chance: &mut Unstructured<'_>) -> Result<()> {
    let Some(at) = pick(program, chance)? else {
        return Ok(());
    };
    let step = &mut program.steps.as_mut_slice()[at];
    let mut payload = [0; PAYLOAD];
    step.op.encode(&mut payload);
    let place = chance.choose_index(PAYLOAD)?;
    payload[place] = match chance.int_in_range(0..=2)? {
        0 => chance.arbitrary()?,
        1 => payload[place].wrapping_add(1),
        _ => payload[place].wrapping_sub(1),
    };
    step.op = Op::decode(step.op.code() as u8, &payload);
    Ok(())
}

/// Gives one pointer or argument of a call another class.
fn tweak_call(bias: Bias, program: &mut Program, chance: &mut Unstructured<'_>) -> Result<()> {
    let calls = program.steps.iter().enumerate();
    let calls = calls.filter(|(_, step)| call::of(&step.op).is_some());
    let calls: Vec<usize> = calls.map(|(at, _)| at).collect();
    if calls.is_empty() {
        return insert(bias, program, chance);
    }
    let at = *chance.choose(&calls)?;
    match call::of_mut(&mut program.steps.as_mut_slice()[at].op) {
        Some(call) => call::tweak(bias, call, at, chance),
        None => Ok(()),
    }
}

/// Adds, drops or moves a point of the schedule. Points lie densest right
/// behind a call's entry, where most of its decisions are.
fn schedule(program: &mut Program, chance: &mut Unstructured<'_>) -> Result<()> {
    let len = program.schedule.len();
    if len > 0 && chance.ratio(1, 3)? {
        let at = chance.choose_index(len)?;
        program.schedule.remove(at);
        return Ok(());
    }
    let bits = chance.int_in_range(4..=16)?;
    let after = chance.int_in_range(0..=(1 << bits) - 1)?;
    let steps = program.steps.len().max(1) - 1;
    let op = chance.int_in_range(0..=steps)?;
    let point = Point {
        op: OpIndex::new(u8::try_from(op).unwrap_or(0)),
        after: Instructions24::new(after),
    };
    if len > 0 && chance.arbitrary()? {
        let at = chance.choose_index(len)?;
        program.schedule.as_mut_slice()[at] = point;
    } else {
        program.schedule.push(point);
    }
    Ok(())
}

const _: () = assert!(HEADER > 0, "a program without steps has bytes");

#[cfg(test)]
mod tests;
