//! KVM on this host: whether it can do what is relied on, and a virtual machine
//! of it.

use std::path::Path;

use kvm_bindings::{CpuId, KVM_API_VERSION, kvm_cpuid_entry2};
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
/// Capabilities that are relied on, all in Linux 4.17 and later.
const WANTED: [(Cap, &str); 7] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::SyncRegs, "KVM_CAP_SYNC_REGS"),
    (Cap::Xsave, "KVM_CAP_XSAVE"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
    (Cap::Debugregs, "KVM_CAP_DEBUGREGS"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
];

/// Opens KVM and sees that it can do what is relied on.
pub(super) fn open(device: &Path) -> Result<Kvm, EngineError> {
    let path = std::ffi::CString::new(device.as_os_str().as_encoded_bytes())
        .expect("the device's name has no NUL");
    let kvm = Kvm::new_with_path(path).map_err(|error| EngineError::NoKvm {
        device: device.to_owned(),
        source: error.into(),
    })?;
    let version = kvm.get_api_version();
    if u32::try_from(version) != Ok(KVM_API_VERSION) {
        return Err(EngineError::KvmTooOld {
            what: format!("it has API version {version}, not {KVM_API_VERSION}"),
        });
    }
    for (capability, name) in WANTED {
        if !kvm.check_extension(capability) {
            return Err(EngineError::KvmTooOld {
                what: format!("it lacks {name}"),
            });
        }
    }
    Ok(kvm)
}

pub(super) fn create(kvm: &Kvm, model: CpuModel) -> Result<(VmFd, VcpuFd), EngineError> {
    // A signal may interrupt the creation, which allocates much memory.
    let vm = loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            other => break failed("KVM_CREATE_VM", other)?,
        }
    };
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
