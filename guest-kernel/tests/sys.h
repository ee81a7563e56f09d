/* System calls and printing for a test that has no C library. i386 only. */
#ifndef SYS_H
#define SYS_H

#include "abi.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum {
	SYS_exit = 1, SYS_fork = 2, SYS_read = 3, SYS_write = 4, SYS_open = 5,
	SYS_close = 6, SYS_mount = 21, SYS_getpid = 20, SYS_pipe = 42,
	SYS_reboot = 88, SYS_mmap = 90, SYS_wait4 = 114, SYS_clone = 120,
	SYS_setrlimit = 75, SYS_mkdir = 39, SYS_sched_yield = 158,
	SYS_prctl = 172, SYS_rt_sigaction = 174, SYS_rt_sigprocmask = 175,
	SYS_sched_setscheduler = 156, SYS_sched_getscheduler = 157,
	SYS_sigaltstack = 186, SYS_vfork = 190, SYS_mmap2 = 192,
	SYS_setresuid32 = 208, SYS_gettid = 224, SYS_tgkill = 270,
	SYS_exit_group = 252, SYS_set_tid_address = 258, SYS_kill = 37,
	SYS_userfaultfd = 374, SYS_clock_nanosleep = 407, SYS_ioctl = 54,
	SYS_dup2 = 63, SYS_futex = 422, SYS_getppid = 64, SYS_iopl = 110,
	SYS_readlink = 85,
};

static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;

	/* Six arguments and a frame pointer do not fit: ebp goes by the stack. */
	asm volatile("push %%ebp\n\tmov %7, %%ebp\n\tint $0x80\n\tpop %%ebp"
		     : "=a"(ret)
		     : "0"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), "m"(f)
		     : "memory", "cc");
	return ret;
}

#define SYS5(nr, a, b, c, d, e) \
	sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS4(nr, a, b, c, d)	SYS5(nr, a, b, c, d, 0)
#define SYS3(nr, a, b, c)	SYS4(nr, a, b, c, 0)
#define SYS2(nr, a, b)		SYS4(nr, a, b, 0, 0)
#define SYS1(nr, a)		SYS4(nr, a, 0, 0, 0)
#define SYS0(nr)		SYS4(nr, 0, 0, 0, 0)

static inline long async(u32 index, volatile int *status, unsigned long *args)
{
	return SYS4(__NR_ASYNC, index, 0, status, args);
}

/* The task needs the right to use ports. */
static inline void outb(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

void say(const char *format, ...);
void *memset(void *to, int value, u32 n);
void *memcpy(void *to, const void *from, u32 n);
u32 length(const char *text);
int same(const char *a, const char *b);
/* Sleeps for that many milliseconds, signals or not. */
void rest(u32 milliseconds);

/* Writes a string to a file; how much was written, or an error. */
int write_text(const char *path, const char *what);
/* Makes the kernel complain; returns only if it did not end there. */
void provoke(const char *what);
/* Says what lockdep and kmemleak saw, where they are. */
void report_watchers(void);

#endif
