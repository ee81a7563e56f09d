//! Which engine runs: asked for by name, or found out.

use std::fmt;
use std::io::ErrorKind;
use std::str::FromStr;

use latefork_cpu::CpuModel;

use super::soft::SoftVcpu;
use super::{Engine, EngineError, EngineKind};

/// Where KVM is.
pub const DEVICE: &str = "/dev/kvm";

/// What the user asks for (`--engine`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// KVM where it passes the probe, else the software CPU.
    #[default]
    Auto,
    /// One engine, and no other.
    Only(EngineKind),
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "soft" => Ok(Self::Only(EngineKind::Soft)),
            "kvm" => Ok(Self::Only(EngineKind::Kvm)),
            _ => Err(format!("`{text}` is no engine: say auto, soft or kvm")),
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Only(kind) => kind.name(),
        })
    }
}

/// The engine of a choice, and why it is that one.
#[derive(Debug)]
pub struct Selected {
    /// The engine.
    pub kind: EngineKind,
    /// Why KVM does not run, in one line; nothing if it does or was not asked about.
    pub why_not_kvm: Option<String>,
}

impl EngineChoice {
    /// Finds out which engine runs.
    ///
    /// # Errors
    ///
    /// KVM was asked for by name and cannot be used.
    pub fn select(self, model: CpuModel) -> Result<Selected, EngineError> {
        let soft = |why_not_kvm| Selected {
            kind: EngineKind::Soft,
            why_not_kvm,
        };
        match (self, self.refusal(model)) {
            (Self::Only(EngineKind::Soft), _) => Ok(soft(None)),
            (_, None) => Ok(Selected {
                kind: EngineKind::Kvm,
                why_not_kvm: None,
            }),
            (Self::Auto, why) => Ok(soft(why)),
            (Self::Only(EngineKind::Kvm), Some(why)) => Err(EngineError::Unusable { why }),
        }
    }

    /// Why KVM cannot be used, if it was asked about.
    fn refusal(self, model: CpuModel) -> Option<String> {
        match self {
            Self::Only(EngineKind::Soft) => None,
            _ => why_not_kvm(model).map(|refusal| refusal.why),
        }
    }
}

/// Why KVM cannot run our guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of reason it is.
    pub kind: RefusalKind,
    /// The reason, in one line.
    pub why: String,
}

/// Kinds of reasons why KVM cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no device.
    Missing,
    /// This user may not open it.
    Forbidden,
    /// It lacks what is relied on.
    TooOld,
    /// A call to it failed.
    Failed,
    /// It takes a guest, and runs it wrongly: no paging, or no ring 3.
    Guest,
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::NoKvm { source, .. } => match source.kind() {
                ErrorKind::NotFound => RefusalKind::Missing,
                ErrorKind::PermissionDenied => RefusalKind::Forbidden,
                _ => RefusalKind::Failed,
            },
            EngineError::KvmTooOld { .. } => RefusalKind::TooOld,
            _ => RefusalKind::Failed,
        };
        Self {
            kind,
            why: error.to_string(),
        }
    }
}

/// Why the host's KVM cannot run our guest; nothing if it can.
pub fn why_not_kvm(model: CpuModel) -> Option<Refusal> {
    refusal(create(EngineKind::Kvm, model))
}

/// Why the engine that was made, or not, cannot run our guest.
fn refusal(made: Result<Box<dyn Engine>, EngineError>) -> Option<Refusal> {
    match made {
        Ok(engine) => super::probe::probe(engine).err().map(|why| Refusal {
            kind: RefusalKind::Guest,
            why: format!("{DEVICE} opens, but {why}"),
        }),
        Err(error) => Some(error.into()),
    }
}

