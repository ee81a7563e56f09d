/*
 * Records what the host processor's x87 unit does, for the tests of src/x87.
 *
 *   cc -O1 -o x87 x87.c && ./x87 CASES SEED [OPCODE...] > x87.bin
 *
 * CASES cases of each instruction (or of the given ones, as four hexadecimal
 * digits: first opcode byte and ModRM). x87.bin beside this file is the output
 * of `./x87 16 1`, made on an Intel Xeon of family 6, model 167.
 *
 * A record, little-endian: opcode (2 bytes); before: EFLAGS, control, status
 * and tag word (2 bytes each), memory (10), ST0, ST1, ST2, ST7 (10 each; ST3 to
 * ST6 are 1.0, -2.0, +0.0 and a quiet NaN); after: the same four words, memory
 * (10), a bit map of the registers that changed, and these (10 each).
 *
 * Each case is: FRSTOR, POPF, the instruction (its memory operand, if any, at
 * [rsi]), PUSHF, FNSAVE. FNSAVE does not wait, so that an exception that the
 * instruction leaves pending is never delivered.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#pragma pack(push, 1)
struct f80 { uint64_t significand; uint16_t sign_exponent; };
struct image { uint32_t control, status, tags, pointers[4]; struct f80 st[8]; };
struct words { uint16_t eflags, control, status, tags; };
#pragma pack(pop)

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define TOP_BIT (1ULL << 63)

static uint64_t seed;

static uint64_t draw(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545F4914F6CDD1DULL;
}

static const uint64_t significands[] = {
	0, 1, 2, 0x8000000000000000, 0x8000000000000001, 0xC000000000000000,
	0xC000000000000001, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0x4000000000000000,
	0x7FFFFFFFFFFFFFFF, 0x3FFFFFFFFFFFFFFF, 0x0000000000000800, 0x8000000000000400,
	0x8000000000000800, 0x8000000000000C00, 0x8000008000000000, 0x8000010000000000,
	0x8000018000000000, 0xFFFFFF0000000000, 0xFFFFFFFFFFFFF800, 0xFFFFFF8000000000,
	0xFFFFFFFFFFFFFC00, 0xC90FDAA22168C235, 0xA000000000000000, 0xAAAAAAAAAAAAAAAA,
};

#define BIAS 0x3FFF
static const uint16_t exponents[] = {
	0, 1, 2, 32, 64, BIAS, BIAS - 1, BIAS + 1, BIAS + 2, 0x7FFF, 0x7FFE, 0x7FFD,
	BIAS - 1022, BIAS - 1023, BIAS - 1074, BIAS - 1075, BIAS + 1023, BIAS + 1024,
	BIAS - 126, BIAS - 127, BIAS - 149, BIAS - 150, BIAS + 127, BIAS + 128,
	BIAS + 14, BIAS + 15, BIAS + 30, BIAS + 31, BIAS + 59, BIAS + 60, BIAS + 62,
	BIAS + 63, BIAS + 64, BIAS - 63, BIAS - 64, BIAS - 65, BIAS + 0x2000, BIAS - 0x2000,
};

static uint16_t sign(void) { return draw() & 0x8000; }
static uint64_t some_zeros(uint64_t v) { return draw() & 1 ? v & ~0ULL << (draw() % 64) : v; }

/* Special values of every class, and random ones of every magnitude. */
static struct f80 operand(void)
{
	struct f80 v = { draw(), (uint16_t)draw() };
	uint64_t integer;

	switch (draw() % 16) {
	case 0 ... 6:
		v.significand = significands[draw() % COUNT(significands)];
		v.sign_exponent = exponents[draw() % COUNT(exponents)] | sign();
		if (draw() % 4 && v.sign_exponent & 0x7FFF)
			v.significand |= TOP_BIT;
		break;
	case 7 ... 9:
		v.significand = some_zeros(v.significand | TOP_BIT);
		v.sign_exponent = (BIAS - 70 + draw() % 140) | sign();
		break;
	case 10 ... 11:
		v.significand = some_zeros(v.significand | TOP_BIT);
		v.sign_exponent = exponents[draw() % COUNT(exponents)] | sign();
		break;
	case 12:
		v.significand >>= draw() % 64;
		v.sign_exponent &= 0x8000;
		break;
	case 13:
		integer = draw() >> (draw() % 64) | 1;
		v.significand = integer << __builtin_clzll(integer);
		v.sign_exponent = (BIAS + 63 - __builtin_clzll(integer) - draw() % 3) | sign();
		break;
	case 14:
		v.significand |= TOP_BIT;
		v.sign_exponent |= 1;
		break;
	}
	return v;
}

