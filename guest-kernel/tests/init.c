/*
 * The kernel's own proof, /init of a guest: what the two flavours do with an
 * async call, as TAP on the console. The first argument of the kernel command
 * line after "--" names what to run: `tests`, `map`, `cells`, or
 * `provoke <type>`, which is provoke.c's.
 *
 * The agent's self-test covers the properties one by one; this is what the
 * kernel's build stands on, small enough to be read beside the patches.
 */
#include "sys.h"

#define EINVAL	22
#define EFAULT	14
#define ENOSYS	38
#define UNTOUCHED 0x5a5a5a5a

struct test {
	const char *name;
	/* 0: passed; otherwise the number of the check that failed. */
	int (*run)(void);
};

static char buffer[256];
static volatile int status;
static int ends[2];

/* Writes into the pipe after a while, from another process. */
static void write_later(u32 milliseconds)
{
	if (SYS0(SYS_fork))
		return;
	rest(milliseconds);
	SYS3(SYS_write, ends[1], "ping", 4);
	SYS1(SYS_exit_group, 0);
}

static int wait_status(u32 milliseconds)
{
	u32 i;

	for (i = 0; i < milliseconds / 10 && status == UNTOUCHED; i++)
		rest(10);
	return status;
}

static long async_read(void)
{
	unsigned long args[3] = { ends[0], (unsigned long)buffer, sizeof(buffer) };

	status = UNTOUCHED;
	return async(ASYNC_READ, &status, args);
}

static int not_blocked(void)
{
	unsigned long args[2] = { (unsigned long)"/", (unsigned long)buffer };
	long tid = SYS0(SYS_gettid);

	status = UNTOUCHED;
	if (async(ASYNC_STAT64, &status, args))
		return 1;
	if (status)
		return 2;
	return SYS0(SYS_gettid) == tid ? 0 : 3;
}

static int refused(void)
{
	unsigned long args[6] = { 0 };

	status = UNTOUCHED;
	if (async(ASYNC_CALLS, &status, args) != -EINVAL)
		return 1;
	if (async(-1, &status, args) != -EINVAL)
		return 2;
	if (async(ASYNC_EMPTY, &status, args) != -EINVAL)
		return 3;
	if (async(ASYNC_SEVEN, &status, args) != -EINVAL)
		return 4;
	if (async(ASYNC_STAT64, &status, (void *)0xc0000000) != -EFAULT)
		return 5;
	return status == UNTOUCHED ? 0 : 6;
}

static int nested(void)
{
	unsigned long inner[2] = { (unsigned long)"/", (unsigned long)buffer };
	unsigned long args[4] = { ASYNC_STAT64, 0, (unsigned long)&buffer[200],
				  (unsigned long)inner };

	if (async(ASYNC_ASYNC, &status, args))
		return 1;
	return status == -EINVAL ? 0 : 2;
}

static int forked(void)
{
	long tid = SYS0(SYS_gettid), pid = SYS0(SYS_getpid);

	write_later(100);
	if (async_read())
		return 1;
	if (SYS0(SYS_gettid) == tid)
		return 2;
	if (SYS0(SYS_getpid) != pid)
		return 3;
	if (status != UNTOUCHED)
		return 4;
	if (wait_status(1000) != 4)
		return 5;
	return buffer[0] == 'p' && buffer[3] == 'g' ? 0 : 6;
}

static int clone_fails(void)
{
	u32 limit[2] = { 1, 1 };	/* soft, hard */
	long tid;

	write_later(100);
	SYS2(SYS_setrlimit, 6, limit);
	if (SYS3(SYS_setresuid32, 1000, 1000, 1000))
		return 1;
	tid = SYS0(SYS_gettid);
	if (async_read())
		return 2;
	if (SYS0(SYS_gettid) != tid)
		return 3;
	return status == 4 ? 0 : 4;
}

static int close_under_worker(void)
{
	if (async_read())
		return 1;
	SYS1(SYS_close, ends[0]);
	rest(50);
	SYS3(SYS_write, ends[1], "ping", 4);
	return wait_status(1000) == 4 ? 0 : 2;
}

static int exit_status(void)
{
	int child = SYS0(SYS_fork), code = 0;

	if (!child) {
		/* Ends the worker where the program's end does not. */
		write_later(300);
		async_read();
		SYS1(SYS_exit, 7);
	}
	SYS4(SYS_wait4, child, &code, 0, 0);
	return code == 7 << 8 ? 0 : 1;
}

