//! The least machine that a CPU test ROM needs: RAM, the ROM below 1 MiB and
//! again below 4 GiB, a port for progress codes and one for text.

use std::cell::Cell;

use latefork_cpu::{Cpu, CpuModel, Exit, Instructions, Memory, PhysAddr, Region, RegionKind};

/// RAM from 1 MiB up, in bytes.
const HIGH_RAM: usize = 15 << 20;
const MIB: usize = 1 << 20;
/// Instructions in one run of the CPU; no run is longer.
const SLICE: u64 = 10_000_000;

/// The ports that the ROM talks to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// Progress codes, a byte each; 0xFF is success.
    pub(crate) post: u16,
    /// Text.
    pub(crate) out: u16,
}

/// How a ROM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// HLT after progress code 0xFF.
    Passed,
    /// HLT before it.
    Halted,
    /// An exception while a double fault was being delivered.
    TripleFault,
    /// Something that this CPU leaves out.
    Unsupported(&'static str),
    /// The budget of instructions was not enough.
    OutOfBudget,
}

/// What a ROM did.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Progress codes in their order.
    pub(crate) posts: Vec<u8>,
    /// Instructions retired.
    pub(crate) retired: u64,
}

/// Why an image cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadLength(pub(crate) usize);

impl std::fmt::Display for BadLength {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(length) = self;
        write!(f, "the image has {length} bytes; a ROM has 65536 or 131072")
    }
}

/// Runs `image` from reset until it halts, at most `budget` instructions.
/// `sink` gets every byte of text as it comes.
pub(crate) fn run(
    image: &[u8],
    ports: Ports,
    model: CpuModel,
    budget: u64,
    mut sink: impl FnMut(u8),
) -> Result<Report, BadLength> {
    if ![MIB / 16, MIB / 8].contains(&image.len()) {
        return Err(BadLength(image.len()));
    }
    let low = vec![Cell::new(0u8); MIB - image.len()];
    let high = vec![Cell::new(0u8); HIGH_RAM];
    let rom: Vec<Cell<u8>> = image.iter().copied().map(Cell::new).collect();
    let region = |start: u64, bytes, kind| Region {
        start: PhysAddr(start),
        bytes,
        kind,
    };
    let regions = [
        region(low.len() as u64, &rom[..], RegionKind::Rom),
        region((1 << 32) - rom.len() as u64, &rom[..], RegionKind::Rom),
        region(MIB as u64, &high[..], RegionKind::Ram),
    ];
    let memory = Memory::new(&low, &regions, &[]);
    let mut cpu = Cpu::new(model);
    let mut posts = Vec::new();
    let outcome = loop {
        let left = budget.saturating_sub(cpu.retired());
        if left == 0 {
            break Outcome::OutOfBudget;
        }
        match cpu.run(&memory, Instructions(left.min(SLICE))) {
            Exit::Budget => {}
            Exit::Halted if posts.last() == Some(&0xff) => break Outcome::Passed,
            Exit::Halted => break Outcome::Halted,
            Exit::TripleFault => break Outcome::TripleFault,
            Exit::Unsupported { what } => break Outcome::Unsupported(what),
            Exit::PortOut { port, value, .. } => {
                let [byte, ..] = value.to_le_bytes();
                if port == ports.out {
                    sink(byte);
                } else if port == ports.post {
                    posts.push(byte);
                }
            }
            // Nothing else is connected: reads float, writes are lost.
            Exit::PortIn { .. } | Exit::MmioRead { .. } => cpu.complete_read(u32::MAX),
            Exit::MmioWrite { .. } => {}
            // No interrupt line, breakpoints or watches are set.
            Exit::InterruptWindow | Exit::Breakpoint { .. } | Exit::Watch { .. } => {
                unreachable!("nothing asked for this exit")
            }
        }
    };
    Ok(Report {
        outcome,
        posts,
        retired: cpu.retired(),
    })
}
