//! Segment limits and types, which TCG does not look at.

use super::{
    CODE, CODE0, DATA0, FREE, KERNEL_STACK, descriptor, event, fault, machine, put, segment,
    set_descriptor, set_gate,
};
use crate::registers::gpr;
use crate::segment::Segment;
use crate::tests::Machine;
use crate::{Cpu, CpuModel, Exit};

const GP: (u8, Option<u32>) = (13, Some(0));
const SS: (u8, Option<u32>) = (12, Some(0));

/// Executes `code` with `value` in ES; `None` if it went through to the HLT.
fn with_es(code: &[u8], value: Segment) -> Option<(u8, Option<u32>)> {
    with_segment(code, 0, value)
}

fn with_segment(code: &[u8], which: usize, value: Segment) -> Option<(u8, Option<u32>)> {
    let mut code = code.to_vec();
    let length = u32::try_from(code.len()).unwrap();
    code.push(0xf4);
    let mut machine = machine(&code, 0);
    machine.change(|state| state.segments[which] = value);
    assert_eq!(machine.run(1000), Exit::Halted);
    let at = machine.state().eip;
    if at == CODE + length + 1 {
        None
    } else {
        Some(fault(&mut machine))
    }
}

/// `mov eax, es:[offset]` (or a shorter or writing one), by opcode bytes.
fn access(opcode: &[u8], offset: u32) -> Vec<u8> {
    [&[0x26], opcode, &[0x05], &offset.to_le_bytes()].concat()
}

const LOAD8: &[u8] = &[0x8a];
const LOAD16: &[u8] = &[0x66, 0x8b];
const LOAD32: &[u8] = &[0x8b];
const STORE8: &[u8] = &[0x88];
const STORE32: &[u8] = &[0x89];

