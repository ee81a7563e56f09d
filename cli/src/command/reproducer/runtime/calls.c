/* ---- system calls, memory, output ------------------------------------ */

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;
typedef unsigned long long u64;

#define PAGE 4096u
#define RW 3u
#define SHARED 0x01u
#define PRIVATE 0x02u
#define FIXED_ANONYMOUS 0x30u

static int sys(u32 number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f)
{
	int result;
	u32 words[2] = { number, f };

	__asm__ volatile("pushl %%ebp\n\tmovl 4(%%eax), %%ebp\n\t"
			 "movl (%%eax), %%eax\n\tint $0x80\n\tpopl %%ebp"
			 : "=a"(result)
			 : "0"(words), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory", "cc");
	return result;
}
#define sys0(n) sys(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a) sys(n, (u32)(a), 0, 0, 0, 0, 0)
#define sys2(n, a, b) sys(n, (u32)(a), (u32)(b), 0, 0, 0, 0)
#define sys3(n, a, b, c) sys(n, (u32)(a), (u32)(b), (u32)(c), 0, 0, 0)
#define sys4(n, a, b, c, d) sys(n, (u32)(a), (u32)(b), (u32)(c), (u32)(d), 0, 0)
#define gettid() sys0(224)

void *memset(void *to, int value, u32 bytes);
void *memcpy(void *to, const void *from, u32 bytes);

void *memset(void *to, int value, u32 bytes)
{
	volatile u8 *at = to;

	while (bytes--)
		*at++ = (u8)value;
	return to;
}

void *memcpy(void *to, const void *from, u32 bytes)
{
	volatile u8 *at = to;
	const u8 *source = from;

	while (bytes--)
		*at++ = *source++;
	return to;
}

static u32 length(const char *text)
{
	u32 bytes = 0;

	while (text[bytes])
		bytes++;
	return bytes;
}

/* One line: text, number, text, number, ... up to a null text. */
static void say(const char *text, int number, const char *more, int other)
{
	char line[160], digits[12];
	const char *texts[2] = { text, more };
	int numbers[2] = { number, other };
	u32 at = 0, part, count;

	for (part = 0; part < 2 && texts[part]; part++) {
		u32 value = numbers[part] < 0 ? -(u32)numbers[part] : (u32)numbers[part];
		u32 bytes = length(texts[part]);

		memcpy(line + at, texts[part], bytes);
		at += bytes;
		if (numbers[part] < 0)
			line[at++] = '-';
		count = 0;
		do {
			digits[count++] = (char)('0' + value % 10);
			value /= 10;
		} while (value);
		while (count)
			line[at++] = digits[--count];
	}
	line[at++] = '\n';
	sys3(4, 1, line, at);
}

static void map(u32 at, u32 bytes, u32 protection, u32 flags, int fd)
{
	if ((u32)sys(192, at, bytes, protection, flags | 0x10, (u32)fd, 0) != at)
		say("cannot map ", (int)at, 0, 0);
}

static void ticks(u32 count)
{
	long long time[2] = { count / 100, (long long)(count % 100) * 10000000 };

	sys4(407, 1, 0, time, 0);
}

/* ---- what all tasks of the program share ------------------------------ */

struct slot_state {
	volatile u32 from, returned, value;
};

static struct shared {
	volatile u32 hold[4], fail[4], error[4], delay[4], delay_ticks[4];
	volatile u32 release_one[4], held[4];
	volatile u32 flags[8], futexes[4], children[8], child_count;
	volatile u32 first_tid[4], now_tid[4], done[4];
	volatile int fds[8][2];
	volatile u32 statuses[64];
	struct slot_state calls[64];
	volatile u32 semaphores;
	u8 contents[4][4096] __attribute__((aligned(4096)));
} *shared;

/* ---- the call ----------------------------------------------------------- */

/* Registers: eax, ebx, ecx, edx, esi in block[0..4]; block[5] is the counter of
 * continuations. A second one must not touch the stack, which the first uses. */
int async_stub(u32 *block);
void second_continuation(void);
u8 second_stack[4096] __attribute__((aligned(16)));

__asm__(".globl async_stub\nasync_stub:\n\t"
	"pushl %ebp\n\tpushl %ebx\n\tpushl %esi\n\tpushl %edi\n\t"
	"movl 20(%esp), %ebp\n\tmovl 4(%ebp), %ebx\n\tmovl 8(%ebp), %ecx\n\t"
	"movl 12(%ebp), %edx\n\tmovl 16(%ebp), %esi\n\tmovl 0(%ebp), %eax\n\t"
	"int $0x80\n\tlock incl 20(%ebp)\n\tlock btsl $0, 24(%ebp)\n\tjc 1f\n\t"
	"popl %edi\n\tpopl %esi\n\tpopl %ebx\n\tpopl %ebp\n\tret\n"
	"1:\tmovl $second_stack+4096, %esp\n\tcall second_continuation\n");

void second_continuation(void)
{
	say("SECOND CONTINUATION of a call, in task ", gettid(), 0, 0);
	sys1(1, 0);
}

struct call {
	u32 op, index, flags, status, args, times;
};

static void make_async(const struct call *call)
{
	struct slot_state *state = &shared->calls[call->op];
	u32 round;

	for (round = 0; round < call->times; round++) {
		u32 block[7] = { ASYNC, call->index, call->flags, call->status,
				 call->args, 0, 0 };
		int from = gettid(), value;

		state->from = (u32)from;
		value = async_stub(block);
		state->value = (u32)value;
		state->returned = 1;
		say("operation ", (int)call->op, ": async returned ", value);
		if (gettid() != from)
			say("  forked: worker ", from, ", continuation ", gettid());
	}
}

/* Writes where the program may not be able to, through the kernel. */
static void put_guarded(u32 at, const void *bytes, u32 count)
{
	int ends[2];

	if (sys2(331, ends, 0) < 0)
		return;
	sys3(4, ends[1], bytes, count);
	sys3(3, ends[0], at, count);
	sys1(6, ends[0]);
	sys1(6, ends[1]);
}

static void put_word(u32 at, u32 value)
{
	put_guarded(at, &value, 4);
}

/* Reads a word, or gives `otherwise` where there is none. */
static u32 get_word(u32 at, u32 otherwise)
{
	int ends[2];
	u32 value = otherwise;

	if (sys2(331, ends, 0) < 0)
		return otherwise;
	if (sys3(4, ends[1], at, 4) == 4)
		sys3(3, ends[0], &value, 4);
	sys1(6, ends[0]);
	sys1(6, ends[1]);
	return value;
}

/* Lets the n-th allocation of the calls that follow fail (0: none). */
static void fail_nth(u32 n)
{
	char digits[4] = { (char)('0' + n / 100), (char)('0' + n / 10 % 10),
			   (char)('0' + n % 10), '\n' };
	int fd = sys3(5, "/proc/thread-self/fail-nth", 1, 0);
	u32 skip = n >= 100 ? 0 : n >= 10 ? 1 : 2;

	if (fd < 0)
		return;
	sys3(4, fd, digits + skip, 4 - skip);
	sys1(6, fd);
}

/* What arguments point to. */
static const long long times[8][2] = {
	{ 0, 0 }, { 0, 1000000 }, { 0, 10000000 }, { 0, 20000000 },
	{ 0, 50000000 }, { 0, 100000000 }, { 0, 300000000 }, { 0, 1000000000 },
};
static const short semaphore_operations[4][3] = {
	{ 0, -1, 0 }, { 0, 1, 0 }, { 0, -1, 0x1000 }, { 0, 1, 0x1000 },
};
static const u64 signal_sets[7] = {
	1ull << 9, 1ull << 11, 1ull << 33 | 1ull << 34, 1ull << 13, 1ull << 16, ~0ull, 0,
};
static const u32 locks[2][8] = { { 0 }, { 1 } };

