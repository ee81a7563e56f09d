//! The machine with tiny flat guests on the software engine.

use latefork_cpu::CpuModel;

use super::*;
use crate::devices::reset::ResetSource;
use crate::engine::soft::SoftVcpu;
use crate::memory::PageNumber;
use crate::snapshot::file::{FileError, Identity, SnapshotFile};

mod devices;

const CODE: GuestAddress = GuestAddress(0x10_0000);

fn machine(code: &[u8]) -> Machine {
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    let config = MachineConfig {
        memory_mib: 16,
        ..MachineConfig::default()
    };
    let mut machine = Machine::new(engine, &config).unwrap();
    machine.load_flat(CODE, code).unwrap();
    machine
}

fn run(machine: &mut Machine, budget: u64) -> Outcome {
    machine.run(&RunLimits::instructions(budget)).unwrap()
}

/// Programs the PICs (vectors 0x20 and 0x28), unmasks all lines, points the IDT
/// at `handler` for vectors 0x20 to 0x2f, and ends with interrupts on.
fn with_interrupts(handler: &[u8], main: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    for (port, value) in [
        (0x20u8, 0x11u8),
        (0x21, 0x20),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0),
        (0xa0, 0x11),
        (0xa1, 0x28),
        (0xa1, 2),
        (0xa1, 1),
        (0xa1, 0),
    ] {
        // mov al, value; out port, al
        code.extend([0xb0, value, 0xe6, port]);
    }
    // lidt [0x3000]; sti
    code.extend([0x0f, 0x01, 0x1d, 0x00, 0x30, 0x00, 0x00, 0xfb]);
    code.extend(main);
    let mut image = code;
    image.resize(0x800, 0x90);
    image.extend(handler);
    image
}

fn interrupt_machine(handler: &[u8], main: &[u8]) -> Machine {
    let machine = machine(&with_interrupts(handler, main));
    let target: u32 = 0x10_0800;
    let [a, b, c, d] = target.to_le_bytes();
    for vector in 0x20u64..0x30 {
        // A 32-bit interrupt gate in segment 0x10.
        let gate = [a, b, 0x10, 0, 0, 0x8e, c, d];
        let at = GuestAddress(0x2000 + vector * 8);
        machine.ram().write(at, &gate).unwrap();
    }
    let register = [0xff, 0x07, 0x00, 0x20, 0x00, 0x00];
    machine
        .ram()
        .write(GuestAddress(0x3000), &register)
        .unwrap();
    machine
}

/// inc dword [0x4000]; mov al, 0x20; out 0xa0, al; out 0x20, al; iret
const COUNTING_HANDLER: &[u8] = &[
    0x50, 0xff, 0x05, 0x00, 0x40, 0x00, 0x00, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf,
];

fn word(machine: &Machine, address: u64) -> u32 {
    let mut bytes = [0; 4];
    machine
        .ram()
        .read(GuestAddress(address), &mut bytes)
        .unwrap();
    u32::from_le_bytes(bytes)
}

/// mov al, 0x34; out 0x43, al; mov al, 0xa9; out 0x40, al; mov al, 0x04; out 0x40, al
/// (channel 0, mode 2, 1193 clocks: a tick of one millisecond)
const MILLISECOND_TICK: &[u8] = &[
    0xb0, 0x34, 0xe6, 0x43, 0xb0, 0xa9, 0xe6, 0x40, 0xb0, 0x04, 0xe6, 0x40,
];

/// hlt; jmp to the hlt
const IDLE_LOOP: &[u8] = &[0xf4, 0xeb, 0xfd];
/// jmp to itself
const BUSY_LOOP: &[u8] = &[0xeb, 0xfe];

#[test]
fn a_loop_ends_by_its_budget_exactly() {
    let mut machine = machine(BUSY_LOOP);
    assert_eq!(run(&mut machine, 12_345), Outcome::Budget);
    assert_eq!(machine.retired(), Instructions(12_345));
    assert_eq!(machine.now(), VirtualTime(12_345));
}

