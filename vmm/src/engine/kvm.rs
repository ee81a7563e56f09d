//! The KVM engine: the host's processor behind the [`Engine`] contract.
//!
//! The machine's own PIC and PIT serve the guest, so KVM is used without its
//! interrupt controllers: HLT comes out, and interrupts go in one at a time
//! (KVM_INTERRUPT), asked for with an interrupt window where the guest cannot
//! take one yet.
//!
//! Time. An engine on real hardware cannot count instructions. Virtual time
//! passes in steps of [`kick::TICK`] of the thread's processor time, and where
//! the machine skips idle time; so a guest that halts is as quick as on the
//! software CPU, and a slow host does not make its clock run ahead.
//!
//! State. A restore is put off until the next run and then done with four
//! system calls, the registers travelling in the shared page. What was restored
//! can be saved again before that, unchanged.

mod access;
mod kick;
mod state;
mod sys;

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION,
    kvm_cpuid_entry2, kvm_sregs, kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, SyncReg, VcpuExit, VcpuFd, VmFd};
use latefork_cpu::flags::IF;
use latefork_cpu::{Cpu, CpuModel, CpuState, Shadow};
use vmm_sys_util::errno;

use self::access::{Access, Kind, Next};
use self::kick::{Kick, Kicker};
use self::state::{TaskRegister, VcpuState};
use self::sys::HostRange;
use super::select::DEVICE;
use super::{Deadline, Engine, EngineError, EngineKind, Exit, HostCalls, InterruptLine, Slice};
use crate::loader::BootEntry;
use crate::memory::{GuestRam, PageNumber};
use crate::time::VirtualTime;

/// The only memory slot.
const RAM_SLOT: u32 = 0;
/// Three pages that Intel's processors without "unrestricted guest" need; above
/// all RAM and devices, under the BIOS.
const TSS_PAGES: usize = 0xfffb_d000;
/// A slice of at most this many nanoseconds is too short to run: it only ends
/// the access that the guest is in.
const NO_TIME: u64 = 16;
/// How often an access that a restore drops may come back before the machine
/// is made anew instead.
const DROP_TRIES: u32 = 64;

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

/// A virtual machine of KVM with its one CPU.
#[derive(Debug)]
pub struct KvmVcpu {
    vcpu: VcpuFd,
    vm: VmFd,
    kvm: Kvm,
    model: CpuModel,
    /// System registers after creation.
    fresh: kvm_sregs,
    tr: TaskRegister,
    kicker: Rc<Kicker>,
    /// Where RAM lay when the slot was made.
    ram: Option<HostRange>,
    /// What KVM does not keep, and what was restored last.
    state: CpuState,
    /// `state` is whole, and KVM has not been told of it yet.
    restored: bool,
    /// The access that ended the last run.
    access: Option<Access>,
    /// KVM_RUN has to be called to end that access.
    unfinished: bool,
    inject: Option<u8>,
    line: InterruptLine,
    halted: bool,
    elapsed: VirtualTime,
    calls: HostCalls,
}

impl KvmVcpu {
    /// A virtual machine with a CPU after reset, which runs on this thread.
    ///
    /// # Errors
    ///
    /// There is no usable KVM; the error says why in one line.
    pub fn new(model: CpuModel) -> Result<Self, EngineError> {
        let kvm = open(Path::new(DEVICE))?;
        let kicker = Kicker::of_this_thread().map_err(|source| EngineError::Kvm {
            what: "start its timers",
            source: source.into(),
        })?;
        let (vm, vcpu) = create(&kvm, model)?;
        let fresh = failed("KVM_GET_SREGS", vcpu.get_sregs())?;
        Ok(Self {
            vcpu,
            vm,
            kvm,
            model,
            fresh,
            tr: task_register(),
            kicker,
            ram: None,
            state: Cpu::new(model).save(),
            restored: true,
            access: None,
            unfinished: false,
            inject: None,
            line: InterruptLine::Idle,
            halted: false,
            elapsed: VirtualTime::default(),
            calls: HostCalls::default(),
        })
    }

    /// Makes the slot, once, and sees that it is still this RAM.
    fn attach(&mut self, memory: &GuestRam) -> Result<(), EngineError> {
        if self.ram == Some(HostRange::of(memory)) {
            return Ok(());
        }
        if self.ram.is_some() {
            return Err(EngineError::OtherMemory);
        }
        self.ram = Some(failed(
            "KVM_SET_USER_MEMORY_REGION",
            sys::set_ram(&self.vm, RAM_SLOT, memory),
        )?);
        Ok(())
    }

