# Task switches: JMP, CALL, IRET, interrupts and exceptions through task gates,
# 386 and 286 TSSs, what is saved and loaded, busy bits, link, NT, TS, CR3,
# and the faults that arise before and after the switch.
        .include "rom.inc"

        .equ T386,      0x14000
        .equ T286,      0x15000
        .equ S386,      FIRSTFREE
        .equ S286,      FIRSTFREE + 8
        .equ SGATE,     FIRSTFREE + 16
        .equ SMISC,     FIRSTFREE + 24
        .equ TSTACK,    0xE000

task_entry:
        mov     ecx, ecx
        int     0x30
task_iret:
        iretd
        mov     eax, 0x600D
        int     0x30

        # Fresh TSSs and descriptors; TR is TSSSEL again and nothing is busy.
fresh:  mov     edi, T386
        mov     ecx, 0x400
        xor     eax, eax
        rep stosd
        mov     edi, T286
        mov     ecx, 0x100
        rep stosd
        # T386
        mov     edi, T386
        mov     dword ptr [edi + 0x00], 0xFFFF0000
        mov     dword ptr [edi + 0x04], KSTACK
        mov     dword ptr [edi + 0x08], DATA0
        mov     dword ptr [edi + 0x20], offset task_entry
        mov     dword ptr [edi + 0x24], 0x00000046
        mov     dword ptr [edi + 0x28], 0xA0A0A0A0
        mov     dword ptr [edi + 0x2C], 0xC1C1C1C1
        mov     dword ptr [edi + 0x30], 0xD2D2D2D2
        mov     dword ptr [edi + 0x34], 0xB3B3B3B3
        mov     dword ptr [edi + 0x38], TSTACK
        mov     dword ptr [edi + 0x3C], 0xB5B5B5B5
        mov     dword ptr [edi + 0x40], 0x56565656
        mov     dword ptr [edi + 0x44], 0xD7D7D7D7
        mov     dword ptr [edi + 0x48], 0xAAAA0000 + DATA0
        mov     dword ptr [edi + 0x4C], 0xBBBB0000 + CODE0
        mov     dword ptr [edi + 0x50], 0xCCCC0000 + DATA0
        mov     dword ptr [edi + 0x54], 0xDDDD0000 + DATA0
        mov     dword ptr [edi + 0x58], 0xEEEE0000 + DATA3
        mov     dword ptr [edi + 0x5C], 0
        mov     dword ptr [edi + 0x60], 0x11110000
        mov     dword ptr [edi + 0x64], 0x10000000
        # T286
        mov     edi, T286
        mov     word ptr [edi + 0x02], KSTACK
        mov     word ptr [edi + 0x04], DATA0
        mov     word ptr [edi + 0x0E], offset task_entry
        mov     word ptr [edi + 0x10], 0x0046
        mov     word ptr [edi + 0x12], 0xA0A0
        mov     word ptr [edi + 0x14], 0xC1C1
        mov     word ptr [edi + 0x16], 0xD2D2
        mov     word ptr [edi + 0x18], 0xB3B3
        mov     word ptr [edi + 0x1A], TSTACK
        mov     word ptr [edi + 0x1C], 0xB5B5
        mov     word ptr [edi + 0x1E], 0x5656
        mov     word ptr [edi + 0x20], 0xD7D7
        mov     word ptr [edi + 0x22], DATA0
        mov     word ptr [edi + 0x24], CODE0
        mov     word ptr [edi + 0x26], DATA0
        mov     word ptr [edi + 0x28], DATA0
        mov     word ptr [edi + 0x2A], 0
        mov     edi, GDT + S386
        mov     dword ptr [edi], 0x40000067
        mov     dword ptr [edi + 4], 0x00008901
        mov     dword ptr [edi + 8], 0x5000002B
        mov     dword ptr [edi + 12], 0x00008101
        mov     dword ptr [edi + 16], S386 << 16
        mov     dword ptr [edi + 20], 0x00008500
        mov     byte ptr [GDT + TSSSEL + 5], 0x89
        mov     eax, TSSSEL
        ltr     ax
        mov     eax, LDTSEL
        lldt    ax
        clts
        # The old task's TSS, where saved values will show.
        mov     edi, TSS0 + 0x1C
        mov     ecx, (0x64 - 0x1C) / 4
        mov     eax, 0xEEEEEEEE
        rep stosd
        mov     dword ptr [TSS0], 0xEEEEEEEE
        mov     eax, cr3
        mov     [TSS0 + 0x1C], eax
        mov     dword ptr [TSS0 + 0x60], 0
        # DR6 is clean.
        xor     eax, eax
        mov     dr6, eax
        ret

        # The event, TR, the types of the TSSs, CR0.TS, DR6, both links; and at
        # the end the old task's TSS.
