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

/* ---- objects -------------------------------------------------------------- */

static void create(u32 slot, u32 kind)
{
	static const char *const paths[] = { "/t/fifo", "/t/file", "/t/dir",
					     "/f/0", "/f/1", "/f/2", "/f/3" };
	volatile int *ends = shared->fds[slot];
	int pair[2] = { -1, -1 };
	u8 room[512];

	if (ends[0] >= 0)
		sys1(6, ends[0]);
	if (ends[1] >= 0 && ends[1] != ends[0])
		sys1(6, ends[1]);
	switch (kind) {
	case 0:
		sys2(331, pair, 0);
		break;
	case 1:
		sys2(331, pair, 04000);
		sys3(221, pair[1], 1031, 4096);
		memset(room, 0x55, sizeof(room));
		while (sys3(4, pair[1], room, sizeof(room)) > 0)
			;
		sys3(221, pair[0], 4, 0);
		sys3(221, pair[1], 4, 0);
		break;
	case 2:
	case 3:
		sys4(360, 1, kind - 1, 0, pair);
		break;
	case 6:
		pair[0] = pair[1] = sys2(328, 0, 0);
		break;
	case 7:
		pair[0] = pair[1] = sys1(329, 0);
		break;
	case 8:
		pair[0] = pair[1] = sys3(5, paths[2], 0200000, 0);
		break;
	case 13: {
		u64 set = 1ull << 33 | 1ull << 34 | 1ull << 9;

		pair[0] = pair[1] = sys4(327, -1, &set, 8, 0);
		break;
	}
	default:
		pair[0] = pair[1] = sys3(5, paths[kind < 6 ? kind - 4 : kind - 6], 2, 0);
	}
	ends[0] = pair[0];
	ends[1] = pair[1];
}

static void close_end(u32 slot, u32 end)
{
	volatile int *ends = shared->fds[slot];
	int fd = ends[end];

	if (fd < 0)
		return;
	if (ends[1 - end] == fd)
		ends[1 - end] = -1;
	ends[end] = -1;
	sys1(6, fd);
}

static int is_ready(int fd, u32 events)
{
	struct {
		int fd;
		u16 events, seen;
	} poll = { fd, (u16)events, 0 };

	return sys3(168, &poll, 1, 0) > 0;
}

static void feed(u32 slot, u32 end, u32 bytes)
{
	u8 pattern[128];
	u32 at;

	for (at = 0; at < 128; at++)
		pattern[at] = (u8)(at + 1);
	if (is_ready(shared->fds[slot][end], 4))
		sys3(4, shared->fds[slot][end], pattern, bytes);
}

static void drain(u32 slot, u32 end, u32 chunks)
{
	u8 room[64];
	u32 chunk;

	for (chunk = 0; chunk <= chunks && is_ready(shared->fds[slot][end], 1); chunk++)
		if (sys3(3, shared->fds[slot][end], room, sizeof(room)) <= 0)
			break;
}

/* ---- the FUSE server --------------------------------------------------------- */

struct request {
	u64 unique;
	u32 opcode, file, size, due;
	u64 offset;
};

static u32 word_at(const u8 *bytes, u32 at)
{
	return bytes[at] | (u32)bytes[at + 1] << 8 | (u32)bytes[at + 2] << 16 |
	       (u32)bytes[at + 3] << 24;
}

static u8 answer_bytes[16 + 160 + 4096];
static u32 answer_length;

static void put32(u32 value)
{
	memcpy(answer_bytes + answer_length, &value, 4);
	answer_length += 4;
}

static void put64(u64 value)
{
	put32((u32)value);
	put32((u32)(value >> 32));
}

static void put_zeros(u32 bytes)
{
	memset(answer_bytes + answer_length, 0, bytes);
	answer_length += bytes;
}

static void put_attributes(u64 node)
{
	u64 size = node == 1 ? 0 : 4096;

	put64(node);
	put64(size);
	put64(size / 512);
	put_zeros(36);
	put32(node == 1 ? 040777 : 0100777);
	put32(1);
	put_zeros(12);
	put32(4096);
	put32(0);
}

static void send_answer(int device, u64 unique, int error)
{
	memcpy(answer_bytes, &answer_length, 4);
	memcpy(answer_bytes + 4, &error, 4);
	memcpy(answer_bytes + 8, &unique, 8);
	sys3(4, device, answer_bytes, answer_length);
}

/* include/uapi/linux/fuse.h: opcodes and structures of protocol 7.31. */
static u32 class_of(u32 opcode)
{
	switch (opcode) {
	case 1: return 1u << 1;
	case 3: return 1u << 2;
	case 14: return 1u << 3;
	case 15: return 1u << 4;
	case 16: return 1u << 5;
	case 20: return 1u << 6;
	case 34: return 1u << 7;
	default: return 0;
	}
}

