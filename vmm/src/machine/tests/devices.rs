//! Machines whose devices are in the middle of something, or out of order.

use latefork_cpu::{Cpu, CpuState};

use super::*;
use crate::engine::{EngineKind, Exit, InterruptLine, Slice};
use crate::layout::VIRTIO_MMIO;

/// Registers of virtio-mmio (virtio 1.2, 4.2.2).
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SELECT: u64 = 0x24;
const QUEUE_SELECT: u64 = 0x30;
const QUEUE_SIZE: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const QUEUE_NOTIFY: u64 = 0x50;
const STATUS: u64 = 0x70;
const QUEUE_DESCRIPTORS: u64 = 0x80;
const QUEUE_AVAILABLE: u64 = 0x90;
const QUEUE_USED: u64 = 0xa0;

/// The ring on which the guest sends (virtio 1.2, 5.10.2).
const TRANSMIT: u32 = 1;

/// Where a queue's available ring lies.
fn available(queue: u32) -> u32 {
    0x8100 + queue * 0x1000
}

fn set(machine: &mut Machine, register: u64, value: u32) {
    let address = VIRTIO_MMIO.0 + register;
    machine.devices.mmio_write(address, 4, value);
}

/// A guest that loops, with a driver that has set the device up.
fn driven() -> Machine {
    let mut machine = machine(BUSY_LOOP);
    for (register, value) in [
        (STATUS, 1),
        (STATUS, 3),
        // VIRTIO_F_VERSION_1 is bit 32.
        (DRIVER_FEATURES_SELECT, 1),
        (DRIVER_FEATURES, 1),
        (STATUS, 0xb),
    ] {
        set(&mut machine, register, value);
    }
    for queue in 0..3 {
        for (register, value) in [
            (QUEUE_SELECT, queue),
            (QUEUE_SIZE, 8),
            (QUEUE_DESCRIPTORS, 0x8000 + queue * 0x1000),
            (QUEUE_AVAILABLE, available(queue)),
            (QUEUE_USED, 0x8200 + queue * 0x1000),
            (QUEUE_READY, 1),
        ] {
            set(&mut machine, register, value);
        }
    }
    set(&mut machine, STATUS, 0xf);
    assert!(machine.devices.vsock.transport().is_running());
    machine
}

/// Puts `index` where the driver counts the chains that it made available.
fn publish(machine: &Machine, index: u16) {
    let at = GuestAddress(u64::from(available(TRANSMIT)) + 2);
    machine.ram().write(at, &index.to_le_bytes()).unwrap();
}

#[test]
fn a_snapshot_with_an_unread_packet_is_refused_by_name() {
    let mut machine = driven();
    machine.settle().unwrap();
    machine.snapshot().unwrap();
    publish(&machine, 1);
    let refused = machine.snapshot().unwrap_err();
    assert!(matches!(refused, MachineError::NotDrained), "{refused}");
    let refused = machine.hash().unwrap_err();
    assert!(matches!(refused, MachineError::NotDrained), "{refused}");

    // A run serves what is there, and then it can be taken.
    set(&mut machine, QUEUE_NOTIFY, TRANSMIT);
    machine.settle().unwrap();
    machine.snapshot().unwrap();
}

#[test]
fn a_guest_with_a_broken_device_ends_under_that_name() {
    let mut machine = driven();
    assert_eq!(run(&mut machine, 100), Outcome::Budget);
    // More chains than the ring has: the ring cannot be used at all.
    publish(&machine, 1000);
    set(&mut machine, QUEUE_NOTIFY, TRANSMIT);
    assert_eq!(run(&mut machine, 100), Outcome::DeviceStuck);
    assert_eq!(Outcome::DeviceStuck.name(), "device-stuck");
    let misuse = machine.devices.vsock.transport().misuse();
    assert_eq!(misuse.total(), 1);
    // The driver's reset mends it.
    set(&mut machine, STATUS, 0);
    publish(&machine, 0);
    assert_eq!(run(&mut machine, 100), Outcome::Budget);
}

