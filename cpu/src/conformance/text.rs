//! Suites as text: read for engines, written by the commands that record them.
//! `cpu/conformance/README.md` describes the format.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{Bytes, Case, Ending, Expected, FX_BYTES, Registers, Setup, System};
use crate::segment::{DescriptorTable, Segment};

/// The version of the format: the first line of every file is `format 2`.
pub const FORMAT: u32 = 2;

const SEGMENTS: [&str; 8] = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];
/// Bytes of memory on one line.
const WIDTH: usize = 64;
/// Equal bytes that are worth a `fill` line.
const RUN: usize = 16;

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

/// Reads a file of setups and cases; setups stand before the cases that use
/// them, and case names are unique.
///
/// # Errors
///
/// The first line that is not as the format wants it.
pub fn parse(text: &str) -> Result<Vec<Case>, ParseError> {
    let mut reader = Reader::default();
    let mut lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    match lines.next() {
        Some((_, line)) if line == format!("format {FORMAT}") => {}
        other => {
            return Err(ParseError {
                line: other.map_or(1, |(number, _)| number),
                what: "the file does not begin with `format 2`",
            });
        }
    }
    for (number, line) in lines {
        reader
            .line(line)
            .map_err(|what| ParseError { line: number, what })?;
    }
    reader.end_setup();
    Ok(reader.cases)
}

#[derive(Default)]
struct Reader {
    setups: Vec<Arc<Setup>>,
    /// The setup that is being read.
    open: Option<Setup>,
    cases: Vec<Case>,
    names: std::collections::BTreeSet<String>,
}

impl Reader {
    fn end_setup(&mut self) {
        self.setups.extend(self.open.take().map(Arc::new));
    }

    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "setup" => {
                self.end_setup();
                self.open = Some(blank_setup(rest));
            }
            "case" => {
                self.end_setup();
                if !self.names.insert(rest.to_owned()) {
                    return Err("there is a case of this name already");
                }
                let setup = self.setups.last().ok_or("no setup has begun")?;
                self.cases.push(blank_case(rest, Arc::clone(setup)));
            }
            _ if self.open.is_some() => {
                let setup = self.open.as_mut().ok_or("no setup has begun")?;
                setup_line(setup, word, rest)?;
            }
            "start" => {
                let setup = self.setups.iter().find(|setup| setup.name == rest);
                let setup = Arc::clone(setup.ok_or("no setup has this name")?);
                self.cases.last_mut().ok_or("no case has begun")?.setup = setup;
            }
            _ => {
                let case = self.cases.last_mut().ok_or("no case has begun")?;
                case_line(case, word, rest)?;
            }
        }
        Ok(())
    }
}

fn blank_setup(name: &str) -> Setup {
    Setup {
        name: name.to_owned(),
        cr0: 0,
        cr3: 0,
        cr4: 0,
        efer: 0,
        segments: [Segment::null(0); 6],
        ldtr: Segment::null(0),
        tr: Segment::null(0),
        gdtr: DescriptorTable::default(),
        idtr: DescriptorTable::default(),
        memory: Vec::new(),
    }
}

fn blank_case(name: &str, setup: Arc<Setup>) -> Case {
    Case {
        name: name.to_owned(),
        setup,
        memory: Vec::new(),
        registers: [0; 10],
        fx: None,
        expected: Expected {
            ending: Ending::Halted,
            registers: [0; 10],
            undefined_flags: 0,
            system: None,
            memory: Vec::new(),
            fx: None,
            port: Vec::new(),
        },
    }
}

fn setup_line(setup: &mut Setup, word: &str, rest: &str) -> Result<(), &'static str> {
    match word {
        "cr" => {
            [setup.cr0, setup.cr3, setup.cr4, setup.efer] = numbers(rest)?
                .try_into()
                .map_err(|_| "cr wants four numbers")?;
        }
        "segment" => {
            let (name, rest) = rest.split_once(' ').ok_or("segment wants a name")?;
            let [selector, base, limit, attributes]: [u32; 4] = numbers(rest)?
                .try_into()
                .map_err(|_| "segment wants selector, base, limit, attributes")?;
            *segment_of(setup, name)? = Segment {
                selector: word16(selector)?,
                attributes: word16(attributes)?,
                base,
                limit,
            };
        }
        "table" => {
            let (name, rest) = rest.split_once(' ').ok_or("table wants a name")?;
            let [base, limit]: [u32; 2] = numbers(rest)?
                .try_into()
                .map_err(|_| "table wants base and limit")?;
            let table = DescriptorTable {
                base,
                limit: word16(limit)?,
            };
            match name {
                "gdtr" => setup.gdtr = table,
                "idtr" => setup.idtr = table,
                _ => return Err("a table is gdtr or idtr"),
            }
        }
        "mem" => setup.memory.push(memory(rest)?),
        "fill" => setup.memory.push(filled(rest)?),
        _ => return Err("not a line of a setup"),
    }
    Ok(())
}

fn segment_of<'a>(setup: &'a mut Setup, name: &str) -> Result<&'a mut Segment, &'static str> {
    let number = SEGMENTS.iter().position(|&known| known == name);
    match number.ok_or("no segment register has this name")? {
        6 => Ok(&mut setup.ldtr),
        7 => Ok(&mut setup.tr),
        number => Ok(&mut setup.segments[number]),
    }
}

fn case_line(case: &mut Case, word: &str, rest: &str) -> Result<(), &'static str> {
    match word {
        "reg" => case.registers = registers(rest)?,
        "mem" => case.memory.push(memory(rest)?),
        "fill" => case.memory.push(filled(rest)?),
        "fx" => case.fx = Some(image(rest)?),
        "expect" => {
            let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            expect_line(&mut case.expected, word, rest)?;
        }
        _ => return Err("not a line of a case"),
    }
    Ok(())
}

fn expect_line(expected: &mut Expected, word: &str, rest: &str) -> Result<(), &'static str> {
    match word {
        "halted" if rest.is_empty() => expected.ending = Ending::Halted,
        "shutdown" if rest.is_empty() => expected.ending = Ending::Shutdown,
        "reg" => expected.registers = registers(rest)?,
        "undefined" => {
            [expected.undefined_flags] = numbers(rest)?
                .try_into()
                .map_err(|_| "undefined wants a mask")?;
        }
        "system" => expected.system = Some(system(rest)?),
        "mem" => expected.memory.push(memory(rest)?),
        "fill" => expected.memory.push(filled(rest)?),
        "fx" => expected.fx = Some(image(rest)?),
        "port" => expected.port = bytes(rest)?,
        _ => return Err("not something to expect"),
    }
    Ok(())
}

fn system(text: &str) -> Result<System, &'static str> {
    let values: [u32; 14] = numbers(text)?
        .try_into()
        .map_err(|_| "system wants 14 numbers")?;
    let mut system = System::default();
    system.cr.copy_from_slice(&values[..4]);
    system.dr.copy_from_slice(&values[4..6]);
    for (selector, &value) in system.selectors.iter_mut().zip(&values[6..]) {
        *selector = word16(value)?;
    }
    Ok(system)
}

fn registers(text: &str) -> Result<Registers, &'static str> {
    numbers(text)?
        .try_into()
        .map_err(|_| "reg wants ten numbers")
}

fn numbers(text: &str) -> Result<Vec<u32>, &'static str> {
    text.split(' ').map(number).collect()
}

fn number(word: &str) -> Result<u32, &'static str> {
    u32::from_str_radix(word, 16).map_err(|_| "not a number")
}

fn word16(value: u32) -> Result<u16, &'static str> {
    u16::try_from(value).map_err(|_| "more than 16 bits")
}

fn memory(text: &str) -> Result<Bytes, &'static str> {
    let (address, text) = text.split_once(' ').ok_or("mem wants address and bytes")?;
    Ok((number(address)?, bytes(text)?))
}

