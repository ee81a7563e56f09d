# Far transfers: calls, jumps and returns between segments, gates, tasks.
        .include "case.inc"

        .macro  farjmp selector, label
        .byte   0xEA
        .long   CODE + \label - START
        .word   \selector
        .endm
        .macro  farcall selector, label
        .byte   0x9A
        .long   CODE + \label - START
        .word   \selector
        .endm

        case system32, "far JMP"
        farjmp  CODE0, 1f
        hlt
1:      inc     eax
        hlt
        case system32, "far JMP with a 16-bit offset"
        .byte   0x66, 0xEA
        .word   CODE + 1f - START, CODE0
        hlt
1:      inc     eax
        hlt
        case system32, "far CALL and RETF"
        farcall CODE0, 1f
        inc     ecx
        hlt
1:      inc     eax
        retf
        case system32, "far CALL and RETF with 16-bit operand"
        .byte   0x66, 0x9A
        .word   CODE + 1f - START, CODE0
        inc     ecx
        hlt
1:      inc     eax
        .byte   0x66, 0xCB
        case system32, "RETF with parameters"
        push    1
        push    2
        farcall CODE0, 1f
        hlt
1:      retf    8
        case system32, "RETF with parameters and 16-bit operand"
        push    1
        .byte   0x66, 0x9A
        .word   CODE + 1f - START, CODE0
        hlt
1:      .byte   0x66, 0xCA, 4, 0
        case system32, "indirect far JMP and CALL"
        mov     dword ptr [esi], CODE + 1f - START
        mov     word ptr [esi + 4], CODE0
        call    fword ptr [esi]
        mov     dword ptr [esi], CODE + 2f - START
        jmp     fword ptr [esi]
        hlt
1:      retf
2:      inc     eax
        hlt
        case system32, "indirect far JMP and CALL with 16-bit offset"
        mov     word ptr [esi], CODE + 1f - START
        mov     word ptr [esi + 2], CODE0
        .byte   0x66
        call    fword ptr [esi]
        mov     word ptr [esi], CODE + 2f - START
        .byte   0x66
        jmp     fword ptr [esi]
        hlt
1:      .byte   0x66, 0xCB
2:      inc     eax
        hlt
        case system32, "far JMP to 16-bit code and back"
        farjmp  CODE16, 1f
        .code16
1:      mov     ax, 0x1234
        .byte   0x66, 0xEA
        .long   CODE + 2f - START
        .word   CODE0
        .code32
2:      inc     ecx
        hlt
        case system32, "IRETD in ring 0"
        push    0x00000ED7
        push    CODE0
        push    CODE + 1f - START
        iretd
        hlt
1:      pushfd
        pop     eax
        hlt
        case system32, "IRET in ring 0"
        pushw   0x0ED7
        pushw   CODE0
        pushw   CODE + 1f - START
        iretw
        hlt
1:      pushfd
        pop     eax
        hlt
        case prot16, "IRET and far CALL of 16-bit code"
        pushf
        push    CODE16
        push    CODE + 1f - START
        iret
1:      .byte   0x9A
        .word   CODE + 2f - START, CODE16
        inc     cx
        hlt
2:      retf
        case real, "far JMP, CALL, RETF, IRET"
        .byte   0xEA
        .word   1f - START, CODE >> 4
1:      .byte   0x9A
        .word   2f - START, CODE >> 4
        pushf
        push    cs
        push    4f - START
        iret
2:      .byte   0x9A
        .word   CODE + 3f - START, 0
        retf
3:      retf    0
4:      mov     ax, cs
        hlt
        case real, "INT and IRET"
        mov     word ptr [0x80 * 4], CODE + 1f - START
        sti
        int     0x80
        mov     cx, ax
        pushf
        pop     dx
        hlt
1:      pushf
        pop     ax
        iret

        .irp    gate, CALLGATE, PARAMGATE, ABSENTGATE, GATE0, GATE16, GATE1, CODE3, CODE1, CONFORMING, TASKGATE, TASK2, ABSENTCODE, DATA3, 0, 0x200
        case paged32, "far CALL to \gate in ring 3"
        ring3
        push    0x1234
        push    0x5678
        farcall \gate, 1f
        int     0x80
1:      int     0x80
        .endr
        .irp    gate, CALLGATE, PARAMGATE, CODE1, CODE3, CONFORMING, TASKGATE, TASK2, TASK16, TASK, SHORTTASK, ABSENTCODE, EXECONLY, DATA0, 0
        case system32, "far CALL to \gate in ring 0"
        push    0x1234
        push    0x5678
        farcall \gate, 1f
        hlt