    /// Whether an interrupt can be delivered before the next instruction.
    fn can_interrupt(&mut self) -> bool {
        if self.inject.is_some() {
            return false;
        }
        if self.restored {
            return self.state.shadow == Shadow::None && self.interrupts_enabled();
        }
        let run = self.vcpu.get_kvm_run();
        run.ready_for_interrupt_injection != 0 && run.if_flag != 0
    }

    /// Hands KVM what the next run starts with.
    fn prepare(&mut self) -> Result<(), EngineError> {
        if std::mem::take(&mut self.restored) {
            self.load()?;
        } else if let Some(vector) = self.inject.take() {
            self.calls.interrupt += 1;
            failed("KVM_INTERRUPT", sys::interrupt(&self.vcpu, vector))?;
        }
        self.vcpu.get_kvm_run().request_interrupt_window =
            u8::from(self.line == InterruptLine::Asserted);
        Ok(())
    }

    /// Loads the restored state.
    fn load(&mut self) -> Result<(), EngineError> {
        let mut to = VcpuState::new(&self.state, &self.fresh, self.tr);
        if let Some(vector) = self.inject.take() {
            to.events.interrupt.injected = 1;
            to.events.interrupt.nr = vector;
        }
        self.calls.restore += 3;
        failed("KVM_SET_XSAVE", sys::set_xsave(&self.vcpu, &to.xsave))?;
        failed("KVM_SET_DEBUGREGS", self.vcpu.set_debug_regs(&to.debug))?;
        let set = failed("KVM_SET_MSRS", self.vcpu.set_msrs(&to.msrs))?;
        if set != to.msrs.as_slice().len() {
            return Err(EngineError::Msr {
                index: to.msrs.as_slice().get(set).map_or(0, |entry| entry.index),
            });
        }
        let shared = self.vcpu.sync_regs_mut();
        shared.regs = to.regs;
        shared.sregs = to.sregs;
        shared.events = to.events;
        for part in [
            SyncReg::Register,
            SyncReg::SystemRegister,
            SyncReg::VcpuEvents,
        ] {
            self.vcpu.set_sync_dirty_reg(part);
        }
        Ok(())
    }

    /// One KVM_RUN.
    fn enter_guest(&mut self) -> Result<Left, EngineError> {
        self.calls.run += 1;
        self.unfinished = false;
        let left = match self.vcpu.run() {
            Ok(VcpuExit::IoIn(port, data)) => {
                let data = data.to_vec();
                let item = sys::port_item_size(&mut self.vcpu);
                Left::Access(Access::new(Kind::PortIn(port), item, &data))
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                let data = data.to_vec();
                let item = sys::port_item_size(&mut self.vcpu);
                Left::Access(Access::new(Kind::PortOut(port), item, &data))
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                Left::Access(Access::new(Kind::MmioRead(address), data.len(), data))
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                Left::Access(Access::new(Kind::MmioWrite(address), data.len(), data))
            }
            Ok(VcpuExit::Hlt) => Left::Exit(Exit::Halted),
            Ok(VcpuExit::IrqWindowOpen) => {
                self.calls.window += 1;
                Left::Again
            }
            Ok(VcpuExit::Intr) => Left::Kicked,
            Ok(VcpuExit::Shutdown) => Left::Exit(Exit::TripleFault),
            Ok(VcpuExit::FailEntry(..)) => Left::Exit(Exit::Unsupported {
                what: "a state that the processor refuses to enter",
            }),
            Ok(VcpuExit::InternalError) => Left::InternalError,
            Ok(_) => Left::Exit(Exit::Unsupported {
                what: "an exit of KVM without a meaning here",
            }),
            Err(error) if error.errno() == libc::EINTR => Left::Kicked,
            Err(error) => {
                return Err(EngineError::Kvm {
                    what: "KVM_RUN",
                    source: error.into(),
                });
            }
        };
        self.unfinished = matches!(left, Left::Access(_));
        Ok(left)
    }

    /// The next piece of the access that the guest is in. Once there is none, a
    /// read's answers are handed to KVM.
    fn next_piece(&mut self) -> Option<Exit> {
        let access = self.access.as_mut()?;
        match access.next() {
            Next::Piece(exit) => Some(exit),
            Next::Done => {
                match access.kind() {
                    Kind::PortIn(_) => sys::answer_port(&mut self.vcpu, access.data()),
                    Kind::MmioRead(_) => {
                        let mut data = [0; 8];
                        for (to, from) in data.iter_mut().zip(access.data()) {
                            *to = *from;
                        }
                        self.vcpu.get_kvm_run().__bindgen_anon_1.mmio.data = data;
                    }
                    Kind::PortOut(_) | Kind::MmioWrite(_) => {}
                }
                self.access = None;
                None
            }
        }
    }

    /// Ends the access that the guest is in, without running anything else.
    fn finish_access(&mut self) -> Result<Left, EngineError> {
        self.vcpu.set_kvm_immediate_exit(1);
        let left = self.enter_guest();
        self.vcpu.set_kvm_immediate_exit(0);
        left
    }

