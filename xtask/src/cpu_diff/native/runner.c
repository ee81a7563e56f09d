/*
 * The native side of `cargo xtask cpu-diff`: a freestanding 32-bit program
 * that executes one instruction at a time on the host processor.
 *
 * It reads batches from standard input and writes their results to standard
 * output (the layouts are those of `wire.rs`). Every case starts from a given
 * state: general registers, flags, data segments, an FXSAVE image and the
 * contents of a small arena. The instruction ends in one of two ways:
 *
 * - in a run, a `jmp` to `case_exit` follows it, which stores all registers
 *   without any system call;
 * - in a single step (branches, whose end is not known), the state is loaded
 *   by `sigreturn` with TF set, and the debug trap ends the case.
 *
 * A fault arrives as a signal on its own stack; the frame holds the state.
 * Nothing here allocates, and nothing calls a library.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { PAGE = 4096, BLOCK = 64 };

/* The arena's four pages in the file that backs them. */
enum { PAGE_RW0, PAGE_RW1, PAGE_RO, PAGE_CODE, ARENA_PAGES };

/* Where the pages are seen; `layout.rs` has the same table. */
#define DATA_BASE 0x10001000u
#define RO_BASE 0x10004000u
#define CODE_BASE 0x20000000u
#define LOW_BASE 0x00004000u
#define LOW_RO 0x00007000u
#define LOW_TOP 0x0000F000u
/* The runner's own writable view of the arena. */
#define ALIAS_BASE 0x0D800000u

enum { FX_BYTES = 512, FX_SENT = 288 };
enum { SINGLE_STEP = 1 };
enum { TRAP_NONE = 0xFFFFFFFFu, TRAP_HANG = 0xFFFFFFFEu };
enum { MAX_PAYLOAD = 4 << 20, MAX_CODE = 32 };
#define MAGIC 0x4644464Cu

struct batch_header {
	u32 magic;
	u32 cases;
	u32 payload; /* bytes that follow: arena data pages, then cases */
};

/* In the order in which `case_enter` pops it. */
struct registers {
	u32 gs, fs, es, ds;
	u32 edi, esi, ebp, unused, ebx, edx, ecx, eax;
	u32 eflags;
	u32 esp, eip;
};

struct case_in {
	struct registers regs;
	u32 flags;
	u16 code_len, patches;
	u8 code[MAX_CODE];
	u8 fx[FX_SENT];
	/* then `patches` times: u16 offset, u16 length, bytes */
};

struct case_out {
	struct registers regs;
	u32 cs, ss;
	u32 trap, error, cr2;
	u32 has_fx;
	u32 blocks;
	u8 fx[FX_SENT];
	/* then `blocks` times: u32 index, 64 bytes */
};

/* What the entry and exit paths load and store. */
struct registers in_regs;
struct registers out_regs;
u32 out_ss;
u32 runner_esp;
u8 fx_in[FX_BYTES] __attribute__((aligned(16)));
u8 fx_out[FX_BYTES] __attribute__((aligned(16)));
u8 signal_stack[65536] __attribute__((aligned(16)));

static u8 input[MAX_PAYLOAD] __attribute__((aligned(64)));
static u8 output[MAX_PAYLOAD * 2] __attribute__((aligned(64)));
static u8 pristine[2 * PAGE] __attribute__((aligned(64)));
static u32 out_len;
static volatile u32 trap, trap_error, trap_cr2, out_cs, has_fx;
static volatile u32 running, ticks_in_case;

u32 sixth_argument;

static int syscall6(int number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f)
{
	int result;
	/* Not an operand: its address could be relative to ESP. */
	sixth_argument = f;
	__asm__ volatile("pushl %%ebp; movl sixth_argument, %%ebp\n"
			 "int $0x80; popl %%ebp"
			 : "=a"(result)
			 : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
}

enum {
	SYS_exit = 1, SYS_read = 3, SYS_write = 4, SYS_setitimer = 104,
	SYS_rt_sigaction = 174, SYS_sigaltstack = 186, SYS_mmap2 = 192,
	SYS_ftruncate = 93, SYS_memfd_create = 356, SYS_modify_ldt = 123,
};

static void die(u32 code)
{
	for (;;)
		syscall6(SYS_exit, code, 0, 0, 0, 0, 0);
}

static void copy(void *to, const void *from, u32 len)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
}

static void fill(void *to, u8 value, u32 len)
{
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(len) : "a"(value) : "memory");
}

