//! The loop: run the CPU, serve its exit, deliver what is due.
//!
//! Each turn starts between two instructions with everything that is due
//! delivered, so a run can stop at any turn and go on later, and nothing about
//! the guest depends on where it stopped.

use latefork_cpu::{Instructions, LinearAddr};

use super::{Machine, MachineError};
use crate::bus::Signal;
use crate::devices::reset::ResetSource;
use crate::engine::{Access, Deadline, Exit, InterruptLine, Slice};
use crate::layout::{IRQ_HARNESS, IRQ_TIMER};
use crate::time::VirtualTime;
use crate::vsock::VsockHost;

/// When a run ends at the latest.
#[derive(Clone, Copy, Debug)]
pub struct RunLimits {
    /// Instructions that this run may retire.
    pub instructions: Instructions,
    /// Virtual time that may pass in this run, idle time included.
    pub time: VirtualTime,
    /// The host's clock as a backstop, on an engine that runs by it.
    pub deadline: Deadline,
}

impl RunLimits {
    /// A budget of instructions alone, for a guest that is known not to idle
    /// for ever: time is limited to a day.
    pub fn instructions(budget: u64) -> Self {
        Self {
            instructions: Instructions(budget),
            time: VirtualTime::from_secs(86_400),
            deadline: Deadline::default(),
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller's condition came true.
    Stopped,
    /// The budget of instructions is spent.
    Budget,
    /// The virtual time is spent.
    TimeUp,
    /// The host's clock ran out first; says nothing about the guest.
    HostSlow,
    /// The guest wrote to the panic port.
    Panic {
        /// What it wrote.
        event: u8,
    },
    /// The guest asked for a reset.
    Reset {
        /// By which port.
        source: ResetSource,
    },
    /// The guest faulted while it delivered a double fault.
    TripleFault,
    /// The guest halted, and nothing can wake it.
    IdleForever,
    /// The guest spent what it had, or idles for ever, with the virtio-vsock
    /// device out of order: it has broken the device's rings and not reset it
    /// (`DEVICE_NEEDS_RESET`), so nothing it waits for can come.
    DeviceStuck,
    /// The guest did what the engine leaves out.
    Unsupported {
        /// What that is.
        what: &'static str,
    },
    /// A breakpoint of the host, before its instruction.
    Breakpoint {
        /// The instruction.
        address: LinearAddr,
    },
    /// A memory watch of the host, after the instruction.
    Watch {
        /// The watch.
        watch: u32,
        /// First byte of the access.
        address: LinearAddr,
        /// What the access did.
        access: Access,
    },
}

impl Outcome {
    /// The outcome's name in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Budget => "budget",
            Self::TimeUp => "time-up",
            Self::HostSlow => "host-slow",
            Self::Panic { .. } => "panic",
            Self::Reset { .. } => "reset",
            Self::TripleFault => "triple-fault",
            Self::IdleForever => "idle-forever",
            Self::DeviceStuck => "device-stuck",
            Self::Unsupported { .. } => "unsupported",
            Self::Breakpoint { .. } => "breakpoint",
            Self::Watch { .. } => "watch",
        }
    }
}

/// Where a run ends, in the machine's own counts.
struct End {
    retired: u64,
    time: VirtualTime,
    deadline: Deadline,
}

impl Machine {
    /// Runs until `limits` are reached or the guest ends the run.
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn run(&mut self, limits: &RunLimits) -> Result<Outcome, MachineError> {
        self.run_until(limits, &mut |_| false)
    }

    /// Runs until `stop` says so, `limits` are reached or the guest ends the
    /// run. `stop` looks at the host's end of vsock whenever the guest may
    /// have sent something, and once at the start.
    ///
    /// # Errors
    ///
    /// The host failed.
    pub fn run_until(
        &mut self,
        limits: &RunLimits,
        stop: &mut dyn FnMut(&mut VsockHost) -> bool,
    ) -> Result<Outcome, MachineError> {
        let end = End {
            retired: self.retired().0.saturating_add(limits.instructions.0),
            time: self.now() + limits.time,
            deadline: limits.deadline,
        };
        let mut look = true;
        loop {
            self.serve_devices();
            if look {
                if stop(self.devices.vsock.host_mut()) {
                    return Ok(Outcome::Stopped);
                }
                // It may have answered the guest.
                self.serve_devices();
            }
            let slice = match self.slice(&end) {
                Ok(slice) => slice,
                Err(outcome) => return Ok(self.explain(outcome)),
            };
            let exit = self.engine.run(&self.ram, slice)?;
            look = matches!(exit, Exit::MmioWrite { .. });
            if let Some(outcome) = self.serve(exit, &end)? {
                return Ok(self.explain(outcome));
            }
        }
    }