static int vfork_waits(void)
{
	static volatile int done;
	int child;

	/* The child must not return through the parent's frame. */
	asm volatile("int $0x80" : "=a"(child) : "0"(SYS_vfork) : "memory");
	if (!child) {
		async_read();
		SYS3(SYS_write, ends[1], "ping", 4);
		wait_status(500);
		rest(100);
		done = 1;
		SYS1(SYS_exit_group, 0);
	}
	return done ? 0 : 1;
}

static volatile int handled;

static void handler(int signal)
{
	handled++;
}

void restorer(void);
asm("restorer: mov $173, %eax; int $0x80");

static void handle(int signal)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		u64 mask;
	} action = { handler, 0x04000004, restorer, 0 };

	SYS4(SYS_rt_sigaction, signal, &action, 0, 8);
}

static int signal_to_process(void)
{
	handle(10);
	if (async_read())
		return 1;
	rest(20);
	SYS2(SYS_kill, SYS0(SYS_getpid), 10);
	rest(20);
	if (handled != 1)
		return 2;
	if (status != UNTOUCHED)
		return 3;
	SYS3(SYS_write, ends[1], "ping", 4);
	return wait_status(1000) == 4 ? 0 : 4;
}

static int alternate_stack(void)
{
	static char stack[8192];
	struct { void *sp; int flags; u32 size; } set = { stack, 0, sizeof(stack) }, got;

	SYS2(SYS_sigaltstack, &set, 0);
	write_later(50);
	if (async_read())
		return 1;
	SYS2(SYS_sigaltstack, 0, &got);
	return got.sp == stack && got.size == sizeof(stack) ? 0 : 2;
}

static int temporary_mask(void)
{
	struct { int fd; short events, revents; } poll = { ends[0], 1, 0 };
	u64 all = ~0ull, before = 1 << 9, after = 0;
	unsigned long args[5] = { (unsigned long)&poll, 1, 0, (unsigned long)&all, 8 };

	SYS4(SYS_rt_sigprocmask, 2, &before, 0, 8);
	status = UNTOUCHED;
	if (async(ASYNC_PPOLL, &status, args))
		return 1;
	SYS4(SYS_rt_sigprocmask, 0, 0, &after, 8);
	if (after != before)
		return 2;
	SYS3(SYS_write, ends[1], "ping", 4);
	return wait_status(1000) == 1 ? 0 : 3;
}

/* A page whose contents another process supplies later. */
static unsigned long *slow_page(u32 milliseconds, const unsigned long *words, u32 count)
{
	static unsigned long page[1024] __attribute__((aligned(4096)));
	struct { u64 api, features, ioctls; } api = { 0xaa, 0, 0 };
	struct { u64 start, len, mode, ioctls; } area;
	struct { u64 to, from, len, mode; long long copied; } copy;
	unsigned long *slow;
	long fd;

	slow = (void *)sys6(SYS_mmap2, 0, 4096, 3, 0x22, -1, 0);
	fd = SYS1(SYS_userfaultfd, 0);
	area.start = (unsigned long)slow;
	area.len = 4096;
	area.mode = 1;
	if (SYS3(SYS_ioctl, fd, 0xc018aa3f, &api) || SYS3(SYS_ioctl, fd, 0xc020aa00, &area))
		return 0;
	memcpy(page, words, count * sizeof(*words));
	if (SYS0(SYS_fork))
		return slow;
	rest(milliseconds);
	copy.to = (unsigned long)slow;
	copy.from = (unsigned long)page;
	copy.len = 4096;
	copy.mode = 0;
	SYS3(SYS_ioctl, fd, 0xc028aa03, &copy);
	SYS1(SYS_exit_group, 0);
	return 0;
}

/*
 * Hazard 13. The inner arguments are slow, so the outer call forks before rule
 * 4 is looked at; the inner call, a read that blocks, must not fork again.
 */
static int nested_on_a_slow_page(void)
{
	static volatile int inner_status = UNTOUCHED;
	static volatile int arrivals;
	unsigned long inner[3] = { ends[0], (unsigned long)buffer, sizeof(buffer) };
	unsigned long args[4] = { ASYNC_READ, 0, (unsigned long)&inner_status, 0 };

	args[3] = (unsigned long)slow_page(100, inner, 3);
	if (!args[3])
		return 1;
	status = UNTOUCHED;
	if (async(ASYNC_ASYNC, &status, args))
		return 2;
	if (++arrivals > 1)
		SYS1(SYS_exit_group, 4);
	rest(300);
	return status == -EINVAL && inner_status == UNTOUCHED ? 0 : 3;
}

