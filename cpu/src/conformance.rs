//! The conformance suite: cases as data (`cpu/conformance/README.md` has the
//! format), run by any engine through [`Engine`].
//!
//! A case starts in ring 0, in the state that its [`Setup`] describes, and ends
//! at a HLT or in a shutdown. Code that belongs to another ring is reached by
//! the case's own IRET, so that an engine needs no more than to load registers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::segment::{DescriptorTable, Segment};

mod state;
mod text;

pub use text::{FORMAT, ParseError, parse, write_case, write_setup};

/// Bytes of an FXSAVE image that cases hold: x87, MXCSR, XMM0 to XMM7.
pub const FX_BYTES: usize = 288;
/// The port that cases may use, byte by byte: an engine records what is
/// written, and answers reads with the port's own number. Elsewhere, and to
/// words, nothing is there: writes are lost, reads give all ones.
pub const PORT: u16 = 0xE9;
/// Bytes of a page of RAM.
pub const PAGE: usize = 4096;

/// Where a case starts or ends: EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, EIP,
/// EFLAGS.
pub type Registers = [u32; 10];

/// Contents of memory: a physical address and the bytes from there.
pub type Bytes = (u32, Vec<u8>);

/// Pages of RAM by their number.
pub type Pages = BTreeMap<u32, Box<[u8; PAGE]>>;

/// What the CPU is like when a case begins, apart from the case's own
/// registers: mode, segments, tables, and what lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Its name in `start` lines.
    pub name: String,
    /// CR0.
    pub cr0: u32,
    /// CR3.
    pub cr3: u32,
    /// CR4.
    pub cr4: u32,
    /// The MSR EFER.
    pub efer: u32,
    /// ES, CS, SS, DS, FS, GS with their hidden parts.
    pub segments: [Segment; 6],
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: DescriptorTable,
    /// IDTR.
    pub idtr: DescriptorTable,
    /// Contents of physical memory.
    pub memory: Vec<Bytes>,
}

/// Registers of the system that a case may expect at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct System {
    /// CR0, CR2, CR3, CR4.
    pub cr: [u32; 4],
    /// DR6 and DR7.
    pub dr: [u32; 2],
    /// Selectors of ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub selectors: [u16; 8],
}

/// How a case ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At a HLT.
    Halted,
    /// In a triple fault.
    Shutdown,
    /// In any other way, which no case expects: what happened.
    Other(String),
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name, which is unique in its file, and the instruction as text.
    pub name: String,
    /// Where it starts.
    pub setup: Arc<Setup>,
    /// Contents of memory at the start, over those of the setup.
    pub memory: Vec<Bytes>,
    /// Registers at the start.
    pub registers: Registers,
    /// x87 and SSE state at the start; FNINIT and MXCSR = 1F80 if `None`.
    pub fx: Option<Box<[u8; FX_BYTES]>>,
    /// What must happen.
    pub expected: Expected,
}

/// How a case must end. After a shutdown, only that it is one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The exit.
    pub ending: Ending,
    /// Registers, behind the HLT.
    pub registers: Registers,
    /// Bits of EFLAGS that the manual leaves undefined.
    pub undefined_flags: u32,
    /// System registers, if they matter.
    pub system: Option<System>,
    /// Contents of memory where they changed; all other memory must not have.
    pub memory: Vec<Bytes>,
    /// x87 and SSE state, if it matters.
    pub fx: Option<Box<[u8; FX_BYTES]>>,
    /// Bytes written to [`PORT`].
    pub port: Vec<u8>,
}

/// What an engine found at the end of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit.
    pub ending: Ending,
    /// Registers.
    pub registers: Registers,
    /// System registers.
    pub system: System,
    /// x87 and SSE state.
    pub fx: Box<[u8; FX_BYTES]>,
    /// Bytes written to [`PORT`].
    pub port: Vec<u8>,
    /// RAM: the pages that `run` was given.
    pub pages: Pages,
}

/// Runs cases.
pub trait Engine {
    /// Starts from the case's setup and registers, with `pages` as the only
    /// RAM, and runs until HLT, shutdown or anything else. What the setup does
    /// not name is as after RESET; MXCSR_MASK, FCS and FDS do not matter.
    fn run(&mut self, case: &Case, pages: Pages) -> End;
}

impl Case {
    /// The pages of RAM, by number, with their contents at the start: all that
    /// setup and case name, in whole pages.
    #[must_use]
    pub fn pages(&self) -> Pages {
        let mut pages = Pages::new();
        put(&mut pages, &self.setup.memory);
        put(&mut pages, &self.memory);
        pages
    }
}

