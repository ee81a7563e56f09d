//! `cpu/conformance/system.txt`: the cases of `cpu/conformance/system/*.S`, as
//! QEMU's TCG executes them.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use latefork_cpu::conformance::{
    Bytes, Case, Ending, Expected, FORMAT, Registers, Setup, System, initial_fx, parse, write_case,
    write_setup,
};

use super::assembler::Section;
use super::monitor::{Monitor, Rest, State};
use super::{Golden, assembler, setup};
use crate::{qemu, sh};

const FILE: &str = "cpu/conformance/system.txt";
const SOURCES: &str = "cpu/conformance/system";
const CODE: u32 = 0x8000;
/// What `pmemsave` shows: all RAM that setups use.
const DUMP: usize = 0x2_0000;

const HEAD: &str = "\
# Cases that need ring 0, as QEMU's TCG executed them. README.md has the format.
# Written by `cargo xtask cpu-golden` from the sources in system/.
";

/// Which cases are executed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Which {
    /// Every one.
    All,
    /// Those that the committed file has not, or not with this start.
    New,
}

/// Runs cases and makes the file.
pub(super) fn make(which: Which) -> Result<Golden> {
    qemu::ensure()?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let setups: Vec<Arc<Setup>> = setup::all().into_iter().map(Arc::new).collect();
    let mut text = format!("format {FORMAT}\n{HEAD}");
    for setup in &setups {
        let _ = write!(text, "\n{}", write_setup(setup));
    }
    let mut sources = sources(&setups, scratch.path())?;
    if which == Which::New {
        take_known(&mut sources)?;
    }
    let (recorded, failed) = record_all(sources)?;
    for source in &recorded {
        text.push('\n');
        if let Some(fault) = &source.fault {
            let _ = writeln!(text, "# As the manual says; {}.", fault.reason);
        }
        text.push_str(&write_case(&source.case));
    }
    if failed > 0 && which == Which::All {
        bail!("{failed} cases could not be recorded");
    }
    Ok(Golden {
        path: FILE.to_owned(),
        bytes: text.into_bytes(),
    })
}

/// Fills in what the committed file has for cases that begin in the same way.
fn take_known(sources: &mut [Source]) -> Result<()> {
    let text = std::fs::read_to_string(sh::root().join(FILE)).unwrap_or_default();
    let known = parse(&text).with_context(|| format!("{FILE} (without --new it is not read)"))?;
    for source in sources {
        let case = &mut source.case;
        let same = known.iter().find(|known| {
            known.name == case.name
                && known.setup == case.setup
                && known.memory == case.memory
                && known.registers == case.registers
        });
        if let Some(same) = same {
            case.expected = same.expected.clone();
            source.done = true;
        }
    }
    Ok(())
}

/// How many QEMUs run at a time: each waits more than it works.
const WORKERS: usize = 4;

/// Records every case; says how many could not be, after naming them.
fn record_all(mut sources: Vec<Source>) -> Result<(Vec<Source>, usize)> {
    let share = sources.len().div_ceil(WORKERS).max(1);
    let counts: Result<Vec<usize>> = std::thread::scope(|scope| {
        let threads: Vec<_> = sources
            .chunks_mut(share)
            .map(|share| scope.spawn(move || record_share(share)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("recording does not panic"))
            .collect()
    });
    Ok((sources, counts?.into_iter().sum()))
}

fn record_share(sources: &mut [Source]) -> Result<usize> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut failed = 0;
    for source in sources {
        if source.done {
            continue;
        }
        if let Err(error) = source.record(scratch.path()) {
            eprintln!("case `{}`: {error:#}", source.case.name);
            failed += 1;
        }
    }
    Ok(failed)
}

/// All cases, without expectations.
fn sources(setups: &[Arc<Setup>], scratch: &Path) -> Result<Vec<Source>> {
    let folder = sh::root().join(SOURCES);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let is_source = path.extension().is_some_and(|extension| extension == "S");
        if is_source && path.file_stem().is_some_and(|stem| stem != "loader") {
            files.push(path);
        }
    }
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        for section in assembler::sections(&file, scratch)? {
            let source = Source::new(section, setups);
            cases.push(source.with_context(|| file.display().to_string())?);
        }
    }
    Ok(cases)
}

/// A case and what its source says about it.
#[derive(Debug)]
struct Source {
    case: Case,
    fault: Option<Fault>,
    /// What to expect is known already.
    done: bool,
}

/// An exception that TCG does not raise as the manual wants it.
#[derive(Debug)]
struct Fault {
    vector: u32,
    error: Option<u32>,
    reason: String,
    /// Where the instruction that raises it begins.
    offset: usize,
}

