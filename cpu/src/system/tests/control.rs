//! Checks of control registers, model-specific registers and prefixes.

use super::{FREE, TSS_SELECTOR, descriptor, event, fault, machine, put, set_descriptor};
use crate::flags;
use crate::registers::{cr0, cr4, gpr};
use crate::tests::Machine;
use crate::{CpuModel, Exit};

const GP: (u8, Option<u32>) = (13, Some(0));
const UD: (u8, Option<u32>) = (6, None);

/// `mov CRn, eax; hlt` with a value; the fault, or the register afterwards.
fn write_control(number: u8, value: u32) -> Result<u32, (u8, Option<u32>)> {
    let mut machine = machine(&[0x0f, 0x22, 0xc0 | number << 3, 0xf4], 0);
    machine.change(|state| state.gpr[gpr::EAX] = value);
    assert_eq!(machine.run(100), Exit::Halted);
    let state = machine.state();
    if state.eip == super::CODE + 4 {
        Ok([state.cr0, 0, state.cr2, state.cr3, state.cr4][usize::from(number)])
    } else {
        Err(fault(&mut machine))
    }
}

#[test]
fn writes_of_control_registers() {
    let pe = cr0::PE;
    let table = [
        (0, pe, Ok(pe | cr0::ET)),
        (
            0,
            pe | cr0::CD | cr0::NW,
            Ok(pe | cr0::ET | cr0::CD | cr0::NW),
        ),
        (0, pe | cr0::NW, Err(GP)),
        (0, cr0::PG, Err(GP)),
        // Bits that do not exist are not kept.
        (0, 0x1ffa_ffc0 | pe, Ok(pe | cr0::ET)),
        (2, 0x1234_5678, Ok(0x1234_5678)),
        (3, 0x1234_5fff, Ok(0x1234_5018)),
        (
            4,
            cr4::PSE | cr4::PGE | cr4::TSD | cr4::DE,
            Ok(cr4::PSE | cr4::PGE | cr4::TSD | cr4::DE),
        ),
        (4, cr4::VME, Err(GP)),
        (4, cr4::PVI, Err(GP)),
        (4, cr4::PCE, Err(GP)),
        (4, cr4::OSFXSR, Err(GP)),
        (4, 1 << 6, Err(GP)),
        (4, 1 << 31, Err(GP)),
        (1, 0, Err(UD)),
    ];
    for (number, value, expected) in table {
        assert_eq!(
            write_control(number, value),
            expected,
            "CR{number} = {value:#x}"
        );
    }
}

#[test]
fn pae_checks_the_pointers_that_cr3_names() {
    // mov cr4, eax; mov cr3, ebx; mov cr0, ecx; hlt, in one identity-mapped page table
    let code = [0x0f, 0x22, 0xe0, 0x0f, 0x22, 0xdb, 0x0f, 0x22, 0xc1, 0xf4];
    for (pdpte, passes) in [(0x2_1001, true), (0x2_1003, false), (0x2_1005, false)] {
        let mut machine = machine(&code, 0);
        put(&mut machine, 0x2_0020, pdpte);
        put(&mut machine, 0x2_1000, 0x83);
        machine.change(|state| {
            state.gpr[gpr::EAX] = cr4::PAE;
            state.gpr[gpr::EBX] = 0x2_0020;
            state.gpr[gpr::ECX] = cr0::PE | cr0::PG;
        });
        assert_eq!(machine.run(100), Exit::Halted);
        let paging = machine.state().cr0 & cr0::PG != 0;
        assert_eq!(paging, passes, "entry {pdpte:#x}");
        if !passes {
            let event = event(&mut machine);
            assert_eq!((event.vector, event.error, event.eip), (13, Some(0), 6));
        }
    }
}

#[test]
fn ltr_and_lldt_of_null_and_of_busy_tasks() {
    // mov eax, imm32; ltr ax or lldt ax; hlt
    let run = |modrm: u8, selector: u16| {
        let [low, high] = selector.to_le_bytes();
        let mut machine = machine(&[0xb8, low, high, 0, 0, 0x0f, 0x00, modrm, 0xf4], 0);
        set_descriptor(&mut machine, FREE, descriptor(0, 0xff, 0x82, 0));
        assert_eq!(machine.run(100), Exit::Halted);
        if machine.state().eip == super::CODE + 9 {
            None
        } else {
            Some(fault(&mut machine))
        }
    };
    let (ltr, lldt) = (0xd8, 0xd0);
    assert_eq!(run(ltr, 0), Some(GP));
    assert_eq!(run(ltr, 3), Some(GP));
    assert_eq!(
        run(ltr, TSS_SELECTOR),
        Some((13, Some(u32::from(TSS_SELECTOR))))
    );
    assert_eq!(run(lldt, 0), None);
    assert_eq!(run(lldt, FREE), None);
    assert_eq!(
        run(lldt, TSS_SELECTOR),
        Some((13, Some(u32::from(TSS_SELECTOR))))
    );
}

