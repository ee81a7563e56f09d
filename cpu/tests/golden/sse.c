/*
 * Records what the host processor does with MMX, SSE and SSE2 instructions, for
 * the tests of src/simd.
 *
 *   cc -O1 -o sse sse.c && ./sse CASES SEED > sse.bin
 *
 * CASES cases of each instruction form. sse.bin beside this file is the output
 * of `./sse 8 1`, made on an Intel Xeon of family 6, model 167.
 *
 * A record is `struct record`. Destination registers are number 0, sources
 * number 1, memory operands [rsi], which is also what MASKMOV's rDI holds. Each
 * case is: FXRSTOR, POPF, the instruction, PUSHF, FXSAVE. A SIGFPE is noted and
 * goes on after the instruction.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#pragma pack(push, 1)
struct registers {
	uint16_t eflags, mxcsr, status;
	uint8_t valid; /* abridged tag word */
	uint32_t general; /* ECX before, EAX after */
	uint64_t xmm[2], mm;
	uint8_t memory[16];
};
struct record {
	uint8_t len, code[7];
	struct registers before;
	uint64_t source_xmm[2], source_mm;
	uint8_t fault; /* #XM */
	struct registers after;
};
struct fxsave {
	uint16_t control, status;
	uint8_t valid, pad1;
	uint16_t opcode;
	uint32_t pointers[4], mxcsr, mask;
	struct { uint64_t significand; uint16_t exponent, pad[3]; } st[8];
	uint64_t xmm[16][2];
	uint8_t rest[96];
};
#pragma pack(pop)

static uint64_t seed;

static uint64_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545F4914F6CDD1DULL;
}

/* A float (fraction bits 23) or double (52) with many special values. */
static uint64_t number(unsigned fraction_bits, unsigned exponent_bits)
{
	uint64_t fraction = (1ULL << fraction_bits) - 1, q = draw() & fraction, e;
	uint64_t ones = (1ULL << exponent_bits) - 1, bias = ones >> 1;
	uint64_t sign = (draw() & 1) << (fraction_bits + exponent_bits);
	const uint64_t fields[] = { 0, 0, 1, 2, ones, ones, ones - 1, ones - 2, bias, bias + 1, bias - 1, bias + 31, bias + 30,
		bias - fraction_bits, bias / 2, bias + bias / 2, bias / 2 + 1, bias - 126, bias - 127, bias - 149, bias + 127 };
	const uint64_t fractions[] = { 0, 0, 0, 1, fraction, fraction / 2 + 1, fraction / 2, fraction - 1 };

	switch (draw() % 6) {
	case 0: e = draw(); break;
	case 1: e = bias - 16 + draw() % 49; break;
	case 2: e = fields[draw() % (sizeof(fields) / 8)]; break;
	case 3: e = bias + draw() % 32; q &= ~0ULL << draw() % fraction_bits; break;
	default:
		e = fields[draw() % (sizeof(fields) / 8)];
		q = fractions[draw() % (sizeof(fractions) / 8)];
		break;
	}
	return q | (e & ones) << fraction_bits | sign;
}

enum kind { SINGLE, DOUBLE, INTEGER };

static uint64_t half(enum kind kind)
{
	uint64_t q = draw();

	if (kind == SINGLE)
		return number(23, 8) | number(23, 8) << 32;
	if (kind == DOUBLE)
		return number(52, 11);
	switch (draw() % 8) {
	case 0: return (int64_t)q >> draw() % 64;
	case 1: return draw() % 80; /* shift counts */
	case 2: return q & 0x8080808080808080;
	case 3: return q & draw() ? 0x7FFF80007FFF8000 : 0x7F807F80FF00FF01;
	case 4: return (uint32_t)((int32_t)q >> draw() % 32) * 0x100000001ULL;
	default: return q;
	}
}

static uint8_t *code;
static struct fxsave in __attribute__((aligned(16))), out __attribute__((aligned(16)));
static uint8_t memory[64] __attribute__((aligned(64)));
static volatile int faulted;
static unsigned resume_at;

static void on_fpe(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)number;
	(void)info;
	faulted = 1;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(code + resume_at);
}

static void random_state(enum kind kind)
{
	int i;

	memset(&in, 0, sizeof(in));
	in.control = 0x37F;
	in.status = (draw() & 7) << 11;
	in.valid = draw() & 1 ? draw() : 0;
	for (i = 0; i < 8; i++) {
		in.st[i].significand = half(kind == DOUBLE ? INTEGER : kind);
		in.st[i].exponent = draw();
	}
	for (i = 0; i < 2; i++) {
		in.xmm[0][i] = half(kind);
		in.xmm[1][i] = draw() % 4 ? half(kind) : in.xmm[0][i] ^ (draw() & 1) << 63;
	}
	if (draw() % 4 == 0) { /* one value in all elements makes masked exceptions of one kind */
		in.xmm[0][1] = in.xmm[0][0];
		in.xmm[1][1] = in.xmm[1][0];
	}
	in.mxcsr = (draw() & 3) << 13 | (draw() % 3 == 0) << 6 | (draw() % 3 == 0) << 15;
	in.mxcsr |= draw() & 1 ? 0x1F80 : draw() & 1 ? 0x1F80 & ~(0x80 << draw() % 6) : draw() & 0x1F80;
	if (draw() % 4 == 0)
		in.mxcsr |= draw() & in.mxcsr >> 7 & 0x3F;
	if (draw() % 8 == 0) /* the usual state of a program that has computed */
		in.mxcsr = 0x1FA0 | (in.mxcsr & 0x8040);
}

