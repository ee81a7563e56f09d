//! GNU as and ld: sources to sections or flat images.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use crate::{apt, sh};

/// A section of an object file.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// Where its `faulting` stands, if it has one.
    pub(super) faulting: Option<usize>,
}

/// Assembles `source`; includes are looked for beside it and in `scratch`.
fn assemble(source: &Path, scratch: &Path) -> Result<std::path::PathBuf> {
    let object = scratch.join("image.o");
    let mut command = Command::new("as");
    command.args(["--32", "-I"]).arg(scratch);
    if let Some(parent) = source.parent() {
        command.arg("-I").arg(parent);
    }
    run(command.arg("-o").arg(&object).arg(source))?;
    Ok(object)
}

/// The sections of `source` whose names have a `|`, in their order.
pub(super) fn sections(source: &Path, scratch: &Path) -> Result<Vec<Section>> {
    let bytes = std::fs::read(assemble(source, scratch)?)?;
    let file = object::File::parse(&*bytes).context("the assembler's output")?;
    let mut sections = Vec::new();
    for section in file.sections() {
        let name = section.name()?;
        if !name.contains('|') || name.starts_with(".rel") {
            continue;
        }
        if section.relocations().next().is_some() {
            bail!(
                "{}: `{name}` has an address that only a linker could fill in; \
                 write `CODE + label - START`",
                source.display()
            );
        }
        let faulting = file.symbols().find(|symbol| {
            symbol.section_index() == Some(section.index())
                && symbol
                    .name()
                    .is_ok_and(|name| name.starts_with("faulting."))
        });
        sections.push(Section {
            name: name.to_owned(),
            bytes: section.data()?.to_vec(),
            faulting: faulting.and_then(|symbol| usize::try_from(symbol.address()).ok()),
        });
    }
    Ok(sections)
}

/// A flat image of `source`, linked at `address`.
pub(super) fn image(source: &Path, scratch: &Path, address: u32) -> Result<Vec<u8>> {
    let object = assemble(source, scratch)?;
    let image = scratch.join("image.bin");
    run(Command::new("ld")
        .args(["-m", "elf_i386", "-e", "0", "--oformat", "binary"])
        .arg(format!("-Ttext={address:#x}"))
        .arg("-o")
        .arg(&image)
        .arg(&object))?;
    std::fs::read(&image).with_context(|| format!("cannot read {}", image.display()))
}

fn run(command: &mut Command) -> Result<()> {
    if let Err(error) = sh::run(command) {
        return Err(error.context(format!(
            "assembling (if the program is missing: {})",
            apt::hint(&["binutils"])
        )));
    }
    Ok(())
}
