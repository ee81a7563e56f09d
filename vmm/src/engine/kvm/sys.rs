//! The system calls of KVM that kvm-ioctls does not wrap, or wraps as unsafe.

#![allow(unsafe_code)]

use kvm_bindings::{
    KVM_MEM_LOG_DIRTY_PAGES, kvm_clear_dirty_log, kvm_clear_dirty_log__bindgen_ty_1, kvm_interrupt,
    kvm_sregs2, kvm_userspace_memory_region, kvm_xsave,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};

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

/// `_IOWR(KVMIO, 0xc0, struct kvm_clear_dirty_log)`.
const KVM_CLEAR_DIRTY_LOG: libc::c_ulong = 0xc018_aec0;
/// `_IOR(KVMIO, 0xcc, struct kvm_sregs2)`.
const KVM_GET_SREGS2: libc::c_ulong = 0x8140_aecc;
/// `_IOW(KVMIO, 0xcd, struct kvm_sregs2)`.
const KVM_SET_SREGS2: libc::c_ulong = 0x4140_aecd;

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

/// A slot of guest memory: part of a `GuestRam`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) number: u32,
    /// First byte for the guest.
    pub(super) guest: u64,
    /// First byte in the `GuestRam`.
    pub(super) offset: usize,
    /// Bytes.
    pub(super) len: usize,
}

/// Makes `slot` of `ram` the guest's memory, with a dirty log.
pub(super) fn set_slot(vm: &VmFd, ram: &GuestRam, slot: Slot) -> Result<()> {
    let range = HostRange::of(ram);
    let end = slot.offset.checked_add(slot.len);
    assert!(end.is_some_and(|end| end <= range.len), "a slot out of RAM");
    let region = kvm_userspace_memory_region {
        slot: slot.number,
        flags: KVM_MEM_LOG_DIRTY_PAGES,
        guest_phys_addr: slot.guest,
        memory_size: slot.len as u64,
        userspace_addr: (range.address + slot.offset) as u64,
    };
    // SAFETY: the range lies in a live mapping of guest RAM, as was checked
    // above; its bytes are cells: anybody on this thread may write them at any
    // time. The guest reaches it only while KVM_RUN runs, and `KvmVcpu` calls
    // that only while it borrows a `GuestRam` that lies at this very range.
    unsafe { vm.set_user_memory_region(region) }
}

/// Takes `pages` (a bit each, page 0 first) out of the slot's dirty log, and
/// watches for writes to them again.
pub(super) fn clear_dirty_log(vm: &VmFd, slot: u32, pages: &mut [u64]) -> Result<()> {
    let request = kvm_clear_dirty_log {
        slot,
        num_pages: u32::try_from(pages.len() * 64).expect("at most 512 MiB of RAM"),
        first_page: 0,
        __bindgen_anon_1: kvm_clear_dirty_log__bindgen_ty_1 {
            dirty_bitmap: pages.as_mut_ptr().cast(),
        },
    };
    // SAFETY: the descriptor is a virtual machine's; the call reads the struct,
    // and from the bitmap as many bits as it says, which it has.
    checked(unsafe { ioctl_with_ref(vm, KVM_CLEAR_DIRTY_LOG, &request) })
}

/// System registers with the page-directory-pointer entries.
pub(super) fn get_sregs2(vcpu: &VcpuFd) -> Result<kvm_sregs2> {
    let mut sregs = kvm_sregs2::default();
    // SAFETY: the descriptor is a vCPU's, and the argument is the struct that
    // the call writes.
    checked(unsafe { ioctl_with_mut_ref(vcpu, KVM_GET_SREGS2, &mut sregs) })?;
    Ok(sregs)
}

/// Sets system registers with the page-directory-pointer entries.
pub(super) fn set_sregs2(vcpu: &VcpuFd, sregs: &kvm_sregs2) -> Result<()> {
    // SAFETY: the descriptor is a vCPU's, and the argument is the struct that
    // the call reads.
    checked(unsafe { ioctl_with_ref(vcpu, KVM_SET_SREGS2, sregs) })
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
