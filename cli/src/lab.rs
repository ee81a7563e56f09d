//! Guests that programs are replayed in, one for each kernel, made when first
//! asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use latefork_cpu::CpuModel;
use latefork_harness::pair::Pair;
use latefork_harness::replay::Setting;
use latefork_harness::{Executor, Guest};
use latefork_vmm::engine::EngineKind;
use latefork_vmm::engine::select::EngineChoice;
use latefork_vmm::layout::RAM_DEFAULT_MIB;

/// Where guest images are.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LabOptions {
    /// The folder of guest images (`<flavour>-<config>/vmlinux` and
    /// `agent/initramfs.cpio`); by default target/guest of the checkout
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
}

/// A guest kernel, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    kernel: PathBuf,
    memory_mib: u32,
    engine: EngineKind,
}

impl Wanted {
    /// The same on `engine`.
    pub(crate) fn on(&self, engine: EngineKind) -> Self {
        Self {
            engine,
            ..self.clone()
        }
    }
}

/// A guest that programs can be run in.
pub(crate) struct Station {
    pub(crate) executor: Executor,
    pub(crate) setting: Setting,
    pub(crate) kernel: PathBuf,
}

/// All guests of this process.
pub(crate) struct Lab {
    images: PathBuf,
    engine: EngineKind,
    stations: BTreeMap<Wanted, Station>,
}

impl Lab {
    /// Guests on the software engine, whose runs come again bit for bit.
    pub(crate) fn new(options: &LabOptions) -> Self {
        Self {
            images: options.images.clone().unwrap_or_else(default_images),
            engine: EngineKind::Soft,
            stations: BTreeMap::new(),
        }
    }

    /// Guests on the engine of `choice`; with `auto`, says why it is not KVM.
    /// An error says in one line why KVM cannot be used.
    pub(crate) fn on(options: &LabOptions, choice: EngineChoice) -> Result<Self> {
        let selected = choice.select(CpuModel::Fuzz)?;
        if let Some(why) = selected.why_not_kvm {
            eprintln!("engine {}: {why}", selected.kind.name());
        }
        Ok(Self {
            engine: selected.kind,
            ..Self::new(options)
        })
    }

    /// The usual kernel of `flavour`.
    pub(crate) fn flavour(&self, flavour: &str) -> Wanted {
        Wanted {
            kernel: self.images.join(format!("{flavour}-fuzz/vmlinux")),
            memory_mib: RAM_DEFAULT_MIB,
            engine: self.engine,
        }
    }

    /// The kernel that `setting` names.
    pub(crate) fn of(&self, setting: &Setting) -> Wanted {
        Wanted {
            kernel: setting.kernel(&self.images),
            memory_mib: setting.memory_mib,
            engine: self.engine,
        }
    }

    /// The guest `wanted`, booted if it is not there yet.
    pub(crate) fn open(&mut self, wanted: &Wanted) -> Result<&mut Station> {
        if !self.stations.contains_key(wanted) {
            let station = self.make(wanted)?;
            self.stations.insert(wanted.clone(), station);
        }
        Ok(self.stations.get_mut(wanted).expect("it was put there"))
    }

    fn make(&self, wanted: &Wanted) -> Result<Station> {
        let initramfs = self.images.join("agent/initramfs.cpio");
        let guest = Guest::read(&wanted.kernel, &initramfs)?.with_memory(wanted.memory_mib);
        let setting = Setting::new(&guest, &wanted.kernel, wanted.engine.name());
        let opened = Pair::open(
            guest,
            self.template(&setting),
            wanted.engine,
            CpuModel::Fuzz,
        );
        let (pair, _) =
            opened.with_context(|| format!("cannot boot {}", wanted.kernel.display()))?;
        Ok(Station {
            executor: pair.into_executor(),
            setting,
            kernel: wanted.kernel.clone(),
        })
    }

    /// Where the ready guest is kept: the fuzz targets' own file, so that it is
    /// made once; any other guest has one by its hash.
    fn template(&self, setting: &Setting) -> PathBuf {
        let usual = setting.kernel.is_none()
            && setting.config == "fuzz"
            && setting.memory_mib == RAM_DEFAULT_MIB;
        let name = match usual {
            true => &setting.flavour,
            false => &setting.image,
        };
        self.images.join(format!("{name}.snapshot"))
    }
}

/// `target/guest` of the folder that the command runs in, else of the checkout
/// that it was built from.
pub(crate) fn default_images() -> PathBuf {
    let here = Path::new("target/guest");
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guest");
    match here.is_dir() || !built.is_dir() {
        true => here.to_owned(),
        false => built,
    }
}