/// An engine with a CPU after reset.
///
/// # Errors
///
/// There is no usable KVM on this host.
pub fn create(kind: EngineKind, model: CpuModel) -> Result<Box<dyn Engine>, EngineError> {
    match kind {
        EngineKind::Soft => Ok(Box::new(SoftVcpu::new(model))),
        #[cfg(target_arch = "x86_64")]
        EngineKind::Kvm => Ok(Box::new(super::kvm::KvmVcpu::new(model)?)),
        #[cfg(not(target_arch = "x86_64"))]
        EngineKind::Kvm => Err(EngineError::Unusable {
            why: "this host's processor is no x86-64".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use latefork_cpu::{Cpu, CpuState};

    use super::*;
    use crate::engine::{Exit, InterruptLine, Slice};
    use crate::loader::BootEntry;
    use crate::memory::{GuestRam, PageNumber};
    use crate::time::VirtualTime;

    /// An engine whose runs all end in the same way.
    #[derive(Debug)]
    struct Broken {
        engine: Box<dyn Engine>,
        exit: Exit,
    }

    impl Engine for Broken {
        fn kind(&self) -> EngineKind {
            EngineKind::Kvm
        }
        fn signature(&self) -> u32 {
            self.engine.signature()
        }
        fn elapsed(&self) -> VirtualTime {
            self.engine.elapsed()
        }
        fn interrupts_enabled(&self) -> bool {
            self.engine.interrupts_enabled()
        }
        fn run(&mut self, _memory: &GuestRam, _slice: Slice) -> Result<Exit, EngineError> {
            Ok(self.exit)
        }
        fn complete_read(&mut self, value: u32) {
            self.engine.complete_read(value);
        }
        fn set_interrupt_line(&mut self, line: InterruptLine) {
            self.engine.set_interrupt_line(line);
        }
        fn deliver_interrupt(&mut self, memory: &GuestRam, vector: u8) -> Result<(), EngineError> {
            self.engine.deliver_interrupt(memory, vector)
        }
        fn enter(&mut self, entry: &BootEntry) -> Result<(), EngineError> {
            self.engine.enter(entry)
        }
        fn save(&mut self) -> Result<CpuState, EngineError> {
            self.engine.save()
        }
        fn restore(&mut self, state: &CpuState) -> Result<(), EngineError> {
            self.engine.restore(state)
        }
        fn at_boundary(&self) -> bool {
            self.engine.at_boundary()
        }
        fn page_written(&mut self, memory: &GuestRam, page: PageNumber) {
            self.engine.page_written(memory, page);
        }
        fn collect_dirty(&mut self, memory: &GuestRam) -> Result<(), EngineError> {
            self.engine.collect_dirty(memory)
        }
        fn dirty_cleared(&mut self) {
            self.engine.dirty_cleared();
        }
        fn soft(&mut self) -> Option<&mut Cpu> {
            self.engine.soft()
        }
    }

    #[test]
    fn each_reason_is_told_from_the_others() {
        let no_kvm = |kind: ErrorKind| EngineError::NoKvm {
            device: DEVICE.into(),
            source: kind.into(),
        };
        let old = EngineError::KvmTooOld {
            what: "it has API version 11, not 12".into(),
        };
        let refused = EngineError::Kvm {
            what: "KVM_CREATE_VM",
            source: ErrorKind::OutOfMemory.into(),
        };
        let table = [
            (no_kvm(ErrorKind::NotFound), RefusalKind::Missing),
            (no_kvm(ErrorKind::PermissionDenied), RefusalKind::Forbidden),
            (no_kvm(ErrorKind::Other), RefusalKind::Failed),
            (old, RefusalKind::TooOld),
            (refused, RefusalKind::Failed),
        ];
        for (error, kind) in table {
            let why = error.to_string();
            assert_eq!(refusal(Err(error)), Some(Refusal { kind, why }));
        }
    }

    #[test]
    fn an_engine_without_paging_or_ring_3_is_refused_by_its_probe() {
        let works = || SoftVcpu::new(CpuModel::Fuzz);
        assert_eq!(refusal(Ok(Box::new(works()))), None);
        let broken = |exit| -> Box<dyn Engine> {
            let engine = Box::new(works());
            Box::new(Broken { engine, exit })
        };
        for (exit, expected) in [
            (Exit::TripleFault, "the probe guest died"),
            (
                Exit::Unsupported {
                    what: "an instruction that KVM cannot emulate",
                },
                "the probe guest met an instruction that KVM cannot emulate",
            ),
        ] {
            let refusal = refusal(Ok(broken(exit))).expect("it is refused");
            assert_eq!(refusal.kind, RefusalKind::Guest);
            let start = format!("{DEVICE} opens, but {expected}");
            assert!(refusal.why.starts_with(&start), "{}", refusal.why);
            assert_eq!(refusal.why.lines().count(), 1);
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["auto", "soft", "kvm"] {
            assert_eq!(name.parse::<EngineChoice>().unwrap().to_string(), name);
        }
        assert_eq!(
            "qemu".parse::<EngineChoice>(),
            Err("`qemu` is no engine: say auto, soft or kvm".into())
        );
    }

    #[test]
    fn auto_always_finds_one_and_says_why_it_is_not_kvm() {
        let selected = EngineChoice::Auto.select(CpuModel::Fuzz).unwrap();
        assert_eq!(
            selected.kind == EngineKind::Kvm,
            selected.why_not_kvm.is_none()
        );
        let asked = EngineChoice::Only(EngineKind::Kvm).select(CpuModel::Fuzz);
        assert_eq!(asked.is_ok(), selected.kind == EngineKind::Kvm);
        if let (Err(error), Some(why)) = (asked, selected.why_not_kvm) {
            assert_eq!(error.to_string(), format!("KVM cannot be used: {why}"));
            assert_eq!(why.lines().count(), 1, "{why}");
        }
    }
}
