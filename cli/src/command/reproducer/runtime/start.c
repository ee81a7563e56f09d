/* ---- privileges, threads, the start -------------------------------------------------- */

static void privilege(u32 user, u32 capability)
{
	u32 header[2] = { 0x20080522, 0 };
	u32 data[6] = { 0, 0, 0, 0, 0, 0 };

	if (!user)
		return;
	sys2(172, 8, 1);
	sys3(210, 1000, 1000, 1000);
	sys3(208, 1000, 1000, 1000);
	data[0] = data[1] = capability ? 1u << capability : 0;
	sys2(185, header, data);
}

static void limit(u32 resource, u32 value)
{
	u64 both[2] = { value, value };

	if (value != 255)
		sys4(340, 0, resource, both, 0);
}

static void execute(const char *path)
{
	const char *const arguments[] = { "!", 0 };
	const char *const none[] = { 0 };

	sys3(11, path, arguments, none);
}

static void report(u32 op)
{
	u32 value = get_word(shared->statuses[op], UNWRITTEN);

	if (value == UNWRITTEN)
		say("operation ", (int)op, ": no status; returned from async: ",
		    (int)shared->calls[op].returned);
	else
		say("operation ", (int)op, ": status ", (int)value);
}

static void keep_child(int pid)
{
	if (pid > 0)
		shared->children[shared->child_count++ % 8] = (u32)pid;
}

static void wait_child(u32 limit)
{
	int status = 0, pid;

	do {
		pid = sys4(114, -1, &status, 1, 0);
		if (pid)
			break;
		ticks(1);
	} while (limit--);
	if (pid > 0)
		say("child ", pid, " ended, status ", status);
}

static void run_thread(u32 number);

void thread_start(u32 number);
void thread_start(u32 number)
{
	shared->first_tid[number] = shared->now_tid[number] = (u32)gettid();
	run_thread(number);
	shared->done[number] = 1;
	sys1(1, 0);
}

int clone_thread(u32 stack);
__asm__(".globl clone_thread\nclone_thread:\n\t"
	"pushl %ebx\n\tpushl %esi\n\tpushl %edi\n\tmovl $120, %eax\n\t"
	"movl $0x50f00, %ebx\n\tmovl 16(%esp), %ecx\n\txorl %edx, %edx\n\t"
	"xorl %esi, %esi\n\txorl %edi, %edi\n\tint $0x80\n\ttestl %eax, %eax\n\t"
	"jz 1f\n\tpopl %edi\n\tpopl %esi\n\tpopl %ebx\n\tret\n1:\tcall thread_start\n");

static void spawn(u32 number)
{
	u32 top = 0x40000000u + number * 0x20000u + 0x10000u - 512;

	/* The first argument of thread_start, above its return address. */
	*(u32 *)top = number;
	clone_thread(top);
}

static void touch(u32 at)
{
	get_word(at, 0);
}

static void make_files(void)
{
	u8 text[64];
	u32 at;
	int fd;

	for (at = 0; at < 64; at++)
		text[at] = (u8)('a' + at % 26);
	sys2(39, "/t", 0777);
	sys2(39, "/t/dir", 0777);
	sys3(14, "/t/fifo", 010666, 0);
	sys2(83, "/t/loop", "/t/loop");
	sys1(6, sys3(5, "/t/private", 0101, 0600));
	fd = sys3(5, "/t/file", 01101, 0777);
	sys3(4, fd, text, sizeof(text));
	sys1(6, fd);
	shared->semaphores = (u32)sys3(393, 0, 1, 0666);
	sys4(394, shared->semaphores, 0, 16, 1);
}