#[test]
fn every_end_has_its_name() {
    // mov dx, 0x505; mov al, 1; out dx, al
    let panic = [0x66, 0xba, 0x05, 0x05, 0xb0, 1, 0xee];
    // mov dx, 0xcf9; mov al, 6; out dx, al
    let reset = [0x66, 0xba, 0xf9, 0x0c, 0xb0, 6, 0xee];
    // lidt with a limit of 0; int3
    let triple = [0x0f, 0x01, 0x1d, 0x00, 0x50, 0x00, 0x00, 0xcc];
    let source = ResetSource::Control;
    for (code, expected) in [
        (&panic[..], Outcome::Panic { event: 1 }),
        (&reset, Outcome::Reset { source }),
        (&triple, Outcome::TripleFault),
        (&[0xf4], Outcome::IdleForever),
        (&[0xfb, 0xf4], Outcome::IdleForever),
        (BUSY_LOOP, Outcome::Budget),
    ] {
        assert_eq!(run(&mut machine(code), 1000), expected);
    }
}

#[test]
fn unknown_ports_and_addresses_read_as_ones() {
    // mov eax, [0xe0000000]; mov [0x4000], eax; in al, 0x60; mov [0x4004], al; hlt
    let code = [
        0xa1, 0, 0, 0, 0xe0, 0xa3, 0, 0x40, 0, 0, 0xe4, 0x60, 0xa2, 4, 0x40, 0, 0, 0xf4,
    ];
    let mut machine = machine(&code);
    assert_eq!(run(&mut machine, 100), Outcome::IdleForever);
    assert_eq!(word(&machine, 0x4000), u32::MAX);
    assert_eq!(word(&machine, 0x4004), 0xff);
    let unclaimed = machine.devices().unclaimed();
    assert_eq!((unclaimed.mmio_reads, unclaimed.port_reads), (1, 1));
}

#[test]
fn an_idle_guest_jumps_from_tick_to_tick() {
    let mut main = MILLISECOND_TICK.to_vec();
    main.extend(IDLE_LOOP);
    let mut machine = interrupt_machine(COUNTING_HANDLER, &main);
    let limits = RunLimits {
        time: VirtualTime::from_millis(1000),
        ..RunLimits::instructions(1_000_000)
    };
    assert_eq!(machine.run(&limits).unwrap(), Outcome::TimeUp);
    assert_eq!(word(&machine, 0x4000), 1000);
    assert!(machine.retired().0 < 20_000, "idle time costs nothing");
    assert_eq!(machine.now(), VirtualTime::from_millis(1000));
}

#[test]
fn a_busy_guest_is_ticked_by_its_own_instructions() {
    let mut main = MILLISECOND_TICK.to_vec();
    main.extend(BUSY_LOOP);
    let mut machine = interrupt_machine(COUNTING_HANDLER, &main);
    assert_eq!(run(&mut machine, 5_500_000), Outcome::Budget);
    assert_eq!(word(&machine, 0x4000), 5);
}

#[test]
fn harness_interrupts_come_at_their_instruction() {
    // Handler: inc dword [0x4000]; mov [0x4004], ecx; then as above.
    let mut handler = vec![0x89, 0x0d, 0x04, 0x40, 0x00, 0x00];
    handler.extend(COUNTING_HANDLER);
    // xor ecx, ecx; loop: inc ecx; jmp loop
    let main = [0x31, 0xc9, 0x41, 0xeb, 0xfd];
    let mut machine = interrupt_machine(&handler, &main);
    machine.set_schedule(&[Instructions(1001), Instructions(501)]);
    assert_eq!(run(&mut machine, 900), Outcome::Budget);
    assert_eq!(word(&machine, 0x4000), 1);
    let first = word(&machine, 0x4004);
    assert_eq!(run(&mut machine, 900), Outcome::Budget);
    assert_eq!(word(&machine, 0x4000), 2);
    assert_eq!(machine.counters().harness_interrupts, 2);
    // 20 moves and outs, lidt, sti and xor; then two instructions a turn.
    assert_eq!(first, (501 - 23) / 2);
}

#[test]
fn where_a_run_stops_changes_nothing() {
    let mut main = MILLISECOND_TICK.to_vec();
    main.extend(IDLE_LOOP);
    let whole = || interrupt_machine(COUNTING_HANDLER, &main);
    let mut one = whole();
    run(&mut one, 9_000);
    let mut pieces = whole();
    for piece in [1, 2, 997, 3_000, 5_000] {
        run(&mut pieces, piece);
    }
    assert_eq!(one.retired(), pieces.retired());
    one.settle().unwrap();
    pieces.settle().unwrap();
    assert_eq!(one.hash().unwrap(), pieces.hash().unwrap());
}