static void answer(int device, const struct request *request)
{
	u64 node = 2 + request->file;
	int error = 0;

	answer_length = 16;
	switch (request->opcode) {
	case 1:
		put64(node);
		put64(0);
		put_zeros(24);
		put_attributes(node);
		break;
	case 3:
	case 4:
		put_zeros(16);
		put_attributes(node);
		break;
	case 14:
		put64(request->file);
		put_zeros(8);
		break;
	case 15: {
		u32 start = request->offset > 4096 ? 4096 : (u32)request->offset;
		u32 bytes = request->size > 4096 - start ? 4096 - start : request->size;

		memcpy(answer_bytes + 16, shared->contents[request->file] + start, bytes);
		answer_length += bytes;
		break;
	}
	case 16:
		put32(request->size);
		put32(0);
		break;
	case 18:
	case 20:
	case 34:
		break;
	default:
		error = -38;
	}
	send_answer(device, request->unique, error);
}

static void answer_others(int device, u32 opcode, u64 unique, u64 node)
{
	int error = 0;

	answer_length = 16;
	if (opcode == 26) {
		put32(7);
		put32(31);
		put_zeros(8);
		put32(0x00200020);
		put32(4096);
		put32(1);
		put_zeros(36);
	} else if (opcode == 3 && node == 1) {
		put_zeros(16);
		put_attributes(1);
	} else if (opcode == 27) {
		put_zeros(16);
	} else if (opcode == 17) {
		put_zeros(80);
	} else if (opcode != 34 && opcode != 29) {
		error = opcode == 1 ? -2 : -38;
	}
	send_answer(device, unique, error);
}

static struct request waiting[48];
static u32 waiting_used[48];

static u32 now(void)
{
	long long time[2];

	sys2(403, 1, time);
	return (u32)time[0] * 100 + (u32)time[1] / 10000000;
}

static void release_due(int device)
{
	u32 at;

	for (at = 0; at < 48; at++) {
		struct request *request = &waiting[at];
		u32 bit = class_of(request->opcode), file = request->file;

		if (!waiting_used[at])
			continue;
		if (request->due) {
			if ((shared->delay[file] & bit) && (int)(request->due - now()) > 0)
				continue;
		} else if (shared->hold[file] & bit) {
			if (!shared->release_one[file])
				continue;
			shared->release_one[file]--;
		}
		waiting_used[at] = 0;
		shared->held[file]--;
		answer(device, request);
	}
}

static void decide(int device, struct request *request)
{
	u32 bit = class_of(request->opcode), file = request->file, at;

	if (shared->fail[file] & bit) {
		answer_length = 16;
		send_answer(device, request->unique, -(int)shared->error[file]);
		return;
	}
	if (!((shared->hold[file] | shared->delay[file]) & bit)) {
		answer(device, request);
		return;
	}
	if (shared->delay[file] & bit)
		request->due = (now() + shared->delay_ticks[file]) | 1;
	for (at = 0; at < 48; at++) {
		if (waiting_used[at])
			continue;
		waiting[at] = *request;
		waiting_used[at] = 1;
		shared->held[file]++;
		return;
	}
}

/* Serves until it is killed. */
static void serve(int device)
{
	static u8 room[8192 + 256];

	for (;;) {
		struct {
			int fd;
			u16 events, seen;
		} poll = { device, 1, 0 };
		struct request request = { 0, 0, 0, 0, 0, 0 };
		u64 node;
		int bytes;

		release_due(device);
		if (sys3(168, &poll, 1, 10) <= 0)
			continue;
		bytes = sys3(3, device, room, sizeof(room));
		if (bytes < 40)
			continue;
		request.opcode = word_at(room, 4);
		request.unique = word_at(room, 8) | (u64)word_at(room, 12) << 32;
		node = word_at(room, 16);
		if (request.opcode == 2 || request.opcode == 42 || request.opcode == 36)
			continue;
		request.file = (u32)node - 2;
		if (request.opcode == 1)
			request.file = room[41] ? 99 : (u32)room[40] - '0';
		if (request.opcode == 26 || request.file > 3) {
			answer_others(device, request.opcode, request.unique, node);
			continue;
		}
		request.offset = word_at(room, 48);
		request.size = word_at(room, 56);
		decide(device, &request);
	}
}

