//! The machine: one CPU, its memory and devices, and the loop that runs them.

mod run;
mod snapshot;

use latefork_cpu::Instructions;
use vm_memory::GuestAddress;

use crate::bus::Devices;
use crate::devices::cmos::DEFAULT_DATE;
use crate::engine::{Engine, EngineError, descriptor_table};
use crate::layout::{BOOT_PARAMS, BOOT_STACK, RAM_DEFAULT_MIB};
use crate::loader::{self, BootEntry, BootSource, LoadError};
use crate::memory::{GuestRam, MemoryError};
use crate::time::VirtualTime;
use crate::vsock::{GUEST_CID, Limits, VirtioVsock, VsockHost};

pub use self::run::{Outcome, RunLimits};
pub use self::snapshot::Restored;

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
pub struct MachineConfig {
    /// RAM in MiB ([`crate::layout::RAM_MIB`]).
    pub memory_mib: u32,
    /// What the CMOS clock shows at power-on, in seconds since 1970.
    pub date: u64,
    /// How much the host's end of vsock holds.
    pub vsock: Limits,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            memory_mib: RAM_DEFAULT_MIB,
            date: DEFAULT_DATE,
            vsock: Limits::default(),
        }
    }
}

/// Why a machine cannot go on; never the guest's doing.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The kernel image, initramfs or command line.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A saved state.
    #[error(transparent)]
    State(#[from] crate::device::StateError),
    /// A snapshot file.
    #[error(transparent)]
    File(#[from] crate::snapshot::file::FileError),
    /// A snapshot was asked for while a device had work left.
    #[error("the virtio-vsock device has packets in flight: run the machine until they are served")]
    NotDrained,
    /// A snapshot was asked for in the middle of an access of the CPU.
    #[error("the CPU did not come to the end of an instruction within {0} instructions")]
    NotSettled(u64),
    /// A snapshot of a machine with another kind of CPU.
    #[error("the snapshot is of a CPU with signature {theirs:#x}, this one has {ours:#x}")]
    OtherCpu {
        /// The signature of the snapshot's CPU.
        theirs: u32,
        /// The signature of this machine's.
        ours: u32,
    },
    /// A snapshot of another machine.
    #[error("the snapshot is of a machine with {theirs} bytes of RAM, this one has {ours}")]
    OtherMachine {
        /// RAM of the snapshot's machine.
        theirs: usize,
        /// RAM of this machine.
        ours: usize,
    },
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    engine: Box<dyn Engine>,
    ram: GuestRam,
    devices: Devices,
    /// Time that passed while the CPU was idle.
    idle: VirtualTime,
    /// When harness interrupts are due, as retired instructions; the next is last.
    schedule: Vec<Instructions>,
    counters: Counters,
    base: Option<crate::snapshot::Snapshot>,
}

/// How often the CPU left `run`, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads and writes of ports.
    pub port: u64,
    /// Reads and writes of device memory.
    pub mmio: u64,
    /// HLT.
    pub halted: u64,
    /// Interrupts delivered.
    pub interrupts: u64,
    /// Harness interrupts raised.
    pub harness_interrupts: u64,
}

impl Machine {
    /// A machine at power-on, with zeroed RAM.
    ///
    /// # Errors
    ///
    /// A size of RAM that the machine cannot have, or a host out of memory.
    pub fn new(engine: Box<dyn Engine>, config: &MachineConfig) -> Result<Self, MachineError> {
        let ram = GuestRam::new(config.memory_mib)?;
        Ok(Self::with_ram(engine, config, ram))
    }

    fn with_ram(engine: Box<dyn Engine>, config: &MachineConfig, ram: GuestRam) -> Self {
        let vsock = VirtioVsock::new(GUEST_CID, config.vsock);
        Self {
            engine,
            ram,
            devices: Devices::new(config.date, vsock),
            idle: VirtualTime::default(),
            schedule: Vec::new(),
            counters: Counters::default(),
            base: None,
        }
    }

    /// Loads a kernel and puts the CPU at its entry.
    ///
    /// # Errors
    ///
    /// What is wrong with the image, in one line.
    pub fn load(&mut self, source: &BootSource<'_>) -> Result<(), MachineError> {
        let entry = loader::load(&self.ram, source)?;
        self.tell_device_writes();
        self.engine.enter(&entry)?;
        Ok(())
    }

    /// Puts a flat 32-bit program at `address` and the CPU at its start, in the
    /// state of a kernel's entry: for tests and probes.
    ///
    /// # Errors
    ///
    /// The program does not fit into RAM.
    pub fn load_flat(&mut self, address: GuestAddress, code: &[u8]) -> Result<(), MachineError> {
        self.ram.write(address, code)?;
        let (table, bytes) = descriptor_table();
        self.ram.write(table, &bytes)?;
        self.tell_device_writes();
        let low = |address: GuestAddress| u32::try_from(address.0).unwrap_or(u32::MAX);
        self.engine.enter(&BootEntry {
            entry: low(address),
            boot_params: low(BOOT_PARAMS),
            stack: low(BOOT_STACK),
        })?;
        Ok(())
    }

    /// Virtual time since power-on.
    pub fn now(&self) -> VirtualTime {
        self.engine.elapsed() + self.idle
    }

    /// Instructions retired since power-on (on an engine that cannot count
    /// them: nanoseconds run).
    pub fn retired(&self) -> Instructions {
        Instructions(self.engine.elapsed().0)
    }

    /// Guest RAM.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// The devices.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The host's end of vsock.
    pub fn vsock(&self) -> &VsockHost {
        self.devices.vsock.host()
    }

    /// The host's end of vsock, to be used; what it does takes effect in the next run.
    pub fn vsock_mut(&mut self) -> &mut VsockHost {
        self.devices.vsock.host_mut()
    }

    /// The engine.
    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// The engine, to set breakpoints and watches.
    pub fn engine_mut(&mut self) -> &mut dyn Engine {
        self.engine.as_mut()
    }

    /// How often the CPU left `run`.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes what the guest printed on its console.
    pub fn take_console(&mut self) -> Vec<u8> {
        self.devices.serial.take_output()
    }

    /// Types on the guest's console; says how many bytes found room.
    pub fn type_console(&mut self, input: &[u8]) -> usize {
        self.devices.serial.enqueue(input)
    }

    /// Raises the harness interrupt once each of `points` instructions (since
    /// power-on) has retired. Replaces an earlier schedule. Points that have
    /// passed are raised at once; those that fall into idle time, when the CPU
    /// wakes.
    pub fn set_schedule(&mut self, points: &[Instructions]) {
        self.schedule = points.to_vec();
        self.schedule.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// A hash of RAM, CPU and devices: equal for equal machines, on any host.
    ///
    /// # Errors
    ///
    /// The CPU is not between two instructions.
    pub fn hash(&mut self) -> Result<u64, MachineError> {
        let state = self.save_state()?;
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&state.to_bytes());
        hasher.update(&self.ram.hash().to_le_bytes());
        Ok(hasher.digest())
    }

    /// Tells the CPU which pages devices or the loader wrote.
    fn tell_device_writes(&mut self) {
        for page in self.ram.dirty().take_device_writes() {
            self.engine.page_written(&self.ram, page);
        }
    }
}

#[cfg(test)]
mod tests;