/// loop: inc dword [0x5000]; mov eax, [0x5000]; mov [eax*4 + 0x20000], eax; jmp loop
const WRITER: &[u8] = &[
    0xff, 0x05, 0, 0x50, 0, 0, 0xa1, 0, 0x50, 0, 0, 0x89, 0x04, 0x85, 0, 0, 2, 0, 0xeb, 0xec,
];

#[test]
fn a_restored_machine_does_the_same_again() {
    let mut machine = machine(WRITER);
    run(&mut machine, 1000);
    let snapshot = machine.snapshot().unwrap();
    let before = machine.hash().unwrap();
    run(&mut machine, 50_000);
    let after = machine.hash().unwrap();
    for _ in 0..3 {
        let restored = machine.restore(&snapshot).unwrap();
        assert!(restored.pages > 10 && restored.pages < 20, "{restored:?}");
        assert_eq!(machine.hash().unwrap(), before);
        run(&mut machine, 50_000);
        assert_eq!(machine.hash().unwrap(), after);
    }
}

#[test]
fn a_restore_without_a_write_copies_nothing() {
    let mut machine = machine(BUSY_LOOP);
    run(&mut machine, 10);
    let snapshot = machine.snapshot().unwrap();
    run(&mut machine, 10);
    assert_eq!(machine.restore(&snapshot).unwrap(), Restored { pages: 0 });
}

#[test]
fn what_a_device_wrote_is_restored_too() {
    let mut machine = machine(BUSY_LOOP);
    let snapshot = machine.snapshot().unwrap();
    machine.ram().write(GuestAddress(0x9000), &[1]).unwrap();
    assert_eq!(machine.restore(&snapshot).unwrap(), Restored { pages: 1 });
    assert_eq!(word(&machine, 0x9000), 0);
}

#[test]
fn snapshots_form_a_tree() {
    let mut machine = machine(WRITER);
    let root = machine.snapshot().unwrap();
    let root_hash = machine.hash().unwrap();
    run(&mut machine, 20_000);
    let trunk = machine.snapshot().unwrap();
    let trunk_hash = machine.hash().unwrap();
    run(&mut machine, 20_000);
    let left = machine.snapshot().unwrap();
    let left_hash = machine.hash().unwrap();
    machine.restore(&trunk).unwrap();
    machine
        .ram()
        .write(GuestAddress(0x7_0000), b"right")
        .unwrap();
    let right = machine.snapshot().unwrap();
    let right_hash = machine.hash().unwrap();
    assert_eq!((left.depth(), right.depth()), (2, 2));
    assert!(left.parent().unwrap().is(right.parent().unwrap()));
    assert!(left.own_pages() < trunk.own_pages() + 10);
    for (snapshot, hash) in [
        (&left, left_hash),
        (&right, right_hash),
        (&root, root_hash),
        (&left, left_hash),
        (&trunk, trunk_hash),
        (&right, right_hash),
    ] {
        run(&mut machine, 500);
        machine.restore(snapshot).unwrap();
        assert_eq!(machine.hash().unwrap(), hash);
    }
}

#[test]
fn a_snapshot_of_another_size_is_refused() {
    let mut small = machine(BUSY_LOOP);
    let snapshot = small.snapshot().unwrap();
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    let mut large = Machine::new(engine, &MachineConfig::default()).unwrap();
    assert!(matches!(
        large.restore(&snapshot),
        Err(MachineError::OtherMachine { .. })
    ));
}

#[test]
fn an_unrelated_machine_can_take_a_snapshot_over() {
    let mut one = machine(WRITER);
    run(&mut one, 10_000);
    let snapshot = one.snapshot().unwrap();
    let mut two = machine(BUSY_LOOP);
    run(&mut two, 10);
    two.snapshot().unwrap();
    two.restore(&snapshot).unwrap();
    assert_eq!(one.hash().unwrap(), two.hash().unwrap());
    run(&mut one, 100);
    run(&mut two, 100);
    assert_eq!(one.hash().unwrap(), two.hash().unwrap());
}