1:      hlt
        case system32, "far JMP to \gate in ring 0"
        farjmp  \gate, 1f
        hlt
1:      hlt
        .endr
        case paged32, "call gate and RETF to ring 3"
        mov     word ptr [GDT + CALLGATE], CODE + 1f - START
        ring3
        farcall CALLGATE+3, START
        inc     ecx
        int     0x80
1:      inc     eax
        retf
        case paged32, "call gate with parameters and RETF that drops them"
        mov     word ptr [GDT + PARAMGATE], CODE + 1f - START
        ring3
        push    0x1234
        push    0x5678
        farcall PARAMGATE+3, START
        int     0x80
1:      mov     eax, [esp + 8]
        mov     ecx, [esp + 12]
        retf    8
        case paged32, "RETF to ring 3 clears segment registers of ring 0"
        mov     eax, DATA3
        mov     gs, eax
        mov     eax, CONFORMING
        mov     fs, eax
        push    DATA3
        push    USTACK
        push    CODE3
        push    CODE + 1f - START
        retf
1:      int     0x80
        case paged32, "IRETD to ring 1"
        push    DATA1
        push    USTACK
        push    2
        push    CODE1
        push    CODE + 1f - START
        iretd
1:      int     0x80
        case paged32, "IRETD to ring 2, then a call gate to ring 1"
        push    DATA2
        push    USTACK
        push    2
        push    CODE2
        push    CODE + 1f - START
        iretd
1:      farcall GATE1+2, START
        case paged32, "GP of IRETD to an inner ring"
        ring3
        push    2
        push    CODE0
        push    CODE
        iretd
        case paged32, "GP of IRETD to ring 3 with a stack of ring 0"
        push    DATA0
        push    USTACK
        push    2
        push    CODE3
        push    CODE
        iretd
        case paged32, "SS of IRETD with a stack that is not present", 12, 0x90, "TCG raises NP (SDM vol. 2, IRET)"
        or      byte ptr [GDT + ABSENT + 5], 0x60
        push    ABSENT + 3
        push    USTACK
        push    2
        push    CODE3
        push    CODE
        faulting
        iretd
        nop
        case paged32, "NP of IRETD to code that is not present"
        or      byte ptr [GDT + ABSENTCODE + 5], 0x60
        push    DATA3
        push    USTACK
        push    2
        push    ABSENTCODE + 3
        push    CODE
        iretd
        case paged32, "IRETD to ring 3 with IF and IOPL"
        ring3   0x3202
        pushfd
        pop     eax
        int     0x80
        case paged32, "IRETD in ring 3 keeps IF and IOPL"
        ring3
        push    0x3ED7
        push    CODE3
        push    CODE + 1f - START
        iretd
1:      pushfd
        pop     eax
        int     0x80

        .irp    vector, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87
        case paged32, "INT \vector in ring 3"
        ring3   0x202
        int     \vector
        case system32, "INT \vector in ring 0"
        sti
        int     \vector
        hlt
        .endr
        case paged32, "IRETD from INT 80"
        mov     word ptr [IDT + 0x80 * 8], CODE + 1f - START
        ring3
        int     0x80
        inc     ecx
        ud2
1:      inc     eax
        iretd
        case paged32, "TS of a stack segment of another ring in the TSS"
        mov     word ptr [TSS + 8], DATA1
        ring3
        int     0x85
        case paged32, "TS of a null stack segment for ring 1"
        mov     word ptr [TSS + 16], 0
        ring3
        int     0x84
        case system32, "TS of a task whose limit is too small"
        farjmp  SHORTTASK, START
        case system32, "NP of a task that is not present"
        and     byte ptr [GDT + TASK2 + 5], 0x7F
        farjmp  TASK2, START
        case system32, "GP of a busy task"
        farjmp  TASK, START
        case system32, "CALL of a task and IRETD back"
        mov     dword ptr [TSS2 + 32], CODE + 1f - START
        farcall TASK2, START
        pushfd
        pop     ecx
        mov     edx, cr0
        hlt
1:      inc     eax
        iretd
        case paged32, "CALL of a task and IRETD back, under paging"
        mov     dword ptr [TSS2 + 32], CODE + 1f - START
        farcall TASK2, START
        mov     edx, cr0
        hlt
1:      mov     eax, cr0
        iretd
        case system32, "JMP to a task and back"
        mov     dword ptr [TSS2 + 32], CODE + 1f - START
        farjmp  TASK2, START
        inc     ecx
        hlt
1:      farjmp  TASK, START
        case system32, "a task gate in the IDT"
        int     0x85
        hlt
        case system32, "TASK16 has its own registers of 16 bits"
        farjmp  TASK16, START
