# Instructions that user mode has not, or that mean something else there.
        .include "case.inc"

        .irp    reg, es, ss, ds, fs, gs
        case system32, "push and pop of \reg, 32-bit operand"
        push    DATA0
        pop     \reg
        push    0
        push    \reg
        pop     eax
        and     eax, 0xFFFF
        mov     [esp - 4], eax
        hlt
        case system32, "push and pop of \reg, 16-bit operand"
        pushw   DATA0
        .byte   0x66
        pop     \reg
        .byte   0x66
        push    \reg
        pop     ax
        hlt
        case system32, "MOV from and to \reg, 16-bit register"
        mov     bx, \reg
        mov     ax, DATA0
        mov     \reg, ax
        mov     cx, \reg
        hlt
        case real, "MOV to \reg"
        mov     ax, 0x900
        mov     \reg, ax
        mov     cx, \reg
        hlt
        .endr
        case system32, "push of CS"
        push    0
        push    cs
        pop     eax
        movzx   eax, ax
        .byte   0x66
        push    cs
        pop     bx
        mov     [esp - 2], eax
        mov     [esp - 6], eax
        hlt
        case system32, "MOV of a segment register to a 32-bit register clears its upper half"
        mov     eax, -1
        mov     eax, ds
        mov     word ptr [esi], 0
        mov     [esi], ss
        mov     ecx, DATA3
        .byte   0x8E, 0xE1              # mov fs, ecx
        mov     [edi], ecx
        mov     gs, [edi]
        hlt
        .irp    load, les, lds, lss, lfs, lgs
        case system32, "\load with a 32-bit offset"
        mov     dword ptr [esi], 0x12345678
        mov     word ptr [esi + 4], DATA0
        \load   ebx, [esi]
        hlt
        case system32, "\load with a 16-bit offset"
        mov     dword ptr [esi], DATA0 << 16 | 0x5678
        \load   bx, [esi]
        hlt
        .endr
        case system32, "LES of a register is UD"
        .byte   0xC4, 0xC0
        hlt
        case system32, "GP of LDS with a code segment that cannot be read"
        mov     dword ptr [esi], 1
        mov     word ptr [esi + 4], EXECONLY
        lds     ebx, [esi]
        hlt
        case system32, "GP of LSS with a data segment of another ring"
        mov     dword ptr [esi], 1
        mov     word ptr [esi + 4], DATA3
        lss     ebx, [esi]
        hlt

        case system32, "PUSHFD and POPFD in ring 0"
        push    0x00247FD7
        popfd
        pushfd
        pop     eax
        push    2
        popfd
        hlt
        case system32, "PUSHF and POPF with 16-bit operand"
        pushw   0x7ED7
        popfw
        pushfw
        pop     ax
        push    2
        popfd
        hlt
        case paged32, "POPFD in ring 3 keeps IF and IOPL"
        ring3   0x202
        push    0x3002
        popfd
        pushfd
        pop     eax
        int     0x80
        case paged32, "POPFD in ring 3 with IOPL 3 changes IF alone"
        ring3   0x3002
        push    0x202
        popfd
        pushfd
        pop     eax
        int     0x80
        case system32, "CLI and STI in ring 0"
        sti
        nop
        pushfd
        pop     eax
        cli
        pushfd
        pop     ecx
        hlt
        case paged32, "GP of CLI in ring 3"
        ring3
        cli
        int     0x80
        case paged32, "CLI in ring 3 with IOPL 3"
        ring3   0x3202
        cli
        int     0x80
        case paged32, "STI in ring 3 with IOPL 3"
        ring3   0x3002
        sti
        nop
        int     0x80
        case paged32, "GP of STI in ring 3"
        ring3
        sti
        int     0x80

        case system32, "OUT of bytes"
        mov     al, 'A'
        out     0xE9, al
        mov     edx, 0xE9
        mov     al, 'B'
        out     dx, al
        hlt
        case system32, "OUT of words and dwords where nothing is"
        out     0xF8, ax
        out     0xF8, eax
        mov     edx, 0x300
        out     dx, ax
        out     dx, eax
        hlt
        case system32, "IN of bytes"
        xor     eax, eax
        in      al, 0xE9
        mov     ecx, eax
        mov     edx, 0xE9
        mov     al, 0
        in      al, dx
        hlt
        case system32, "IN of words where nothing is"
        xor     eax, eax
        in      ax, 0xF8
        mov     ecx, eax
        mov     edx, 0x300
        xor     eax, eax
        in      ax, dx
        hlt
        case system32, "IN of dwords where nothing is"
        xor     eax, eax
        in      eax, 0xF8
        mov     ecx, eax
        mov     edx, 0x300
        xor     eax, eax
        in      eax, dx
        hlt
        case system32, "OUTSB and INSB, repeated"
        mov     dword ptr [esi], 'a' | 'b' << 8 | 'c' << 16 | 'd' << 24
        mov     edx, 0xE9
        mov     ecx, 4
        rep outsb
        mov     ecx, 3
        rep insb
        outsb
        insb
        hlt
        case system32, "OUTSW, OUTSD, INSW, INSD"
        mov     edx, 0x300
        mov     ecx, 3
        rep outsw
        outsw
        mov     ecx, 2
        rep outsd
        outsd
        mov     ecx, 3
        rep insw
        insw
        std
        mov     ecx, 2
        rep insd
        insd
        hlt
        case real, "REP OUTSB with a 16-bit count"
        mov     word ptr [si], 'x' | 'y' << 8
        mov     dx, 0xE9
        mov     ecx, 0x10002
        rep outsb
        hlt
        case paged32, "a port that the I/O bitmap opens, in ring 3"
        ring3
        mov     al, 'z'
        out     0xE9, al
        in      al, 0xE9
        int     0x80
        case paged32, "GP of a port that the I/O bitmap closes, in ring 3"
        ring3
        out     0xE8, al
        int     0x80
        case paged32, "GP of a word whose second byte the I/O bitmap closes"
        ring3
        in      ax, 0xE9
        int     0x80
        case paged32, "GP of a port beyond the limit of the TSS"
        ring3
        mov     edx, 0x400
        in      al, dx
        int     0x80
        case paged32, "ports of ring 3 with IOPL 3"
        ring3   0x3002
        mov     edx, 0x300
        in      al, dx
        int     0x80
        case paged32, "REP OUTSB whose second page faults"
        mov     dword ptr [DATA + 0xFFC], 'l' | 'a' << 8 | 's' << 16 | 't' << 24
        mov     dword ptr [PROBES + 4], 0xA006
        mov     esi, 0x400FFE
        mov     edx, 0xE9
        mov     ecx, 4
        rep outsb
        hlt

        case system32, "SLDT and STR"
        mov     eax, -1
        mov     ecx, -1
        sldt    ax
        .byte   0x66
        sldt    [esi]
        str     cx
        str     [esi + 4]
        hlt
        case system32, "SLDT and STR to 32-bit registers"
        mov     eax, -1
        mov     ecx, -1
        .byte   0x0F, 0x00, 0xC0        # sldt eax
        .byte   0x0F, 0x00, 0xC9        # str ecx
        hlt
        case system32, "SLDT and STR to 16-bit registers"
        mov     eax, -1
        mov     ecx, -1
        .byte   0x66, 0x0F, 0x00, 0xC0
        .byte   0x66, 0x0F, 0x00, 0xC9
        hlt
        case system32, "LLDT"
        xor     eax, eax
        lldt    ax
        mov     word ptr [esi], LDTSEL
        .byte   0x66
        lldt    [esi]
        mov     eax, LDATA0
        mov     fs, eax
        hlt
        case system32, "LLDT with the other operand sizes"
        mov     eax, LDTSEL
        .byte   0x0F, 0x00, 0xD0        # lldt eax
        .byte   0x66, 0x0F, 0x00, 0xD0  # lldt ax
        hlt
        case system32, "GP of LLDT with a data segment"
        mov     eax, DATA0
        lldt    ax
        hlt
        case system32, "LTR makes the task busy"
        mov     eax, TASK2
        .byte   0x0F, 0x00, 0xD8        # ltr eax
        hlt
        case system32, "LTR with a 16-bit operand"
        mov     eax, TASK2
        .byte   0x66, 0x0F, 0x00, 0xD8
        hlt
        case system32, "GP of LTR with a busy task"
        mov     eax, TASK
        ltr     ax
        hlt
        case system32, "SGDT and SIDT, 32-bit operand"
        sgdt    [esi]
        sidt    [edi]
        hlt
        case real, "SIDT, 16-bit operand"
        sidt    [si]
        sgdt    [di]
        hlt
        case system32, "LGDT and LIDT, 32-bit operand"
        mov     word ptr [esi], 0x3F
        mov     dword ptr [esi + 2], GDT
        lgdt    [esi]
        mov     dword ptr [esi + 2], IDT
        mov     word ptr [esi], 0x7FF
        lidt    [esi]
        sgdt    [edi]
        sidt    [edi + 8]
        int     0x80
        hlt
        case real, "LGDT and LIDT, 16-bit operand"
        mov     word ptr [si], 0x3F
        mov     dword ptr [si + 2], 0xAB001000
        lgdt    [si]
        mov     dword ptr [si + 2], 0
        mov     word ptr [si], 0x3FF
        lidt    [si]
        sgdt    [di]
        sidt    [di + 8]
        hlt
        case system32, "SMSW and LMSW"
        mov     eax, -1
        .byte   0x66, 0x0F, 0x01, 0xE0  # smsw ax
        mov     ecx, -1
        .byte   0x0F, 0x01, 0xE1        # smsw ecx
        smsw    [esi]
        mov     edx, 8
        lmsw    dx
        mov     word ptr [edi], 0
        lmsw    [edi]
        .byte   0x66
        lmsw    [edi]
        mov     eax, 2
        .byte   0x0F, 0x01, 0xF0        # lmsw eax
        .byte   0x66, 0x0F, 0x01, 0xF0
        hlt
        case real, "LMSW turns protected mode on"
        mov     word ptr [si], 0xFF
        mov     dword ptr [si + 2], 0x9100
        lgdt    [si]
        mov     ax, 1
        lmsw    ax
        smsw    cx
        hlt
        case system32, "CLTS"
        mov     eax, cr0
        or      al, 8
        mov     cr0, eax
        mov     ecx, cr0
        clts
        hlt
        case system32, "INVD and WBINVD"
        invd
        wbinvd
        hlt
        case paged32, "GP of WBINVD, INVLPG, LGDT, CLTS in ring 3"
        ring3
        wbinvd
        case paged32, "GP of INVLPG in ring 3"
        ring3
        invlpg  [esi]
        case paged32, "GP of LGDT in ring 3"
        ring3
        lgdt    [esi]
        case paged32, "GP of CLTS in ring 3"
        ring3
        clts
        case paged32, "GP of MOV from CR0 in ring 3"
        ring3
        mov     eax, cr0
        case paged32, "GP of MOV to DR7 in ring 3"
        ring3
        mov     dr7, eax
        case paged32, "GP of RDMSR in ring 3"
        ring3
        rdmsr
        case paged32, "GP of LMSW in ring 3"
        ring3
        lmsw    ax
        case paged32, "GP of LTR in ring 3"
        ring3
        ltr     ax
        case paged32, "SLDT, STR, SGDT, SIDT, SMSW in ring 3"
        ring3
        sgdt    [esi]
        sidt    [esi + 8]
        sldt    ax
        mov     [edi], ax
        str     ax
        mov     [edi + 2], ax
        smsw    ax
        int     0x80

        case system32, "CR2, CR3"
        mov     eax, 0x12345678
        mov     cr2, eax
        mov     eax, 0x00123018
        mov     cr3, eax
        mov     ecx, cr2
        mov     edx, cr3
        mov     ebx, cr4
        hlt
        case pae32, "EFER"
        mov     ecx, 0xC0000080
        rdmsr
        wrmsr
        hlt
        case system32, "RDTSC does not go back"
        rdtsc
        mov     ecx, eax
        mov     ebx, edx
        rdtsc
        sub     eax, ecx
        sbb     edx, ebx
        sbb     eax, eax
        xor     edx, edx
        xor     ebx, ebx
        xor     ecx, ecx
        hlt
        case system32, "GP of RDTSC in ring 3 with TSD"
        mov     eax, 0x604
        mov     cr4, eax
        ring3
        rdtsc
        int     0x80
        case system32, "CPUID writes four registers"
        xor     eax, eax
        cpuid
        test    eax, eax
        setne   al
        movzx   eax, al
        or      ebx, ecx
        or      ebx, edx
        test    ebx, ebx
        setne   bl
        movzx   ebx, bl
        xor     ecx, ecx
        xor     edx, edx
        hlt

        .irp    selector, 0, DATA0, DATA3, CODE0, CODE3, EXECONLY, READONLY, CONFORMING, TASK2, CALLGATE, ABSENT, DOWN, SMALL, LDATA3, 0x100
        case system32, "LAR, LSL, VERR, VERW of \selector in ring 0"
        mov     ebx, \selector
        lar     eax, ebx
        pushfd
        .byte   0x66
        lar     ax, bx
        pushfd
        lsl     ecx, ebx
        pushfd
        .byte   0x66
        lsl     cx, bx
        pushfd
        verr    bx
        pushfd
        verw    bx
        pushfd
        hlt
        case paged32, "LAR, LSL, VERR, VERW of \selector in ring 3"
        ring3
        mov     ebx, \selector
        lar     eax, ebx
        pushfd
        lsl     ecx, ebx
        pushfd
        mov     [esi], bx
        verr    [esi]
        pushfd
        verw    [esi]
        pushfd
        int     0x80
        .endr
        case system32, "VERR and VERW with the other operand size"
        mov     eax, DATA0
        .byte   0x0F, 0x00, 0xE0        # verr eax
        pushfd
        .byte   0x66, 0x0F, 0x00, 0xE0
        pushfd
        .byte   0x0F, 0x00, 0xE8        # verw eax
        pushfd
        .byte   0x66, 0x0F, 0x00, 0xE8
        hlt
        case system32, "LAR and LSL of 16-bit registers"
        mov     ebx, DATA0
        .byte   0x66, 0x0F, 0x02, 0xC3
        .byte   0x66, 0x0F, 0x03, 0xCB
        and     eax, 0xFFF0FFFF
        hlt
        case system32, "ARPL raises the RPL"
        mov     eax, DATA0
        mov     ecx, 3
        arpl    ax, cx
        hlt
        case system32, "ARPL leaves a higher RPL"
        mov     dword ptr [esi], DATA3
        mov     ecx, 1
        arpl    [esi], cx
        hlt
        case prot16, "ARPL in 16-bit code"
        mov     ax, DATA0
        mov     cx, 2
        arpl    ax, cx
        hlt

        # MOV SS holds interrupts and traps back for one instruction.
        case system32, "the trap of TF comes after the instruction behind MOV SS"
        mov     eax, ss
        push    0x102
        popfd
        mov     ss, eax
        inc     ecx
        inc     ecx
        hlt
