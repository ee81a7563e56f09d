/*
 * What watches the kernel: provoking a complaint by the kernel's own test module
 * (LKDTM), and asking lockdep and kmemleak what they saw.
 */
#include "sys.h"

static char text[2048];

/* The beginning of a file, as a string; its length, or an error. */
static int read_text(const char *path)
{
	int fd = SYS3(SYS_open, path, 0, 0), length;

	if (fd < 0)
		return fd;
	length = SYS3(SYS_read, fd, text, sizeof(text) - 1);
	SYS1(SYS_close, fd);
	text[length < 0 ? 0 : length] = 0;
	return length;
}

int write_text(const char *path, const char *what)
{
	int fd = SYS3(SYS_open, path, 1, 0), done;

	if (fd < 0)
		return fd;
	done = SYS3(SYS_write, fd, what, length(what));
	SYS1(SYS_close, fd);
	return done;
}

void provoke(const char *what)
{
	int child = SYS0(SYS_fork);

	if (!child)
		SYS1(SYS_exit_group, write_text("/debug/provoke-crash/DIRECT", what) < 0);
	/* For good, where the child hangs: the kernel is to find out. */
	SYS4(SYS_wait4, child, 0, 0, 0);
}

static const char *find(const char *in, const char *what)
{
	for (; *in; in++) {
		u32 at = 0;

		while (what[at] && in[at] == what[at])
			at++;
		if (!what[at])
			return in + at;
	}
	return 0;
}

void report_watchers(void)
{
	const char *at;
	int i;

	if (read_text("/proc/lockdep_stats") > 0) {
		at = find(text, "debug_locks:");
		while (at && *at == ' ')
			at++;
		say("lockdep: %s\n", at && *at == '1' ? "on" : "off");
	}
	if (read_text("/debug/kmemleak") < 0)
		return;
	/*
	 * An object counts once it is five seconds old, and was not written to
	 * between two scans.
	 */
	for (i = 0; i < 2; i++) {
		rest(6000);
		write_text("/debug/kmemleak", "scan");
	}
	if (read_text("/debug/kmemleak") > 0)
		say("kmemleak: %s\n", text);
	else
		say("kmemleak: nothing\n");
}