/* A float (fraction bits 23) or double (52) with many special values. */
static uint64_t narrow(unsigned fraction_bits, unsigned exponent_bits)
{
	uint64_t fraction = (1ULL << fraction_bits) - 1, q = draw();
	uint64_t ones = (1ULL << exponent_bits) - 1, bias = ones >> 1, e;
	const uint64_t fractions[] = { 0, 0, 1, fraction, fraction / 2 + 1, fraction / 2 };
	const uint64_t fields[] = { 0, 0, 1, ones, ones, ones - 1, bias, bias + 1, bias - 1 };

	switch (draw() % 4) {
	case 0: return q;
	case 1: e = bias - 16 + draw() % 31; q &= fraction; break;
	case 2: e = fields[draw() % COUNT(fields)]; q &= fraction; break;
	default: e = fields[draw() % COUNT(fields)]; q = fractions[draw() % COUNT(fractions)]; break;
	}
	return q | e << fraction_bits | (draw() & 1) << (fraction_bits + exponent_bits);
}

static void memory_operand(uint8_t *memory, int opcode, int reg)
{
	struct f80 v = operand();
	uint64_t q = draw();
	int kind = draw() % 8, i;

	memcpy(memory, &v, 10);
	if (opcode == 0 || (opcode == 1 && reg != 5))
		q = narrow(23, 8);
	else if (opcode == 4 || opcode == 5)
		q = narrow(52, 11);
	else if (kind < 4)
		q = (int64_t)q >> (draw() % 64);
	else if (kind == 4)
		q = 0x8000000080008000;
	else if (kind == 5)
		q = 0;
	if (!(opcode == 3 && reg == 5))
		memcpy(memory, &q, 8);
	if (opcode == 7 && reg == 4) { /* FBLD: packed decimal, now and then with other digits */
		for (i = 0; i < 9 && kind < 6; i++)
			memory[i] = draw() % 10 | draw() % 10 << 4;
		if (kind < 2)
			memset(memory + kind, 0, 9 - kind);
		memory[9] = draw();
	}
}

static int pushes(int opcode, int modrm)
{
	int reg = modrm >> 3 & 7;

	if (modrm < 0xC0)
		return (opcode & 1 && reg == 0) || (opcode == 3 && reg == 5) || (opcode == 7 && (reg == 4 || reg == 5));
	return opcode == 1 && (reg == 0 || reg == 5 || modrm == 0xF2 || modrm == 0xF4 || modrm == 0xFB);
}

/* Chooses operands in the range where the instruction is interesting. */
static void bring_together(struct f80 *st, int opcode, int modrm)
{
	uint16_t s0 = st[0].sign_exponent & 0x8000, s1 = st[1].sign_exponent & 0x8000;

	if (draw() % 5 == 0)
		st[1].significand = st[0].significand;
	if (draw() % 5 == 0)
		st[1].sign_exponent = st[0].sign_exponent ^ sign() ^ (draw() & 1);
	if (opcode != 1 || draw() % 4 == 0)
		return;
	if (modrm == 0xF0 || modrm == 0xF1 || modrm == 0xF9) /* F2XM1, FYL2X, FYL2XP1 */
		st[0].sign_exponent = s0 | (BIAS - draw() % 80);
	if (modrm == 0xF5 || modrm == 0xF8 || modrm == 0xFD) /* FPREM1, FPREM, FSCALE */
		st[1].sign_exponent = s1 | (BIAS - 10 + draw() % 20);
	if (modrm == 0xF5 || modrm == 0xF8)
		st[0].sign_exponent = s0 | ((st[1].sign_exponent & 0x7FFF) + draw() % 140 - 30);
}

static void random_words(struct words *w, int opcode, int modrm)
{
	unsigned top = draw() & 7, empty = draw() % 8;

	w->control = 0x40 | (draw() & 3) << 10 | (draw() & 1 ? 0x300 : (draw() & 3) << 8) | (draw() & 0x1000);
	w->control |= draw() & 1 ? 0x3F : draw() & 1 ? 0x3F & ~(1 << draw() % 6) : draw() & 0x3F;
	w->status = (draw() & 0x4700) | top << 11;
	if (draw() % 4 == 0) /* sticky flags, all of them masked */
		w->status |= draw() & 0x3F & w->control;
	if (w->status & 1)
		w->status |= draw() & 0x40;
	w->tags = 0;
	if (pushes(opcode, modrm) && empty != 1)
		w->tags |= 3 << ((top + 7) & 7) * 2;
	if (empty == 0)
		w->tags |= 3 << ((top + draw() % 3) & 7) * 2;
	if (draw() % 16 == 0)
		w->tags = draw();
	w->eflags = 0x202 | (draw() & 0x8D5);
}

static uint8_t *code;

