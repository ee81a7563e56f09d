//! The KVM engine on a KVM that can run our guest: `cargo xtask kvm-lane`
//! builds this (feature `kvm-lane`) and runs it where there is one.

#[path = "kvm/conformance.rs"]
mod conformance;

use latefork_cpu::registers::gpr;
use latefork_cpu::{CpuModel, CpuState};
use latefork_vmm::engine::select::{EngineChoice, create};
use latefork_vmm::engine::{EngineKind, probe};
use latefork_vmm::layout::PORT_PANIC;
use latefork_vmm::machine::{Machine, MachineConfig, Outcome, RunLimits};
use vm_memory::GuestAddress;

const CODE: GuestAddress = GuestAddress(0x10_0000);

fn machine(kind: EngineKind, code: &[u8]) -> Machine {
    let config = MachineConfig {
        memory_mib: 16,
        ..MachineConfig::default()
    };
    let mut machine = Machine::new(create(kind, CpuModel::Fuzz).unwrap(), &config).unwrap();
    machine.load_flat(CODE, code).unwrap();
    machine
}

fn run(machine: &mut Machine) -> Outcome {
    machine.run(&RunLimits::instructions(100_000_000)).unwrap()
}

fn state(machine: &mut Machine) -> CpuState {
    machine.settle().unwrap();
    machine.engine_mut().save().unwrap()
}

/// Ends the run by a write of AL to the panic port.
const PANIC: [u8; 5] = {
    let [low, high] = PORT_PANIC.to_le_bytes();
    [0x66, 0xba, low, high, 0xee]
};

#[test]
fn probe_passes_and_auto_takes_kvm() {
    for model in [CpuModel::Fuzz, CpuModel::Sse] {
        assert_eq!(
            probe::probe(create(EngineKind::Kvm, model).unwrap()),
            Ok(())
        );
    }
    let selected = EngineChoice::Auto.select(CpuModel::Fuzz).unwrap();
    assert_eq!(selected.kind, EngineKind::Kvm);
}

#[test]
fn a_port_that_nobody_has_reads_as_ones() {
    // mov dx, 0x1234; in eax, dx; mov ebx, eax; mov al, 7; panic
    let mut code = vec![0x66, 0xba, 0x34, 0x12, 0xed, 0x89, 0xc3, 0xb0, 7];
    code.extend(PANIC);
    let mut machine = machine(EngineKind::Kvm, &code);
    assert_eq!(run(&mut machine), Outcome::Panic { event: 7 });
    assert_eq!(state(&mut machine).gpr[gpr::EBX], u32::MAX);
}

#[test]
fn device_memory_is_read_and_written() {
    // mov eax, [0xd0000000] (the magic of virtio-mmio); mov ebx, eax; panic
    let mut code = vec![0xa1, 0, 0, 0, 0xd0, 0x89, 0xc3, 0xb0, 1];
    code.extend(PANIC);
    let mut machine = machine(EngineKind::Kvm, &code);
    assert_eq!(run(&mut machine), Outcome::Panic { event: 1 });
    assert_eq!(state(&mut machine).gpr[gpr::EBX].to_le_bytes(), *b"virt");
}

#[test]
fn a_guest_that_loops_ends_by_its_budget_and_one_that_halts_at_once() {
    let mut looping = machine(EngineKind::Kvm, &[0xeb, 0xfe]);
    assert_eq!(
        looping.run(&RunLimits::instructions(20_000_000)).unwrap(),
        Outcome::Budget
    );
    let mut halted = machine(EngineKind::Kvm, &[0xf4]);
    assert_eq!(run(&mut halted), Outcome::IdleForever);
}

#[test]
fn a_triple_fault_has_its_name() {
    // lidt of zeros is not needed: the table of a flat start is empty. ud2
    let mut machine = machine(EngineKind::Kvm, &[0x0f, 0x0b]);
    assert_eq!(run(&mut machine), Outcome::TripleFault);
}

/// Computes with the x87 until the guest stops in the middle, then goes on and
/// says what came out.
fn live_x87() -> Vec<u8> {
    let mut code = vec![
        0xdb, 0xe3, // fninit
        0xd9, 0xeb, // fldpi
        0xd9, 0xe8, // fld1
        0xd9, 0xe9, // fldl2t
        0xb0, 1, // mov al, 1
    ];
    code.extend(PANIC);
    code.extend([
        0xde, 0xc9, // fmulp
        0xde, 0xc1, // faddp
        0xdb, 0x3d, 0x00, 0x00, 0x11, 0x00, // fstp tbyte [0x110000]
        0xb0, 2, // mov al, 2
    ]);
    code.extend(PANIC);
    code
}

/// pi + 1 * log2(10), as an 80-bit number: from a run on the software CPU.
fn answer(machine: &mut Machine) -> [u8; 10] {
    assert_eq!(run(machine), Outcome::Panic { event: 2 });
    let mut bytes = [0; 10];
    machine
        .ram()
        .read(GuestAddress(0x11_0000), &mut bytes)
        .unwrap();
    bytes
}

