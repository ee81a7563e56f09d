//! What a C library would bring: entry, system calls, threads, memory
//! functions, and the stub that makes async calls.

use core::arch::global_asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

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
    // The second continuation: says who it is and ends.
    "lf_second:",
    "mov eax, 224",
    "int 0x80",
    "mov [ebp + 12], eax",
    "mov eax, 1",
    "xor ebx, ebx",
    "int 0x80",
    "2: jmp 2b",
    // u32 lf_stub_registers(frame): with every register given a value before
    // and kept after. It and lf_fxsave have the only instructions that an i586
    // does not have, and stand in a section of their own, by whose name the
    // build's check knows them. They run only where `frame.sse` points to room,
    // which is where the kernel says that it uses FXSR and SSE.
    ".section .lf_fxsr, \"ax\", @progbits",
    ".globl lf_stub_registers",
    "lf_stub_registers:",
    "push ebp",
    "push edi",
    "push esi",
    "push ebx",
    "mov eax, [esp + 20]",
    "mov [eax + 28], esp",
    "frstor [eax + 36]",
    "mov edx, [eax + 168]",
    "test edx, edx",
    "jz 1f",
    "fxrstor [edx]",
    "1:",
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
    "mov eax, [esp + 20]",
    "mov eax, [eax + 168]",
    "test eax, eax",
    "jz 1f",
    "fxsave [eax + 512]",
    "1:",
    "mov eax, [ebp + 444]",
    "pop ebx",
    "pop esi",
    "pop edi",
    "pop ebp",
    "ret",
    // void lf_fxsave(image, into): the FXSAVE image with the x87 state of an
    // FNSAVE image.
    ".globl lf_fxsave",
    "lf_fxsave:",
    "mov eax, [esp + 4]",
    "frstor [eax]",
    "mov eax, [esp + 8]",
    "fxsave [eax]",
    "ret",
    ".text",
    // void lf_x87_kept(image): loads an FNSAVE image and stores what the
    // processor kept of it.
    ".globl lf_x87_kept",
    "lf_x87_kept:",
    "mov eax, [esp + 4]",
    "frstor [eax]",
    "fnsave [eax]",
    "ret",
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
    // u32 lf_limit(selector): its segment's limit, all ones where it names none.
    ".globl lf_limit",
    "lf_limit:",
    "mov eax, -1",
    "lsl eax, [esp + 4]",
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
    /// Room for the SSE registers; null: they are left alone.
    pub sse: *mut SseRoom,
}

const _: () = assert!(core::mem::offset_of!(Frame, x87) == 36);
const _: () = assert!(core::mem::offset_of!(Frame, sse) == 168);

/// FXSAVE images at the call and behind it.
#[repr(C, align(16))]
pub struct SseRoom {
    pub before: [u32; 128],
    pub after: [u32; 128],
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
    fn lf_fxsave(image: *const [u8; 108], into: *mut [u32; 128]);
    fn lf_x87_kept(image: *mut [u8; 108]);
    fn lf_segments(into: *mut [u32; 6]);
    fn lf_set_segments(fs: u32, gs: u32);
    fn lf_limit(selector: u32) -> u32;
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

/// What the processor keeps of an FNSAVE image that it loads: some of them
/// drop the pointers.
pub fn x87_kept(image: &[u8; 108]) -> [u8; 108] {
    let mut kept = *image;
    // SAFETY: reads and writes the 108 bytes; nothing else here uses the x87.
    unsafe { lf_x87_kept(&mut kept) };
    kept
}

/// An FXSAVE image with the x87 state of an FNSAVE image.
///
/// # Safety
/// The kernel uses FXSR, and `into` lies at a multiple of 16.
pub unsafe fn fxsave_of(image: &[u8; 108], into: &mut [u32; 128]) {
    // SAFETY: the caller answers for processor and alignment.
    unsafe { lf_fxsave(image, into) };
}

/// AT_HWCAP: EDX of CPUID leaf 1, without what the kernel was told not to use.
static CAPABILITIES: AtomicU32 = AtomicU32::new(0);
const AT_HWCAP: u32 = 16;
/// AT_SYSINFO_EHDR: where the vDSO is mapped.
static VDSO: AtomicU32 = AtomicU32::new(0);
const AT_SYSINFO_EHDR: u32 = 33;
/// FXSR and SSE.
const SSE: u32 = 3 << 24;

/// Takes note of what the kernel uses, from the auxiliary vector.
///
/// # Safety
/// `stack` is the stack at the image's entry: argc, argv, 0, envp, 0, then
/// pairs up to one that starts with 0.
pub unsafe fn note_capabilities(stack: *const u32) {
    // SAFETY: stays within what the caller describes.
    unsafe {
        let mut at = stack.add(*stack as usize + 2);
        while *at != 0 {
            at = at.add(1);
        }
        at = at.add(1);
        while *at != 0 {
            match *at {
                AT_HWCAP => CAPABILITIES.store(*at.add(1), Relaxed),
                AT_SYSINFO_EHDR => VDSO.store(*at.add(1), Relaxed),
                _ => {}
            }
            at = at.add(2);
        }
    }
}

/// Where the vDSO is mapped; 0: nowhere.
pub fn vdso() -> u32 {
    VDSO.load(Relaxed)
}

/// Whether the kernel saves SSE registers.
pub fn kernel_uses_sse() -> bool {
    CAPABILITIES.load(Relaxed) & SSE == SSE
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

/// The limit of the segment that a selector names now; all ones where it names
/// none.
pub fn limit_of(selector: u32) -> u32 {
    // SAFETY: looks a descriptor up, without loading it.
    unsafe { lf_limit(selector) }
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
    // u32 lf_words_are(at, word, count): whether each of them is `word`
    ".globl lf_words_are",
    "lf_words_are:",
    "push edi",
    "mov edi, [esp + 8]",
    "mov eax, [esp + 12]",
    "mov ecx, [esp + 16]",
    "xor edx, edx",
    "cmp eax, eax",
    "repe scasd",
    "sete dl",
    "mov eax, edx",
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

unsafe extern "C" {
    fn lf_words_are(at: *const u32, word: u32, count: u32) -> u32;
}

/// Whether each of the `count` words at `at` is `word`: a word an instruction.
///
/// # Safety
///
/// They can be read.
pub unsafe fn words_are(at: u32, word: u32, count: u32) -> bool {
    // SAFETY: the caller answers for the words.
    unsafe { lf_words_are(at as *const u32, word, count) != 0 }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::console::line(format_args!("latefork-agent: {info}"));
    crate::sys::exit_group(101)
}
