# Every exception, from ring 0 and from ring 3, with what its delivery pushes.
        .include "case.inc"

        case system32, "DE of DIV by zero"
        xor     ecx, ecx
        div     ecx
        hlt
        case paged32, "DE in ring 3"
        ring3
        xor     ecx, ecx
        div     ecx
        int     0x80
        case real, "DE goes through the vector table"
        xor     cx, cx
        div     cx
        hlt
        case prot16, "DE of 16-bit code"
        xor     cx, cx
        div     cx
        hlt
        case system32, "DE of IDIV whose quotient is too large"
        mov     eax, 0x80000000
        cdq
        mov     ecx, -1
        idiv    ecx
        hlt
        case system32, "DE of AAM 0"
        aam     0
        hlt

        case system32, "DB after an instruction with TF"
        push    0x102
        popfd
        nop
        nop
        hlt
        case paged32, "DB after an instruction of ring 3 with TF"
        ring3   0x102
        inc     eax
        int     0x80
        case real, "DB after an instruction with TF"
        mov     ax, 0x102
        push    ax
        popf
        nop
        hlt
        case system32, "DB of an instruction breakpoint is a fault"
        mov     eax, CODE + 1f - START
        mov     dr0, eax
        mov     eax, 0x401
        mov     dr7, eax