#[test]
fn instructions_that_do_not_exist_are_undefined() {
    let table: &[&[u8]] = &[
        &[0x0f, 0x20, 0xc8],       // mov eax, cr1
        &[0x0f, 0x22, 0xe8],       // mov cr5, eax
        &[0xf0, 0x8b, 0x00],       // lock mov eax, [eax]
        &[0xf0, 0x90],             // lock nop
        &[0xf0, 0x0f, 0x00, 0xd8], // lock ltr ax
        &[0x0f, 0x34],             // sysenter
        &[0x0f, 0x35],             // sysexit
        &[0x0f, 0x33],             // rdpmc
        &[0x0f, 0xaa],             // rsm
        &[0x0f, 0x24, 0xf0],       // mov eax, tr6
        &[0x0f, 0x01, 0xc8],       // monitor
        &[0x0f, 0x01, 0xd0],       // xgetbv
        &[0x0f, 0x01, 0xf8],       // swapgs
        &[0x0f, 0x01, 0xf9],       // rdtscp
        &[0x0f, 0x01, 0xc1],       // vmcall
        &[0x0f, 0x01, 0xd8],       // vmrun
        &[0x0f, 0x05],             // syscall
        &[0x0f, 0x0b],             // ud2
    ];
    for code in table {
        for cpl in [0, 3] {
            let mut machine = machine(code, cpl);
            let event = event(&mut machine);
            assert_eq!(
                (event.vector, event.error, event.eip),
                (6, None, 0),
                "{code:x?} in ring {cpl}"
            );
        }
    }
}

#[test]
fn time_stamp_counts_retired_instructions() {
    // nop; nop; rdtsc; hlt
    let mut machine = machine(&[0x90, 0x90, 0x0f, 0x31, 0xf4], 0);
    machine.change(|state| state.retired = 0x1_0000_0000);
    assert_eq!(machine.run(100), Exit::Halted);
    let state = machine.state();
    assert_eq!((state.gpr[gpr::EDX], state.gpr[gpr::EAX]), (1, 2));
}

#[test]
fn time_stamp_can_be_written_and_forbidden() {
    // mov ecx, 0x10; mov edx, 5; mov eax, 100; wrmsr; rdtsc; hlt
    let code = [
        0xb9, 0x10, 0, 0, 0, 0xba, 5, 0, 0, 0, 0xb8, 100, 0, 0, 0, 0x0f, 0x30, 0x0f, 0x31, 0xf4,
    ];
    let mut machine = machine(&code, 0);
    assert_eq!(machine.run(100), Exit::Halted);
    let state = machine.state();
    assert_eq!((state.gpr[gpr::EDX], state.gpr[gpr::EAX]), (5, 101));
    let rdtsc = |cpl, tsd| {
        let mut machine = super::machine(&[0x0f, 0x31, 0xcc], cpl);
        machine.change(|state| state.cr4 = tsd);
        fault(&mut machine)
    };
    assert_eq!(rdtsc(3, 0), (3, None));
    assert_eq!(rdtsc(3, cr4::TSD), GP);
    assert_eq!(rdtsc(0, cr4::TSD), (3, None));
}

/// `rdmsr` or `wrmsr` of a number in ring 0.
#[allow(clippy::cast_possible_truncation)] // the two halves
fn msr(opcode: u8, number: u32, value: u64) -> (u8, Option<u32>) {
    let mut machine = machine(&[0x0f, opcode, 0xcc], 0);
    machine.change(|state| {
        state.gpr[gpr::ECX] = number;
        state.gpr[gpr::EAX] = value as u32;
        state.gpr[gpr::EDX] = (value >> 32) as u32;
    });
    fault(&mut machine)
}

#[test]
fn model_specific_registers_are_few() {
    let (read, write, done) = (0x32, 0x30, (3, None));
    let table = [
        (read, 0x10, 0, done),
        (read, 0xc000_0080, 0, done),
        (write, 0xc000_0080, 0x800, done),
        (write, 0xc000_0080, 0x801, GP),
        (write, 0xc000_0080, 1 << 40, GP),
        (read, 0x1b, 0, GP),
        (read, 0x174, 0, GP),
        (write, 0x8b, 0, GP),
        (read, 0x277, 0, GP),
        (read, u32::MAX, 0, GP),
    ];
    for (opcode, number, value, expected) in table {
        assert_eq!(
            msr(opcode, number, value),
            expected,
            "{opcode:#x} {number:#x} {value:#x}"
        );
    }
}

