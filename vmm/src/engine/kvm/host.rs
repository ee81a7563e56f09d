//! KVM on this host: whether it can do what is relied on, and a virtual machine
//! of it.

use std::path::Path;

use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_CAP_DEBUGREGS, KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT,
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_SYNC_REGS, KVM_CAP_USER_MEMORY, KVM_CAP_VCPU_EVENTS,
    KVM_CAP_XSAVE, kvm_cpuid_entry2, kvm_enable_cap,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use latefork_cpu::CpuModel;
use vmm_sys_util::errno;

use super::kick::Kicker;
use super::state::TaskRegister;
use super::sys;
use crate::engine::EngineError;

/// Three pages that Intel's processors without "unrestricted guest" need; above
/// all RAM and devices, under the BIOS.
const TSS_PAGES: usize = 0xfffb_d000;
/// Capabilities that are relied on, all in Linux 5.3 and later.
const WANTED: [(u32, &str); 8] = [
    (KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"),
    (KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"),
    (KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS"),
    (KVM_CAP_XSAVE, "KVM_CAP_XSAVE"),
    (KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"),
    (KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"),
    (KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"),
    (
        KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
        "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2",
    ),
];
/// Pages in the dirty log are protected again when they are taken out of it, not
/// when it is read.
const MANUAL_PROTECT_ENABLE: u64 = 1;

/// Opens KVM and sees that it can do what is relied on.
pub(super) fn open(device: &Path) -> Result<Kvm, EngineError> {
    let path = std::ffi::CString::new(device.as_os_str().as_encoded_bytes())
        .expect("the device's name has no NUL");
    let kvm = Kvm::new_with_path(path).map_err(|error| EngineError::NoKvm {
        device: device.to_owned(),
        source: error.into(),
    })?;
    check(kvm.get_api_version(), &|capability| {
        kvm.check_extension_raw(capability.into()) > 0
    })?;
    Ok(kvm)
}

/// Whether a KVM of API `version` that has what `has` says is recent enough.
fn check(version: i32, has: &dyn Fn(u32) -> bool) -> Result<(), EngineError> {
    if u32::try_from(version) != Ok(KVM_API_VERSION) {
        return Err(EngineError::KvmTooOld {
            what: format!("it has API version {version}, not {KVM_API_VERSION}"),
        });
    }
    match WANTED.iter().find(|(capability, _)| !has(*capability)) {
        Some((_, name)) => Err(EngineError::KvmTooOld {
            what: format!("it lacks {name}"),
        }),
        None => Ok(()),
    }
}

pub(super) fn create(kvm: &Kvm, model: CpuModel) -> Result<(VmFd, VcpuFd), EngineError> {
    // A signal may interrupt the creation, which allocates much memory.
    let vm = loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            other => break failed("KVM_CREATE_VM", other)?,
        }
    };
    let mut manual = kvm_enable_cap {
        cap: KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
        ..kvm_enable_cap::default()
    };
    manual.args[0] = MANUAL_PROTECT_ENABLE;
    failed("KVM_ENABLE_CAP", vm.enable_cap(&manual))?;
    if vm.check_extension(Cap::SetTssAddr) {
        failed("KVM_SET_TSS_ADDR", vm.set_tss_address(TSS_PAGES))?;
    }
    let vcpu = failed("KVM_CREATE_VCPU", vm.create_vcpu(0))?;
    failed("KVM_SET_CPUID2", vcpu.set_cpuid2(&cpuid(model)))?;
    let blocked = Kicker::blocked_while_running().map_err(|source| EngineError::Kvm {
        what: "read the signal mask",
        source,
    })?;
    failed("KVM_SET_SIGNAL_MASK", sys::set_signal_mask(&vcpu, blocked))?;
    Ok((vm, vcpu))
}

/// The software CPU's CPUID, leaf by leaf.
fn cpuid(model: CpuModel) -> CpuId {
    let leaves = (0..=model.cpuid(0)[0]).chain(0x8000_0000..=model.cpuid(0x8000_0000)[0]);
    let entries: Vec<kvm_cpuid_entry2> = leaves
        .map(|function| {
            let [eax, ebx, ecx, edx] = model.cpuid(function);
            kvm_cpuid_entry2 {
                function,
                eax,
                ebx,
                ecx,
                edx,
                ..kvm_cpuid_entry2::default()
            }
        })
        .collect();
    CpuId::from_entries(&entries).expect("a handful of leaves")
}

/// See [`TaskRegister`]: by the vendor in the host's CPUID.
pub(super) fn task_register() -> TaskRegister {
    let leaf = std::arch::x86_64::__cpuid(0);
    let vendor = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
    match vendor.as_flattened() {
        b"AuthenticAMD" | b"HygonGenuine" => TaskRegister::Free,
        _ => TaskRegister::Busy,
    }
}

pub(super) fn failed<T>(
    what: &'static str,
    result: Result<T, errno::Error>,
) -> Result<T, EngineError> {
    result.map_err(|error| EngineError::Kvm {
        what,
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_old_kvm_lacks_is_named() {
        let refusal = |version, missing: Option<u32>| {
            let checked = check(version, &|capability| Some(capability) != missing);
            checked.err().map(|error| error.to_string())
        };
        assert_eq!(refusal(12, None), None);
        let old = "the host's KVM is too old: ";
        let version = refusal(11, None);
        assert_eq!(version, Some(format!("{old}it has API version 11, not 12")));
        for (capability, name) in WANTED {
            let lacking = refusal(12, Some(capability));
            assert_eq!(lacking, Some(format!("{old}it lacks {name}")));
        }
    }
}
