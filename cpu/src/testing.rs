//! Any bytes as guest code, for tests and the fuzz target `cpu_any_bytes`.
//!
//! [`run_scenario`] executes the same scenario in several ways that must not
//! differ: at once, cut into random budgets, moved to another CPU by its saved
//! bytes at random points, and instruction by instruction. It panics if two of
//! them disagree, or if the CPU does not keep its budget.

pub mod layout;
mod machine;

use xxhash_rust::xxh3::Xxh3;

pub use self::layout::Start;
pub use self::machine::{CODE, DATA, Machine, STACK, flat_state};
use crate::{Cpu, CpuModel, CpuState, EdgeCallback, Exit, PhysAddr};

/// Instructions that a scenario may retire.
const LIFE: u64 = 1000;
/// Exits that a scenario may cause.
const MOST_EXITS: u32 = 5000;

/// What the host does at a moment of the guest's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Asserts the interrupt line; this vector is acknowledged.
    Interrupt(u8),
    /// Writes a byte, as a device would.
    Write(u32, u8),
    /// Clears the dirty bitmap.
    ClearDirty,
    /// Empties the TLB.
    FlushTlb,
}

/// Guest code, where it starts, and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The CPU model.
    pub model: CpuModel,
    /// The mode it starts in.
    pub start: Start,
    /// Chooses data, answers to reads, and where runs are cut.
    pub seed: u64,
    /// Events, by the count of retired instructions before them.
    pub events: Vec<(u64, Event)>,
    /// The code bytes.
    pub code: Vec<u8>,
}

impl Scenario {
    /// Any bytes are a scenario: two bytes of choices, up to three events,
    /// then code.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut rest = bytes.iter().copied();
        let mut byte = || rest.next().unwrap_or(0);
        let (choice, seed) = (byte(), byte());
        let mut events = Vec::new();
        let mut at = 0;
        for _ in 0..choice >> 6 {
            at += u64::from(byte());
            let (kind, value) = (byte(), byte());
            events.push((
                at,
                match kind & 3 {
                    0 => Event::Interrupt(value),
                    1 => Event::Write(CODE + u32::from(kind), value),
                    2 => Event::ClearDirty,
                    _ => Event::FlushTlb,
                },
            ));
        }
        Self {
            model: if choice & 8 == 0 {
                CpuModel::Fuzz
            } else {
                CpuModel::Sse
            },
            start: Start::ALL[usize::from(choice & 7)],
            seed: u64::from(seed),
            events,
            code: rest.take(layout::CODE_BYTES).collect(),
        }
    }
}

/// How a scenario is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In as few runs as possible.
    Whole,
    /// In budgets of random size.
    Cut,
    /// The same, and now and then on another CPU from the saved bytes.
    Moved,
    /// With an edge callback, which makes every instruction run alone.
    Single,
}

/// What must not depend on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    retired: u64,
    state: CpuState,
    /// Hash of all exits but [`Exit::Budget`], with their times.
    exits: u64,
}

/// Executes the scenario in every way.
///
/// # Panics
///
/// If the ways disagree.
pub fn run_scenario(scenario: &Scenario) {
    let image = layout::memory(scenario);
    let state = layout::state(scenario);
    let mut machine = Machine::with_state(image.clone(), &state);
    let whole = Runner::new(scenario, Way::Whole, &mut machine).run();
    machine.check_lines(&image, scenario);
    let memory = (machine.ram.clone(), machine.dirty.clone());
    for way in [Way::Cut, Way::Moved, Way::Single] {
        machine.begin_again(&image, &state);
        let other = Runner::new(scenario, way, &mut machine).run();
        machine.check_lines(&image, scenario);
        let same_memory = (&machine.ram, &machine.dirty) == (&memory.0, &memory.1);
        if whole != other || !same_memory {
            let mut parts = differences(&whole, &other);
            if !same_memory {
                parts.extend(first_difference(&memory.0, &machine.ram));
                parts.push(format!("dirty ({:x?} / {:x?})", memory.1, machine.dirty));
            }
            let parts = parts.join(", ");
            panic!("{way:?} differs in {parts}: {scenario:x?}");
        }
    }
}