/*
 * case_enter loads `in_regs` and jumps to the case; case_exit, which the
 * case's trailing `jmp` and the signal handlers reach, stores `out_regs` and
 * returns from case_enter. All accesses go through SS, since the case may
 * have any selector in DS and ES.
 */
void case_enter(void);
void case_exit(void);
void case_return(void);
__asm__(
".globl case_enter\n"
"case_enter:\n"
"	pushl %ebx; pushl %esi; pushl %edi; pushl %ebp\n"
"	movl %esp, runner_esp\n"
"	fxrstor fx_in\n"
"	movl $in_regs, %esp\n"
"	popl %gs; popl %fs; popl %es; popl %ds\n"
"	popal\n"
"	popfl\n"
"	movl %ss:in_regs+52, %esp\n"
"	jmp *%ss:in_regs+56\n"
".globl case_exit\n"
"case_exit:\n"
"	movl %esp, %ss:out_regs+52\n"
"	movl $out_regs+52, %esp\n"
"	pushfl\n"
"	pushl %eax; pushl %ecx; pushl %edx; pushl %ebx; pushl $0\n"
"	pushl %ebp; pushl %esi; pushl %edi\n"
"	pushl %ds; pushl %es; pushl %fs; pushl %gs\n"
"	movl %ss:runner_esp, %esp\n"
"	pushl $0x202; popfl\n"
"	fxsave %ss:fx_out\n"
".globl case_return\n"
"case_return:\n"
"	movl %ss:runner_esp, %esp\n"
"	pushl $0x202; popfl\n"
"	movl %ss, %eax; movl %eax, %ss:out_ss\n"
"	movl $0x2b, %eax; movl %eax, %ds; movl %eax, %es\n"
"	movl %ss:runner_esp, %esp\n"
"	popl %ebp; popl %edi; popl %esi; popl %ebx\n"
"	ret\n");

/* `sigreturn` (the call without siginfo) takes its frame at ESP. */
struct sigcontext {
	u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax;
	u32 trapno, err, eip, cs, eflags, esp_at_signal, ss, fpstate, oldmask, cr2;
};
struct step_frame {
	struct sigcontext context;
	u8 unused_fpstate[1024];
	u32 extramask;
} step_frame;
void case_step(void);
__asm__(
".globl case_step\n"
"case_step:\n"
"	pushl %ebx; pushl %esi; pushl %edi; pushl %ebp\n"
"	movl %esp, runner_esp\n"
"	movl $step_frame, %esp\n"
"	movl $119, %eax\n"
"	int $0x80\n");

static void leave_case(struct sigcontext *context)
{
	/* SA_NODEFER leaves no signal blocked, and the kernel finds out from
	 * ESP whether the signal stack is in use: no sigreturn is needed. */
	(void)context;
	running = 0;
	__asm__ volatile("cld; jmp case_return");
	__builtin_unreachable();
}

static void store_context(const struct sigcontext *context)
{
	out_regs.gs = context->gs & 0xFFFF;
	out_regs.fs = context->fs & 0xFFFF;
	out_regs.es = context->es & 0xFFFF;
	out_regs.ds = context->ds & 0xFFFF;
	out_regs.edi = context->edi;
	out_regs.esi = context->esi;
	out_regs.ebp = context->ebp;
	out_regs.ebx = context->ebx;
	out_regs.edx = context->edx;
	out_regs.ecx = context->ecx;
	out_regs.eax = context->eax;
	out_regs.eflags = context->eflags;
	out_regs.esp = context->esp_at_signal;
	out_regs.eip = context->eip;
	out_cs = context->cs & 0xFFFF;
	trap = context->trapno;
	trap_error = context->err;
	trap_cr2 = context->cr2;
	/* The legacy FSAVE image (112 bytes) comes first; its last field is 0
	 * when an FXSAVE image follows. */
	const u8 *state = (const u8 *)context->fpstate;
	has_fx = state && *(const u16 *)(state + 110) == 0;
	if (has_fx)
		copy(fx_out, state + 112, FX_BYTES);
}

static void on_fault(int signal, void *info, u32 *ucontext)
{
	struct sigcontext *context = (struct sigcontext *)(ucontext + 5);
	(void)signal;
	(void)info;
	if (!running) {
		/* A fault of the runner itself: nothing can be trusted now. */
		die(100 + context->trapno);
	}
	store_context(context);
	leave_case(context);
}