const IDENTITY: Identity = Identity { inputs: 7 };

fn open(path: &std::path::Path) -> Result<SnapshotFile, FileError> {
    SnapshotFile::open(path, &IDENTITY)
}

#[test]
fn a_snapshot_on_disk_goes_on_as_the_machine_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let mut one = machine(WRITER);
    run(&mut one, 10_000);
    one.snapshot().unwrap();
    run(&mut one, 10_000);
    let child = one.snapshot().unwrap();
    child.write(&path, &IDENTITY, b"mine").unwrap();
    let bytes = std::fs::read(&path).unwrap();

    let file = open(&path).unwrap();
    assert_eq!(file.extra(), b"mine");
    let engine = Box::new(SoftVcpu::new(CpuModel::Fuzz));
    let (mut two, base) = Machine::open(engine, &MachineConfig::default(), &file).unwrap();
    assert_eq!(one.hash().unwrap(), two.hash().unwrap());
    run(&mut one, 20_000);
    run(&mut two, 20_000);
    let after = one.hash().unwrap();
    assert_eq!(after, two.hash().unwrap());
    assert!(two.restore(&base).unwrap().pages < 20);
    run(&mut two, 20_000);
    assert_eq!(after, two.hash().unwrap());
    assert_eq!(
        std::fs::read(&path).unwrap(),
        bytes,
        "the file stays as it is"
    );
}

#[test]
fn bad_snapshot_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let mut machine = machine(WRITER);
    run(&mut machine, 1000);
    let snapshot = machine.snapshot().unwrap();
    snapshot.write(&path, &IDENTITY, b"").unwrap();
    let good = std::fs::read(&path).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        open(&path).unwrap_err()
    };
    assert!(matches!(with(&|b| b.clear()), FileError::Foreign { .. }));
    assert!(matches!(with(&|b| b[0] = 0), FileError::Foreign { .. }));
    assert!(matches!(with(&|b| b[8] = 9), FileError::Version { .. }));
    assert!(matches!(
        with(&|b| b.truncate(50)),
        FileError::Truncated { .. }
    ));
    assert!(matches!(
        with(&|b| b.truncate(b.len() - 1)),
        FileError::Truncated { .. }
    ));
    assert!(matches!(with(&|b| b.push(0)), FileError::Truncated { .. }));
    for (at, part) in [
        (60, "header"),
        (4096 + 0x5000, "memory"),
        (good.len() - 1, "machine state"),
    ] {
        let error = with(&|b| b[at] ^= 1);
        assert!(matches!(error, FileError::Corrupted { part: p, .. } if p == part));
    }
    std::fs::write(&path, &good).unwrap();
    let other = Identity { inputs: 8 };
    assert!(matches!(
        SnapshotFile::open(&path, &other),
        Err(FileError::Stale { .. })
    ));
    assert!(matches!(
        open(&folder.path().join("none")),
        Err(FileError::Io { .. })
    ));
    assert!(open(folder.path()).is_err());
    assert!(open(&path).is_ok());
}

#[test]
fn console_output_is_kept_for_the_host() {
    // mov dx, 0x3f8; mov al, 'h'; out dx, al; mov al, 'i'; out dx, al; hlt
    let code = [
        0x66, 0xba, 0xf8, 0x03, 0xb0, b'h', 0xee, 0xb0, b'i', 0xee, 0xf4,
    ];
    let mut machine = machine(&code);
    run(&mut machine, 100);
    assert_eq!(machine.take_console(), b"hi");
}

#[test]
fn a_page_copied_in_is_seen_by_the_cpu() {
    let mut machine = machine(&[0x90, 0xeb, 0xfd]);
    run(&mut machine, 100);
    let snapshot = machine.snapshot().unwrap();
    // The loop becomes a hlt behind the CPU's back.
    machine.ram().write(CODE, &[0xf4]).unwrap();
    assert_eq!(run(&mut machine, 100), Outcome::IdleForever);
    machine.restore(&snapshot).unwrap();
    assert_eq!(run(&mut machine, 100), Outcome::Budget);
    assert_eq!(snapshot.page(PageNumber(0x100))[0], 0x90);
}
