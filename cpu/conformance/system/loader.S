# Brings the processor of QEMU into a case's start state and jumps to the case.
# A ROM of 64 KiB below 1 MiB and below 4 GiB; `cargo xtask cpu-golden` writes
# the state into `values.inc` and `fx.bin`, the contents of memory into `memory.bin`.

        .intel_syntax noprefix
        .include "values.inc"

        .text
        .code16
start:  cli
        lgdt    cs:[gdt_pointer - start]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        .byte   0x66, 0xEA
        .long   wide
        .word   8
        .balign 8
gdt:    .quad   0
        .quad   0x00CF9B000000FFFF
        .quad   0x00CF93000000FFFF
        .quad   0x00009B0F0000FFFF      # 16-bit code, base F0000
        .quad   0x000093000000FFFF      # 16-bit data, base 0
gdt_pointer:
        .word   39
        .long   gdt
case_gdt:
        .word   V_GDT_LIMIT
        .long   V_GDT_BASE
case_idt:
        .word   V_IDT_LIMIT
        .long   V_IDT_BASE
flags:  .long   V_EFLAGS
        .balign 16
fx:     .incbin "fx.bin"

        .code32
wide:   mov     eax, 16
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        # No interrupt may come: the timer of this machine runs.
        mov     al, 0xFF
        out     0x21, al
        out     0xA1, al
        cld
        mov     esi, offset pieces
1:      lodsd
        mov     edi, eax
        lodsd
        mov     ecx, eax
        jecxz   2f
        rep movsb
        jmp     1b
2:      mov     eax, 0x600              # OSFXSR, OSXMMEXCPT
        mov     cr4, eax
        fninit
        fxrstor [fx]
        lidt    [case_idt]
        .if     V_REAL
        jmp     0x18:(narrow - start)
        .code16
narrow: mov     ax, 32
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     fs, ax
        mov     gs, ax
        mov     eax, V_CR0
        mov     cr0, eax
        .byte   0xEA
        .word   real - start, 0xF000
real:   data32 lgdt cs:[case_gdt - start]
        mov     eax, V_CR4
        mov     cr4, eax
        mov     ax, 0xF000
        mov     ss, ax
        mov     esp, offset flags - start
        popfd
        mov     ax, V_ES
        mov     es, ax
        mov     ax, V_DS
        mov     ds, ax
        mov     ax, V_FS
        mov     fs, ax
        mov     ax, V_GS
        mov     gs, ax
        mov     ax, V_SS
        mov     ss, ax
        .else
        lgdt    [case_gdt]
        .if     V_TR
        # LTR wants the task not busy.
        and     byte ptr [V_GDT_BASE + V_TR + 5], 0xFD
        mov     eax, V_TR
        ltr     ax
        .endif
        mov     eax, V_LDTR
        lldt    ax
        .if     V_EFER
        mov     ecx, 0xC0000080
        mov     eax, V_EFER
        xor     edx, edx
        wrmsr
        .endif
        mov     eax, V_CR3
        mov     cr3, eax
        mov     eax, V_CR4
        mov     cr4, eax
        mov     eax, V_CR0
        mov     cr0, eax
        jmp     1f
1:      mov     esp, offset flags
        popfd
        mov     eax, V_ES
        mov     es, eax
        mov     eax, V_FS
        mov     fs, eax
        mov     eax, V_GS
        mov     gs, eax
        mov     eax, V_SS
        mov     ss, eax
        mov     eax, V_DS
        mov     ds, eax
        .endif
        mov     eax, V_EAX
        mov     ecx, V_ECX
        mov     edx, V_EDX
        mov     ebx, V_EBX
        mov     esp, V_ESP
        mov     ebp, V_EBP
        mov     esi, V_ESI
        mov     edi, V_EDI
        .if     V_REAL
        .byte   0xEA
        .word   V_EIP, V_CS
        .else
        .byte   0xEA
        .long   V_EIP
        .word   V_CS
        .endif

        # Address, length, bytes; the last has no length.
pieces: .incbin "memory.bin"

        .org    0xFFF0
        .code16
        .byte   0xEA
        .word   0, 0xF000
        .org    0xFFFF
        .byte   0