static void on_tick(int signal, void *info, u32 *ucontext)
{
	struct sigcontext *context = (struct sigcontext *)(ucontext + 5);
	(void)signal;
	(void)info;
	if (running && ++ticks_in_case > 3) {
		store_context(context);
		trap = TRAP_HANG;
		leave_case(context);
	}
}

static void read_all(void *to, u32 len)
{
	while (len) {
		int n = syscall6(SYS_read, 0, (u32)to, len, 0, 0, 0);
		if (n == -4)
			continue;
		if (n <= 0)
			die(n == 0 ? 0 : 90);
		to = (u8 *)to + n;
		len -= n;
	}
}

static void write_all(const void *from, u32 len)
{
	while (len) {
		int n = syscall6(SYS_write, 1, (u32)from, len, 0, 0, 0);
		if (n == -4)
			continue;
		if (n <= 0)
			die(91);
		from = (const u8 *)from + n;
		len -= n;
	}
}

static void map_page(u32 fd, u32 page, u32 pages, u32 address, u32 protection)
{
	/* MAP_SHARED | MAP_FIXED | MAP_POPULATE */
	int at = syscall6(SYS_mmap2, address, pages * PAGE, protection,
			  1 | 0x10 | 0x8000, fd, page);
	if ((u32)at != address)
		die(92);
}

static void map_arena(void)
{
	enum { R = 1, W = 2, X = 4 };
	int fd = syscall6(SYS_memfd_create, (u32) "arena", 0, 0, 0, 0, 0);
	if (fd < 0 || syscall6(SYS_ftruncate, fd, ARENA_PAGES * PAGE, 0, 0, 0, 0))
		die(93);
	map_page(fd, PAGE_RW0, ARENA_PAGES, ALIAS_BASE, R | W);
	map_page(fd, PAGE_RW0, 2, DATA_BASE, R | W);
	map_page(fd, PAGE_RO, 1, RO_BASE, R);
	map_page(fd, PAGE_CODE, 1, CODE_BASE, R | X);
	map_page(fd, PAGE_RW0, 2, LOW_BASE, R | W);
	map_page(fd, PAGE_RO, 1, LOW_RO, R);
	map_page(fd, PAGE_RW0, 2, LOW_TOP, R | W);
}

static void restorer(void)
{
	die(94);
}
__attribute__((naked)) static void tick_restorer(void)
{
	__asm__("movl $173, %eax; int $0x80");
}

static void install(int signal, void *handler, void *restore)
{
	/* SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER */
	u32 action[5] = { (u32)handler, 4 | 0x04000000 | 0x08000000 | 0x40000000,
			  (u32)restore, 0, 0 };
	if (syscall6(SYS_rt_sigaction, signal, (u32)action, 0, 8, 0, 0))
		die(95);
}

static void install_handlers(void)
{
	u32 stack[3] = { (u32)signal_stack, 0, sizeof signal_stack };
	if (syscall6(SYS_sigaltstack, (u32)stack, 0, 0, 0, 0, 0))
		die(96);
	install(4, on_fault, restorer);  /* SIGILL */
	install(5, on_fault, restorer);  /* SIGTRAP */
	install(7, on_fault, restorer);  /* SIGBUS */
	install(8, on_fault, restorer);  /* SIGFPE */
	install(11, on_fault, restorer); /* SIGSEGV */
	/* SIGVTALRM: the program's own time, so that a busy host is no hang. */
	install(26, on_tick, tick_restorer);
	u32 timer[4] = { 0, 100000, 0, 100000 };
	if (syscall6(SYS_setitimer, 1, (u32)timer, 0, 0, 0, 0))
		die(97);
}

/* Appends every block of the two writable pages that changed, and mends it. */
static u32 collect_blocks(void)
{
	u32 changed = 0;
	u8 *arena = (u8 *)ALIAS_BASE;
	for (u32 index = 0; index < 2 * PAGE / BLOCK; index++) {
		const u32 *now = (const u32 *)(arena + index * BLOCK);
		const u32 *before = (const u32 *)(pristine + index * BLOCK);
		u32 differs = 0;
		for (u32 i = 0; i < BLOCK / 4; i++)
			differs |= now[i] ^ before[i];
		if (!differs)
			continue;
		*(u32 *)(output + out_len) = index;
		copy(output + out_len + 4, now, BLOCK);
		copy((u8 *)now, before, BLOCK);
		out_len += 4 + BLOCK;
		changed++;
	}
	return changed;
}