1:      inc     ecx
        hlt
        case system32, "DB of a data breakpoint is a trap"
        mov     eax, DATA
        mov     dr1, eax
        mov     eax, 0x00D00404
        mov     dr7, eax
        mov     [esi], ecx
        inc     ecx
        hlt
        case system32, "registers of breakpoints"
        mov     eax, 0x12345678
        mov     dr0, eax
        mov     dr1, esi
        mov     dr2, edi
        mov     dr3, ebp
        mov     ecx, dr3
        mov     edx, dr6
        mov     ebx, dr7
        hlt

        case system32, "BP"
        int3
        hlt
        case paged32, "BP in ring 3"
        ring3
        int3
        int     0x80
        case real, "BP"
        int3
        hlt
        case system32, "OF of INTO"
        mov     al, 0x7F
        inc     al
        into
        hlt
        case system32, "INTO without overflow"
        xor     eax, eax
        into
        hlt
        case paged32, "OF of INTO in ring 3"
        ring3
        mov     al, 0x7F
        inc     al
        into
        int     0x80
        case real, "OF of INTO"
        mov     al, 0x7F
        inc     al
        into
        hlt
        case system32, "BR below"
        mov     dword ptr [esi], 5
        mov     dword ptr [esi + 4], 9
        mov     ecx, 4
        bound   ecx, [esi]
        hlt
        case system32, "BOUND at the upper limit"
        mov     dword ptr [esi], 5
        mov     dword ptr [esi + 4], 9
        mov     ecx, 9
        bound   ecx, [esi]
        hlt
        case paged32, "BR above, in ring 3"
        ring3
        mov     dword ptr [esi], 5
        mov     dword ptr [esi + 4], 9
        mov     ecx, 10
        bound   ecx, [esi]
        int     0x80
        case real, "BR"
        mov     word ptr [si], 5
        mov     word ptr [si + 2], 9
        mov     cx, 10
        bound   cx, [si]
        hlt

        case system32, "UD2"
        ud2
        case paged32, "UD2 in ring 3"
        ring3
        ud2
        case prot16, "UD2 in 16-bit code"
        ud2
        case real, "UD2"
        ud2
        case system32, "UD of UD1 with 32-bit operand"
        .byte   0x0F, 0xB9, 0xC1
        hlt
        case system32, "UD of UD1 with 16-bit operand"
        .byte   0x66, 0x0F, 0xB9, 0xC1
        hlt
        case system32, "UD of UD0 with 32-bit operand"
        .byte   0x0F, 0xFF, 0xC1
        hlt
        case system32, "UD of UD0 with 16-bit operand"
        .byte   0x66, 0x0F, 0xFF, 0xC1
        hlt
        case system32, "UD of LOCK with a register"
        .byte   0xF0, 0x01, 0xC8
        hlt
        case system32, "UD of MOV to CS"
        .byte   0x8E, 0xC8
        hlt
        case system32, "UD of LEA with a register"
        .byte   0x8D, 0xC0
        hlt
        case real, "UD of LLDT in real mode"
        lldt    ax
        hlt
        case real, "UD of ARPL in real mode"
        .byte   0x63, 0xC8
        hlt
        case system32, "UD of CR1"
        .byte   0x0F, 0x20, 0xC8
        hlt
        case system32, "GP of an instruction of 16 bytes"
        .fill   12, 1, 0x66
        .byte   0x81, 0xC0, 1, 2
        hlt
        case system32, "an instruction of 15 bytes"
        .fill   11, 1, 0x66
        .byte   0x81, 0xC0, 1, 2
        hlt

        case system32, "NM of an x87 instruction with TS"
        mov     eax, cr0
        or      al, 8
        mov     cr0, eax
        fnop
        hlt
        case paged32, "NM of an x87 instruction with TS, in ring 3"
        mov     eax, cr0
        or      al, 8
        mov     cr0, eax
        ring3
        fld1
        int     0x80
        case real, "NM with EM"
        mov     eax, cr0
        or      al, 4
        mov     cr0, eax
        fld1
        hlt
        case system32, "NM of FWAIT with MP and TS"
        mov     eax, cr0
        or      al, 10
        mov     cr0, eax
        fwait
        hlt
        case system32, "FWAIT with TS alone"
        mov     eax, cr0
        or      al, 8
        and     al, 0xFD
        mov     cr0, eax
        fwait
        hlt
        case system32, "NM of SSE with TS"
        mov     eax, cr0
        or      al, 8
        mov     cr0, eax
        xorps   xmm0, xmm0
        hlt
        case system32, "UD of SSE with EM"
        mov     eax, cr0
        or      al, 4
        mov     cr0, eax
        xorps   xmm0, xmm0
        hlt
        case system32, "UD of SSE without OSFXSR"
        xor     eax, eax
        mov     cr4, eax
        xorps   xmm0, xmm0
        hlt
        case system32, "DF: the gate of GP is not present"
        and     byte ptr [IDT + 13 * 8 + 5], 0x7F
        mov     ax, 0xFFF8
        mov     ds, ax
        hlt
        case paged32, "DF: a page fault while a page fault is delivered"
        # The gate of PF leads to a code segment that is not there.
        mov     dword ptr [PT + 4 * 2], 0x2060
        invlpg  [IDT]
        mov     eax, [0x404000]
        hlt
        case paged32, "a page fault in the delivery of another exception is served alone"
        # The gate of UD is the last on a page that is not there; that of PF
        # lies on the next page.
        mov     eax, [IDT + 14 * 8]
        mov     [DATA + 7 * 8], eax
        mov     eax, [IDT + 14 * 8 + 4]
        mov     [DATA + 7 * 8 + 4], eax
        mov     dword ptr [PROBES + 4], 0xA006
        sub     esp, 8
        mov     word ptr [esp], 0x7FF
        mov     dword ptr [esp + 2], 0x401FC8
        lidt    [esp]
        ud2
        case system32, "TS, NP, SS, GP after DE make DF"
        and     byte ptr [IDT + 5], 0x7F
        xor     ecx, ecx
        div     ecx
        hlt

        case system32, "NP of a data segment"
        mov     eax, ABSENT
        mov     fs, eax
        hlt
        case paged32, "NP of a data segment in ring 3"
        or      byte ptr [GDT + ABSENT + 5], 0x60
        ring3
        mov     eax, ABSENT + 3
        mov     fs, eax
        int     0x80
        case prot16, "NP of a data segment"
        mov     ax, ABSENT
        mov     fs, ax
        hlt
        case system32, "NP of a gate in the IDT"
        int     0x83
        hlt
        case system32, "SS of a stack segment that is not present"
        # Of ring 0: else it is GP.
        and     byte ptr [GDT + ABSENT + 5], 0x9F
        mov     eax, ABSENT
        mov     ss, eax
        hlt
        case prot16, "SS of a stack segment that is not present"
        # Of ring 0: else it is GP.
        and     byte ptr [GDT + ABSENT + 5], 0x9F
        mov     ax, ABSENT
        mov     ss, ax
        hlt
        case paged32, "SS in ring 3"
        or      byte ptr [GDT + ABSENT + 5], 0x60
        ring3
        mov     eax, ABSENT + 3
        mov     ss, eax
        int     0x80
        case paged32, "GP of HLT in ring 3"
        ring3
        hlt
        case paged32, "GP of INT with a gate for ring 0"
        ring3
        int     0x20
        case system32, "GP of a vector beyond the IDT"
        sub     esp, 8
        mov     word ptr [esp], 0x7F
        mov     dword ptr [esp + 2], IDT
        lidt    [esp]
        int     0x80
        hlt

        case paged32, "PF of a write to a page of the supervisor, from ring 3"
        ring3
        mov     dword ptr ds:[0x403010], eax
        int     0x80
        case pae32, "PF of a fetch from a page without execution"
        mov     eax, 0x408000
        jmp     eax

        case system32, "MF waits for an x87 instruction that looks"
        fninit
        push    0x340
        fldcw   [esp]
        fldz
        fld1
        fdiv    st, st(1)
        fnstsw  ax
        fnclex
        fld1
        hlt
        case paged32, "MF in ring 3"
        ring3
        fninit
        push    0x37E
        fldcw   [esp]
        fldz
        fchs
        fsqrt
        fldz
        fldz
        fdivp
        fwait
        int     0x80
        case real, "MF with NE"
        mov     eax, cr0
        or      al, 0x20
        mov     cr0, eax
        fninit
        push    0x340
        mov     bp, sp
        fldcw   [bp]
        fldz
        fld1
        fdiv    st, st(1)
        fwait
        hlt
        case paged32, "no AC in ring 0"
        mov     eax, cr0
        or      eax, 0x40000
        mov     cr0, eax
        push    0x40002
        popfd
        mov     eax, [esi + 1]
        hlt
        case system32, "INT 80 keeps IF in a trap gate"
        sti
        int     0x81
        hlt
        case system32, "INT 80 clears IF in an interrupt gate"
        sti
        int     0x80
        hlt
        case prot16, "INT 80"
        int     0x80
        hlt
        case real, "INT 80"
        int     0x80
        hlt
        case paged32, "INT through a trap gate that is for ring 0"
        ring3
        int     0x81

        # With a limit of 0 no vector can be delivered.
        case system32, "shutdown without an IDT"
        sub     esp, 8
        mov     word ptr [esp], 0
        mov     dword ptr [esp + 2], IDT
        lidt    [esp]
        ud2
        case prot16, "shutdown without an IDT"
        sub     sp, 8
        mov     bp, sp
        mov     word ptr [bp], 0
        mov     dword ptr [bp + 2], IDT
        lidt    [bp]
        ud2
        case real, "shutdown without vectors"
        sub     sp, 8
        mov     bp, sp
        mov     word ptr [bp], 0
        mov     dword ptr [bp + 2], 0
        lidt    [bp]
        ud2
        case paged32, "shutdown: no page of the IDT is there"
        mov     dword ptr [PT + 4 * 2], 0x2060
        mov     eax, cr3
        mov     cr3, eax
        ring3
        ud2
        case pae32, "shutdown: the stack of ring 0 is not there"
        mov     dword ptr [PT + 8 * 5], 0x5062
        mov     eax, cr3
        ring3
        mov     eax, [0x402000]
        int     0x80
