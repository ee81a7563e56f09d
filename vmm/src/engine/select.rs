//! Which engine runs: asked for by name, or found out.

use std::fmt;
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
            _ => why_not_kvm(model),
        }
    }
}

/// Why the host's KVM cannot run our guest; nothing if it can.
pub fn why_not_kvm(model: CpuModel) -> Option<String> {
    match create(EngineKind::Kvm, model) {
        Ok(engine) => super::probe::probe(engine)
            .err()
            .map(|why| format!("{DEVICE} opens, but {why}")),
        Err(error) => Some(error.to_string()),
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
    use super::*;

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
