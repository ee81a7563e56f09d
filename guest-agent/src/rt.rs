//! What a C library would bring: entry, system calls, threads, memory
//! functions, and the stub that makes async calls.

use core::arch::global_asm;
use core::panic::PanicInfo;

global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov eax, esp",
    "and esp, -16",
    "sub esp, 12",
    "push eax",
    "call agent_main",
    "ud2",
    // u32 lf_syscall(nr, a, b, c, d, e, f)
    ".globl lf_syscall",
    "lf_syscall:",
    "push ebp",
    "push edi",
    "push esi",
    "push ebx",
    "mov eax, [esp + 20]",
    "mov ebx, [esp + 24]",
    "mov ecx, [esp + 28]",
    "mov edx, [esp + 32]",
    "mov esi, [esp + 36]",
    "mov edi, [esp + 40]",
    "mov ebp, [esp + 44]",
    "int 0x80",
    "pop ebx",
    "pop esi",
    "pop edi",
    "pop ebp",
    "ret",
    // u32 lf_clone(flags, stack, function, argument, parent_tid, child_tid)
    ".globl lf_clone",
    "lf_clone:",
    "push ebp",
    "push edi",
    "push esi",
    "push ebx",
    "mov ebx, [esp + 20]",
    "mov ecx, [esp + 24]",
    "mov edx, [esp + 36]",
    "mov edi, [esp + 40]",
    "xor esi, esi",
    "sub ecx, 16",
    "mov eax, [esp + 32]",
    "mov [ecx], eax",
    "mov ebp, [esp + 28]",
    "mov eax, 120",
    "int 0x80",
    "test eax, eax",
    "jnz 1f",
    "call ebp",
    "mov ebx, eax",
    "mov eax, 1",
    "int 0x80",
    "ud2",
    "1:",
    "pop ebx",
    "pop esi",
    "pop edi",
    "pop ebp",
    "ret",
    // The end of a signal handler with siginfo.
    ".globl lf_restorer",
    "lf_restorer:",
    "mov eax, 173",
    "int 0x80",
);

// The stub. From `int 0x80` to the latch nothing touches the stack: if the
// call has two continuations they share it, and the second must end without
// having written there. `ebp` holds the call's slot (see `wire::layout::slot`).
global_asm!(
    ".macro lf_load",
    "mov ebx, [eax + 4]",
    "mov ecx, [eax + 8]",
    "mov edx, [eax + 12]",
    "mov esi, [eax + 16]",
    "mov edi, [eax + 20]",
    "mov ebp, [eax + 24]",
    ".endm",
    ".macro lf_latch",
    "lock inc dword ptr [ebp]",
    "setc byte ptr [ebp + 8]",
    "lock bts dword ptr [ebp + 4], 0",
    "jc lf_second",
    ".endm",
    // u32 lf_stub(frame)
    ".globl lf_stub",
    "lf_stub:",
    "push ebp",
    "push edi",
    "push esi",
    "push ebx",
    "mov eax, [esp + 20]",
    "lf_load",
    "mov eax, [eax]",
    "int 0x80",
    "lf_latch",
    "pop ebx",
    "pop esi",
    "pop edi",
    "pop ebp",
    "ret",
    // u32 lf_stub_registers(frame): with every register given a value before
    // and kept after.
    ".globl lf_stub_registers",
    "lf_stub_registers:",
    "push ebp",
    "push edi",
    "push esi",
    "push ebx",
    "mov eax, [esp + 20]",
    "mov [eax + 28], esp",
    "frstor [eax + 36]",
    "push dword ptr [eax + 32]",
    "lf_load",
    "mov eax, [eax]",
    "popfd",
    "int 0x80",
    // The count changes five flags: these go into the slot before, without
    // the stack.
    "mov [ebp + 20], eax",
    "lahf",
    "seto al",
    "mov [ebp + 24], eax",
    "mov eax, [ebp + 20]",
    "lf_latch",
    "mov [ebp + 444], eax",
    "mov [ebp + 448], ecx",
    "mov [ebp + 452], edx",
    "mov [ebp + 456], ebx",
    "mov [ebp + 460], esp",
    "mov [ebp + 464], ebp",
    "mov [ebp + 468], esi",
    "mov [ebp + 472], edi",
    "mov word ptr [ebp + 476], es",
    "mov word ptr [ebp + 480], cs",
    "mov word ptr [ebp + 484], ss",
    "mov word ptr [ebp + 488], ds",
    "mov word ptr [ebp + 492], fs",
    "mov word ptr [ebp + 496], gs",
    "fnsave [ebp + 336]",
    "pushfd",
    "pop dword ptr [ebp + 500]",
    "cld",
    "pop ebx",
    "pop esi",
    "pop edi",
    "pop ebp",
    "ret",
    // The second continuation: says who it is and ends.
    "lf_second:",
    "mov eax, 224",
    "int 0x80",
    "mov [ebp + 12], eax",
    "mov eax, 1",
    "xor ebx, ebx",
    "int 0x80",
    "2: jmp 2b",
    // Continuations of plain registers: the segments as they are now.
    ".globl lf_segments",
    "lf_segments:",
    "mov eax, [esp + 4]",
    "mov word ptr [eax], es",
    "mov word ptr [eax + 4], cs",
    "mov word ptr [eax + 8], ss",
    "mov word ptr [eax + 12], ds",
    "mov word ptr [eax + 16], fs",
    "mov word ptr [eax + 20], gs",
    "ret",
    // void lf_set_segments(fs, gs)
    ".globl lf_set_segments",
    "lf_set_segments:",
    "mov eax, [esp + 4]",
    "mov fs, ax",
    "mov eax, [esp + 8]",
    "mov gs, ax",
    "ret",
);

