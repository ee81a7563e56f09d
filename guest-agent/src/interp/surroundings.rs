//! Privileges, limits, injected failures.

use latefork_wire::op::{Fault, FaultKind, KernelLimit, PrivilegeCase, Resource, Rlimit};

use crate::helper::{self, Ask};
use crate::sys;

/// The ordinary user and group.
const USER: u32 = 1000;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

/// Takes a privilege case, in this thread (the kernel's ids are a thread's).
pub fn take_privilege(case: PrivilegeCase) -> i32 {
    let kept = match case {
        PrivilegeCase::Root => return 0,
        PrivilegeCase::User => 0,
        PrivilegeCase::SysResource => 1 << CAP_SYS_RESOURCE,
        PrivilegeCase::SysAdmin => 1 << CAP_SYS_ADMIN,
    };
    // PR_SET_KEEPCAPS, then the ids, then the capabilities that stay.
    sys::prctl(&[8, 1, 0, 0, 0]);
    sys::call(210, &[USER, USER, USER]);
    let ids = sys::call(208, &[USER, USER, USER]);
    let capabilities = set_capabilities(kept);
    // A change of ids forbids core dumps and ptrace; give both back.
    sys::prctl(&[4, 1, 0, 0, 0]);
    ids.min(capabilities)
}

fn set_capabilities(kept: u32) -> i32 {
    // _LINUX_CAPABILITY_VERSION_3, this task; effective, permitted and
    // inheritable, low words then high words.
    let header = [0x2008_0522_u32, 0];
    let data = [kept, kept, 0, 0, 0, 0];
    sys::call(185, &[header.as_ptr() as u32, data.as_ptr() as u32])
}

/// Sets RLIMIT_NPROC.
pub fn set_nproc(limit: u32) -> i32 {
    set_limit(6, limit)
}

/// setrlimit; `u32::MAX` is no limit. The hard limit stays, so that a later
/// step can raise the soft one again.
fn set_limit(resource: u32, soft: u32) -> i32 {
    let limits = [
        u64::from(soft) | if soft == u32::MAX { !0 << 32 } else { 0 },
        u64::MAX,
    ];
    let mut old = [0_u64; 2];
    sys::call(340, &[0, resource, 0, core::ptr::from_mut(&mut old) as u32]);
    let new = [limits[0].min(old[1]), old[1]];
    sys::call(340, &[0, resource, core::ptr::from_ref(&new) as u32, 0])
}

/// Sets a resource limit in its own unit.
pub fn set_rlimit(limit: &Rlimit) -> i32 {
    let value = u32::from(limit.value);
    let (resource, unit) = match limit.which {
        Resource::Nproc => (6, 1),
        Resource::Nofile => (7, 1),
        Resource::Stack => (3, 0x1_0000),
        Resource::AddressSpace => (9, 0x1_0000),
        Resource::Data => (2, 0x1_0000),
        Resource::FileSize => (1, 1),
        Resource::SigPending => (11, 1),
        Resource::Memlock => (8, 0x1_0000),
        Resource::Cpu => (0, 1),
        Resource::Core => (4, 0x1_0000),
    };
    let soft = if value == 255 { u32::MAX } else { value * unit };
    set_limit(resource, soft)
}

/// Sets a limit of the whole kernel, through the helper.
pub fn set_kernel_limit(limit: &KernelLimit) -> i32 {
    let args = [limit.which as u32, u32::from(limit.headroom), 0, 0];
    helper::ask(Ask::KernelLimit, args)
}

/// Arms fault injection for this task's calls.
pub fn arm_fault(fault: &Fault) -> i32 {
    let interval = u32::from(fault.interval).max(1);
    let args = [fault.kind as u32, interval, u32::from(fault.times), 0];
    let armed = helper::ask(Ask::Fault, args);
    if armed < 0 {
        return armed;
    }
    let own: &[u8] = if fault.kind == FaultKind::Off {
        b"0"
    } else {
        b"1"
    };
    sys::write_file("/proc/thread-self/make-it-fail", own)
}
