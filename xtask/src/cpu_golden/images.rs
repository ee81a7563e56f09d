//! The test images of `cpu/tests/rom_images`: built from their sources, and
//! what QEMU's TCG prints when it runs them. Lines where this CPU follows the
//! manual and TCG does not stand in `NAME.deviations.txt`, with their reasons;
//! nobody but a person writes those.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::{Golden, assembler};
use crate::{qemu, sh};

const FOLDER: &str = "cpu/tests/rom_images";
/// The exit code that isa-debug-exit makes of the images' own `out QUIT, 0`.
const QUIT: i32 = 1;

/// Every image with its text, and QEMU's version.
pub(super) fn make() -> Result<Vec<Golden>> {
    qemu::ensure()?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(sh::root().join(FOLDER))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "S") {
            sources.push(path);
        }
    }
    sources.sort();
    let mut files = Vec::new();
    for source in sources {
        let name = source
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let image = assembler::image(&source, scratch.path(), 0)?;
        let text = run(&image, scratch.path()).with_context(|| format!("image {name}"))?;
        for (suffix, bytes) in [("bin", image), ("qemu.txt", text)] {
            files.push(Golden {
                path: format!("{FOLDER}/{name}.{suffix}"),
                bytes,
            });
        }
    }
    files.push(Golden {
        path: format!("{FOLDER}/qemu-version.txt"),
        bytes: version()?.into_bytes(),
    });
    Ok(files)
}

/// What the image prints.
fn run(image: &[u8], scratch: &Path) -> Result<Vec<u8>> {
    let (rom, text) = (scratch.join("rom.bin"), scratch.join("text"));
    std::fs::write(&rom, image)?;
    let mut console = std::ffi::OsString::from("file:");
    console.push(&text);
    let status = Command::new("timeout")
        .args(["60", qemu::PROGRAM])
        .args(["-M", "pc", "-cpu", "qemu32,+nx", "-accel", "tcg"])
        .args(["-display", "none", "-nodefaults", "-no-reboot"])
        .args(["-global", "isa-debugcon.iobase=0xe9"])
        .args(["-device", "isa-debug-exit,iobase=0x501,iosize=1"])
        .arg("-debugcon")
        .arg(console)
        .arg("-bios")
        .arg(&rom)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", qemu::PROGRAM))?;
    if status.code() != Some(QUIT) {
        bail!("QEMU ended with {status}, not by the image's own exit");
    }
    Ok(std::fs::read(&text)?)
}

fn version() -> Result<String> {
    let output = Command::new(qemu::PROGRAM).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .next()
        .context("QEMU does not say its version")?;
    Ok(format!("{line}\n"))
}