static int slow_status(void)
{
	unsigned long args[2] = { (unsigned long)"/", (unsigned long)buffer };
	unsigned long words[1] = { UNTOUCHED };
	volatile int *slow = (void *)slow_page(100, words, 1);
	long tid = SYS0(SYS_gettid);

	if (!slow)
		return 1;
	if (async(ASYNC_STAT64, slow, args))
		return 2;
	if (SYS0(SYS_gettid) == tid)
		return 3;
	rest(200);
	return *slow == 0 ? 0 : 4;
}

static void switch_by_call(void)
{
	SYS2(SYS_prctl, PR_HARNESS, PR_HARNESS_SWITCH);
}

/*
 * A serial port at 0x2f8, which the kernel does not know, sits on the harness's
 * interrupt line: it raises it once it may say that it is ready to send.
 */
static void switch_by_interrupt(void)
{
	outb(0x2f8 + 4, 0x08);	/* MCR: OUT2 connects the line */
	outb(0x2f8 + 1, 0x02);	/* IER: transmitter empty, as it is */
	outb(0x2f8 + 1, 0x00);
}

/* Whether a forced switch goes to the other task: each of 200 must, or nearly. */
static int forced_switch(void (*force)(void))
{
	static volatile int *turns;
	int child, i, before, switches = 0;

	turns = (void *)sys6(SYS_mmap2, 0, 4096, 3, 0x21, -1, 0);
	SYS3(SYS_prctl, PR_HARNESS, PR_HARNESS_SET_MARK, 1);
	child = SYS0(SYS_fork);
	if (!child)
		for (;;)
			(*turns)++;
	/* Let it run until it spins, so that it is runnable from here on. */
	rest(50);
	for (i = 0; i < 200; i++) {
		before = *turns;
		force();
		switches += *turns != before;
	}
	SYS2(SYS_kill, child, 9);
	/* A tick may take the turn away again; without force it is 1 or 2. */
	return switches >= 100 ? 0 : 1;
}

static int forced_by_call(void)
{
	return forced_switch(switch_by_call);
}

static int forced_by_interrupt(void)
{
	if (SYS1(SYS_iopl, 3))
		return 2;
	return forced_switch(switch_by_interrupt);
}

/* A task that may not use ports is killed at the last line. */
static int io_permissions(void)
{
	if (SYS1(SYS_iopl, 3))
		return 1;
	write_later(50);
	if (async_read())
		return 2;
	outb(0x2f8 + 7, 0);
	return wait_status(1000) == 4 ? 0 : 3;
}

/* SCHED_RR with SCHED_RESET_ON_FORK, which is meant for children. */
static int scheduling_class(void)
{
	const long policy = 2 | 0x40000000;
	u32 priority = 1;

	write_later(50);
	if (SYS3(SYS_sched_setscheduler, 0, policy, &priority))
		return 1;
	if (async_read())
		return 2;
	if (SYS1(SYS_sched_getscheduler, 0) != policy)
		return 3;
	return wait_status(1000) == 4 ? 0 : 4;
}

/* A read from a pipe allocates nothing: the first allocation is the clone's. */
static int first_allocation_fails(void)
{
	long tid = SYS0(SYS_gettid);

	write_later(50);
	if (write_text("/debug/failslab/ignore-gfp-wait", "N") != 1)
		return 1;
	if (write_text("/debug/failslab/verbose", "0") != 1)
		return 2;
	if (write_text("/proc/thread-self/fail-nth", "1") != 1)
		return 3;
	if (async_read())
		return 4;
	if (SYS0(SYS_gettid) != tid)
		return 5;
	return status == 4 ? 0 : 6;
}

static const struct test tests[] = {
	{ "a call that does not block returns in the same thread", not_blocked },
	{ "bad indexes and arguments are refused", refused },
	{ "a nested call is refused", nested },
	{ "a blocked call goes on in a new thread", forked },
	{ "RLIMIT_NPROC makes a blocked call synchronous", clone_fails },
	{ "a slow status forks", slow_status },
	{ "a forced switch runs the other task", forced_by_call },
	{ "a file closed under a worker stays open for it", close_under_worker },
	{ "the exit status is the program's", exit_status },
	{ "a vfork parent waits for the continuation", vfork_waits },
	{ "a signal to the process leaves the worker asleep", signal_to_process },
	{ "the alternate stack is kept", alternate_stack },
	{ "a temporary mask is not left behind", temporary_mask },
	{ "a nested call on a slow page is refused", nested_on_a_slow_page },
	{ "the harness's interrupt runs the other task", forced_by_interrupt },
	{ "I/O permissions are kept", io_permissions },
	{ "an allocation that fails makes a blocked call synchronous", first_allocation_fails },
	{ "a class that forks reset is kept", scheduling_class },
};