fn filled(text: &str) -> Result<Bytes, &'static str> {
    let [address, length, byte]: [u32; 3] = numbers(text)?
        .try_into()
        .map_err(|_| "fill wants address, length and byte")?;
    if length > 0x10_0000 {
        return Err("fill is for at most 1 MiB");
    }
    let byte = u8::try_from(byte).map_err(|_| "not a byte")?;
    Ok((address, vec![byte; length as usize]))
}

fn image(text: &str) -> Result<Box<[u8; FX_BYTES]>, &'static str> {
    let image = bytes(text)?.try_into().map_err(|_| "fx wants 288 bytes")?;
    Ok(Box::new(image))
}

fn bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err("bytes want two digits each");
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| "not a byte"))
        .collect()
}

/// Writes a setup as [`parse`] reads it.
#[must_use]
pub fn write_setup(setup: &Setup) -> String {
    let mut text = format!(
        "setup {}\ncr {:x} {:x} {:x} {:x}\n",
        setup.name, setup.cr0, setup.cr3, setup.cr4, setup.efer
    );
    let segments = setup.segments.iter().chain([&setup.ldtr, &setup.tr]);
    for (name, segment) in SEGMENTS.iter().zip(segments) {
        let Segment {
            selector,
            attributes,
            base,
            limit,
        } = segment;
        let _ = writeln!(
            text,
            "segment {name} {selector:x} {base:x} {limit:x} {attributes:x}"
        );
    }
    for (name, table) in [("gdtr", setup.gdtr), ("idtr", setup.idtr)] {
        let _ = writeln!(text, "table {name} {:x} {:x}", table.base, table.limit);
    }
    for piece in &setup.memory {
        write_memory(&mut text, "", piece);
    }
    text
}

/// Writes a case as [`parse`] reads it.
#[must_use]
pub fn write_case(case: &Case) -> String {
    let mut text = format!("case {}\nstart {}\n", case.name, case.setup.name);
    for piece in &case.memory {
        write_memory(&mut text, "", piece);
    }
    let _ = writeln!(text, "reg {}", list(&case.registers));
    if let Some(fx) = &case.fx {
        let _ = writeln!(text, "fx {}", hex(&fx[..]));
    }
    write_expected(&mut text, &case.expected);
    text
}

fn write_expected(text: &mut String, expected: &Expected) {
    if expected.ending == Ending::Shutdown {
        text.push_str("expect shutdown\n");
        return;
    }
    let _ = writeln!(
        text,
        "expect halted\nexpect reg {}",
        list(&expected.registers)
    );
    if expected.undefined_flags != 0 {
        let _ = writeln!(text, "expect undefined {:x}", expected.undefined_flags);
    }
    if let Some(system) = &expected.system {
        let selectors = system.selectors.into_iter().map(u32::from);
        let values: Vec<u32> = system
            .cr
            .into_iter()
            .chain(system.dr)
            .chain(selectors)
            .collect();
        let _ = writeln!(text, "expect system {}", list(&values));
    }
    for piece in &expected.memory {
        write_memory(text, "expect ", piece);
    }
    if !expected.port.is_empty() {
        let _ = writeln!(text, "expect port {}", hex(&expected.port));
    }
    if let Some(fx) = &expected.fx {
        let _ = writeln!(text, "expect fx {}", hex(&fx[..]));
    }
}

fn write_memory(text: &mut String, prefix: &str, (address, bytes): &Bytes) {
    if bytes.len() >= RUN && bytes.iter().all(|&byte| byte == bytes[0]) {
        let _ = writeln!(
            text,
            "{prefix}fill {address:x} {:x} {:02x}",
            bytes.len(),
            bytes[0]
        );
        return;
    }
    let starts = (0u32..).step_by(WIDTH);
    for (line, start) in bytes.chunks(WIDTH).zip(starts) {
        let at = address.wrapping_add(start);
        let _ = writeln!(text, "{prefix}mem {at:x} {}", hex(line));
    }
}

fn list(values: &[u32]) -> String {
    let words: Vec<String> = values.iter().map(|value| format!("{value:x}")).collect();
    words.join(" ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