#[test]
fn smsw_stores_a_word_or_all_of_cr0() {
    // smsw eax; smsw bx; smsw [0x10000]; hlt
    let code = [
        0x0f, 0x01, 0xe0, 0x66, 0x0f, 0x01, 0xe3, 0x0f, 0x01, 0x25, 0, 0, 1, 0, 0xf4,
    ];
    let mut machine = machine(&code, 0);
    put(&mut machine, 0x1_0000, u32::MAX);
    machine.change(|state| {
        state.cr0 |= cr0::CD;
        state.gpr[gpr::EBX] = u32::MAX;
    });
    assert_eq!(machine.run(100), Exit::Halted);
    let state = machine.state();
    assert_eq!(state.gpr[gpr::EAX], cr0::CD | cr0::ET | cr0::PE);
    assert_eq!(state.gpr[gpr::EBX], 0xffff_0011);
    assert_eq!(machine.read(0x1_0000), 0xffff_0011);
}

#[test]
fn sgdt_over_a_page_end_writes_all_or_nothing() {
    // sgdt [0x10ffd], whose second page is read only for the supervisor too
    let mut machine = machine(&[0x0f, 0x01, 0x05, 0xfd, 0x0f, 1, 0], 0);
    paged(&mut machine, &[(0x1_1000, 0x1_1001)]);
    machine.change(|state| state.cr0 |= cr0::WP);
    let event = event(&mut machine);
    assert_eq!((event.vector, event.error, event.eip), (14, Some(3), 0));
    assert_eq!(machine.read(0x1_0ffc), 0);
}

/// Turns on paging: the first MiB maps to itself, user and writable, except
/// for the page-table entries listed.
pub(super) fn paged(machine: &mut Machine, entries: &[(u32, u32)]) {
    put(machine, 0x8_0000, 0x8_1007);
    for page in 0..256 {
        put(machine, 0x8_1000 + page * 4, page << 12 | 7);
    }
    for &(linear, entry) in entries {
        put(machine, 0x8_1000 + (linear >> 12) * 4, entry);
    }
    machine.change(|state| {
        state.cr3 = 0x8_0000;
        state.cr0 |= cr0::PG;
        state.tlb.clear();
    });
}

#[test]
fn read_modify_write_faults_as_a_write() {
    // add dword [0x11000], 1 on an absent page and on a read-only one
    for (entry, code) in [(0, 2), (0x1_1001, 3)] {
        let mut machine = machine(&[0x83, 0x05, 0, 0x10, 1, 0, 1], 0);
        paged(&mut machine, &[(0x1_1000, entry)]);
        machine.change(|state| state.cr0 |= cr0::WP);
        assert_eq!(fault(&mut machine), (14, Some(code)), "entry {entry:#x}");
    }
}

#[test]
fn popf_keeps_what_the_ring_may_not_change() {
    // popfd; pushfd; pop eax; int3
    let run = |cpl, start: u32, value: u32| {
        let mut machine = machine(&[0x9d, 0x9c, 0x58, 0xcc], cpl);
        machine.change(|state| state.eflags = start | flags::FIXED_ONE);
        let esp = machine.state().gpr[gpr::ESP] - 4;
        put(&mut machine, esp, value);
        machine.change(|state| state.gpr[gpr::ESP] = esp);
        assert_eq!(fault(&mut machine), (3, None));
        machine.state().gpr[gpr::EAX]
    };
    let all = !flags::TF;
    let arithmetic = flags::ARITHMETIC | flags::DF | flags::NT | flags::AC | flags::ID | 2;
    assert_eq!(run(0, 0, all), arithmetic | flags::IF | flags::IOPL);
    assert_eq!(run(3, 0, all), arithmetic);
    assert_eq!(run(3, flags::IF, 0), flags::IF | 2);
    assert_eq!(
        run(3, flags::IOPL, all),
        arithmetic | flags::IF | flags::IOPL
    );
    assert_eq!(run(3, flags::IOPL | flags::IF, 0), flags::IOPL | 2);
}

#[test]
fn cpuid_of_the_sse_model_allows_osfxsr() {
    let mut machine = machine(&[0x0f, 0x22, 0xe0, 0xf4], 0);
    machine.change(|state| {
        state.model = CpuModel::Sse;
        state.gpr[gpr::EAX] = cr4::OSFXSR | cr4::OSXMMEXCPT;
    });
    assert_eq!(machine.run(10), Exit::Halted);
    assert_eq!(machine.state().cr4, cr4::OSFXSR | cr4::OSXMMEXCPT);
}