#define COUNT	((int)(sizeof(tests) / sizeof(tests[0])))

static void run_tests(void)
{
	int i;

	say("1..%d\n", COUNT);
	for (i = 0; i < COUNT; i++) {
		int child, code = -1;

		SYS1(SYS_pipe, ends);
		child = SYS0(SYS_fork);
		if (!child)
			SYS1(SYS_exit_group, tests[i].run());
		SYS4(SYS_wait4, child, &code, 0, 0);
		say("%s %d - %s", code ? "not ok" : "ok", i + 1, tests[i].name);
		if (code)
			say(" # wait status %x", code);
		say("\n");
		SYS1(SYS_close, ends[0]);
		SYS1(SYS_close, ends[1]);
		while (SYS4(SYS_wait4, -1, 0, 1, 0) > 0)
			;
	}
}

/* One single-threaded program, counted. */
static void counted_program(void)
{
	unsigned long stat[2] = { (unsigned long)"/init", (unsigned long)buffer };
	unsigned long read[3] = { ends[0], (unsigned long)buffer, sizeof(buffer) };
	volatile u8 stack[4096];
	int fd, i;

	/*
	 * Which of parent and child writes first to a page that both have copies
	 * it: the child, and before it is counted.
	 */
	for (i = 0; i < (int)sizeof(stack); i += 512)
		stack[i] = 0;
	memset(buffer, 0, sizeof(buffer));
	status = 0;
	*(volatile int *)&ends[0] = ends[0];

	SYS3(SYS_prctl, PR_HARNESS, PR_HARNESS_SET_MARK, 1);
	for (i = 0; i < 3; i++)
		async(ASYNC_STAT64, &status, stat);
	async(ASYNC_EMPTY, &status, stat);
	fd = SYS3(SYS_open, "/init", 0, 0);
	SYS3(SYS_read, fd, buffer, sizeof(buffer));
	SYS1(SYS_close, fd);
	SYS3(SYS_write, ends[1], "ping", 4);
	async(ASYNC_READ, &status, read);
	SYS3(SYS_prctl, PR_HARNESS, PR_HARNESS_SET_MARK, 0);
	SYS1(SYS_exit_group, 0);
}

/* Prints a digest of the edges and of the events of that program; and cells. */
static void run_map(int with_cells)
{
	static u8 blocks[HARNESS_MAP_SIZE + HARNESS_EVENTS_SIZE];
	u32 i, cells = 0, events = 0, digest = 2166136261u;
	int child;

	SYS1(SYS_pipe, ends);
	SYS2(SYS_prctl, PR_HARNESS, PR_HARNESS_CLEAR);
	child = SYS0(SYS_fork);
	if (!child)
		counted_program();
	SYS4(SYS_wait4, child, 0, 0, 0);
	sys6(SYS_prctl, PR_HARNESS, PR_HARNESS_READ, (long)blocks, 0, sizeof(blocks), 0);
	for (i = 0; i < sizeof(blocks); i++) {
		digest = (digest ^ blocks[i]) * 16777619u;
		if (i < HARNESS_MAP_SIZE)
			cells += blocks[i] != 0;
		else
			events += blocks[i] != 0;
		if (with_cells && blocks[i])
			say("cell %x %d\n", i, blocks[i]);
	}
	say("map cells %d events %d digest %x\n", cells, events, digest);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[argc - 1] : "tests";

	SYS5(SYS_mount, "proc", "/proc", "proc", 0, 0);
	SYS5(SYS_mount, "debugfs", "/debug", "debugfs", 0, 0);
	if (argc > 2 && same(argv[argc - 2], "provoke"))
		provoke(mode);
	else if (same(mode, "map"))
		run_map(0);
	else if (same(mode, "cells"))
		run_map(1);
	else if (same(mode, "tests"))
		run_tests(), report_watchers();
	else
		say("unknown mode %s\n", mode);
	SYS4(SYS_reboot, 0xfee1dead, 672274793, 0x01234567, 0);
	for (;;)
		;
}

asm(".globl _start\n_start:\n\tmov (%esp), %eax\n\tlea 4(%esp), %edx\n"
    "\tand $-16, %esp\n\tsub $8, %esp\n\tpush %edx\n\tpush %eax\n\tcall main\n");