/// The x87 and SSE state that a case without `fx` starts from.
#[must_use]
pub fn initial_fx() -> Box<[u8; FX_BYTES]> {
    let mut fx = Box::new([0; FX_BYTES]);
    fx[0..2].copy_from_slice(&0x037F_u16.to_le_bytes());
    fx[24..28].copy_from_slice(&0x1F80_u32.to_le_bytes());
    fx
}

fn put(pages: &mut Pages, memory: &[Bytes]) {
    for (address, bytes) in memory {
        for (&byte, n) in bytes.iter().zip(0..) {
            let at = address.wrapping_add(n);
            let page = pages.entry(at >> 12).or_insert_with(|| Box::new([0; PAGE]));
            page[at as usize % PAGE] = byte;
        }
    }
}

/// Runs one case; the differences from what it expects, one text each.
pub fn check(case: &Case, engine: &mut dyn Engine) -> Vec<String> {
    compare(case, &engine.run(case, case.pages()))
}

/// The differences of `end` from what `case` expects, one text each.
#[must_use]
pub fn compare(case: &Case, end: &End) -> Vec<String> {
    const NAMES: [&str; 10] = [
        "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags",
    ];
    let expected = &case.expected;
    let mut differences = Vec::new();
    if end.ending != expected.ending {
        differences.push(format!(
            "ends with {:?}, expected {:?}",
            end.ending, expected.ending
        ));
    }
    if expected.ending == Ending::Shutdown {
        return differences;
    }
    for (n, name) in NAMES.iter().enumerate() {
        let mask = if n == 9 {
            !expected.undefined_flags
        } else {
            u32::MAX
        };
        let (found, wanted) = (end.registers[n] & mask, expected.registers[n] & mask);
        if found != wanted {
            differences.push(format!("{name} is {found:x}, expected {wanted:x}"));
        }
    }
    if let Some(wanted) = &expected.system {
        compare_system(&end.system, wanted, &mut differences);
    }
    if end.port != expected.port {
        differences.push(format!(
            "port {PORT:x} got {:02x?}, expected {:02x?}",
            end.port, expected.port
        ));
    }
    compare_memory(case, &end.pages, &mut differences);
    if let Some(wanted) = &expected.fx {
        compare_fx(&end.fx, wanted, &mut differences);
    }
    differences
}

fn compare_system(found: &System, expected: &System, differences: &mut Vec<String>) {
    const CONTROL: [&str; 6] = ["cr0", "cr2", "cr3", "cr4", "dr6", "dr7"];
    const SELECTORS: [&str; 8] = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];
    let values = |system: &System| -> Vec<u32> {
        let selectors = system.selectors.into_iter().map(u32::from);
        system
            .cr
            .into_iter()
            .chain(system.dr)
            .chain(selectors)
            .collect()
    };
    let names = CONTROL.iter().chain(&SELECTORS);
    for ((name, found), expected) in names.zip(values(found)).zip(values(expected)) {
        if found != expected {
            differences.push(format!("{name} is {found:x}, expected {expected:x}"));
        }
    }
}

/// All of memory: what the case expects, and elsewhere what was there before.
fn compare_memory(case: &Case, found: &Pages, differences: &mut Vec<String>) {
    let mut expected = case.pages();
    put(&mut expected, &case.expected.memory);
    for (number, page) in &expected {
        let Some(found) = found.get(number) else {
            differences.push(format!("page {number:x} is not there"));
            continue;
        };
        let differing = (0..PAGE).filter(|&at| page[at] != found[at]);
        let list: Vec<usize> = differing.collect();
        if let (Some(first), Some(last)) = (list.first(), list.last()) {
            let last = *last.min(&(first + 31));
            differences.push(format!(
                "memory at {:x} is {:02x?}, expected {:02x?}",
                ((*number as usize) << 12) + first,
                &found[*first..=last],
                &page[*first..=last],
            ));
        }
    }
}

/// Byte by byte, without what is reserved, FOP, FCS, FDP, FDS (processors
/// differ in when they keep them) and MXCSR_MASK.
fn compare_fx(found: &[u8; FX_BYTES], expected: &[u8; FX_BYTES], differences: &mut Vec<String>) {
    let compared = |at: usize| match at {
        5..=7 | 12..=23 | 28..=31 => false,
        32..=159 => at % 16 < 10,
        _ => true,
    };
    for at in (0..FX_BYTES).filter(|&at| compared(at)) {
        if found[at] != expected[at] {
            differences.push(format!(
                "byte {at} of the FXSAVE image is {:02x}, expected {:02x}",
                found[at], expected[at]
            ));
        }
    }
}
