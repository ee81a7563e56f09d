//! Whether the host's KVM runs our guest, and if not, why not and what helps.

use std::path::Path;

use latefork_cpu::CpuModel;
use latefork_vmm::engine::select::{Refusal, RefusalKind, why_not_kvm};

use super::{Finding, Verdict};

/// What was found out about the host.
#[derive(Debug)]
pub(super) struct Facts {
    /// What the probe guest says; nothing if it passes.
    refusal: Option<Refusal>,
    /// The processor's flags, as /proc/cpuinfo has them.
    flags: Vec<String>,
    /// Whether kvm_pvm is loaded, which serves /dev/kvm without the processor's help.
    pvm: bool,
}

impl Facts {
    /// Runs the probe guest, and reads the rest from /proc and /sys.
    pub(super) fn of_host() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            refusal: why_not_kvm(CpuModel::Fuzz),
            flags: flags(&cpuinfo),
            pvm: Path::new("/sys/module/kvm_pvm").exists(),
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    /// Whether the processor, as the host sees it, can run guests at all.
    fn virtualizes(&self) -> bool {
        self.has("vmx") || self.has("svm")
    }
}

fn flags(cpuinfo: &str) -> Vec<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("flags"));
    let flags = line.and_then(|line| line.split_once(':'));
    flags.map_or_else(Vec::new, |(_, flags)| {
        flags.split_whitespace().map(str::to_owned).collect()
    })
}

/// The report's line.
pub(super) fn finding(facts: &Facts) -> Finding {
    let Some(refusal) = &facts.refusal else {
        let nested = match facts.has("hypervisor") {
            true => " (nested: this host is a guest itself, so exits are slow)",
            false => "",
        };
        return Finding {
            name: "engine kvm",
            verdict: Verdict::Ok,
            found: format!("passes the probe guest{nested}"),
            mend: None,
        };
    };
    let (because, mend) = reason(refusal.kind, facts);
    Finding {
        name: "engine kvm",
        verdict: Verdict::Absent,
        found: format!("{}{because}; soft runs instead", refusal.why),
        mend: mend.map(str::to_owned),
    }
}

/// What is behind a refusal, and what mends it.
fn reason(kind: RefusalKind, facts: &Facts) -> (&'static str, Option<&'static str>) {
    const PVM: &str = " (kvm_pvm serves it, without the processor's help)";
    const HARDWARE: &str = "use a host whose processor shows vmx or svm";
    match kind {
        RefusalKind::Missing if !facts.virtualizes() => (
            " (the processor shows neither vmx nor svm)",
            Some(
                "switch virtualization on in the firmware, or nested virtualization on this \
                 machine's host",
            ),
        ),
        RefusalKind::Missing => ("", Some("sudo modprobe kvm-intel || sudo modprobe kvm-amd")),
        RefusalKind::Forbidden => ("", Some("sudo usermod -aG kvm $USER, then log in again")),
        RefusalKind::TooOld => ("", Some("use a host with Linux 5.3 or later")),
        RefusalKind::Guest if facts.pvm => (PVM, Some(HARDWARE)),
        RefusalKind::Guest if !facts.virtualizes() => {
            (" (the processor shows neither vmx nor svm)", Some(HARDWARE))
        }
        RefusalKind::Guest => (
            " (32-bit guests are refused)",
            Some(
                "use a host that runs 32-bit guests; under another hypervisor, that must pass them on",
            ),
        ),
        RefusalKind::Failed => ("", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kind: Option<RefusalKind>, flags: &[&str]) -> Facts {
        Facts {
            refusal: kind.map(|kind| Refusal {
                kind,
                why: "why".to_owned(),
            }),
            flags: flags.iter().map(ToString::to_string).collect(),
            pvm: false,
        }
    }

    fn check(facts: &Facts, found: &str, mend: Option<&str>) {
        let finding = finding(facts);
        assert!(finding.found.contains(found), "{found}: {}", finding.found);
        assert_eq!(finding.found.lines().count(), 1, "{}", finding.found);
        let works = facts.refusal.is_none();
        assert_eq!(finding.verdict == Verdict::Ok, works);
        assert_eq!(finding.found.contains("soft runs instead"), !works);
        match mend {
            Some(text) => {
                let mend = finding.mend.unwrap_or_default();
                assert!(mend.contains(text), "{text}: {mend}");
            }
            None => assert_eq!(finding.mend, None),
        }
    }

    #[test]
    fn a_host_that_works() {
        check(&host(None, &["svm"]), "passes the probe guest", None);
        let text = finding(&host(None, &["svm"])).found;
        assert!(!text.contains("nested"), "{text}");
    }

    #[test]
    fn a_host_that_is_a_guest() {
        check(&host(None, &["vmx", "hypervisor"]), "nested", None);
    }

    #[test]
    fn no_device() {
        let missing = Some(RefusalKind::Missing);
        check(&host(missing, &["vmx"]), "why", Some("modprobe kvm-intel"));
        check(&host(missing, &[]), "neither vmx nor svm", Some("firmware"));
    }

    #[test]
    fn no_permission() {
        let facts = host(Some(RefusalKind::Forbidden), &["svm"]);
        check(&facts, "why", Some("usermod -aG kvm"));
    }

    #[test]
    fn too_old_an_api() {
        let facts = host(Some(RefusalKind::TooOld), &["svm"]);
        check(&facts, "why", Some("Linux 5.3"));
    }

    #[test]
    fn a_pvm_host() {
        let facts = Facts {
            pvm: true,
            ..host(Some(RefusalKind::Guest), &["hypervisor"])
        };
        check(&facts, "kvm_pvm serves it", Some("vmx or svm"));
        let hidden = host(Some(RefusalKind::Guest), &["hypervisor"]);
        check(&hidden, "neither vmx nor svm", Some("vmx or svm"));
    }

    #[test]
    fn a_host_that_refuses_32_bit_guests() {
        let facts = host(Some(RefusalKind::Guest), &["vmx", "hypervisor"]);
        check(&facts, "32-bit guests are refused", Some("32-bit"));
    }

    #[test]
    fn a_call_that_fails() {
        check(&host(Some(RefusalKind::Failed), &["svm"]), "why", None);
    }

    #[test]
    fn flags_are_those_of_the_first_processor() {
        let cpuinfo = "processor : 0\nflags\t\t: fpu hypervisor svm\nprocessor : 1\nflags : x\n";
        assert_eq!(flags(cpuinfo), ["fpu", "hypervisor", "svm"]);
        assert_eq!(flags("processor : 0\n"), [""; 0]);
    }

    #[test]
    fn this_host_has_one_line_too() {
        let found = finding(&Facts::of_host()).found;
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}