/// What the stub loads: the slot's registers, then room for what it keeps.
#[repr(C)]
pub struct Frame {
    /// eax, ebx, ecx, edx, esi, edi, ebp.
    pub registers: [u32; 7],
    /// esp at the call, written by the stub.
    pub stack: u32,
    /// Flags at the call.
    pub flags: u32,
    /// FNSAVE image at the call.
    pub x87: [u8; 108],
    /// es, cs, ss, ds, fs, gs at the call.
    pub segments: [u32; 6],
}

unsafe extern "C" {
    fn lf_syscall(nr: u32, a: u32, b: u32, c: u32, d: u32, e: u32, f: u32) -> u32;
    fn lf_clone(
        flags: u32,
        stack: u32,
        function: extern "C" fn(u32) -> u32,
        argument: u32,
        parent_tid: u32,
        child_tid: u32,
    ) -> u32;
    fn lf_stub(frame: *mut Frame) -> u32;
    fn lf_stub_registers(frame: *mut Frame) -> u32;
    fn lf_segments(into: *mut [u32; 6]);
    fn lf_set_segments(fs: u32, gs: u32);
    fn lf_restorer();
}

/// Address of the signal return stub.
pub fn restorer() -> u32 {
    lf_restorer as *const () as u32
}

/// One system call; the result as the kernel gives it.
///
/// # Safety
/// The call must not break memory that Rust code relies on.
pub unsafe fn syscall(nr: u32, args: [u32; 6]) -> i32 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: lf_syscall keeps the registers that the C convention asks for;
    // the caller answers for what the call itself does.
    unsafe { lf_syscall(nr, a, b, c, d, e, f) }.cast_signed()
}

/// clone with a stack of its own; the child runs `function` and exits.
///
/// # Safety
/// `stack` is the top of memory that nothing else uses.
pub unsafe fn clone(
    flags: u32,
    stack: u32,
    function: extern "C" fn(u32) -> u32,
    argument: u32,
    tids: (u32, u32),
) -> i32 {
    // SAFETY: the caller hands over the stack; the tid addresses are the
    // kernel's to check.
    unsafe { lf_clone(flags, stack, function, argument, tids.0, tids.1) }.cast_signed()
}

/// Makes the call of `frame` through the counting stub.
///
/// # Safety
/// `ebp` of the frame is the address of a slot.
pub unsafe fn stub(frame: &mut Frame, keep_registers: Keep) -> u32 {
    // SAFETY: the stub writes to the slot and the frame only.
    unsafe {
        match keep_registers {
            Keep::Nothing => lf_stub(frame),
            Keep::Registers => lf_stub_registers(frame),
        }
    }
}

/// Whether the stub keeps the registers at the return.
#[derive(Clone, Copy)]
pub enum Keep {
    Nothing,
    Registers,
}

/// The segment registers: es, cs, ss, ds, fs, gs.
pub fn segments() -> [u32; 6] {
    let mut found = [0; 6];
    // SAFETY: writes the six words.
    unsafe { lf_segments(&mut found) };
    found
}

/// Loads fs and gs.
pub fn set_segments(fs: u32, gs: u32) {
    // SAFETY: this program uses neither segment; a bad selector faults.
    unsafe { lf_set_segments(fs, gs) };
}

// esi cannot be an operand of inline assembly on x86, so these are written out.
global_asm!(
    ".globl memcpy",
    "memcpy:",
    "push esi",
    "push edi",
    "mov edi, [esp + 12]",
    "mov esi, [esp + 16]",
    "mov eax, [esp + 20]",
    "mov ecx, eax",
    "shr ecx, 2",
    "rep movsd",
    "mov ecx, eax",
    "and ecx, 3",
    "rep movsb",
    "mov eax, [esp + 12]",
    "pop edi",
    "pop esi",
    "ret",
    ".globl memmove",
    "memmove:",
    "mov eax, [esp + 4]",
    "sub eax, [esp + 8]",
    "cmp eax, [esp + 12]",
    "jae memcpy",
    "push esi",
    "push edi",
    "mov ecx, [esp + 20]",
    "mov edi, [esp + 12]",
    "mov esi, [esp + 16]",
    "lea edi, [edi + ecx - 1]",
    "lea esi, [esi + ecx - 1]",
    "std",
    "rep movsb",
    "cld",
    "mov eax, [esp + 12]",
    "pop edi",
    "pop esi",
    "ret",
    ".globl memset",
    "memset:",
    "push edi",
    "mov edi, [esp + 8]",
    "movzx eax, byte ptr [esp + 12]",
    "imul eax, eax, 0x01010101",
    "mov edx, [esp + 16]",
    "mov ecx, edx",
    "shr ecx, 2",
    "rep stosd",
    "mov ecx, edx",
    "and ecx, 3",
    "rep stosb",
    "mov eax, [esp + 8]",
    "pop edi",
    "ret",
    ".globl memcmp",
    ".globl bcmp",
    "memcmp:",
    "bcmp:",
    "push esi",
    "push edi",
    "mov esi, [esp + 12]",
    "mov edi, [esp + 16]",
    "mov ecx, [esp + 20]",
    "xor eax, eax",
    "xor edx, edx",
    "cmp eax, eax",
    "repe cmpsb",
    "je 3f",
    "movzx eax, byte ptr [esi - 1]",
    "movzx edx, byte ptr [edi - 1]",
    "sub eax, edx",
    "3:",
    "pop edi",
    "pop esi",
    "ret",
);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::console::line(format_args!("latefork-agent: {info}"));
    crate::sys::exit_group(101)
}
