//! Any bytes as guest code, for tests and the fuzz target `cpu_any_bytes`.
//!
//! [`run_scenario`] executes the same scenario in several ways that must not
//! differ: at once, cut into random budgets, moved to a fresh CPU by its saved
//! bytes at random points, and instruction by instruction. It panics if two of
//! them disagree, or if the CPU does not keep its budget.

mod layout;

use std::cell::Cell;

use xxhash_rust::xxh3::Xxh3;

use self::layout::RAM_BYTES;
pub use self::layout::Start;
use crate::{Cpu, CpuModel, CpuState, Exit, Instructions, Memory, PhysAddr};

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
                    1 => Event::Write(layout::CODE + u32::from(kind), value),
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
    /// The same, and now and then on a fresh CPU from the saved bytes.
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
    /// Hash of RAM and of the dirty bitmap.
    memory: u64,
}

/// Executes the scenario in every way.
///
/// # Panics
///
/// If the ways disagree.
pub fn run_scenario(scenario: &Scenario) {
    let whole = Runner::new(scenario, Way::Whole).run();
    for way in [Way::Cut, Way::Moved, Way::Single] {
        let other = Runner::new(scenario, way).run();
        if whole != other {
            let parts = differences(&whole, &other).join(", ");
            panic!("{way:?} differs in {parts}: {scenario:?}");
        }
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
    part("memory", text(&whole.memory), text(&other.memory));
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

/// A machine that executes one scenario.
struct Runner<'a> {
    scenario: &'a Scenario,
    way: Way,
    cpu: Cpu,
    ram: Vec<Cell<u8>>,
    dirty: Vec<Cell<u64>>,
    next_event: usize,
    vector: u8,
    exits: Xxh3,
    exit_count: u32,
    random: u64,
}

impl<'a> Runner<'a> {
    fn new(scenario: &'a Scenario, way: Way) -> Self {
        let ram = layout::memory(scenario);
        let mut cpu = Cpu::new(scenario.model);
        cpu.restore(&layout::state(scenario));
        if way == Way::Single {
            cpu.set_edge_callback(Some(Box::new(|_, _, _| {})));
        }
        Self {
            scenario,
            way,
            cpu,
            ram: ram.into_iter().map(Cell::new).collect(),
            dirty: vec![Cell::new(0); RAM_BYTES / 4096 / 64],
            next_event: 0,
            vector: 0,
            exits: Xxh3::new(),
            exit_count: 0,
            random: scenario.seed,
        }
    }

    fn run(mut self) -> Outcome {
        while self.exit_count < MOST_EXITS && self.step() {}
        let bytes: Vec<u8> = self.ram.iter().map(Cell::get).collect();
        let mut memory = Xxh3::new();
        memory.update(&bytes);
        for word in &self.dirty {
            memory.update(&word.get().to_le_bytes());
        }
        Outcome {
            retired: self.cpu.retired(),
            state: self.cpu.save(),
            exits: self.exits.digest(),
            memory: memory.digest(),
        }
    }

    /// One run of the CPU; `false` at the end of the scenario.
    fn step(&mut self) -> bool {
        let now = self.cpu.retired();
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
        let memory = Memory::new(&self.ram, &[], &self.dirty);
        let exit = self.cpu.run(&memory, Instructions(budget));
        let retired = self.cpu.retired() - now;
        assert!(retired <= budget, "{retired} instructions in {budget}");
        if exit == Exit::Budget {
            assert_eq!(retired, budget, "the budget is not spent");
        } else {
            self.exit_count += 1;
            let text = format!("{} {exit:?}", self.cpu.retired());
            self.exits.update(text.as_bytes());
        }
        let goes_on = self.answer(exit);
        if self.way == Way::Moved && self.random().is_multiple_of(4) {
            self.move_to_fresh_cpu();
        }
        goes_on
    }

    fn answer(&mut self, exit: Exit) -> bool {
        match exit {
            Exit::Budget | Exit::PortOut { .. } | Exit::MmioWrite { .. } => true,
            Exit::PortIn { port, .. } => {
                self.cpu.complete_read(self.reading(u64::from(port)));
                true
            }
            Exit::MmioRead { address, .. } => {
                self.cpu.complete_read(self.reading(address.0));
                true
            }
            Exit::InterruptWindow => {
                let memory = Memory::new(&self.ram, &[], &self.dirty);
                self.cpu.set_interrupt_line(false);
                self.cpu.deliver_interrupt(&memory, self.vector);
                true
            }
            // Time jumps to the next event, if one could end the halt.
            Exit::Halted => match self.scenario.events.get(self.next_event) {
                Some(&(_, event)) if self.cpu.interrupts_enabled() => {
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
        let memory = Memory::new(&self.ram, &[], &self.dirty);
        match event {
            Event::Interrupt(vector) => {
                self.vector = vector;
                self.cpu.set_interrupt_line(true);
            }
            Event::Write(at, value) => {
                self.ram[at as usize % RAM_BYTES].set(value);
                let at = u64::from(at) % RAM_BYTES as u64;
                self.cpu.note_host_write(&memory, PhysAddr(at), 1);
            }
            Event::ClearDirty => {
                for word in &self.dirty {
                    word.set(0);
                }
                self.cpu.dirty_cleared();
            }
            Event::FlushTlb => self.cpu.flush_tlb(),
        }
    }

    /// A value that depends on nothing but the place and the time.
    fn reading(&self, place: u64) -> u32 {
        let mixed = (place ^ self.scenario.seed ^ self.cpu.retired() << 20)
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

    fn move_to_fresh_cpu(&mut self) {
        let state = self.cpu.save();
        let bytes = state.to_bytes();
        let read = CpuState::from_bytes(&bytes).expect("a saved state can be read");
        assert_eq!(read, state, "the bytes of a state are not the state");
        let mut cpu = Cpu::new(CpuModel::Fuzz);
        cpu.restore(&read);
        self.cpu = cpu;
    }
}

impl std::fmt::Debug for Runner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("way", &self.way)
            .field("cpu", &self.cpu)
            .finish_non_exhaustive()
    }
}
