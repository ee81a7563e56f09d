//! What every subcommand that boots a guest shares: its images, its options
//! and how one sees that its agent is ready.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use latefork_cpu::CpuModel;
use latefork_vmm::engine::soft::SoftVcpu;
use latefork_vmm::engine::{Engine, EngineKind};
use latefork_vmm::layout::{RAM_DEFAULT_MIB, RAM_MIB};
use latefork_vmm::loader::{BootSource, device_arguments};
use latefork_vmm::machine::{Machine, MachineConfig};
use latefork_vmm::snapshot::file::Identity;
use latefork_vmm::vsock::VsockHost;
use latefork_wire::frame::{FRAME_HEADER, FrameHeader, FrameKind, PORT};
use xxhash_rust::xxh3::Xxh3;

/// What the kernel is told in every guest: the console, and a clock that needs
/// no calibration (ticks of 10 ms, delay loops that cost little).
const COMMAND_LINE: &str = "console=ttyS0 quiet clocksource=jiffies lpj=10000 panic=-1";

/// Which guest to boot, and on what.
#[derive(Debug, Args)]
pub(crate) struct GuestOptions {
    /// The kernel: a vmlinux or a bzImage
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/guest/faithful-fuzz/vmlinux"
    )]
    pub(crate) kernel: PathBuf,
    /// The initramfs with the agent; "none" boots without
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/guest/agent/initramfs.cpio"
    )]
    pub(crate) initramfs: PathBuf,
    /// RAM in MiB
    #[arg(long, value_name = "MIB", default_value_t = RAM_DEFAULT_MIB, value_parser = memory)]
    pub(crate) memory: u32,
    /// More arguments for the kernel's command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) cmdline: String,
    /// What runs the guest's CPU
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub(crate) engine: EngineChoice,
}

/// The engines as one asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineChoice {
    /// KVM where it can run the guest, else the software CPU
    Auto,
    /// The host's KVM
    Kvm,
    /// The deterministic software CPU
    Soft,
}

impl EngineChoice {
    /// The engine asked for; with `auto`, one that can run here.
    fn make(self) -> Result<Box<dyn Engine>> {
        match self {
            Self::Soft | Self::Auto => Ok(Box::new(SoftVcpu::new(CpuModel::Fuzz))),
            Self::Kvm => bail!(
                "the engine `kvm` is not part of this build: use `--engine {}`",
                EngineKind::Soft.name()
            ),
        }
    }
}

fn memory(text: &str) -> Result<u32, String> {
    let mib: u32 = text
        .parse()
        .map_err(|_| format!("`{text}` is no number of MiB"))?;
    if !RAM_MIB.contains(&mib) {
        return Err(format!(
            "{mib} MiB is out of range: ask for {} to {} MiB",
            RAM_MIB.start(),
            RAM_MIB.end()
        ));
    }
    Ok(mib)
}

/// The images of a guest, read into memory.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) kernel_path: PathBuf,
    pub(crate) initramfs_path: Option<PathBuf>,
    kernel: Vec<u8>,
    initramfs: Option<Vec<u8>>,
    /// The kernel's whole command line.
    pub(crate) command_line: String,
    pub(crate) memory: u32,
    engine: EngineChoice,
}

impl GuestOptions {
    /// The engine asked for; with `auto`, one that can run here.
    pub(crate) fn new_engine(&self) -> Result<Box<dyn Engine>> {
        self.engine.make()
    }

    /// The options as arguments, for another process.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let engine = self.engine.to_possible_value();
        let engine = engine.map_or_else(String::new, |value| value.get_name().to_owned());
        vec![
            "--kernel".into(),
            self.kernel.clone().into(),
            "--initramfs".into(),
            self.initramfs.clone().into(),
            "--memory".into(),
            self.memory.to_string().into(),
            format!("--cmdline={}", self.cmdline).into(),
            "--engine".into(),
            engine.into(),
        ]
    }

    /// Reads the images.
    pub(crate) fn read(&self) -> Result<Guest> {
        let initramfs_path = (self.initramfs != Path::new("none")).then(|| self.initramfs.clone());
        let initramfs = initramfs_path.as_deref().map(read_initramfs).transpose()?;
        Ok(Guest {
            kernel_path: self.kernel.clone(),
            initramfs_path,
            kernel: read_kernel(&self.kernel)?,
            initramfs,
            command_line: command_line(&device_arguments(), &self.cmdline),
            memory: self.memory,
            engine: self.engine,
        })
    }
}

fn command_line(devices: &str, arguments: &str) -> String {
    format!("{COMMAND_LINE} {devices} {arguments}")
        .trim_end()
        .to_owned()
}

fn read_kernel(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| {
        format!(
            "no kernel image at {}: build one with `cargo xtask kernel --flavour faithful`",
            path.display()
        )
    })
}

fn read_initramfs(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| {
        format!(
            "no initramfs at {}: build it with `cargo xtask initramfs`",
            path.display()
        )
    })
}

impl Guest {
    /// The same guest with another image of its kernel.
    pub(crate) fn with_kernel(&self, path: &Path) -> Result<Self> {
        Ok(Self {
            kernel: read_kernel(path)?,
            kernel_path: path.to_path_buf(),
            ..self.clone()
        })
    }

    /// The same guest without its virtio device: its agent reports on the console.
    pub(crate) fn without_vsock(&self) -> Self {
        Self {
            command_line: self.command_line.replace(&device_arguments(), ""),
            ..self.clone()
        }
    }

    /// A machine with the guest loaded, before its first instruction.
    pub(crate) fn machine(&self) -> Result<Machine> {
        let mut machine = Machine::new(self.new_engine()?, &self.config())?;
        machine
            .load(&BootSource {
                kernel: &self.kernel,
                initramfs: self.initramfs.as_deref(),
                command_line: &self.command_line,
            })
            .with_context(|| format!("cannot boot {}", self.kernel_path.display()))?;
        machine.vsock_mut().listen(PORT)?;
        Ok(machine)
    }

    /// What the machine is made of.
    pub(crate) fn config(&self) -> MachineConfig {
        MachineConfig {
            memory_mib: self.memory,
            ..MachineConfig::default()
        }
    }

    /// The engine asked for; with `auto`, one that can run here.
    pub(crate) fn new_engine(&self) -> Result<Box<dyn Engine>> {
        self.engine.make()
    }

    /// Names all that decides what the guest is when its agent is ready.
    pub(crate) fn identity(&self) -> Identity {
        let mut hasher = Xxh3::new();
        let memory = self.memory.to_le_bytes();
        let parts: [&[u8]; 4] = [
            &self.kernel,
            self.initramfs.as_deref().unwrap_or_default(),
            self.command_line.as_bytes(),
            &memory,
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

/// Whether the agent has connected and said hello.
pub(crate) fn is_ready(host: &mut VsockHost) -> bool {
    host.accept(PORT);
    let connections: Vec<_> = host.connections().collect();
    connections.into_iter().any(|id| {
        let Ok((front, back)) = host.received(id) else {
            return false;
        };
        let bytes: Vec<u8> = front.iter().chain(back).copied().collect();
        let Some(header) = bytes.first_chunk::<FRAME_HEADER>() else {
            return false;
        };
        FrameHeader::decode(*header).is_ok_and(|header| {
            header.kind == FrameKind::Hello && bytes.len() >= FRAME_HEADER + header.len as usize
        })
    })
}
