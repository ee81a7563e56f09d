//! What is booted: kernel, initramfs, command line and the size of memory.

use std::io;
use std::path::{Path, PathBuf};

use latefork_cpu::LinearAddr;
use latefork_vmm::engine::Engine;
use latefork_vmm::loader::{BootSource, device_arguments};
use latefork_vmm::machine::{Machine, MachineConfig, MachineError};
use latefork_vmm::snapshot::file::Identity;
use latefork_wire::frame::PORT;
use xxhash_rust::xxh3::Xxh3;

use crate::symbols;

/// What the kernel is told in every guest: a console that shows warnings (the
/// oracles read them), and a clock that needs no calibration (ticks of 10 ms,
/// delay loops that cost little).
const COMMAND_LINE: &str = "console=ttyS0 loglevel=5 clocksource=jiffies lpj=10000 panic=-1";

/// A guest's images could not be read.
#[derive(Debug, thiserror::Error)]
#[error("no {what} at {}: build it with `{mend}` ({source})", .path.display())]
pub struct GuestError {
    what: &'static str,
    path: PathBuf,
    mend: String,
    source: io::Error,
}

/// The command that makes the kernel at `path`: its folder is named by flavour
/// and configuration.
fn kernel_command(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name);
    let name = folder.map(|name| name.to_string_lossy().into_owned());
    let flavour = match name {
        Some(name) if name.starts_with("faithful") => "faithful",
        _ => "hardened",
    };
    format!("cargo xtask kernel --flavour {flavour}")
}

/// A guest, before its first instruction.
#[derive(Clone, Debug)]
pub struct Guest {
    kernel: Vec<u8>,
    initramfs: Option<Vec<u8>>,
    command_line: String,
    config: MachineConfig,
}

impl Guest {
    /// Reads the images.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, with the command that makes it.
    pub fn read(kernel: &Path, initramfs: &Path) -> Result<Self, GuestError> {
        let kernel = read_kernel(kernel)?;
        let mend = || "cargo xtask initramfs".to_owned();
        Ok(Self::new(kernel, read(initramfs, "initramfs", mend)?))
    }

    /// Reads the image of a kernel that is to boot without an initramfs.
    ///
    /// # Errors
    ///
    /// The file cannot be read, with the command that makes it.
    pub fn read_bare(kernel: &Path) -> Result<Self, GuestError> {
        Ok(Self {
            initramfs: None,
            ..Self::new(read_kernel(kernel)?, Vec::new())
        })
    }

    /// A guest from images in memory.
    pub fn new(kernel: Vec<u8>, initramfs: Vec<u8>) -> Self {
        Self {
            kernel,
            initramfs: Some(initramfs),
            command_line: format!("{COMMAND_LINE} {}", device_arguments()),
            config: MachineConfig::default(),
        }
    }

    /// The same with another image of its kernel.
    ///
    /// # Errors
    ///
    /// The file cannot be read, with the command that makes it.
    pub fn with_kernel(self, path: &Path) -> Result<Self, GuestError> {
        let kernel = read_kernel(path)?;
        Ok(Self { kernel, ..self })
    }

    /// Where the kernel's function `name` starts, if the image says so.
    pub fn address_of(&self, name: &str) -> Option<LinearAddr> {
        symbols::address_of(&self.kernel, name).map(LinearAddr)
    }

    /// The same with `mib` MiB of RAM.
    #[must_use]
    pub fn with_memory(mut self, mib: u32) -> Self {
        self.config.memory_mib = mib;
        self
    }

    /// The same with a clock that shows `date`, in seconds since 1970, at power-on.
    #[must_use]
    pub fn with_date(mut self, date: u64) -> Self {
        self.config.date = date;
        self
    }

    /// The same with more arguments on the kernel's command line.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &str) -> Self {
        if !arguments.is_empty() {
            self.command_line = format!("{} {arguments}", self.command_line);
        }
        self
    }

    /// The same with a kernel that is told of no virtio device: its agent
    /// reports on the console.
    #[must_use]
    pub fn without_vsock(mut self) -> Self {
        let devices = format!(" {}", device_arguments());
        self.command_line = self.command_line.replace(&devices, "");
        self
    }

    /// The kernel's whole command line.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// What the machine is made of.
    pub fn config(&self) -> MachineConfig {
        self.config
    }

    /// A machine with the guest loaded, which waits for its agent.
    ///
    /// # Errors
    ///
    /// What is wrong with an image, or the host failed.
    pub fn machine(&self, engine: Box<dyn Engine>) -> Result<Machine, MachineError> {
        let mut machine = Machine::new(engine, &self.config)?;
        machine.load(&BootSource {
            kernel: &self.kernel,
            initramfs: self.initramfs.as_deref(),
            command_line: &self.command_line,
        })?;
        machine
            .vsock_mut()
            .listen(PORT)
            .expect("nobody listens on a new machine");
        Ok(machine)
    }

    /// A hash of all that decides what the guest is when its agent is ready,
    /// but for the engine.
    pub fn identity(&self) -> Identity {
        let mut hasher = Xxh3::new();
        let memory = self.config.memory_mib.to_le_bytes();
        let date = self.config.date.to_le_bytes();
        let parts: [&[u8]; 5] = [
            &self.kernel,
            self.initramfs.as_deref().unwrap_or_default(),
            self.command_line.as_bytes(),
            &memory,
            &date,
        ];
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Identity {
            inputs: hasher.digest128(),
        }
    }
}

fn read_kernel(path: &Path) -> Result<Vec<u8>, GuestError> {
    read(path, "kernel image", || kernel_command(path))
}

fn read(
    path: &Path,
    what: &'static str,
    mend: impl FnOnce() -> String,
) -> Result<Vec<u8>, GuestError> {
    std::fs::read(path).map_err(|source| GuestError {
        what,
        path: path.to_owned(),
        mend: mend(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_matters_is_in_the_identity() {
        let guest = |kernel: &[u8], initramfs: &[u8]| Guest::new(kernel.into(), initramfs.into());
        let one = guest(b"kernel", b"initramfs");
        let others = [
            guest(b"kerne", b"linitramfs"),
            guest(b"kernel", b"initramfs2"),
            one.clone().with_memory(64),
            one.clone().with_date(1),
            one.clone().with_arguments("debug"),
            one.clone().without_vsock(),
        ];
        assert_eq!(one.identity(), guest(b"kernel", b"initramfs").identity());
        for other in others {
            assert_ne!(one.identity(), other.identity());
        }
    }

    #[test]
    fn a_missing_image_is_named_with_the_command_that_makes_it() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("vmlinux");
        std::fs::write(&there, b"").unwrap();
        let missing = folder.path().join("initramfs.cpio");
        let error = Guest::read(&there, &missing).unwrap_err();
        assert_eq!(error.path, missing);
        assert_eq!(error.mend, "cargo xtask initramfs");
        let kernel = folder.path().join("faithful-fuzz/vmlinux");
        let error = Guest::read(&kernel, &missing).unwrap_err();
        assert_eq!(error.mend, "cargo xtask kernel --flavour faithful");
    }
}