after:  call    report
        say     "  tr="
        str     ax
        call    put16
        say     " ldtr="
        sldt    ax
        call    put16
        say     " types="
        mov     al, [GDT + TSSSEL + 5]
        call    put8
        call    space
        mov     al, [GDT + S386 + 5]
        call    put8
        call    space
        mov     al, [GDT + S286 + 5]
        call    put8
        say     " cr0="
        mov     eax, cr0
        call    put8
        say     " dr6="
        mov     eax, dr6
        call    put32
        say     " link="
        mov     eax, [T386]
        call    put32
        call    space
        mov     ax, [T286]
        call    put16
        call    space
        mov     eax, [TSS0]
        call    put32
        call    newline
        ret
# Only the vector, the error code and TR: how a processor takes an exception of
# a half loaded task (which stack, which CS) is its own affair.
brief:  mov     eax, [out_vec]
        call    space
        call    put8
        say     " e="
        mov     eax, [out_err]
        call    put16
        say     " tr="
        str     ax
        call    put16
        say     " types="
        mov     al, [GDT + TSSSEL + 5]
        call    put8
        call    space
        mov     al, [GDT + S386 + 5]
        call    put8
        say     " cr0="
        mov     eax, cr0
        call    put8
        jmp     newline

show_tss:
        say     "  TSS0"
        # Flags without RF and the undefined ones.
        and     dword ptr [TSS0 + 0x24], 0xFFFEFFFF
        mov     eax, [TSS0 + 0x20]
        sub     eax, [in_eip]
        mov     [TSS0 + 0x20], eax
        mov     edi, TSS0 + 0x1C
        mov     ecx, 9
        call    dump
        call    newline
        say     "      "
        mov     ecx, 10
        call    dump
        jmp     newline
show_t286:
        mov     eax, [T286 + 0x0C]
        sub     ax, [in_eip]
        mov     edi, T286 + 0x0C
        mov     ecx, 8
        say     "  T286"
        call    dump
        jmp     newline
show_t386:
        mov     edi, T386 + 0x20
        mov     ecx, 16
        say     "  T386"
        call    dump
        jmp     newline

        .macro task name, cpl=0
        call    fresh
        say     "\name:"
        mov     al, \cpl
        call    ring
        mov     dword ptr [in_eip], offset 8f
        jmp     9f
8:
        .endm
        .macro endtask
        mov     eax, 0x0BAD
        int     0x30
9:
        .endm
        .macro go
        call    run
        call    after
        .endm
        .macro farop op, sel
        .byte   \op
        .long   0x12345678
        .word   \sel
        .endm
        .equ JMPF, 0xEA
        .equ CALLF, 0x9A

