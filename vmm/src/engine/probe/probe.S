/* The probe: the smallest guest that needs what a 32-bit Linux needs. See
 * ../probe.rs, which lays out the tables; it goes to 0x100000. Assembled by
 *   cc -m32 -c probe.S -o probe.o
 *   ld -m elf_i386 -Ttext 0x100000 -e start --oformat binary probe.o -o probe.bin
 */
.code32
.globl start
start:
  lgdt gdtr
  lidt idtr
  mov $0x10, %ax
  mov %ax, %ss
  mov $0x23, %ax
  mov %ax, %ds
  mov $0x102f00, %esp
  ljmp $0x08, $1f
1:
  mov $0x28, %ax
  ltr %ax
  mov $0x104000, %eax
  mov %eax, %cr3
  mov %cr0, %eax
  or $0x80000000, %eax
  mov %eax, %cr0
  /* PIC: vectors 0x20.., only IRQ 0 */
  mov $0x11, %al
  out %al, $0x20
  mov $0x20, %al
  out %al, $0x21
  mov $0x04, %al
  out %al, $0x21
  mov $0x01, %al
  out %al, $0x21
  mov $0xfe, %al
  out %al, $0x21
  /* PIT channel 0, mode 2, 0x1000 */
  mov $0x34, %al
  out %al, $0x43
  xor %eax, %eax
  out %al, $0x40
  mov $0x10, %al
  out %al, $0x40
  /* to ring 3 */
  push $0x23
  push $0x102800
  push $0x202
  push $0x1b
  push $user
  iretl
user:
  mov $0x12345678, %ebx
  int $0x80
  cmp $0x87654321, %ebx
  jne fail
  /* a page that is not there */
  mov 0x400000, %eax
  cmpl $1, faults
  jne fail
  /* interrupts in ring 3 */
2:
  cmpl $3, ticks
  jb 2b
  /* x87 in ring 3 */
  fld1
  fadd %st(0), %st(0)
  fistpl number
  cmpl $2, number
  jne fail
  mov $0x600d, %ebx
  int $0x80
  jmp fail
fail:
  mov $0xbad, %ebx
  int $0x80
  jmp fail
syscall:
  cmp $0x12345678, %ebx
  jne 3f
  mov $0x87654321, %ebx
  iretl
3:
  mov $0x505, %dx
  mov $0x42, %al
  cmp $0x600d, %ebx
  je 4f
  mov $0x13, %al
4:
  out %al, %dx
5:
  hlt
  jmp 5b
fault:
  /* error code: not present, read, user */
  cmpl $4, (%esp)
  jne 6f
  mov %cr2, %eax
  cmp $0x400000, %eax
  jne 6f
  incl faults
  addl $5, 4(%esp)
  add $4, %esp
  iretl
6:
  mov $0xbad, %ebx
  jmp 3b
timer:
  push %eax
  incl ticks
  mov $0x20, %al
  out %al, $0x20
  pop %eax
  iretl
.align 4
faults: .long 0
ticks: .long 0
number: .long 0
gdtr: .word 6*8-1
 .long 0x101000
idtr: .word 0x81*8-1
 .long 0x101800
end:
