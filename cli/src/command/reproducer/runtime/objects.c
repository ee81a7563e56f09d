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