#[test]
fn limits_and_types_of_a_data_segment() {
    let up = descriptor(0x1_0000, 0xfff, 0x93, 0x40);
    let pages = descriptor(0x1_0000, 0x1, 0x93, 0xc0);
    let down16 = descriptor(0x1_0000, 0xfff, 0x97, 0);
    let down32 = descriptor(0x1_0000, 0xfff, 0x97, 0x40);
    let read_only = descriptor(0x1_0000, 0xfff, 0x91, 0x40);
    let code = descriptor(0x1_0000, 0xfff, 0x9b, 0x40);
    let execute_only = descriptor(0x1_0000, 0xfff, 0x99, 0x40);
    type Row = ((u32, u32), &'static [u8], u32, bool);
    let table: &[Row] = &[
        (up, LOAD8, 0xfff, true),
        (up, LOAD8, 0x1000, false),
        (up, LOAD16, 0xffe, true),
        (up, LOAD16, 0xfff, false),
        (up, LOAD32, 0xffc, true),
        (up, LOAD32, 0xffd, false),
        (up, STORE32, 0xffc, true),
        (up, STORE32, 0xffd, false),
        (up, LOAD32, 0xffff_ffff, false),
        (up, LOAD8, 0xffff_ffff, false),
        (pages, LOAD32, 0x1ffc, true),
        (pages, LOAD32, 0x1ffd, false),
        (down16, LOAD8, 0xfff, false),
        (down16, LOAD8, 0x1000, true),
        (down16, LOAD8, 0xffff, true),
        (down16, LOAD8, 0x1_0000, false),
        (down16, LOAD32, 0xfffc, true),
        (down16, LOAD32, 0xfffd, false),
        (down16, STORE32, 0xffd, false),
        (down32, LOAD8, 0xfff, false),
        (down32, STORE8, 0x1_0000, true),
        (read_only, LOAD32, 0, true),
        (read_only, STORE8, 0, false),
        (code, LOAD32, 0xffc, true),
        (code, STORE8, 0, false),
        (execute_only, LOAD8, 0, false),
    ];
    for &(value, opcode, offset, passes) in table {
        let expected = if passes { None } else { Some(GP) };
        let got = with_es(&access(opcode, offset), segment(DATA0, value));
        assert_eq!(got, expected, "{value:x?} {opcode:x?} {offset:#x}");
    }
}

#[test]
fn an_expand_down_segment_of_limit_ffff_is_empty() {
    let empty = segment(DATA0, descriptor(0, 0xffff, 0x97, 0));
    for offset in [0, 1, 0x8000, 0xffff] {
        assert_eq!(
            with_es(&access(LOAD8, offset), empty),
            Some(GP),
            "{offset:#x}"
        );
    }
}

#[test]
fn a_null_segment_raises_gp_and_a_null_ss_raises_ss() {
    assert_eq!(with_es(&access(LOAD8, 0), Segment::null(0)), Some(GP));
    assert_eq!(with_es(&access(STORE8, 0), Segment::null(3)), Some(GP));
    // LEA does not access memory: lea eax, es:[0]
    assert_eq!(
        with_es(&[0x26, 0x8d, 0x05, 0, 0, 0, 0], Segment::null(0)),
        None
    );
}

/// Delivery in ring 0 needs the stack itself, so these run in ring 3.
fn user_stack_fault(code: &[u8], stack: Segment, esp: u32) -> Option<(u8, Option<u32>, u32, u32)> {
    let mut code = code.to_vec();
    let length = u32::try_from(code.len()).unwrap();
    code.push(0xcc);
    let mut machine = machine(&code, 3);
    machine.change(|state| {
        state.segments[2] = stack;
        state.gpr[gpr::ESP] = esp;
        state.gpr[gpr::EBP] = esp;
    });
    let event = event(&mut machine);
    if event.vector == 3 && event.eip == length + 1 {
        return None;
    }
    Some((event.vector, event.error, event.eip, event.esp))
}

#[test]
fn stack_limits_raise_ss_and_leave_esp_alone() {
    let small = segment(super::DATA3, descriptor(0x1_0000, 0xfff, 0xf3, 0x40));
    let down = segment(super::DATA3, descriptor(0x1_0000, 0xfff, 0xf7, 0x40));
    let narrow = segment(super::DATA3, descriptor(0x1_0000, 0xffff, 0xf3, 0));
    let push: &[u8] = &[0x50];
    let pop: &[u8] = &[0x58];
    let pushad: &[u8] = &[0x60];
    let popad: &[u8] = &[0x61];
    let call: &[u8] = &[0xe8, 0, 0, 0, 0];
    let ret: &[u8] = &[0xc3];
    let retf: &[u8] = &[0xcb];
    let iret: &[u8] = &[0xcf];
    let enter: &[u8] = &[0xc8, 8, 0, 0];
    let leave: &[u8] = &[0xc9];
    let load_bp: &[u8] = &[0x8b, 0x45, 0];
    let call_far: &[u8] = &[0x9a, 8, 0x10, 0, 0, 0x1b, 0];
    let push_ds: &[u8] = &[0x1e];
    let pushf: &[u8] = &[0x9c];
    let table: &[(&[u8], Segment, u32, bool)] = &[
        (push, small, 0x1000, true),
        (push, small, 0x1001, false),
        (push, small, 4, true),
        (push, small, 3, false),
        (push, small, 0, false),
        (push_ds, small, 0, false),
        (pushf, small, 2, false),
        (pop, small, 0xffc, true),
        (pop, small, 0xffd, false),
        (pushad, small, 0x20, true),
        (pushad, small, 0x1c, false),
        (popad, small, 0xfe0, true),
        (popad, small, 0xfe4, false),
        (call, small, 4, true),
        (call, small, 2, false),
        (call_far, small, 4, false),
        (ret, small, 0xffe, false),
        (retf, small, 0xffc, false),
        (iret, small, 0xff8, false),
        (enter, small, 12, true),
        (enter, small, 3, false),
        (leave, small, 0x1000, false),
        (load_bp, small, 0x1000, false),
        (push, down, 0x1004, true),
        (push, down, 0x1003, false),
        (push, narrow, 0, true),
        (push, narrow, 1, false),
        (pop, narrow, 0xfffd, false),
    ];
    for &(code, stack, esp, passes) in table {
        let got = user_stack_fault(code, stack, esp);
        let expected = if passes {
            None
        } else {
            Some((SS.0, SS.1, 0, esp))
        };
        assert_eq!(got, expected, "{code:x?} at {esp:#x}");
    }
}

#[test]
fn transfers_beyond_the_code_limit_fault_at_the_transfer() {
    // A code segment that ends right after the instructions tried.
    let limit = CODE + 0x20;
    let short = descriptor(0, limit, 0x9b, 0x40);
    let target = (limit + 1).to_le_bytes();
    let far = |opcode: u8| [&[opcode], &target[..], &[0x30, 0]].concat();
    let near = |opcode: u8| {
        let distance = (limit + 1).wrapping_sub(CODE + 5).to_le_bytes();
        [&[opcode], &distance[..]].concat()
    };
    // push limit+1; ret
    let ret = [&[0x68], &target[..], &[0xc3]].concat();
    // pushfd; push FREE; push limit+1; iretd
    let iret = [&[0x9c, 0x6a, 0x30, 0x68], &target[..], &[0xcf]].concat();
    // mov eax, limit+1; jmp eax
    let indirect = [&[0xb8], &target[..], &[0xff, 0xe0]].concat();
    let table = [
        (far(0xea), 0, 0),
        (far(0x9a), 0, 0),
        (near(0xe9), 0, 0),
        (near(0xe8), 0, 0),
        (ret, 5, 4),
        (iret, 8, 12),
        (indirect, 5, 0),
    ];
    for (code, eip, pushed) in table {
        let mut machine = machine(&code, 0);
        set_descriptor(&mut machine, FREE, short);
        machine.change(|state| state.segments[1] = segment(FREE, short));
        let esp = machine.state().gpr[gpr::ESP];
        let event = event(&mut machine);
        let got = (event.vector, event.error, event.eip, event.esp);
        assert_eq!(got, (13, Some(0), eip, esp - pushed), "{code:x?}");
    }
}

#[test]
fn fetch_beyond_the_limit_is_gp_at_the_instruction_that_does_not_fit() {
    // nop; nop; mov eax, imm32 whose last byte is outside
    let mut machine = machine(&[0x90, 0x90, 0xb8, 1, 2, 3, 4], 0);
    let short = descriptor(0, CODE + 5, 0x9b, 0x40);
    machine.change(|state| state.segments[1] = segment(CODE0, short));
    let event = event(&mut machine);
    assert_eq!((event.vector, event.error, event.eip), (13, Some(0), 2));
}

#[test]
fn a_gate_whose_offset_is_beyond_the_limit_is_gp() {
    let mut machine = machine(&[0xcd, 3], 0);
    set_descriptor(&mut machine, FREE, descriptor(0, 0xfff, 0x9b, 0x40));
    set_gate(&mut machine, 3, FREE, 0x1000, 0xee);
    assert_eq!(fault(&mut machine), GP);
}

#[test]
fn an_inner_stack_without_room_is_ss_with_its_selector() {
    // int3 in ring 3 to a handler of ring 1, whose stack has room for 16 bytes
    for (esp, expected) in [(20, None), (16, Some((12, Some(u32::from(FREE)))))] {
        let mut machine = machine(&[0xcc], 3);
        set_descriptor(&mut machine, FREE, descriptor(0x2_0000, 0xff, 0xb3, 0x40));
        set_descriptor(&mut machine, FREE + 8, descriptor(0, 0xf_ffff, 0xbb, 0xc0));
        set_gate(&mut machine, 3, FREE + 8, 0x1800, 0xee);
        put(&mut machine, super::TSS + 12, esp);
        put(&mut machine, super::TSS + 16, u32::from(FREE) + 1);
        // In ring 1: int 31, whose handler halts in ring 0.
        machine.write(0x1800, &[0xcd, 31]);
        let got = event(&mut machine);
        let got = (got.vector != 31).then_some((got.vector, got.error));
        assert_eq!(got, expected, "ESP1 = {esp}");
    }
}

#[test]
fn the_accessed_bit_of_an_inner_stack_is_set() {
    let mut machine = machine(&[0xcc], 3);
    let at = super::GDT + u32::from(DATA0) + 4;
    let before = machine.read(at);
    put(&mut machine, at, before & !0x100);
    assert_eq!(fault(&mut machine).0, 3);
    assert_eq!(machine.read(at), before);
}

/// Real mode: `code` at 0:CODE with a vector table whose handlers halt.
fn real(code: &[u8]) -> Machine {
    let mut machine = Machine::new(code);
    let reset = Cpu::new(CpuModel::Fuzz).save();
    for vector in 0..32 {
        put(&mut machine, vector * 4, 0x7000 + vector * 16);
        machine.write(0x7000 + vector * 16, &[0xf4]);
    }
    machine.change(|state| {
        let esp = KERNEL_STACK;
        *state = reset;
        state.segments[1] = Segment::real(0);
        state.eip = CODE;
        state.gpr[gpr::ESP] = esp;
    });
    machine
}

/// Vector, IP and SP that the handler's frame of six bytes shows.
fn real_event(machine: &mut Machine) -> (u32, u32, u32) {
    assert_eq!(machine.run(1000), Exit::Halted);
    let state = machine.state();
    let vector = (state.eip - 0x7001) / 16;
    let esp = state.gpr[gpr::ESP];
    (
        vector,
        (machine.read(esp) & 0xffff).wrapping_sub(CODE),
        esp + 6,
    )
}

#[test]
fn real_mode_limits() {
    let table: &[(&[u8], u32, u32)] = &[
        // mov ax, [0xffff]
        (&[0xa1, 0xff, 0xff], 13, 0),
        // mov [0xffff], ax
        (&[0xa3, 0xff, 0xff], 13, 0),
        // mov eax, [0xfffd]
        (&[0x66, 0xa1, 0xfd, 0xff], 13, 0),
        // mov al, [eax] with EAX = 0x10000
        (&[0x66, 0xb8, 0, 0, 1, 0, 0x67, 0x8a, 0x00], 13, 6),
        // mov bp, 0xffff; mov ax, [bp]
        (&[0xbd, 0xff, 0xff, 0x8b, 0x46, 0], 12, 3),
        // les ax, [0xffff]; from 0xfffe the selector would come from offset 0
        (&[0xc4, 0x06, 0xff, 0xff], 13, 0),
        // jmp dword 0:0x10000
        (&[0x66, 0xea, 0, 0, 1, 0, 0, 0], 13, 0),
    ];
    for &(code, vector, ip) in table {
        let mut machine = real(code);
        assert_eq!(
            real_event(&mut machine),
            (vector, ip, KERNEL_STACK),
            "{code:x?}"
        );
    }
}

#[test]
fn running_past_64_kib_is_gp() {
    // nop at 0:FFFF; the exception's frame shows IP 0 (of 0x10000)
    let mut machine = real(&[]);
    machine.write(0xffff, &[0x90]);
    machine.change(|state| state.eip = 0xffff);
    let (vector, ip, _) = real_event(&mut machine);
    assert_eq!((vector, ip.wrapping_add(CODE)), (13, 0));
}

#[test]
fn a_16_bit_segment_can_be_longer_than_64_kib() {
    // At 0x1FFFF: nop; hlt. A jump with 16-bit operands would cut EIP.
    let mut machine = machine(&[], 0);
    machine.write(0x1_ffff, &[0x90, 0xf4]);
    machine.change(|state| {
        state.segments[1] = segment(CODE0, descriptor(0, 0x3_ffff, 0x9b, 0));
        state.eip = 0x1_ffff;
    });
    assert_eq!(machine.run(10), Exit::Halted);
    assert_eq!(machine.state().eip, 0x2_0001);
}

#[test]
fn big_real_mode_keeps_the_limit_of_protected_mode() {
    // mov ax, 0x1000; mov ds, ax; mov eax, 0x20000; mov bl, [eax]; hlt
    let code = [
        0xb8, 0, 0x10, 0x8e, 0xd8, 0x66, 0xb8, 0, 0, 2, 0, 0x67, 0x8a, 0x18, 0xf4,
    ];
    let mut machine = real(&code);
    machine.write(0x3_0000, &[0x5a]);
    machine.change(|state| state.segments[3].limit = u32::MAX);
    assert_eq!(machine.run(100), Exit::Halted);
    let state = machine.state();
    assert_eq!(
        (state.gpr[gpr::EBX] & 0xff, state.segments[3].base),
        (0x5a, 0x1_0000)
    );
}

#[test]
fn a_stack_without_room_in_real_mode_is_shutdown() {
    // int3 with SP 3: no frame fits, neither for #SS nor for #DF.
    let mut machine = real(&[0xcc]);
    machine.change(|state| state.gpr[gpr::ESP] = 3);
    assert_eq!(machine.run(10), Exit::TripleFault);
}
