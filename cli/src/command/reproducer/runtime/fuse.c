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

