//! The KVM engine: the host's processor behind the [`Engine`] contract.
//!
//! The machine's own PIC and PIT serve the guest, so KVM is used without its
//! interrupt controllers: HLT comes out, and interrupts go in one at a time
//! (KVM_INTERRUPT), asked for with an interrupt window where the guest cannot
//! take one yet.
//!
//! Time. An engine on real hardware cannot count instructions. Virtual time
//! passes in steps of 4 ms of the thread's processor time, and where
//! the machine skips idle time; so a guest that halts is as quick as on the
//! software CPU, and a slow host does not make its clock run ahead.
//!
//! State. A restore is put off until the next run and then done with four
//! system calls, the registers travelling in the shared page. What was restored
//! can be saved again before that, unchanged.

mod access;
#[cfg(feature = "kvm-lane")]
mod conformance;
mod dirty;
mod entry;
mod host;
mod kick;
mod state;
mod sys;
mod transfer;

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use kvm_bindings::{KVM_CAP_SREGS2, kvm_sregs};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use latefork_cpu::flags::IF;
use latefork_cpu::{Cpu, CpuModel, CpuState, Shadow};

use self::access::Access;
#[cfg(feature = "kvm-lane")]
pub use self::conformance::{CasesError, KvmCases};
use self::dirty::Watched;
use self::entry::Left;
use self::host::{create, failed, open, task_register};
use self::kick::{Kick, Kicker};
use self::state::TaskRegister;
use self::sys::{HostRange, Slot};
use super::select::DEVICE;
use super::{Deadline, Engine, EngineError, EngineKind, Exit, HostCalls, InterruptLine, Slice};
use crate::loader::BootEntry;
use crate::memory::{GuestRam, PageNumber};
use crate::time::VirtualTime;

/// The only memory slot.
const RAM_SLOT: u32 = 0;
/// A slice of at most this many nanoseconds is too short to run: it only ends
/// the access that the guest is in.
const NO_TIME: u64 = 16;
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
    /// Whether KVM keeps page-directory-pointer entries (Linux 5.14).
    sregs2: bool,
    kicker: Rc<Kicker>,
    /// Where RAM lay when the slot was made.
    ram: Option<HostRange>,
    watched: Watched,
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
            source,
        })?;
        let (vm, vcpu) = create(&kvm, model)?;
        let fresh = failed("KVM_GET_SREGS", vcpu.get_sregs())?;
        let sregs2 = kvm.check_extension_raw(KVM_CAP_SREGS2.into()) > 0;
        Ok(Self {
            vcpu,
            vm,
            kvm,
            model,
            fresh,
            tr: task_register(),
            sregs2,
            kicker,
            ram: None,
            watched: Watched::default(),
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
        let slot = Slot {
            number: RAM_SLOT,
            guest: 0,
            offset: 0,
            len: memory.size(),
        };
        failed(
            "KVM_SET_USER_MEMORY_REGION",
            sys::set_slot(&self.vm, memory, slot),
        )?;
        self.ram = Some(HostRange::of(memory));
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

    /// Adds KVM's dirty log to `memory`'s record, and takes out of it what is
    /// still to be watched for.
    fn read_log(&mut self, memory: &GuestRam) -> Result<(), EngineError> {
        self.calls.dirty += 1;
        let log = self.vm.get_dirty_log(RAM_SLOT, memory.size());
        let mut log = failed("KVM_GET_DIRTY_LOG", log)?;
        memory.dirty().merge(&log);
        if self.watched.look(&mut log) {
            self.calls.dirty += 1;
            let cleared = sys::clear_dirty_log(&self.vm, RAM_SLOT, &mut log);
            failed("KVM_CLEAR_DIRTY_LOG", cleared)?;
        }
        Ok(())
    }

    /// A new virtual machine in place of one that is in the middle of
    /// something. Its CPU has to be restored.
    fn start_anew(&mut self) -> Result<(), EngineError> {
        (self.vm, self.vcpu) = create(&self.kvm, self.model)?;
        (self.ram, self.access, self.unfinished) = (None, None, false);
        self.watched = Watched::default();
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

    /// Runs until an exit. RAM is attached, and its owner borrows it.
    fn run_attached(&mut self, slice: Slice) -> Result<Exit, EngineError> {
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
}

impl Engine for KvmVcpu {
    fn kind(&self) -> EngineKind {
        EngineKind::Kvm
    }

    fn signature(&self) -> u32 {
        self.model.signature()
    }

    fn elapsed(&self) -> VirtualTime {
        self.elapsed
    }

    fn interrupts_enabled(&self) -> bool {
        self.state.eflags & IF != 0
    }

    fn run(&mut self, memory: &GuestRam, slice: Slice) -> Result<Exit, EngineError> {
        self.attach(memory)?;
        self.run_attached(slice)
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
        // Reading the log has cleared it, but for what is not watched.
    }

    fn soft(&mut self) -> Option<&mut Cpu> {
        None
    }

    fn host_calls(&self) -> HostCalls {
        self.calls
    }
}