static struct registers registers(const struct fxsave *state, uint16_t eflags, uint32_t general)
{
	int top = state->status >> 11 & 7;
	struct registers r = { eflags, state->mxcsr, state->status, state->valid, general,
		{ state->xmm[0][0], state->xmm[0][1] }, state->st[-top & 7].significand, { 0 } };

	memcpy(r.memory, memory, 16);
	return r;
}

static void one_case(const uint8_t *bytes, int len, enum kind kind)
{
	uint8_t operand[16];
	struct record r;
	uint64_t result, low = half(kind), high = half(kind);
	uint16_t eflags = 0x202 | (draw() & 0x8D5);
	uint32_t general = half(INTEGER);
	int top;

	random_state(kind);
	top = in.status >> 11 & 7;
	memcpy(operand, &low, 8);
	memcpy(operand + 8, &high, 8);
	if (kind == INTEGER && bytes[1] == 0xAE && bytes[2] >> 3 == 2) { /* LDMXCSR: no reserved bits */
		operand[2] = operand[3] = 0;
	}
	memcpy(memory, operand, 16);
	memset(&r, 0, sizeof(r));
	r.len = len;
	memcpy(r.code, bytes, len);
	r.before = registers(&in, eflags, general);
	memcpy(r.source_xmm, in.xmm[1], 16);
	r.source_mm = in.st[(1 - top) & 7].significand;
	faulted = 0;
	result = ((uint64_t (*)(void *, void *, void *, uint64_t, uint32_t, uint32_t))code)(&in, memory, &out, eflags, 0x12345678, general);
	r.fault = faulted;
	r.after = registers(&out, result >> 32, result);
	fwrite(&r, sizeof(r), 1, stdout);
}

/* An immediate byte follows where `immediate` is set. */
static void form(const char *prefix, uint8_t opcode, uint8_t modrm, int immediate, enum kind kind, long cases)
{
	static const uint8_t head[] = { 0x0F, 0xAE, 0x0F, 0x51, 0x9D, 0x44, 0x89, 0xC0, 0x44, 0x89, 0xC9, 0x48, 0x89, 0xF7 };
	static const uint8_t tail[] = { 0x9C, 0x41, 0x5A, 0x0F, 0xAE, 0x02, 0xBA, 0x80, 0x1F, 0, 0, 0x52, 0x0F, 0xAE, 0x14, 0x24, 0x5A, 0x0F, 0x77,
		0x49, 0xC1, 0xE2, 0x20, 0x89, 0xC0, 0x4C, 0x09, 0xD0, 0xC3 };
	uint8_t bytes[8];
	int len = 0;

	while (*prefix)
		bytes[len++] = *prefix++;
	bytes[len++] = 0x0F;
	bytes[len++] = opcode;
	if (opcode != 0x77)
		bytes[len++] = modrm;
	len += immediate;
	while (cases--) {
		if (immediate)
			bytes[len - 1] = draw() & 1 ? draw() : draw() & 31;
		memcpy(code, head, sizeof(head));
		memcpy(code + sizeof(head), bytes, len);
		memcpy(code + sizeof(head) + len, tail, sizeof(tail));
		resume_at = sizeof(head) + len;
		one_case(bytes, len, kind);
	}
}

#define N 1 /* no prefix */
#define O 2 /* 66 */
#define R 4 /* F3 */
#define E 8 /* F2 */
#define REG 1
#define MEM 2
#define IMM 4