main:
        post    0x40
        task    "jmp to a 386 TSS"
        farop   JMPF, S386
        endtask
        go
        call    show_tss
        task    "call to a 386 TSS"
        farop   CALLF, S386
        endtask
        go
        call    show_tss
        task    "call to a 386 TSS from ring 3: TSS privilege", 3
        farop   CALLF, S386
        endtask
        go
        task    "call to a 386 TSS from ring 3", 3
        farop   CALLF, S386
        endtask
        mov     byte ptr [GDT + S386 + 5], 0xE9
        go
        call    show_tss
        task    "jmp with RPL 3 to a TSS of DPL 0"
        farop   JMPF, S386+3
        endtask
        go
        task    "call through a task gate"
        farop   CALLF, SGATE
        endtask
        go
        task    "jmp through a task gate"
        farop   JMPF, SGATE
        endtask
        go
        task    "call through a task gate from ring 3", 3
        farop   CALLF, SGATE
        endtask
        mov     byte ptr [GDT + SGATE + 5], 0xE5
        go
        task    "call through a task gate of DPL 0 from ring 3", 3
        farop   CALLF, SGATE
        endtask
        go
        task    "task gate not present"
        farop   CALLF, SGATE
        endtask
        mov     byte ptr [GDT + SGATE + 5], 5
        go
        .irp    sel, 0, CODE0, S386+4, 0x800, LDTSEL
        task    "task gate to \sel"
        farop   CALLF, SGATE
        endtask
        mov     word ptr [GDT + SGATE + 2], \sel
        go
        .endr
        task    "TSS not present"
        farop   CALLF, S386
        endtask
        mov     byte ptr [GDT + S386 + 5], 9
        go
        task    "TSS not present behind a gate"
        farop   CALLF, SGATE
        endtask
        mov     byte ptr [GDT + S386 + 5], 9
        go
        task    "TSS busy"
        farop   CALLF, S386
        endtask
        mov     byte ptr [GDT + S386 + 5], 0x8B
        go
        task    "TSS busy behind a gate"
        farop   JMPF, SGATE
        endtask
        mov     byte ptr [GDT + S386 + 5], 0x8B
        go
        task    "jmp to itself is busy"
        farop   JMPF, TSSSEL
        endtask
        go
        task    "TSS limit too small"
        farop   CALLF, S386
        endtask
        mov     word ptr [GDT + S386], 0x66
        go
        task    "286 TSS limit too small"
        farop   CALLF, S286
        endtask
        mov     word ptr [GDT + S286], 0x2A
        go

        post    0x41
        task    "jmp to a 286 TSS"
        farop   JMPF, S286
        endtask
        go
        call    show_tss
        task    "call to a 286 TSS"
        farop   CALLF, S286
        endtask
        go
        task    "from a 286 TSS to a 386 TSS: what is saved"
        farop   JMPF, S386
        endtask
        mov     eax, S286
        ltr     ax
        go
        call    show_t286

        # There and back with IRET.
        post    0x42
        task    "call and iret"
        farop   CALLF, S386
        mov     eax, 0x1600D
        int     0x30
        endtask
        mov     dword ptr [T386 + 0x20], offset task_iret
        go
        call    show_t386
        task    "call and iret, from ring 3", 3
        farop   CALLF, S386
        mov     eax, 0x1600D
        int     0x30
        endtask
        mov     byte ptr [GDT + S386 + 5], 0xE9
        mov     dword ptr [T386 + 0x20], offset task_iret
        go
        call    show_t386
        task    "int through a task gate and iret"
        int     0x34
        mov     eax, 0x1600D
        int     0x30
        endtask
        mov     dword ptr [T386 + 0x20], offset task_iret
        mov     dword ptr [IDT + 0x34 * 8], S386 << 16
        mov     dword ptr [IDT + 0x34 * 8 + 4], 0x8500
        go
        call    show_tss
        task    "int from ring 3 through a task gate of DPL 0", 3
        int     0x34
        endtask
        go
        task    "iret with NT and a link that is not busy"
        push    0x4002
        popfd
        iretd
        endtask
        mov     dword ptr [TSS0], S386
        go
        task    "iret with NT and a null link"
        push    0x4002
        popfd
        iretd
        endtask
        mov     dword ptr [TSS0], 0
        go
        task    "iret with NT and a link to a code segment"
        push    0x4002
        popfd
        iretd
        endtask
        mov     dword ptr [TSS0], CODE0
        go
        task    "iret with NT and a link not present"
        push    0x4002
        popfd
        iretd
        endtask
        mov     dword ptr [TSS0], S386
        mov     byte ptr [GDT + S386 + 5], 0x0B
        go
        task    "iret with NT back to a busy task"
        push    0x4002
        popfd
        iretd
        endtask
        mov     dword ptr [TSS0], S386
        mov     byte ptr [GDT + S386 + 5], 0x8B
        go
        call    show_tss
        task    "NT stays when the new task has it, jmp"
        farop   JMPF, S386
        endtask
        mov     dword ptr [T386 + 0x24], 0x4046
        go

        # Exceptions through a task gate: the error code goes to the new stack.
        post    0x43
        task    "GP through a task gate pushes its code"
        mov     eax, 0x1234
        mov     ds, eax
        endtask
        mov     dword ptr [T386 + 0x20], offset take_code
        mov     dword ptr [IDT + 13 * 8], S386 << 16
        mov     dword ptr [IDT + 13 * 8 + 4], 0x8500
        go
        call    show_tss
        task    "GP through a task gate to a 286 TSS"
        mov     eax, 0x1234
        mov     ds, eax
        endtask
        mov     word ptr [T286 + 0x0E], offset take_code
        mov     dword ptr [IDT + 13 * 8], S286 << 16
        mov     dword ptr [IDT + 13 * 8 + 4], 0x8500
        go
        # A bad stack in ring 0 is a double fault; a task gate survives it.
        task    "UD through a task gate has no code"
        ud2
        endtask
        mov     dword ptr [IDT + 6 * 8], S386 << 16
        mov     dword ptr [IDT + 6 * 8 + 4], 0x8500
        go
        call    restore_idt

        # Faults behind the switch: the new task's segments.
        post    0x44
        .macro field name, offset, value
        task    "\name = \value"
        farop   CALLF, S386
        endtask
        mov     word ptr [T386 + \offset], \value
        call    run
        call    brief
        .endm
        .irp    sel, 0, 3, DATA0, CODE3, 0x800, TSSSEL, 0x0C
        field   "CS", 0x4C, \sel
        .endr
        .irp    sel, 0, DATA3, CODE0, 0x800, DATA1, 0x0C
        field   "SS", 0x50, \sel
        .endr
        .irp    sel, 0, 3, CODE0, TSSSEL, 0x800, 0x0C
        field   "DS", 0x54, \sel
        .endr
        field   "ES", 0x48, TSSSEL
        field   "GS", 0x5C, TSSSEL
        .irp    sel, 0, LDTSEL, DATA0, 0x800
        field   "LDT", 0x60, \sel
        .endr
        mov     dword ptr [GDT + SMISC], 0x0000FFFF
        mov     dword ptr [GDT + SMISC + 4], 0x00CF1200
        field   "SS not present", 0x50, SMISC
        field   "DS not present", 0x54, SMISC
        mov     byte ptr [GDT + SMISC + 5], 0x02
        field   "LDT not present", 0x60, SMISC
        mov     dword ptr [GDT + SMISC + 4], 0x00CF1A0F
        field   "CS not present", 0x4C, SMISC
        # A task in ring 3.
        task    "a task of ring 3"
        farop   CALLF, S386
        endtask
        mov     word ptr [T386 + 0x4C], CODE3
        mov     word ptr [T386 + 0x50], DATA3
        mov     word ptr [T386 + 0x54], DATA3
        mov     word ptr [T386 + 0x48], 0
        mov     dword ptr [T386 + 0x24], 0x3246
        go
        # CR3 is loaded when paging is on.
        post    0x45
        mov     edi, 0x1C000
        mov     ecx, 0x3000 / 4
        xor     eax, eax
        rep stosd
        mov     dword ptr [0x1C000], 0x1D003
        mov     edi, 0x1D000
        mov     eax, 3
