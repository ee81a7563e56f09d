/*
 * Ends QEMU by its isa-debug-exit device: exit code 33 if the argument is 0,
 * else 35. A port is the one thing that a shell cannot write to.
 */
#include <stdlib.h>
#include <sys/io.h>

int main(int argc, char **argv)
{
	if (ioperm(0xf4, 1, 1))
		return 1;
	outb(argc > 1 && atoi(argv[1]) == 0 ? 0x10 : 0x11, 0xf4);
	return 1;
}