static const struct { uint8_t first, last, prefixes, how; } table[] = {
	{ 0x10, 0x11, N | O | R | E, REG | MEM }, { 0x12, 0x12, N, REG | MEM }, { 0x12, 0x12, O, MEM }, { 0x13, 0x13, N | O, MEM },
	{ 0x14, 0x15, N | O, REG | MEM }, { 0x16, 0x16, N, REG | MEM }, { 0x16, 0x16, O, MEM }, { 0x17, 0x17, N | O, MEM },
	{ 0x28, 0x29, N | O, REG | MEM }, { 0x2A, 0x2A, N | O | R | E, REG | MEM }, { 0x2B, 0x2B, N | O, MEM },
	{ 0x2C, 0x2D, N | O | R | E, REG | MEM }, { 0x2E, 0x2F, N | O, REG | MEM }, { 0x50, 0x50, N | O, REG },
	{ 0x51, 0x51, N | O | R | E, REG | MEM }, { 0x54, 0x57, N | O, REG | MEM },
	{ 0x58, 0x5A, N | O | R | E, REG | MEM }, { 0x5B, 0x5B, N | O | R, REG | MEM }, { 0x5C, 0x5F, N | O | R | E, REG | MEM },
	{ 0x60, 0x6B, N | O, REG | MEM }, { 0x6C, 0x6D, O, REG | MEM }, { 0x6E, 0x6E, N | O, REG | MEM }, { 0x6F, 0x6F, N | O | R, REG | MEM },
	{ 0x70, 0x70, N | O | R | E, REG | MEM | IMM }, { 0x74, 0x76, N | O, REG | MEM }, { 0x77, 0x77, N, REG },
	{ 0x7E, 0x7F, N | O | R, REG | MEM }, { 0xC2, 0xC2, N | O | R | E, REG | MEM | IMM }, { 0xC3, 0xC3, N, MEM },
	{ 0xC4, 0xC4, N | O, REG | MEM | IMM }, { 0xC5, 0xC5, N | O, REG | IMM }, { 0xC6, 0xC6, N | O, REG | MEM | IMM },
	{ 0xD1, 0xD5, N | O, REG | MEM }, { 0xD6, 0xD6, O, REG | MEM }, { 0xD6, 0xD6, R | E, REG }, { 0xD7, 0xD7, N | O, REG },
	{ 0xD8, 0xE5, N | O, REG | MEM }, { 0xE6, 0xE6, O | R | E, REG | MEM }, { 0xE7, 0xE7, N | O, MEM }, { 0xE8, 0xEF, N | O, REG | MEM },
	{ 0xF1, 0xF6, N | O, REG | MEM }, { 0xF7, 0xF7, N | O, REG }, { 0xF8, 0xFE, N | O, REG | MEM },
};

static enum kind kind_of(int opcode, int prefix)
{
	if (opcode == 0x2A || (opcode == 0x5B && prefix == 0) || (opcode == 0xE6 && prefix == 2))
		return INTEGER;
	if (opcode == 0xE6)
		return DOUBLE;
	if (opcode == 0x5B)
		return SINGLE;
	if (opcode < 0x60 || opcode == 0xC2 || opcode == 0xC6)
		return prefix & 1 ? DOUBLE : SINGLE;
	return INTEGER;
}

/* Where ModRM's r/m is the destination, register 1 is in the reg field. */
static uint8_t register_form(int opcode, int prefix)
{
	int store = opcode == 0x11 || opcode == 0x29 || opcode == 0x7F || (opcode == 0x7E && prefix != 2) || (opcode == 0xD6 && prefix == 1);

	return store ? 0xC8 : 0xC1;
}

int main(int argc, char **argv)
{
	static const char *const prefixes[] = { "", "\x66", "\xF3", "\xF2" };
	static const uint8_t shifts[][2] = { { 0x71, 2 }, { 0x71, 4 }, { 0x71, 6 }, { 0x72, 2 }, { 0x72, 4 }, { 0x72, 6 }, { 0x73, 2 }, { 0x73, 6 } };
	struct sigaction action = { .sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO };
	long cases;
	unsigned i, opcode, p;

	if (argc != 3) {
		fprintf(stderr, "usage: sse CASES SEED > FILE\n");
		return 2;
	}
	cases = atol(argv[1]);
	seed = strtoull(argv[2], NULL, 0) * 0x9E3779B97F4A7C15ULL + 1;
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED || sigaction(SIGFPE, &action, NULL)) {
		perror("set-up");
		return 1;
	}
	for (i = 0; i < sizeof(table) / sizeof(*table); i++)
		for (opcode = table[i].first; opcode <= table[i].last; opcode++)
			for (p = 0; p < 4; p++) {
				if (!(table[i].prefixes >> p & 1))
					continue;
				if (table[i].how & REG)
					form(prefixes[p], opcode, register_form(opcode, p), !!(table[i].how & IMM), kind_of(opcode, p), cases);
				if (table[i].how & MEM)
					form(prefixes[p], opcode, 0x06, !!(table[i].how & IMM), kind_of(opcode, p), cases);
			}
	for (i = 0; i < sizeof(shifts) / sizeof(*shifts); i++)
		for (p = 0; p < 2; p++)
			form(prefixes[p], shifts[i][0], 0xC0 | shifts[i][1] << 3, 1, INTEGER, cases);
	form(prefixes[1], 0x73, 0xD8, 1, INTEGER, cases);
	form(prefixes[1], 0x73, 0xF8, 1, INTEGER, cases);
	form(prefixes[0], 0xAE, 0x16, 0, INTEGER, cases);
	form(prefixes[0], 0xAE, 0x1E, 0, INTEGER, cases);
	return 0;
}