1:      mov     [edi], eax
        add     edi, 4
        add     eax, 0x1000
        cmp     edi, 0x1E000
        jb      1b
        mov     dword ptr [0x1E000], 0x1D003
        mov     eax, 0x1C000
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        jmp     1f
1:      task    "CR3 of the new task"
        farop   CALLF, S386
        endtask
        mov     dword ptr [T386 + 0x1C], 0x1E000
        mov     dword ptr [T386 + 0x20], offset show_cr3
        go
        mov     eax, 0x1C000
        mov     cr3, eax
        task    "CR3 comes back with iret"
        farop   CALLF, S386
        mov     eax, cr3
        int     0x30
        endtask
        mov     dword ptr [T386 + 0x1C], 0x1E000
        mov     dword ptr [T386 + 0x20], offset task_iret
        go
        mov     eax, cr3
        call    put32
        call    newline
        # Double fault through a task gate: the ring-0 stack is not mapped.
        task    "double fault by a page fault on the stack"
        mov     esp, 0x00C00000
        push    eax
        endtask
        mov     dword ptr [T386 + 0x1C], 0x1C000
        mov     dword ptr [T386 + 0x20], offset take_code
        mov     dword ptr [IDT + 8 * 8], S386 << 16
        mov     dword ptr [IDT + 8 * 8 + 4], 0x8500
        go
        call    show_tss
        ret

show_cr3:
        mov     eax, cr3
        int     0x30
take_code:
        mov     eax, [esp]
        mov     edx, esp
        int     0x30

restore_idt:
        mov     word ptr [IDT + 13 * 8], offset vector_stubs + 13 * 16
        mov     word ptr [IDT + 13 * 8 + 2], CODE0
        mov     dword ptr [IDT + 13 * 8 + 4], 0x8E00
        mov     word ptr [IDT + 6 * 8], offset vector_stubs + 6 * 16
        mov     word ptr [IDT + 6 * 8 + 2], CODE0
        mov     dword ptr [IDT + 6 * 8 + 4], 0x8E00
        ret

        rom_end