    /// Says why a guest came to nothing, where the machine knows.
    fn explain(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Budget | Outcome::TimeUp | Outcome::IdleForever
                if self.devices.vsock.is_out_of_order() =>
            {
                Outcome::DeviceStuck
            }
            other => other,
        }
    }

    /// Delivers all that is due now to the CPU's interrupt line and memory.
    pub(super) fn serve_devices(&mut self) {
        let now = self.now();
        if self.devices.pit.take_edge(now) {
            self.devices.pic.pulse(IRQ_TIMER);
        }
        let retired = self.retired();
        while self.schedule.pop_if(|point| *point <= retired).is_some() {
            self.devices.pic.pulse(IRQ_HARNESS);
            self.counters.harness_interrupts += 1;
        }
        self.devices.process(&self.ram);
        self.tell_device_writes();
        let line = if self.devices.pic.interrupt_pending() {
            InterruptLine::Asserted
        } else {
            InterruptLine::Idle
        };
        self.engine.set_interrupt_line(line);
    }

    /// How long the CPU may run until something is due.
    fn slice(&self, end: &End) -> Result<Slice, Outcome> {
        let (now, retired) = (self.now(), self.retired().0);
        if retired >= end.retired {
            return Err(Outcome::Budget);
        }
        if now >= end.time {
            return Err(Outcome::TimeUp);
        }
        let event = self.devices.pit.next_edge().min(end.time);
        let mut budget = now.until(event).0.min(end.retired - retired);
        if let Some(point) = self.schedule.last() {
            budget = budget.min(point.0 - retired);
        }
        Ok(Slice {
            budget: Instructions(budget),
            deadline: end.deadline,
        })
    }

    /// Does what `exit` asks for; an outcome ends the run.
    fn serve(&mut self, exit: Exit, end: &End) -> Result<Option<Outcome>, MachineError> {
        let now = self.now();
        let outcome = match exit {
            Exit::Budget => return Ok(None),
            Exit::Halted => {
                self.counters.halted += 1;
                return Ok(self.skip_idle(end.time));
            }
            Exit::InterruptWindow => {
                self.counters.interrupts += 1;
                let vector = self.devices.pic.acknowledge();
                self.engine.deliver_interrupt(&self.ram, vector)?;
                return Ok(None);
            }
            Exit::PortIn { port, size } => {
                self.counters.port += 1;
                let value = self.devices.port_in(port, size, now);
                self.engine.complete_read(value);
                return Ok(None);
            }
            Exit::PortOut { port, size, value } => {
                self.counters.port += 1;
                let signal = self.devices.port_out(port, size, value, now);
                return Ok(signal.map(|signal| match signal {
                    Signal::Panic { event } => Outcome::Panic { event },
                    Signal::Reset { source } => Outcome::Reset { source },
                }));
            }
            Exit::MmioRead { address, size } => {
                self.counters.mmio += 1;
                let value = self.devices.mmio_read(address, size);
                self.engine.complete_read(value);
                return Ok(None);
            }
            Exit::MmioWrite {
                address,
                size,
                value,
            } => {
                self.counters.mmio += 1;
                self.devices.mmio_write(address, size, value);
                return Ok(None);
            }
            Exit::Deadline => Outcome::HostSlow,
            Exit::TripleFault => Outcome::TripleFault,
            Exit::Unsupported { what } => Outcome::Unsupported { what },
            Exit::Breakpoint { address } => Outcome::Breakpoint { address },
            Exit::Watch {
                watch,
                address,
                access,
            } => Outcome::Watch {
                watch,
                address,
                access,
            },
        };
        Ok(Some(outcome))
    }

    /// Lets time jump to the next event that can wake the CPU, but not past `end`.
    fn skip_idle(&mut self, end: VirtualTime) -> Option<Outcome> {
        if !self.engine.interrupts_enabled() {
            return Some(Outcome::IdleForever);
        }
        if self.devices.pic.interrupt_pending() {
            return None;
        }
        let event = self.devices.pit.next_edge();
        if event == VirtualTime::NEVER {
            return Some(Outcome::IdleForever);
        }
        if event > end {
            self.idle += self.now().until(end);
            return None;
        }
        self.idle += self.now().until(event);
        if self.devices.pit.take_edge(event) {
            self.devices.pic.pulse(IRQ_TIMER);
        }
        // An edge that asks for nothing (masked, say) will not do so later.
        (!self.devices.pic.interrupt_pending()).then_some(Outcome::IdleForever)
    }
}
