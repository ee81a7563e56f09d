/* Printing and sleeping. See sys.h. */
#include "sys.h"

u32 length(const char *text)
{
	u32 n = 0;

	while (text[n])
		n++;
	return n;
}

int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static char *number(char *end, u32 value, u32 base)
{
	do {
		*--end = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	return end;
}

/* %s, %d, %x */
void say(const char *format, ...)
{
	char line[256], digits[16];
	__builtin_va_list args;
	u32 at = 0;

	__builtin_va_start(args, format);
	for (; *format && at < sizeof(line); format++) {
		const char *piece = digits;
		int value;

		if (*format != '%') {
			line[at++] = *format;
			continue;
		}
		digits[sizeof(digits) - 1] = 0;
		switch (*++format) {
		case 's':
			piece = __builtin_va_arg(args, const char *);
			break;
		case 'd':
			value = __builtin_va_arg(args, int);
			if (value < 0)
				line[at++] = '-';
			piece = number(digits + 15, value < 0 ? -value : value, 10);
			break;
		default:
			piece = number(digits + 15, __builtin_va_arg(args, u32), 16);
		}
		while (*piece && at < sizeof(line))
			line[at++] = *piece++;
	}
	__builtin_va_end(args);
	SYS3(SYS_write, 1, line, at);
}

void rest(u32 milliseconds)
{
	u64 time[2] = { milliseconds / 1000, milliseconds % 1000 * 1000000 };

	while (SYS4(SYS_clock_nanosleep, 1, 0, time, time) == -4)
		;
}

void *memset(void *to, int value, u32 n)
{
	u8 *at = to;

	while (n--)
		*at++ = value;
	return to;
}

void *memcpy(void *to, const void *from, u32 n)
{
	const u8 *source = from;
	u8 *at = to;

	while (n--)
		*at++ = *source++;
	return to;
}