static int mount_fuse(void)
{
	static char options[] = "fd=000,rootmode=40000,user_id=0,group_id=0,"
				"default_permissions,allow_other";
	int device = sys3(5, "/dev/fuse", 2, 0);

	if (device < 0)
		return device;
	options[3] = (char)('0' + device / 100);
	options[4] = (char)('0' + device / 10 % 10);
	options[5] = (char)('0' + device % 10);
	sys2(39, "/f", 0777);
	if (sys(21, (u32)"fuse", (u32)"/f", (u32)"fuse", 0, (u32)options, 0) < 0)
		return -1;
	return device;
}

static void fuse(u32 file, u32 action, u32 mask, u32 value)
{
	switch (action) {
	case 0:
		shared->hold[file] |= mask;
		break;
	case 1:
		shared->hold[file] &= ~mask;
		break;
	case 2:
		shared->release_one[file]++;
		break;
	case 3:
		shared->delay_ticks[file] = value ? value : 1;
		shared->delay[file] |= mask;
		break;
	case 4:
		shared->error[file] = value ? value : 1;
		shared->fail[file] |= mask;
		break;
	default:
		shared->hold[file] &= ~mask;
		shared->fail[file] &= ~mask;
		shared->delay[file] &= ~mask;
	}
}

/* ---- waiting ------------------------------------------------------------------- */

static void await_held(u32 file, u32 count, u32 limit)
{
	while (limit-- && shared->held[file] < (count ? count : 1))
		ticks(1);
}

static void await_flag(u32 flag, u32 limit)
{
	while (limit-- && !shared->flags[flag])
		ticks(1);
}

static void await_status(u32 op, u32 limit)
{
	u32 value;

	do {
		value = get_word(shared->statuses[op], UNWRITTEN);
		if (value != UNWRITTEN)
			break;
		ticks(1);
	} while (limit--);
	say("status of operation ", (int)op, ": ", (int)value);
	if (value == UNWRITTEN)
		say("  not written", (int)op, 0, 0);
}

static void await_worker(u32 op, u32 limit)
{
	u32 worker = shared->calls[op].from;

	while (limit-- && worker && (int)worker != gettid() &&
	       sys3(270, sys0(20), worker, 0) == 0)
		ticks(1);
}

/* ---- signals --------------------------------------------------------------------- */

void handler(int number);
void handler(int number)
{
	say("handler of signal ", number, " in task ", gettid());
}

__asm__(".globl restorer\nrestorer:\n\tmovl $119, %eax\n\tpopl %edx\n\tint $0x80\n");
void restorer(void);

static void handle(u32 number, u32 flags, u32 address)
{
	struct {
		u32 handler, flags, restorer;
		u64 mask;
	} __attribute__((packed)) action = { address, flags | 0x04000000,
					     (u32)restorer, 0 };

	sys4(174, number, &action, 0, 8);
}

static void mask(u32 how, u64 set)
{
	sys4(175, how, &set, 0, 8);
}

static void deliver(u32 number, u32 to, u32 thread, u32 process, u32 value)
{
	struct {
		int number, error, code;
		u32 pid, uid, value, rest[26];
	} info = { (int)number, 0, -1, process, 0, value, { 0 } };

	switch (to) {
	case 0:
		sys2(37, process, number);
		break;
	case 1:
		sys3(270, process, shared->now_tid[thread], number);
		break;
	case 2:
		sys3(270, process, shared->first_tid[thread], number);
		break;
	case 3:
		sys3(178, process, number, &info);
		break;
	case 4:
		sys4(335, process, shared->now_tid[thread], number, &info);
		break;
	default:
		if (shared->child_count)
			sys2(37, shared->children[(shared->child_count - 1) % 8], number);
	}
}

/* From outside: a sibling of the process, which lives for this alone. */
static void send(u32 number, u32 to, u32 thread, u32 times, u32 value, int outside,
		 u32 later)
{
	u32 process = (u32)sys0(20);

	if (outside) {
		if (sys(120, 0x8000 | 17, 0, 0, 0, 0, 0) != 0)
			return;
		ticks(later);
	}
	while (times--)
		deliver(number, to, thread, process, value);
	if (outside)
		sys1(252, 0);
}

static void sigwait(u64 set, u32 limit)
{
	long long time[2] = { limit / 100, (long long)(limit % 100) * 10000000 };

	sys4(421, &set, 0, time, 8);
}

static void altstack(u32 thread, u32 bytes)
{
	u32 stack[3] = { 0x41000000u + thread * 0x4000, bytes ? 0 : 2, bytes };

	sys2(186, stack, 0);
}

static void alarm_in(u32 count)
{
	u32 timer[4] = { 0, 0, count / 100, count % 100 * 10000 };

	sys3(104, 0, timer, 0);
}

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