impl Source {
    fn new(section: Section, setups: &[Arc<Setup>]) -> Result<Self> {
        let words: Vec<&str> = section.name.split('|').collect();
        let (setup, name, fault) = match (&words[..], section.faulting) {
            (&[setup, name], None) => (setup, name, None),
            (&[setup, name, vector, error, reason], Some(offset)) => {
                let fault = Fault {
                    vector: vector
                        .parse()
                        .with_context(|| format!("`{name}`: vector"))?,
                    error: match error {
                        "none" => None,
                        error => {
                            let digits = error.trim_start_matches("0x");
                            Some(
                                u32::from_str_radix(digits, 16)
                                    .with_context(|| format!("`{name}`: error"))?,
                            )
                        }
                    },
                    reason: reason.to_owned(),
                    offset,
                };
                (setup, name, Some(fault))
            }
            _ => bail!(
                "`{}` has a vector without `faulting`, or one of them",
                section.name
            ),
        };
        let Some(setup) = setups.iter().find(|known| known.name == setup) else {
            bail!("`{name}`: there is no setup `{setup}`");
        };
        let case = case(name, setup, section.bytes);
        Ok(Self {
            case,
            fault,
            done: false,
        })
    }

    /// Fills in what QEMU makes of the case.
    fn record(&mut self, scratch: &Path) -> Result<()> {
        let Some(fault) = &self.fault else {
            return record(&mut self.case, scratch);
        };
        let code = self.case.memory.clone();
        let (_, bytes) = &mut self.case.memory[0];
        bytes.resize(bytes.len().max(fault.offset + UD2.len()), 0);
        bytes[fault.offset..fault.offset + UD2.len()].copy_from_slice(&UD2);
        if fault.vector == INT1 {
            // A trap: the instruction stands before `faulting`.
            bytes[fault.offset - 1] = NOP;
        }
        record(&mut self.case, scratch)?;
        self.case.memory = code;
        fault.put_into(&mut self.case)
    }
}

const UD2: [u8; 2] = [0x0F, 0x0B];
const NOP: u8 = 0x90;
/// The vector of the instruction INT1.
const INT1: u32 = 1;

impl Fault {
    /// Turns the UD that was recorded into this exception.
    fn put_into(&self, case: &mut Case) -> Result<()> {
        const EIP: usize = 8;
        const ESP: usize = 4;
        let handler = |vector: u32| setup::HANDLERS + 8 * vector + 1;
        let expected = &mut case.expected;
        if expected.registers[EIP] != handler(6) {
            bail!(
                "UD2 in place of the instruction ends at {:x}, not in its handler",
                expected.registers[EIP]
            );
        }
        expected.registers[EIP] = handler(self.vector);
        let esp = expected.registers[ESP];
        if let Some(error) = self.error {
            expected.registers[ESP] = esp - 4;
            let image = error.to_le_bytes().to_vec();
            expected.memory.push((esp - 4, image));
        }
        if self.vector == INT1 {
            // In the image of EFLAGS that a trap pushes, RF is clear.
            expected.memory.push((esp + 10, vec![0]));
        }
        Ok(())
    }
}