    /// Forgets the access that the guest is in, before its registers are
    /// replaced: KVM would end it after that, in the midst of other code. Says
    /// whether that was possible: a string instruction may have no end.
    fn drop_access(&mut self) -> Result<bool, EngineError> {
        for _ in 0..DROP_TRIES {
            if !self.unfinished {
                return Ok(true);
            }
            while let Some(exit) = self.next_piece() {
                if matches!(exit, Exit::PortIn { .. } | Exit::MmioRead { .. }) {
                    self.complete_read(u32::MAX);
                }
            }
            self.calls.restore += 1;
            if let Left::Access(access) = self.finish_access()? {
                self.access = Some(access);
            }
        }
        Ok(false)
    }

    /// Adds KVM's dirty log to `memory`'s record, and empties it.
    fn read_log(&mut self, memory: &GuestRam) -> Result<(), EngineError> {
        self.calls.dirty += 1;
        let log = self.vm.get_dirty_log(RAM_SLOT, memory.size());
        memory.dirty().merge(&failed("KVM_GET_DIRTY_LOG", log)?);
        Ok(())
    }

    /// A new virtual machine in place of one that is in the middle of
    /// something. Its CPU has to be restored.
    fn start_anew(&mut self) -> Result<(), EngineError> {
        (self.vm, self.vcpu) = create(&self.kvm, self.model)?;
        (self.ram, self.access, self.unfinished) = (None, None, false);
        Ok(())
    }

    /// Whether the guest's IF is set is in the shared page after each run.
    fn note_flags(&mut self) {
        let enabled = self.vcpu.get_kvm_run().if_flag != 0;
        self.state.eflags &= !IF;
        self.state.eflags |= if enabled { IF } else { 0 };
    }

    /// What a kick means for this slice, if it ends it.
    fn kicked(&mut self, slice: Slice) -> Option<Exit> {
        self.calls.kicked += 1;
        let mut ticked = false;
        while let Some(kick) = self.kicker.take() {
            ticked |= kick == Kick::Tick;
        }
        if let Deadline(Some(deadline)) = slice.deadline
            && Instant::now() >= deadline
        {
            return Some(Exit::Deadline);
        }
        let tick = u64::try_from(kick::TICK.as_nanos()).unwrap_or(u64::MAX);
        ticked.then(|| {
            self.elapsed += VirtualTime(tick.min(slice.budget.0));
            Exit::Budget
        })
    }

    fn internal_error(&mut self) -> Exit {
        let what = match sys::internal_error(&mut self.vcpu) {
            KVM_INTERNAL_ERROR_EMULATION => "an instruction that KVM cannot emulate",
            KVM_INTERNAL_ERROR_DELIVERY_EV => "an exit of KVM while it delivered an event",
            _ => "an internal error of KVM",
        };
        Exit::Unsupported { what }
    }

    /// Reads the CPU's state from KVM.
    fn read_state(&mut self) -> Result<CpuState, EngineError> {
        self.calls.save += 6;
        let mut msrs = VcpuState::msr_list();
        failed("KVM_GET_MSRS", self.vcpu.get_msrs(&mut msrs))?;
        let read = VcpuState {
            regs: failed("KVM_GET_REGS", self.vcpu.get_regs())?,
            sregs: failed("KVM_GET_SREGS", self.vcpu.get_sregs())?,
            events: failed("KVM_GET_VCPU_EVENTS", self.vcpu.get_vcpu_events())?,
            debug: failed("KVM_GET_DEBUGREGS", self.vcpu.get_debug_regs())?,
            xsave: self.read_xsave()?,
            msrs,
        };
        let mut state = self.state.clone();
        let exception = &read.events.exception;
        if exception.injected != 0 || exception.pending != 0 {
            return Err(EngineError::EventInFlight);
        }
        read.store(&mut state);
        state.retired = self.elapsed.0;
        state.halted = self.halted;
        state.interrupt_line = self.line == InterruptLine::Asserted;
        state.pending_vector = self.inject;
        if read.events.interrupt.injected != 0 {
            state.pending_vector = Some(read.events.interrupt.nr);
        }
        state.tlb.clear();
        Ok(state)
    }

    fn read_xsave(&self) -> Result<Box<kvm_xsave>, EngineError> {
        Ok(Box::new(failed("KVM_GET_XSAVE", self.vcpu.get_xsave())?))
    }
}

/// How KVM_RUN ended.
#[derive(Debug)]
enum Left {
    Access(Access),
    Exit(Exit),
    InternalError,
    /// By a signal.
    Kicked,
    /// For nothing that the machine has to know.
    Again,
}