static void make_memory(void)
{
	int calls = sys2(356, "calls", 0);
	u32 at;

	sys2(93, calls, CALLS_BYTES);
	map(CALLS, CALLS_BYTES, RW, SHARED, calls);
	map(CALLS_READ_ONLY, CALLS_BYTES, 1, SHARED, calls);
	map(CALLS_WRITE_ONLY, CALLS_BYTES, 2, SHARED, calls);
	map(SHARED_CELLS, 2048 + 2048, RW, SHARED | FIXED_ANONYMOUS, -1);
	for (at = 0; at < EDGE_PAGES; at++)
		map(EDGES + at * 2 * PAGE, PAGE, RW, SHARED | FIXED_ANONYMOUS, -1);
	for (at = 0; at < 4; at++) {
		map(0x40000000u + at * 0x20000u, 0x10000u, RW, PRIVATE | FIXED_ANONYMOUS, -1);
		map(0x41000000u + at * 0x4000u, 0x2000u, RW, PRIVATE | FIXED_ANONYMOUS, -1);
	}
}

static void map_slow(u32 file)
{
	static char path[] = "/f/0";
	int fd;

	path[3] = (char)('0' + file);
	fd = sys3(5, path, 2, 0);
	map(SLOW + file * SLOW_STRIDE, PAGE, RW, PRIVATE | FIXED_ANONYMOUS, -1);
	if (fd >= 0)
		map(SLOW + file * SLOW_STRIDE + PAGE, PAGE, RW, PRIVATE, fd);
}

static void setup(void);
static void spawn_all(void);
static void finish(void);

static void victim(void)
{
	u32 file;

	for (file = 0; file < 4 && USES_FUSE; file++)
		map_slow(file);
	setup();
	shared->first_tid[0] = shared->now_tid[0] = (u32)gettid();
	spawn_all();
	run_thread(0);
	shared->done[0] = 1;
	finish();
}

/* `stack` is what the kernel leaves: count, then arguments. */
void start(const u32 *stack);
void start(const u32 *stack)
{
	int pid = sys0(20), server = 0, child, status = 0, device = -1;
	u32 slot;

	if (stack[0] > 0 && *(const char *)stack[1] == '!') {
		say("executed, in task ", gettid(), 0, 0);
		sys1(252, 42);
	}
	if (pid == 1) {
		/* As /init: what a program finds on any system. */
		sys2(39, "/proc", 0555);
		sys2(39, "/dev", 0755);
		sys(21, (u32)"proc", (u32)"/proc", (u32)"proc", 0, 0, 0);
		sys(21, (u32)"dev", (u32)"/dev", (u32)"devtmpfs", 0, 0, 0);
		sys2(39, "/t", 0777);
		sys(21, (u32)"tmp", (u32)"/t", (u32)"tmpfs", 0, 0, 0);
	}
	shared = (struct shared *)sys(192, 0, (sizeof(*shared) + PAGE - 1) & ~(PAGE - 1), RW,
				      0x21, (u32)-1, 0);
	for (slot = 0; slot < 8; slot++)
		shared->fds[slot][0] = shared->fds[slot][1] = -1;
	make_files();
	make_memory();
	if (USES_FUSE) {
		device = mount_fuse();
		if (device < 0)
			say("no FUSE: this program needs root and /dev/fuse, error ", device, 0, 0);
		server = sys0(2);
		if (server == 0)
			serve(device);
	}
	child = sys0(2);
	if (child == 0)
		victim();
	for (slot = 0; slot < 800; slot++) {
		if (sys4(114, child, &status, 1, 0) == child)
			break;
		ticks(1);
	}
	if (slot == 800) {
		say("the program did not end: killed ", child, 0, 0);
		sys2(37, child, 9);
	} else {
		say("the program ended, status ", status, 0, 0);
	}
	if (server > 0) {
		sys2(37, server, 9);
		sys4(114, server, 0, 0, 0);
	}
	if (pid == 1)
		sys4(88, 0xfee1dead, 672274793, 0x01234567, 0);
	sys1(252, 0);
}

__asm__(".globl _start\n_start:\n\tmovl %esp, %eax\n\txorl %ebp, %ebp\n\tandl $-16, %esp\n\tpushl %eax\n\tcall start\n");