#[test]
fn the_clock_shows_the_date_that_was_asked_for() {
    // mov al, 0x32; out 0x70, al; in al, 0x71; mov [0x4000], al: the century;
    // the same with the year (0x09) to 0x4001; hlt
    let code = [
        0xb0, 0x32, 0xe6, 0x70, 0xe4, 0x71, 0xa2, 0x00, 0x40, 0, 0, 0xb0, 0x09, 0xe6, 0x70, 0xe4,
        0x71, 0xa2, 0x01, 0x40, 0, 0, 0xf4,
    ];
    let year_at = |date: Option<u64>| {
        let mut config = MachineConfig {
            memory_mib: 16,
            ..MachineConfig::default()
        };
        config.date = date.unwrap_or(config.date);
        let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
        let mut machine = Machine::new(engine, &config).unwrap();
        machine.load_flat(CODE, &code).unwrap();
        assert_eq!(run(&mut machine, 100), Outcome::IdleForever);
        word(&machine, 0x4000) & 0xffff
    };
    // In BCD: century first.
    assert_eq!(year_at(None), 0x26_20);
    assert_eq!(year_at(Some(0)), 0x70_19);
    assert_eq!(year_at(Some(4_102_444_800)), 0x00_21);
}

/// An engine that leaves everything out.
#[derive(Debug)]
struct LeavesOut(SoftVcpu);

impl Engine for LeavesOut {
    fn run(&mut self, _memory: &GuestRam, _slice: Slice) -> Result<Exit, EngineError> {
        Ok(Exit::Unsupported { what: "everything" })
    }

    fn kind(&self) -> EngineKind {
        self.0.kind()
    }

    fn signature(&self) -> u32 {
        self.0.signature()
    }

    fn elapsed(&self) -> VirtualTime {
        self.0.elapsed()
    }

    fn interrupts_enabled(&self) -> bool {
        self.0.interrupts_enabled()
    }

    fn complete_read(&mut self, value: u32) {
        self.0.complete_read(value);
    }

    fn set_interrupt_line(&mut self, line: InterruptLine) {
        self.0.set_interrupt_line(line);
    }

    fn deliver_interrupt(&mut self, memory: &GuestRam, vector: u8) -> Result<(), EngineError> {
        self.0.deliver_interrupt(memory, vector)
    }

    fn enter(&mut self, entry: &BootEntry) -> Result<(), EngineError> {
        self.0.enter(entry)
    }

    fn save(&mut self) -> Result<CpuState, EngineError> {
        self.0.save()
    }

    fn restore(&mut self, state: &CpuState) -> Result<(), EngineError> {
        self.0.restore(state)
    }

    fn at_boundary(&self) -> bool {
        self.0.at_boundary()
    }

    fn page_written(&mut self, memory: &GuestRam, page: PageNumber) {
        self.0.page_written(memory, page);
    }

    fn collect_dirty(&mut self, memory: &GuestRam) -> Result<(), EngineError> {
        self.0.collect_dirty(memory)
    }

    fn dirty_cleared(&mut self) {
        self.0.dirty_cleared();
    }

    fn soft(&mut self) -> Option<&mut Cpu> {
        None
    }
}

#[test]
fn what_the_engine_leaves_out_ends_the_run_by_its_name() {
    let engine = Box::new(LeavesOut(SoftVcpu::new(CpuModel::Fuzz)));
    let mut machine = Machine::new(engine, &MachineConfig::default()).unwrap();
    machine.load_flat(CODE, BUSY_LOOP).unwrap();
    let outcome = run(&mut machine, 100);
    assert_eq!(outcome, Outcome::Unsupported { what: "everything" });
    assert_eq!(outcome.name(), "unsupported");
}

#[test]
fn a_snapshot_of_another_cpu_is_refused() {
    let snapshot = machine(BUSY_LOOP).snapshot().unwrap();
    let config = MachineConfig {
        memory_mib: 16,
        ..MachineConfig::default()
    };
    let engine = Box::new(SoftVcpu::new(CpuModel::Sse));
    let mut other = Machine::new(engine, &config).unwrap();
    let refused = other.restore(&snapshot).unwrap_err();
    assert!(
        matches!(refused, MachineError::OtherCpu { .. }),
        "{refused}"
    );
}