/// Opens KVM and sees that it can do what is relied on.
fn open(device: &Path) -> Result<Kvm, EngineError> {
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

fn create(kvm: &Kvm, model: CpuModel) -> Result<(VmFd, VcpuFd), EngineError> {
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
fn task_register() -> TaskRegister {
    let leaf = std::arch::x86_64::__cpuid(0);
    let vendor = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
    match vendor.as_flattened() {
        b"AuthenticAMD" | b"HygonGenuine" => TaskRegister::Free,
        _ => TaskRegister::Busy,
    }
}

fn failed<T>(what: &'static str, result: Result<T, errno::Error>) -> Result<T, EngineError> {
    result.map_err(|error| EngineError::Kvm {
        what,
        source: error.into(),
    })
}

impl Engine for KvmVcpu {
    fn kind(&self) -> EngineKind {
        EngineKind::Kvm
    }

    fn elapsed(&self) -> VirtualTime {
        self.elapsed
    }

    fn interrupts_enabled(&self) -> bool {
        self.state.eflags & IF != 0
    }

    fn run(&mut self, memory: &GuestRam, slice: Slice) -> Result<Exit, EngineError> {
        self.attach(memory)?;
        loop {
            if let Some(exit) = self.next_piece() {
                return Ok(exit);
            }
            if self.line == InterruptLine::Asserted && self.can_interrupt() {
                return Ok(Exit::InterruptWindow);
            }
            if self.halted && self.inject.is_none() {
                return Ok(Exit::Halted);
            }
            let left = if slice.budget.0 <= NO_TIME {
                if !self.unfinished {
                    self.elapsed += VirtualTime(slice.budget.0);
                    return Ok(Exit::Budget);
                }
                self.finish_access()?
            } else {
                self.prepare()?;
                self.enter_guest()?
            };
            self.note_flags();
            match left {
                Left::Access(access) => self.access = Some(access),
                Left::Exit(exit) => {
                    self.halted = exit == Exit::Halted;
                    return Ok(exit);
                }
                Left::InternalError => return Ok(self.internal_error()),
                Left::Again => {}
                Left::Kicked => {
                    if let Some(exit) = self.kicked(slice) {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    fn complete_read(&mut self, value: u32) {
        if let Some(access) = &mut self.access {
            access.answer(value);
        }
    }

    fn set_interrupt_line(&mut self, line: InterruptLine) {
        self.line = line;
    }

    fn deliver_interrupt(&mut self, _memory: &GuestRam, vector: u8) -> Result<(), EngineError> {
        self.inject = Some(vector);
        self.halted = false;
        Ok(())
    }

    fn enter(&mut self, entry: &BootEntry) -> Result<(), EngineError> {
        let mut state = Cpu::new(self.model).save();
        super::boot::enter(&mut state, entry);
        self.restore(&state)
    }

    fn save(&mut self) -> Result<CpuState, EngineError> {
        if !self.at_boundary() {
            return Err(EngineError::NotAtBoundary);
        }
        if self.restored {
            let mut state = self.state.clone();
            state.interrupt_line = self.line == InterruptLine::Asserted;
            state.pending_vector = self.inject;
            state.halted = self.halted;
            state.retired = self.elapsed.0;
            return Ok(state);
        }
        self.read_state()
    }

    fn restore(&mut self, state: &CpuState) -> Result<(), EngineError> {
        if state.model != self.model {
            return Err(EngineError::OtherModel {
                theirs: state.model,
                ours: self.model,
            });
        }
        if !self.at_boundary() {
            return Err(EngineError::NotAtBoundary);
        }
        while self.kicker.take().is_some() {}
        self.state.clone_from(state);
        self.state.tlb.clear();
        self.restored = true;
        self.elapsed = VirtualTime(state.retired);
        self.halted = state.halted;
        self.inject = state.pending_vector;
        self.line = if state.interrupt_line {
            InterruptLine::Asserted
        } else {
            InterruptLine::Idle
        };
        Ok(())
    }

    fn at_boundary(&self) -> bool {
        !self.unfinished
    }

    fn page_written(&mut self, _memory: &GuestRam, _page: PageNumber) {
        // The processor sees what is written to memory.
    }

    fn collect_dirty(&mut self, memory: &GuestRam) -> Result<(), EngineError> {
        if self.ram.is_none() {
            // It has not run.
            return Ok(());
        }
        // What an access still writes belongs to this record, not to the next.
        let dropped = self.drop_access()?;
        self.read_log(memory)?;
        if !dropped {
            self.start_anew()?;
        }
        Ok(())
    }

    fn dirty_cleared(&mut self) {
        // Reading the log has cleared it.
    }

    fn soft(&mut self) -> Option<&mut Cpu> {
        None
    }

    fn host_calls(&self) -> HostCalls {
        self.calls
    }
}
