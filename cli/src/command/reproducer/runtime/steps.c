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
	if (value == UNWRITTEN)
		say("status of operation ", (int)op, ": not written, seen by task ",
		    gettid());
	else
		say("status of operation ", (int)op, ": ", (int)value);
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