fn first_difference(whole: &[u8], other: &[u8]) -> Option<String> {
    let at = whole.iter().zip(other).position(|(a, b)| a != b)?;
    Some(format!(
        "memory at {at:#x} ({:x} / {:x})",
        whole[at], other[at]
    ))
}

impl Machine {
    /// The start of a scenario once more, on a CPU that has a past: it keeps
    /// the decoded blocks that are still right.
    fn begin_again(&mut self, image: &[u8], state: &CpuState) {
        self.ram.copy_from_slice(image);
        self.dirty.fill(0);
        self.lines.fill(0);
        self.note_new_memory();
        self.cpu.restore(state);
    }

    /// Whether all that differs from `image` lies in marked lines, or in the 7
    /// bytes before one.
    fn check_lines(&self, image: &[u8], scenario: &Scenario) {
        let marked = |at: usize| self.lines[at >> 12] >> (at >> 6 & 63) & 1 != 0;
        for (at, (before, after)) in image.iter().zip(&self.ram).enumerate() {
            let in_page = at & !0xfff | (at & 0xfff).saturating_add(7).min(0xfff);
            assert!(
                before == after || marked(at) || marked(in_page),
                "no mark for the byte at {at:#x}: {scenario:x?}"
            );
        }
    }

    /// Any byte of RAM and of the bitmap may have changed.
    fn note_new_memory(&mut self) {
        let (cpu, memory) = self.parts();
        let len = u32::try_from(layout::RAM_BYTES).expect("a few pages");
        cpu.note_host_write(&memory, PhysAddr(0), len);
        cpu.dirty_cleared();
    }
}

/// Names what differs, with both values where they are small.
fn differences(whole: &Outcome, other: &Outcome) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = |name: &str, whole: String, other: String| {
        if whole != other {
            parts.push(format!("{name} ({whole} / {other})"));
        }
    };
    let (a, b) = (&whole.state, &other.state);
    let text = |value: &dyn std::fmt::Debug| format!("{value:x?}");
    part("retired", text(&whole.retired), text(&other.retired));
    part("exits", text(&whole.exits), text(&other.exits));
    part("gpr", text(&a.gpr), text(&b.gpr));
    part("eip", text(&a.eip), text(&b.eip));
    part("eflags", text(&a.eflags), text(&b.eflags));
    part("segments", text(&a.segments), text(&b.segments));
    part(
        "control",
        text(&(a.cr0, a.cr2, a.cr3, a.cr4)),
        text(&(b.cr0, b.cr2, b.cr3, b.cr4)),
    );
    part("dr", text(&a.dr), text(&b.dr));
    part(
        "shadow",
        text(&(a.shadow, a.debug_hits)),
        text(&(b.shadow, b.debug_hits)),
    );
    part("fpu", text(&a.fpu), text(&b.fpu));
    part("simd", text(&a.simd), text(&b.simd));
    part("io", text(&a.pending_io), text(&b.pending_io));
    part("tlb", text(&a.tlb), text(&b.tlb));
    parts
}

/// One execution of a scenario.
struct Runner<'a> {
    scenario: &'a Scenario,
    way: Way,
    machine: &'a mut Machine,
    /// The CPU that was in the machine before the last move.
    spare: Option<Cpu>,
    next_event: usize,
    vector: u8,
    exits: Xxh3,
    exit_count: u32,
    random: u64,
}

impl<'a> Runner<'a> {
    fn new(scenario: &'a Scenario, way: Way, machine: &'a mut Machine) -> Self {
        if way == Way::Single {
            let callback: EdgeCallback = Box::new(|_, _, _| {});
            machine.cpu.set_edge_callback(Some(callback));
        }
        Self {
            scenario,
            way,
            machine,
            spare: None,
            next_event: 0,
            vector: 0,
            exits: Xxh3::new(),
            exit_count: 0,
            random: scenario.seed,
        }
    }

    fn run(mut self) -> Outcome {
        while self.exit_count < MOST_EXITS && self.step() {}
        Outcome {
            retired: self.machine.cpu.retired(),
            state: self.machine.cpu.save(),
            exits: self.exits.digest(),
        }
    }

