//! The conformance suite: cases as data (`cpu/conformance/README.md` has the
//! format), run by any engine through [`Engine`].

use std::collections::BTreeMap;

/// Bytes of an FXSAVE image that cases hold: x87, MXCSR, XMM0 to XMM7.
pub const FX_BYTES: usize = 288;

/// Where a case starts or ends: EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, EIP,
/// EFLAGS.
pub type Registers = [u32; 10];

/// One case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// Its name and the instruction as text.
    pub name: String,
    /// Contents of memory at the start, by address.
    pub memory: Vec<(u32, Vec<u8>)>,
    /// Registers at the start.
    pub registers: Registers,
    /// x87 and SSE state at the start; that of power-up if `None`.
    pub fx: Option<Box<[u8; FX_BYTES]>>,
    /// Registers at the end, behind the HLT.
    pub expected_registers: Registers,
    /// Contents of memory at the end.
    pub expected_memory: Vec<(u32, Vec<u8>)>,
    /// x87 and SSE state at the end, if it matters.
    pub expected_fx: Option<Box<[u8; FX_BYTES]>>,
}

/// What an engine found at the end of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The CPU halted (else the text of what happened).
    pub halted: Result<(), String>,
    /// Registers.
    pub registers: Registers,
    /// x87 and SSE state.
    pub fx: Box<[u8; FX_BYTES]>,
}

/// Runs cases. RAM is the pages that a case names; the CPU starts in ring 0
/// with flat 32-bit segments, without paging, with x87 and SSE enabled
/// (CR0 = PE, MP, ET, NE; CR4 = OSFXSR, OSXMMEXCPT), interrupts as EFLAGS says.
pub trait Engine {
    /// Loads memory and registers and runs until HLT or anything else.
    fn run(&mut self, case: &Case, pages: &BTreeMap<u32, Box<[u8; 4096]>>) -> End;
    /// Reads memory after a run.
    fn read(&self, address: u32, len: usize) -> Vec<u8>;
}

/// A line of the suite that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

/// Reads a file of cases.
///
/// # Errors
///
/// The first line that is not as the format wants it.
pub fn parse(text: &str) -> Result<Vec<Case>, ParseError> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let error = |what| ParseError { line: number, what };
        if let Some(name) = line.strip_prefix("case ") {
            cases.push(Case {
                name: name.to_owned(),
                ..Case::default()
            });
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            let case = cases.last_mut().ok_or(error("no case has begun"))?;
            parse_line(case, line).map_err(error)?;
        }
    }
    Ok(cases)
}

fn parse_line(case: &mut Case, line: &str) -> Result<(), &'static str> {
    let (expected, rest) = match line.strip_prefix("expect ") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match (word, expected) {
        ("start", false) if rest == "prot32" => {}
        ("halted", true) => {}
        ("reg", _) => {
            let values = registers(rest)?;
            if expected {
                case.expected_registers = values;
            } else {
                case.registers = values;
            }
        }
        ("mem", _) => {
            let (address, bytes) = rest.split_once(' ').ok_or("mem wants address and bytes")?;
            let address = u32::from_str_radix(address, 16).map_err(|_| "not an address")?;
            let place = if expected {
                &mut case.expected_memory
            } else {
                &mut case.memory
            };
            place.push((address, bytes_of(bytes)?));
        }
        ("fx", _) => {
            let image = bytes_of(rest)?
                .try_into()
                .map_err(|_| "fx wants 288 bytes")?;
            let place = if expected {
                &mut case.expected_fx
            } else {
                &mut case.fx
            };
            *place = Some(Box::new(image));
        }
        _ => return Err("not a line of a case"),
    }
    Ok(())
}

fn registers(text: &str) -> Result<Registers, &'static str> {
    let values: Result<Vec<u32>, _> = text
        .split(' ')
        .map(|word| u32::from_str_radix(word, 16))
        .collect();
    let values = values.map_err(|_| "not a number")?;
    values.try_into().map_err(|_| "reg wants ten numbers")
}

fn bytes_of(text: &str) -> Result<Vec<u8>, &'static str> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err("bytes want two digits each");
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| "not a byte"))
        .collect()
}

impl Case {
    /// The pages of RAM, by number, with their contents at the start.
    #[must_use]
    pub fn pages(&self) -> BTreeMap<u32, Box<[u8; 4096]>> {
        let mut pages: BTreeMap<u32, Box<[u8; 4096]>> = BTreeMap::new();
        for (address, bytes) in &self.memory {
            for (&byte, n) in bytes.iter().zip(0..) {
                let at = address.wrapping_add(n);
                let page = pages.entry(at >> 12).or_insert_with(|| Box::new([0; 4096]));
                page[at as usize & 0xFFF] = byte;
            }
        }
        pages
    }
}

/// Runs one case; the differences from what it expects, one text each.
pub fn check(case: &Case, engine: &mut dyn Engine) -> Vec<String> {
    const NAMES: [&str; 10] = [
        "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags",
    ];
    let end = engine.run(case, &case.pages());
    let mut differences = Vec::new();
    if let Err(what) = &end.halted {
        differences.push(format!("ends with {what}, not with HLT"));
    }
    for ((name, expected), found) in NAMES.iter().zip(case.expected_registers).zip(end.registers) {
        if expected != found {
            differences.push(format!("{name} is {found:x}, expected {expected:x}"));
        }
    }
    for (address, expected) in &case.expected_memory {
        let found = engine.read(*address, expected.len());
        if found != *expected {
            differences.push(format!(
                "memory at {address:x} is {found:02x?}, expected {expected:02x?}"
            ));
        }
    }
    if let Some(expected) = &case.expected_fx {
        compare_fx(&end.fx, expected, &mut differences);
    }
    differences
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
