//! The CPU's state on its way to KVM and back.

use kvm_bindings::{KVM_SREGS2_FLAGS_PDPTRS_VALID, kvm_xsave};
use kvm_ioctls::SyncReg;
use latefork_cpu::CpuState;

use super::KvmVcpu;
use super::host::failed;
use super::state::{VcpuState, has_directory_pointers, with_directory_pointers};
use super::sys;
use crate::engine::{EngineError, InterruptLine};

impl KvmVcpu {
    /// Loads the restored state.
    pub(super) fn load(&mut self) -> Result<(), EngineError> {
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
        for part in [SyncReg::Register, SyncReg::VcpuEvents] {
            self.vcpu.set_sync_dirty_reg(part);
        }
        if !has_directory_pointers(&self.state) || !self.sregs2 {
            self.vcpu.set_sync_dirty_reg(SyncReg::SystemRegister);
            return Ok(());
        }
        // The shared page has no room for them.
        self.calls.restore += 1;
        let sregs = with_directory_pointers(&to.sregs, self.state.pdpte);
        failed("KVM_SET_SREGS2", sys::set_sregs2(&self.vcpu, &sregs))
    }

    /// Reads the CPU's state from KVM.
    pub(super) fn read_state(&mut self) -> Result<CpuState, EngineError> {
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
        if has_directory_pointers(&state) && self.sregs2 {
            self.calls.save += 1;
            let sregs = failed("KVM_GET_SREGS2", sys::get_sregs2(&self.vcpu))?;
            if sregs.flags & u64::from(KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0 {
                state.pdpte = sregs.pdptrs;
            }
        }
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