    /// One run of the CPU; `false` at the end of the scenario.
    fn step(&mut self) -> bool {
        let now = self.machine.cpu.retired();
        let event = self.scenario.events.get(self.next_event).copied();
        if let Some((at, event)) = event
            && at <= now
        {
            self.next_event += 1;
            self.happen(event);
            return true;
        }
        let until = event.map_or(LIFE, |(at, _)| at.min(LIFE));
        if now >= until {
            return false;
        }
        let mut budget = until - now;
        if matches!(self.way, Way::Cut | Way::Moved) {
            budget = budget.min(1 + self.random() % 40);
        }
        let exit = self.machine.run(budget);
        let retired = self.machine.cpu.retired() - now;
        assert!(retired <= budget, "{retired} instructions in {budget}");
        if exit == Exit::Budget {
            assert_eq!(retired, budget, "the budget is not spent");
        } else {
            self.exit_count += 1;
            let text = format!("{} {exit:?}", self.machine.cpu.retired());
            self.exits.update(text.as_bytes());
        }
        let goes_on = self.answer(exit);
        if self.way == Way::Moved && self.random().is_multiple_of(4) {
            self.move_to_other_cpu();
        }
        goes_on
    }

    fn answer(&mut self, exit: Exit) -> bool {
        match exit {
            Exit::Budget | Exit::PortOut { .. } | Exit::MmioWrite { .. } => true,
            Exit::PortIn { port, .. } => {
                self.machine
                    .cpu
                    .complete_read(self.reading(u64::from(port)));
                true
            }
            Exit::MmioRead { address, .. } => {
                self.machine.cpu.complete_read(self.reading(address.0));
                true
            }
            Exit::InterruptWindow => {
                let (cpu, memory) = self.machine.parts();
                cpu.set_interrupt_line(false);
                cpu.deliver_interrupt(&memory, self.vector);
                true
            }
            // Time jumps to the next event, if one could end the halt.
            Exit::Halted => match self.scenario.events.get(self.next_event) {
                Some(&(_, event)) if self.machine.cpu.interrupts_enabled() => {
                    self.next_event += 1;
                    self.happen(event);
                    true
                }
                _ => false,
            },
            Exit::TripleFault
            | Exit::Unsupported { .. }
            | Exit::Breakpoint { .. }
            | Exit::Watch { .. } => false,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Interrupt(vector) => {
                self.vector = vector;
                self.machine.cpu.set_interrupt_line(true);
            }
            Event::Write(at, value) => {
                let at = at as usize % layout::RAM_BYTES;
                self.machine.lines[at >> 12] |= 1 << (at >> 6 & 63);
                self.machine
                    .write(u32::try_from(at).expect("inside RAM"), &[value]);
            }
            Event::ClearDirty => {
                self.machine.dirty.fill(0);
                self.machine.cpu.dirty_cleared();
            }
            Event::FlushTlb => self.machine.cpu.flush_tlb(),
        }
    }

    /// A value that depends on nothing but the place and the time.
    fn reading(&self, place: u64) -> u32 {
        let mixed = (place ^ self.scenario.seed ^ self.machine.cpu.retired() << 20)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        u32::try_from(mixed >> 32).expect("32 bits")
    }

    fn random(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// Goes on elsewhere, from the saved bytes: on a new CPU, or on the one that
    /// was left at the last move, whose blocks are from another past.
    fn move_to_other_cpu(&mut self) {
        let state = self.machine.cpu.save();
        let bytes = state.to_bytes();
        let read = CpuState::from_bytes(&bytes).expect("a saved state can be read");
        assert_eq!(read, state, "the bytes of a state are not the state");
        let renew = self.random().is_multiple_of(4);
        let other = match self.spare.take() {
            Some(spare) if !renew => spare,
            _ => Cpu::new(CpuModel::Fuzz),
        };
        self.spare = Some(std::mem::replace(&mut self.machine.cpu, other));
        self.machine.note_new_memory();
        self.machine.cpu.restore(&read);
    }
}

impl std::fmt::Debug for Runner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("way", &self.way)
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}
