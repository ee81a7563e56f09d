//! The options of every subcommand that boots a guest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use latefork_cpu::CpuModel;
use latefork_harness::template::Prepared;
use latefork_harness::{Guest, Template};
use latefork_vmm::engine::select::{EngineChoice, create};
use latefork_vmm::engine::{Engine, EngineKind};
use latefork_vmm::layout::{RAM_DEFAULT_MIB, RAM_MIB};
use latefork_vmm::machine::Machine;

/// Which guest to boot, and on what.
#[derive(Clone, Debug, Args)]
pub(crate) struct GuestOptions {
    /// The kernel: a vmlinux or a bzImage [default: faithful's; bench: hardened's]
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
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
    /// What the clock shows at power-on: seconds since 1970, or "now" (which
    /// no two runs share); by default the start of 2026
    #[arg(long, value_name = "SECONDS", value_parser = date)]
    pub(crate) date: Option<u64>,
    /// What runs the guest's CPU: auto (KVM where it passes a probe, else the
    /// software CPU), kvm or soft
    #[arg(long, default_value_t = EngineChoice::Auto)]
    pub(crate) engine: EngineChoice,
    /// What the guest's CPU can do
    #[arg(long, value_enum, default_value_t = CpuChoice::X87)]
    pub(crate) cpu: CpuChoice,
}

/// The kernel where none is named.
const DEFAULT_KERNEL: &str = "target/guest/faithful-fuzz/vmlinux";

/// The CPU models as one asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CpuChoice {
    /// x87 and no more: what guests are fuzzed on
    X87,
    /// With FXSAVE, MMX, SSE and SSE2, for kernels of the configuration `sse`
    Sse,
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

/// The last second that a CMOS clock can show: its century has two digits.
const LAST_DATE: u64 = 253_402_300_799;

fn date(text: &str) -> Result<u64, String> {
    if text == "now" {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        return now
            .map(|since| since.as_secs())
            .map_err(|error| format!("the host's clock is before 1970: {error}"));
    }
    let date: u64 = text
        .parse()
        .map_err(|_| format!("`{text}` is neither `now` nor a number of seconds"))?;
    if date > LAST_DATE {
        return Err(format!("{date} is after the year 9999"));
    }
    Ok(date)
}

impl GuestOptions {
    /// The kernel's file.
    pub(crate) fn kernel(&self) -> &Path {
        self.kernel.as_deref().unwrap_or(Path::new(DEFAULT_KERNEL))
    }

    /// The engine asked for; with `auto`, one that can run here. Says once why
    /// that is not KVM.
    pub(crate) fn new_engine(&self) -> Result<Box<dyn Engine>> {
        static CHOSEN: OnceLock<EngineKind> = OnceLock::new();
        let model = self.model();
        let kind = match CHOSEN.get() {
            Some(kind) => *kind,
            None => {
                let selected = self.engine.select(model)?;
                if let Some(why) = selected.why_not_kvm {
                    eprintln!("engine {}: {why}", selected.kind.name());
                }
                *CHOSEN.get_or_init(|| selected.kind)
            }
        };
        Ok(create(kind, model)?)
    }

    /// What the guest's CPU can do.
    pub(crate) fn model(&self) -> CpuModel {
        match self.cpu {
            CpuChoice::X87 => CpuModel::Fuzz,
            CpuChoice::Sse => CpuModel::Sse,
        }
    }

    /// The options as arguments, for another process.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--kernel".into(),
            self.kernel().into(),
            "--initramfs".into(),
            self.initramfs.clone().into(),
            format!("--memory={}", self.memory).into(),
            format!("--cmdline={}", self.cmdline).into(),
            format!("--engine={}", self.engine).into(),
            format!("--cpu={}", word(&self.cpu)).into(),
        ];
        arguments.extend(self.date.map(|date| format!("--date={date}").into()));
        arguments
    }

    /// Reads the images.
    pub(crate) fn read(&self) -> Result<Guest> {
        let guest = match self.has_initramfs() {
            true => Guest::read(self.kernel(), &self.initramfs)?,
            false => Guest::read_bare(self.kernel())?,
        };
        let guest = guest.with_memory(self.memory).with_arguments(&self.cmdline);
        Ok(match self.date {
            Some(date) => guest.with_date(date),
            None => guest,
        })
    }

    /// A machine with `guest` loaded, before its first instruction.
    pub(crate) fn machine(&self, guest: &Guest) -> Result<Machine> {
        let machine = guest.machine(self.new_engine()?);
        machine.with_context(|| format!("cannot boot {}", self.kernel().display()))
    }

    /// The template of `guest` from the file at `path`, made if that is needed.
    pub(crate) fn template(&self, guest: &Guest, path: &Path) -> Result<Prepared> {
        // Asked for here already, so that what is missing is said in one line.
        self.new_engine()?;
        let mut new_engine = || {
            self.new_engine()
                .expect("an engine that could be made just now")
        };
        let prepared = Template::cached(guest, path, &mut new_engine);
        prepared.with_context(|| format!("cannot boot {}", self.kernel().display()))
    }

    fn has_initramfs(&self) -> bool {
        self.initramfs != Path::new("none")
    }
}

/// A choice's word on the command line.
fn word(choice: &impl ValueEnum) -> String {
    let value = choice.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