static const u8 *apply_patches(const u8 *at, u32 count)
{
	u8 *arena = (u8 *)ALIAS_BASE;
	while (count--) {
		u32 offset = *(const u16 *)at, len = *(const u16 *)(at + 2);
		if (offset + len > 3 * PAGE)
			die(98);
		copy(arena + offset, at + 4, len);
		for (u32 i = offset; i < offset + len && i < 2 * PAGE; i++)
			pristine[i] = arena[i];
		at += 4 + len;
	}
	return at;
}

static void place_code(const struct case_in *c)
{
	static u32 last_at, last_len;
	u8 *page = (u8 *)ALIAS_BASE + PAGE_CODE * PAGE;
	fill(page + last_at, 0xCC, last_len);
	u32 at = c->regs.eip - CODE_BASE;
	u32 len = c->code_len;
	if (at >= PAGE || len > MAX_CODE || at + len > PAGE)
		die(99);
	copy(page + at, c->code, len);
	last_at = at;
	last_len = len;
	/* The way out, where it fits: instructions at the very end of the
	 * page are there to fault at their fetch. */
	if (at + len + 5 <= PAGE) {
		page[at + len] = 0xE9;
		*(u32 *)(page + at + len + 1) =
			(u32)case_exit - (CODE_BASE + at + len + 5);
		last_len += 5;
	}
}

static void start_step(const struct case_in *c)
{
	struct sigcontext *f = &step_frame.context;
	fill(&step_frame, 0, sizeof step_frame);
	f->gs = c->regs.gs;
	f->fs = c->regs.fs;
	f->es = c->regs.es;
	f->ds = c->regs.ds;
	f->edi = c->regs.edi;
	f->esi = c->regs.esi;
	f->ebp = c->regs.ebp;
	f->ebx = c->regs.ebx;
	f->edx = c->regs.edx;
	f->ecx = c->regs.ecx;
	f->eax = c->regs.eax;
	f->eip = c->regs.eip;
	f->eflags = c->regs.eflags | 0x100;
	f->esp = c->regs.esp;
	f->esp_at_signal = c->regs.esp;
	f->cs = 0x23;
	f->ss = 0x2b;
	case_step();
}

static void run_case(const struct case_in *c)
{
	trap = TRAP_NONE;
	trap_error = trap_cr2 = 0;
	out_cs = 0x23;
	has_fx = 1;
	ticks_in_case = 0;
	place_code(c);
	copy(&in_regs, &c->regs, sizeof in_regs);
	copy(fx_in, c->fx, FX_SENT);
	out_regs.eip = 0;
	running = 1;
	__asm__ volatile("" : : : "memory");
	if (c->flags & SINGLE_STEP)
		start_step(c);
	else
		case_enter();
	__asm__ volatile("" : : : "memory");
	running = 0;
	if (trap == TRAP_NONE)
		out_regs.eip = c->regs.eip + c->code_len;
	/* A trap on the way out belongs to the instruction that set TF. */
	if (out_regs.eip == (u32)case_exit)
		out_regs.eip = c->regs.eip + c->code_len;
}

static void report_case(void)
{
	struct case_out *o = (struct case_out *)(output + out_len);
	copy(&o->regs, &out_regs, sizeof out_regs);
	o->cs = out_cs;
	o->ss = out_ss & 0xFFFF;
	o->trap = trap;
	o->error = trap_error;
	o->cr2 = trap_cr2;
	o->has_fx = has_fx;
	copy(o->fx, fx_out, FX_SENT);
	out_len += sizeof *o;
	o->blocks = collect_blocks();
}

static void run_batch(void)
{
	struct batch_header header;
	read_all(&header, sizeof header);
	if (header.magic != MAGIC || header.payload > MAX_PAYLOAD)
		die(89);
	read_all(input, header.payload);
	copy((u8 *)ALIAS_BASE, input, 3 * PAGE);
	copy(pristine, input, 2 * PAGE);
	const u8 *at = input + 3 * PAGE;
	out_len = 4;
	for (u32 i = 0; i < header.cases; i++) {
		const struct case_in *c = (const struct case_in *)at;
		at = apply_patches(at + sizeof *c, c->patches);
		if (out_len > sizeof output - 3 * PAGE)
			die(88);
		run_case(c);
		report_case();
	}
	*(u32 *)output = out_len - 4;
	write_all(output, out_len);
}

void _start(void)
{
	map_arena();
	fill((u8 *)ALIAS_BASE + PAGE_CODE * PAGE, 0xCC, PAGE);
	install_handlers();
	for (;;)
		run_batch();
}