#[test]
fn a_snapshot_of_one_engine_goes_on_in_the_other() {
    let kinds = [EngineKind::Soft, EngineKind::Kvm];
    let mut expected = None;
    for from in kinds {
        let mut machine = machine(from, &live_x87());
        assert_eq!(run(&mut machine), Outcome::Panic { event: 1 });
        machine.settle().unwrap();
        let snapshot = machine.snapshot().unwrap();
        for to in kinds {
            let mut other = self::machine(to, &[]);
            other.restore(&snapshot).unwrap();
            let bytes = answer(&mut other);
            assert_eq!(*expected.get_or_insert(bytes), bytes, "{from:?} to {to:?}");
        }
        assert_eq!(Some(answer(&mut machine)), expected);
    }
    assert_ne!(expected, Some([0; 10]));
}

#[test]
fn a_restored_state_is_saved_unchanged_before_and_after_it_was_loaded() {
    let mut machine = machine(EngineKind::Kvm, &live_x87());
    assert_eq!(run(&mut machine), Outcome::Panic { event: 1 });
    machine.settle().unwrap();
    let snapshot = machine.snapshot().unwrap();
    let first = machine.hash().unwrap();
    machine.restore(&snapshot).unwrap();
    assert_eq!(machine.hash().unwrap(), first);
    assert_eq!(run(&mut machine), Outcome::Panic { event: 2 });
    machine.settle().unwrap();
    assert_ne!(machine.hash().unwrap(), first);
    machine.restore(&snapshot).unwrap();
    assert_eq!(machine.hash().unwrap(), first);
}

#[test]
fn a_restore_drops_a_string_instruction_without_an_end() {
    // cld; mov edi, 0x200000; mov ecx, -1; mov dx, 0x1234; rep insb
    let code = [
        0xfc, 0xbf, 0, 0, 0x20, 0, 0x83, 0xc9, 0xff, 0x66, 0xba, 0x34, 0x12, 0xf3, 0x6c,
    ];
    let mut machine = machine(EngineKind::Kvm, &code);
    machine.settle().unwrap();
    let snapshot = machine.snapshot().unwrap();
    let first = machine.hash().unwrap();
    for _ in 0..3 {
        let limits = RunLimits::instructions(8_000_000);
        assert_eq!(machine.run(&limits).unwrap(), Outcome::Budget);
        machine.restore(&snapshot).unwrap();
        assert_eq!(machine.hash().unwrap(), first);
    }
}

#[test]
fn what_the_guest_and_what_a_device_wrote_is_put_back() {
    // inc dword [0x300000]; mov al, 1; panic
    let mut code = vec![0xff, 0x05, 0, 0, 0x30, 0, 0xb0, 1];
    code.extend(PANIC);
    let mut machine = machine(EngineKind::Kvm, &code);
    machine.settle().unwrap();
    let snapshot = machine.snapshot().unwrap();
    let first = machine.hash().unwrap();
    for _ in 0..3 {
        assert_eq!(run(&mut machine), Outcome::Panic { event: 1 });
        assert!(machine.restore(&snapshot).unwrap().pages >= 1);
        assert_eq!(machine.hash().unwrap(), first);
    }
    // The receive ring alone: written by the host, never by the guest.
    machine.ram().write(GuestAddress(0x40_0000), &[1]).unwrap();
    assert!(machine.restore(&snapshot).unwrap().pages >= 1);
    assert_eq!(machine.hash().unwrap(), first);
}

#[test]
fn a_page_that_is_written_each_time_is_put_back_each_time() {
    // inc dword [ebx]; mov al, 1; panic
    let mut code = vec![0xff, 0x03, 0xb0, 1];
    code.extend(PANIC);
    let mut machine = machine(EngineKind::Kvm, &code);
    machine.settle().unwrap();
    let snapshot = machine.snapshot().unwrap();
    let first = machine.ram().hash();
    // Longer than it takes until all pages are watched anew.
    for turn in 0..1_200_u32 {
        let page = [0x30_0000, 0x30_0000 + (turn % 64) * 0x1000][turn as usize % 2];
        let mut state = snapshot.state().cpu.clone();
        state.gpr[gpr::EBX] = page;
        machine.engine_mut().restore(&state).unwrap();
        assert_eq!(run(&mut machine), Outcome::Panic { event: 1 });
        let mut word = [0; 4];
        let at = GuestAddress(page.into());
        machine.ram().read(at, &mut word).unwrap();
        assert_eq!(word, [1, 0, 0, 0], "turn {turn}");
        machine.restore(&snapshot).unwrap();
        machine.ram().read(at, &mut word).unwrap();
        assert_eq!(word, [0; 4], "turn {turn}");
        if turn % 100 == 0 {
            assert_eq!(machine.ram().hash(), first, "turn {turn}");
        }
    }
}
