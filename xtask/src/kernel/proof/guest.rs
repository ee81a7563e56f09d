//! An image with the tests' `/init`, to be booted in QEMU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::tests;
use crate::initramfs::cpio::Archive;
use crate::kernel::variant::{Flavour, Variant};
use crate::qemu::{Boot, Clock, Processor, Run};
use crate::sh;

/// A backstop, far beyond the slowest run.
const LIMIT: Duration = Duration::from_secs(300);
/// Ends QEMU at the first write to the panic port, with the value times two
/// plus one as its exit code.
pub(super) const EXIT_PORT: [&str; 2] = ["-device", "isa-debug-exit,iobase=0x505,iosize=1"];
/// QEMU's own device behind that port: it stops at a panic, not at a complaint.
pub(super) const PVPANIC: [&str; 4] = [
    "-device",
    "pvpanic,ioport=0x505",
    "-action",
    "panic=exit-failure",
];
/// A second serial port, whose interrupt is the harness's line.
const INTERRUPTER: [&str; 4] = [
    "-chardev",
    "null,id=nowhere",
    "-device",
    "isa-serial,iobase=0x2f8,irq=5,chardev=nowhere",
];

/// An image and an initramfs to boot it with.
#[derive(Debug)]
pub(super) struct Guest {
    image: PathBuf,
    initramfs: PathBuf,
    flavour: Flavour,
    _folder: TempDir,
}

impl Guest {
    /// Compiles the tests for the image in the folder `image`.
    pub(super) fn new(variant: &Variant, image: &Path) -> Result<Self> {
        let folder = TempDir::new()?;
        let init = folder.path().join("init");
        compile(image, &init)?;
        let mut archive = Archive::new();
        for name in ["dev", "proc", "debug"] {
            archive.folder(name);
        }
        archive.character_device("dev/console", 5, 1);
        archive.program("init", &fs::read(&init)?);
        let initramfs = folder.path().join("initramfs");
        fs::write(&initramfs, archive.finish())?;
        Ok(Self {
            image: image.join("bzImage"),
            initramfs,
            flavour: variant.flavour(),
            _folder: folder,
        })
    }

    /// Runs every test. Hardened ends at the first complaint; faithful
    /// complains, and goes on.
    pub(super) fn tests(&self, clock: Clock) -> Result<Run> {
        let mut devices = INTERRUPTER.to_vec();
        let mut append = "";
        if self.flavour == Flavour::Hardened {
            devices.extend(EXIT_PORT);
            append = "panic_on_warn=1";
        }
        self.boot(&format!("{append} -- tests"), clock, &devices)
    }

    /// Lets the kernel's own test module do `what`.
    pub(super) fn provoke(&self, what: &str, append: &str, devices: &[&str]) -> Result<Run> {
        self.boot(
            &format!("{append} -- provoke {what}"),
            Clock::Instructions,
            devices,
        )
    }

    /// The line that tells size and digest of the counted program's map.
    pub(super) fn map(&self) -> Result<String> {
        let run = self.boot("-- map", Clock::Instructions, &[])?;
        let line = run
            .console
            .lines()
            .find(|line| line.starts_with("map cells "));
        line.map(str::to_owned)
            .with_context(|| format!("no map was printed; the console:\n{}", run.console))
    }

    /// Boots with `append` at the end of the command line.
    pub(super) fn boot(&self, append: &str, clock: Clock, devices: &[&str]) -> Result<Run> {
        let boot = Boot {
            kernel: &self.image,
            initramfs: &self.initramfs,
            append: append.to_owned(),
            clock,
            processor: Processor::Pentium,
            limit: LIMIT,
        };
        boot.run_with(devices)
    }
}

fn compile(image: &Path, init: &Path) -> Result<()> {
    let sources = ["init.c", "provoke.c", "sys.c"].map(|name| tests().join(name));
    sh::run(
        Command::new("gcc")
            .args(["-m32", "-march=i486", "-mno-sse", "-O1", "-Wall", "-Werror"])
            .args(["-fno-builtin", "-fno-pic", "-fno-stack-protector"])
            .args(["-nostdlib", "-static"])
            .args(["-Wl,--build-id=none,-z,noexecstack", "-I"])
            .arg(image)
            .arg("-o")
            .arg(init)
            .args(&sources),
    )
}
