//! Entering the guest, and what it left for.

use kvm_bindings::{KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION};
use kvm_ioctls::VcpuExit;

use super::KvmVcpu;
use super::access::{Access, Kind, Next};
use super::sys;
use crate::engine::{Engine, EngineError, Exit};

/// How often an access that a restore drops may come back before the machine
/// is made anew instead.
const DROP_TRIES: u32 = 64;

/// How KVM_RUN ended.
#[derive(Debug)]
pub(super) enum Left {
    Access(Access),
    Exit(Exit),
    InternalError,
    /// By a signal.
    Kicked,
    /// For nothing that the machine has to know.
    Again,
}

impl KvmVcpu {
    /// One KVM_RUN.
    pub(super) fn enter_guest(&mut self) -> Result<Left, EngineError> {
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
    pub(super) fn next_piece(&mut self) -> Option<Exit> {
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
    pub(super) fn finish_access(&mut self) -> Result<Left, EngineError> {
        self.vcpu.set_kvm_immediate_exit(1);
        let left = self.enter_guest();
        self.vcpu.set_kvm_immediate_exit(0);
        left
    }

    /// Forgets the access that the guest is in, before its registers are
    /// replaced: KVM would end it after that, in the midst of other code. Says
    /// whether that was possible: a string instruction may have no end.
    pub(super) fn drop_access(&mut self) -> Result<bool, EngineError> {
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

    pub(super) fn internal_error(&mut self) -> Exit {
        let what = match sys::internal_error(&mut self.vcpu) {
            KVM_INTERNAL_ERROR_EMULATION => "an instruction that KVM cannot emulate",
            KVM_INTERNAL_ERROR_DELIVERY_EV => "an exit of KVM while it delivered an event",
            _ => "an internal error of KVM",
        };
        Exit::Unsupported { what }
    }
}