fn case(name: &str, setup: &Arc<Setup>, code: Vec<u8>) -> Case {
    let registers = [
        0x1111_1111,
        0x2222_2222,
        0x3333_3333,
        0x4444_4444,
        0x5F00,
        0x5555_5555,
        0x9000,
        0xA000,
        CODE,
        2,
    ];
    Case {
        name: format!("{}: {name}", setup.name),
        setup: Arc::clone(setup),
        memory: vec![(CODE, code)],
        registers,
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

/// Fills in what QEMU makes of the case.
fn record(case: &mut Case, scratch: &Path) -> Result<()> {
    write_inputs(case, scratch)?;
    let loader = sh::root().join(SOURCES).join("loader.S");
    let image = assembler::image(&loader, scratch, 0xF_0000)?;
    let rom = scratch.join("rom.bin");
    std::fs::write(&rom, image)?;
    let port = scratch.join("port");
    let mut monitor = Monitor::start(&rom, &port)?;
    let (rest, state) = monitor.wait()?;
    let expected = &mut case.expected;
    if rest == Rest::Shutdown {
        expected.ending = Ending::Shutdown;
        return Ok(());
    }
    expected.registers = registers(&state)?;
    expected.system = Some(system(&state)?);
    let dump = scratch.join("memory");
    let answer = monitor.ask(&format!("pmemsave 0 {DUMP} \"{}\"", dump.display()))?;
    let after = std::fs::read(&dump).with_context(|| format!("pmemsave: {}", answer.join("; ")))?;
    drop(monitor);
    let mut after = after;
    mend(case, &state, &mut after)?;
    case.expected.memory = changes(case, &after)?;
    case.expected.port = std::fs::read(&port)?;
    Ok(())
}

/// Mends what TCG does not do as the manual says, wherever it can be told by
/// rule. (Cases that show any other such thing stay out of the suite; the test
/// images have them, with their reasons.)
fn mend(case: &Case, state: &State, after: &mut [u8]) -> Result<()> {
    // An entry of the page-directory-pointer table has no accessed bit (SDM
    // vol. 3, table 4-8); TCG sets it.
    const PAE: u32 = 1 << 5;
    if case.setup.cr4 & PAE != 0 {
        after[case.setup.cr3 as usize] &= !ACCESSED;
    }
    let vector = state.get("EIP")?.wrapping_sub(setup::HANDLERS) / 8;
    let esp = state.get("ESP")? as usize;
    // A page fault because of a reserved bit is one of a present page (SDM
    // vol. 3, 4.7); TCG leaves P clear.
    if vector == 14 && after.get(esp).is_some_and(|error| error & 8 != 0) {
        after[esp] |= 1;
    }
    // The image of EFLAGS that a fault pushes has RF set (SDM vol. 3, 17.3.1.1);
    // TCG leaves it clear.
    let in_real_mode = state.get("CR0")? & 1 == 0;
    if !in_real_mode && FAULTS.contains(&vector) {
        let error = usize::from(matches!(vector, 10..=14 | 17));
        let image = after.get_mut(esp + 4 * (error + 2) + 2);
        *image.context("the stack of an exception lies in memory that is not dumped")? |= 1;
    }
    Ok(())
}

const ACCESSED: u8 = 0x20;
/// Vectors of the fault class.
const FAULTS: [u32; 12] = [0, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 19];

/// The start state for `loader.S`.
fn write_inputs(case: &Case, scratch: &Path) -> Result<()> {
    let setup = &case.setup;
    let selector = |n: usize| u32::from(setup.segments[n].selector);
    let names = [
        "EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI", "EIP", "EFLAGS",
    ];
    let mut values: Vec<(&str, u32)> = names.into_iter().zip(case.registers).collect();
    values.extend([
        ("REAL", u32::from(setup.cr0 & 1 == 0)),
        ("CR0", setup.cr0),
        ("CR3", setup.cr3),
        ("CR4", setup.cr4),
        ("EFER", setup.efer),
        ("ES", selector(0)),
        ("CS", selector(1)),
        ("SS", selector(2)),
        ("DS", selector(3)),
        ("FS", selector(4)),
        ("GS", selector(5)),
        ("LDTR", u32::from(setup.ldtr.selector)),
        ("TR", u32::from(setup.tr.selector)),
        ("GDT_BASE", setup.gdtr.base),
        ("GDT_LIMIT", u32::from(setup.gdtr.limit)),
        ("IDT_BASE", setup.idtr.base),
        ("IDT_LIMIT", u32::from(setup.idtr.limit)),
    ]);
    let mut text = String::new();
    for (name, value) in values {
        let _ = writeln!(text, ".equ V_{name}, {value:#x}");
    }
    std::fs::write(scratch.join("values.inc"), text)?;
    let mut fx = vec![0; 512];
    let image = case.fx.clone().unwrap_or_else(initial_fx);
    fx[..image.len()].copy_from_slice(&image[..]);
    std::fs::write(scratch.join("fx.bin"), fx)?;
    let mut memory = Vec::new();
    for (number, page) in case.pages() {
        if page.iter().all(|&byte| byte == 0) {
            continue;
        }
        memory.extend((number << 12).to_le_bytes());
        memory.extend(0x1000u32.to_le_bytes());
        memory.extend(&page[..]);
    }
    memory.extend([0; 8]);
    std::fs::write(scratch.join("memory.bin"), memory)?;
    Ok(())
}

fn registers(state: &State) -> Result<Registers> {
    let names = [
        "EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI", "EIP", "EFL",
    ];
    let mut registers = [0; 10];
    for (register, name) in registers.iter_mut().zip(names) {
        *register = state.get(name)?;
    }
    Ok(registers)
}

fn system(state: &State) -> Result<System> {
    let mut system = System::default();
    for (value, name) in system.cr.iter_mut().zip(["CR0", "CR2", "CR3", "CR4"]) {
        *value = state.get(name)?;
    }
    for (value, name) in system.dr.iter_mut().zip(["DR6", "DR7"]) {
        *value = state.get(name)?;
    }
    let names = ["ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR"];
    for (selector, name) in system.selectors.iter_mut().zip(names) {
        *selector = u16::try_from(state.get(name)?)?;
    }
    Ok(system)
}

/// Where memory differs from the start. Changes near each other are one piece.
fn changes(case: &Case, after: &[u8]) -> Result<Vec<Bytes>> {
    let mut pieces: Vec<Bytes> = Vec::new();
    for (number, before) in case.pages() {
        let start = (number as usize) << 12;
        let after = after
            .get(start..start + before.len())
            .context("a case uses memory that is not dumped")?;
        for at in (0..before.len()).filter(|&at| before[at] != after[at]) {
            let address = u32::try_from(start + at)?;
            match pieces.last_mut() {
                Some((first, piece)) if (address - *first) as usize <= piece.len() + 8 => {
                    let known = piece.len();
                    let from = (*first as usize + known) - start;
                    piece.extend(&after[from..=at]);
                }
                _ => pieces.push((address, vec![after[at]])),
            }
        }
    }
    Ok(pieces)
}