static void one_case(int first, int modrm)
{
	static const struct f80 fixed[4] = { { TOP_BIT, BIAS }, { TOP_BIT, 0x8000 | (BIAS + 1) }, { 0, 0 }, { 0xC000000000000123, 0x7FFF } };
	struct image in, out;
	struct words before, after;
	uint8_t opcode[2] = { first, modrm }, memory[10], changed = 0;
	int i;

	memset(&in, 0, sizeof(in));
	for (i = 0; i < 8; i++)
		in.st[i] = i >= 3 && i < 7 ? fixed[i - 3] : operand();
	bring_together(in.st, first & 7, modrm);
	if (draw() % 3) /* unnormals only now and then */
		for (i = 0; i < 3; i++)
			if (in.st[i].sign_exponent & 0x7FFF)
				in.st[i].significand |= TOP_BIT;
	random_words(&before, first & 7, modrm);
	memory_operand(memory, first & 7, modrm >> 3 & 7);

	/* The words as the processor shows them. */
	in.control = before.control;
	in.status = before.status;
	in.tags = before.tags;
	asm volatile("frstor %1; fnsave %0" : "=m"(out) : "m"(in));
	before.control = out.control;
	before.status = out.status;
	before.tags = out.tags;
	fwrite(opcode, 2, 1, stdout);
	fwrite(&before, sizeof(before), 1, stdout);
	fwrite(memory, 10, 1, stdout);
	fwrite(in.st, 10, 3, stdout);
	fwrite(&in.st[7], 10, 1, stdout);

	after.eflags = ((uint64_t (*)(void *, void *, void *, uint64_t))code)(&in, memory, &out, before.eflags);
	after.control = out.control;
	after.status = out.status;
	after.tags = out.tags;
	for (i = 0; i < 8; i++)
		changed |= (memcmp(&in.st[i], &out.st[i], 10) != 0) << i;
	fwrite(&after, sizeof(after), 1, stdout);
	fwrite(memory, 10, 1, stdout);
	fwrite(&changed, 1, 1, stdout);
	for (i = 0; i < 8; i++)
		if (changed >> i & 1)
			fwrite(&out.st[i], 10, 1, stdout);
}

static void instruction(int first, int modrm, long cases)
{
	/* frstor [rdi]; push rcx; popfq; INSTRUCTION; pushfq; pop rax; fnsave [rdx]; ret */
	const uint8_t stub[] = { 0xDD, 0x27, 0x51, 0x9D, first, modrm, 0x9C, 0x58, 0xDD, 0x32, 0xC3 };

	memcpy(code, stub, sizeof(stub));
	while (cases--)
		one_case(first, modrm);
}

/* Everything but control instructions that touch memory or AX, and encodings that are #UD. */
static int exists(int opcode, int modrm)
{
	int reg = modrm >> 3 & 7, i = modrm & 7;

	if (modrm < 0xC0) {
		if (i != 6 || modrm >= 0x40) /* the form [rsi] */
			return 0;
		switch (opcode) {
		case 1: return reg != 1 && reg < 4;
		case 3: return reg != 1 && reg != 4 && reg != 6;
		case 5: return reg != 1 && reg < 4;
		case 7: return reg != 1;
		}
		return 1;
	}
	if (!(opcode == 1 && reg >= 4) && !(opcode == 3 && reg == 4) && i > 2 && i != 7)
		return 0;
	switch (opcode) {
	case 1: return !(reg == 2 && i) && modrm != 0xE2 && modrm != 0xE3 && modrm != 0xE6 && modrm != 0xE7 && modrm != 0xEF;
	case 2: return reg < 4 || modrm == 0xE9;
	case 3: return (reg != 4 || i == 2 || i == 3) && reg != 7;
	case 5: return reg < 6;
	case 6: return reg != 3 || i == 1;
	case 7: return reg != 4 && reg != 7;
	}
	return 1;
}

int main(int argc, char **argv)
{
	long cases;
	int i, first, modrm;

	if (argc < 3) {
		fprintf(stderr, "usage: x87 CASES SEED [OPCODE...] > FILE\n");
		return 2;
	}
	cases = atol(argv[1]);
	seed = strtoull(argv[2], NULL, 0) * 0x9E3779B97F4A7C15ULL + 1;
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (i = 3; i < argc; i++) {
		int opcode = strtoul(argv[i], NULL, 16);

		instruction(opcode >> 8, opcode & 0xFF, cases);
	}
	if (argc == 3)
		for (first = 0xD8; first < 0xE0; first++)
			for (modrm = 0; modrm < 0x100; modrm++)
				if (exists(first & 7, modrm))
					instruction(first, modrm, cases);
	return 0;
}
