//! The system calls of KVM that kvm-ioctls does not wrap, or wraps as unsafe.

#![allow(unsafe_code)]

use kvm_bindings::{
    KVM_MEM_LOG_DIRTY_PAGES, kvm_interrupt, kvm_userspace_memory_region, kvm_xsave,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::ioctl_with_ref;

use crate::memory::GuestRam;

/// `_IOW(KVMIO, 0x86, struct kvm_interrupt)` of `linux/kvm.h`.
const KVM_INTERRUPT: libc::c_ulong = 0x4004_ae86;
/// `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`; the struct counts as its four
/// bytes of length.
const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

/// The kernel's `sigset_t` with its length in front (`struct kvm_signal_mask`).
#[repr(C, packed)]
struct SignalMask {
    len: u32,
    signals: [u8; 8],
}

type Result<T> = std::result::Result<T, errno::Error>;

/// Where guest RAM lies in this process: its first byte and its length. What a
/// slot was made with, so that it can be seen to be the same later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostRange {
    pub(super) address: usize,
    pub(super) len: usize,
}

impl HostRange {
    pub(super) fn of(ram: &GuestRam) -> Self {
        let cells = ram.cells();
        Self {
            address: cells.as_ptr().addr(),
            len: cells.len(),
        }
    }
}

/// Makes `ram` the guest's memory from guest-physical 0, with a dirty log.
pub(super) fn set_ram(vm: &VmFd, slot: u32, ram: &GuestRam) -> Result<HostRange> {
    let range = HostRange::of(ram);
    let region = kvm_userspace_memory_region {
        slot,
        flags: KVM_MEM_LOG_DIRTY_PAGES,
        guest_phys_addr: 0,
        memory_size: range.len as u64,
        userspace_addr: range.address as u64,
    };
    // SAFETY: the range is a live mapping of guest RAM, whose bytes are cells:
    // anybody on this thread may write them at any time. The guest reaches it
    // only while KVM_RUN runs, and `KvmVcpu::run` calls that only while it
    // borrows a `GuestRam` that lies at this very range.
    unsafe { vm.set_user_memory_region(region) }?;
    Ok(range)
}

/// Queues an external interrupt, delivered at the next entry (KVM_INTERRUPT).
pub(super) fn interrupt(vcpu: &VcpuFd, vector: u8) -> Result<()> {
    let irq = u32::from(vector);
    // SAFETY: the descriptor is a vCPU's, and the argument is the struct that
    // the call reads.
    checked(unsafe { ioctl_with_ref(vcpu, KVM_INTERRUPT, &kvm_interrupt { irq }) })
}

/// The signals that are blocked while the guest runs: one bit each, signal 1 first.
pub(super) fn set_signal_mask(vcpu: &VcpuFd, blocked: u64) -> Result<()> {
    let mask = SignalMask {
        len: 8,
        signals: blocked.to_ne_bytes(),
    };
    // SAFETY: the descriptor is a vCPU's; the call reads the length and as many
    // bytes behind it, which the struct has.
    checked(unsafe { ioctl_with_ref(vcpu, KVM_SET_SIGNAL_MASK, &mask) })
}

/// Loads x87 and SSE state.
pub(super) fn set_xsave(vcpu: &VcpuFd, xsave: &kvm_xsave) -> Result<()> {
    // SAFETY: the guest's CPUID has no feature with dynamic state, so the
    // kernel reads no more than the 4 KiB that the struct has.
    unsafe { vcpu.set_xsave(xsave) }
}

/// The port access of a KVM_EXIT_IO: bytes an item.
pub(super) fn port_item_size(vcpu: &mut VcpuFd) -> usize {
    // SAFETY: the field is plain bytes, valid whatever the exit was.
    usize::from(unsafe { vcpu.get_kvm_run().__bindgen_anon_1.io }.size)
}

/// The number of a KVM_EXIT_INTERNAL_ERROR.
pub(super) fn internal_error(vcpu: &mut VcpuFd) -> u32 {
    // SAFETY: the field is a plain integer, valid whatever the exit was.
    unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal }.suberror
}

/// Answers the KVM_EXIT_IO that the vCPU waits in, whose data is as long as `bytes`.
pub(super) fn answer_port(vcpu: &mut VcpuFd, bytes: &[u8]) {
    let run = vcpu.get_kvm_run();
    // SAFETY: the field is plain integers, valid whatever the exit was.
    let io = unsafe { run.__bindgen_anon_1.io };
    let room = usize::from(io.size) * io.count as usize;
    assert_eq!(bytes.len(), room, "an answer to another exit");
    let offset = usize::try_from(io.data_offset).expect("an offset in the vCPU's mapping");
    let start = std::ptr::from_mut(run).cast::<u8>();
    // SAFETY: the kernel says that the exit's data, `room` bytes, lies at this
    // offset of the vCPU's mapping, which `run` is the start of and which
    // kvm-ioctls maps whole; the exclusive borrow of `vcpu` keeps others away.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.add(offset), room) };
}

fn checked(result: libc::c_int) -> Result<()> {
    if result < 0 {
        return Err(errno::Error::last());
    }
    Ok(())
}
