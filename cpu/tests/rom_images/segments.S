# Descriptor checks, one letter for each of the 256 access bytes, four lines of
# 64 for each instruction, ring and RPL:
#   .  it ran            +  it ran and the descriptor's access byte changed
#   1  ran with ZF=1     0  ran with ZF=0        (LAR LSL VERR VERW)
#   G N S T P  #GP #NP #SS #TS #PF with the selector as error code
#   g n s t p  the same with error code 0        ?  anything else
# Behind a far transfer: . a new CS and the ring it runs in is told as a digit.
        .include "rom.inc"

        .equ SLOT,      FIRSTFREE
        .equ m_rpl,     scratch
        .equ m_access,  scratch + 4
        .equ m_base,    scratch + 8
        .equ m_flags,   scratch + 12
        .equ m_cpl,     scratch + 16
        .equ m_snip,    scratch + 20
        .equ m_judge,   scratch + 24
        .equ far_ptr,   scratch + 32

        .macro snippet_of name
        .balign 4
snip_\name:
        .endm
        .macro endsnip
        int     0x30
        .endm

        snippet_of ds
        mov     ds, eax
        endsnip
        snippet_of gs
        mov     gs, eax
        endsnip
        snippet_of ss
        mov     ss, eax
        mov     ss, edx
        endsnip
        snippet_of pop_es
        push    eax
        pop     es
        endsnip
        snippet_of les
        mov     [esp - 4], ax
        les     ecx, [esp - 8]
        endsnip
        snippet_of lss
        mov     [esp - 4], ax
        mov     [esp - 8], esp
        lss     esp, [esp - 8]
        mov     ss, edx
        endsnip
        snippet_of lar
        lar     ecx, eax
        endsnip
        snippet_of lsl
        lsl     ecx, eax
        endsnip
        snippet_of verr
        verr    ax
        endsnip
        snippet_of verw
        verw    ax
        endsnip
        snippet_of lldt
        lldt    ax
        endsnip
        snippet_of ltr
        ltr     ax
        endsnip
        snippet_of jmpf
        mov     [esp - 4], ax
        mov     dword ptr [esp - 8], offset snip_end
        jmp     fword ptr [esp - 8]
        snippet_of callf
        mov     [esp - 12], ax
        mov     dword ptr [esp - 16], offset snip_end
        call    fword ptr [esp - 16]
        snippet_of retf
        push    ebx                     # SS and ESP in case the ring changes
        push    esp
        push    eax
        push    offset snip_end
        retf
        snippet_of iret
        push    ebx
        push    esp
        push    2
        push    eax
        push    offset snip_end
        iretd
snip_end:
        endsnip

# One matrix: m_* are set; prints 4 lines.
matrix:
        mov     dword ptr [m_access], 0
1:      mov     al, [m_access]
        test    al, 0x3F
        jnz     2f
        call    newline
2:      mov     eax, [m_base]
        mov     edi, GDT + SLOT
        mov     word ptr [edi], 0xFFFF
        mov     [edi + 2], ax
        shr     eax, 16
        mov     [edi + 4], al
        mov     [edi + 7], ah
        mov     al, [m_access]
        mov     [edi + 5], al
        mov     al, [m_flags]
        mov     [edi + 6], al
        # A task switch to a made-up TSS is not what is asked here.
        cmp     dword ptr [m_judge], offset judge_far
        jne     4f
        mov     al, [m_access]
        and     al, 0x17
        cmp     al, 1
        jne     4f
        mov     al, '_'
        jmp     5f
4:      mov     al, [m_cpl]
        call    ring
        mov     eax, [m_rpl]
        or      eax, SLOT
        mov     [in_regs], eax
        mov     eax, [in_ss]
        mov     [in_regs + 8], eax      # EDX: a stack segment that works
        mov     eax, [m_rpl]            # EBX: a stack segment for the ring of the RPL
        mov     ebx, eax
        shl     ebx, 4
        lea     ebx, [ebx + eax + DATA0]
        mov     [in_regs + 12], ebx
        mov     eax, [m_snip]
        mov     [in_eip], eax
        call    run
        mov     eax, [out_vec]
        cmp     al, 0x30
        jne     3f
        call    [m_judge]
        jmp     5f
3:      call    judge_fault
5:      call    putc
        inc     byte ptr [m_access]
        jnz     1b
        jmp     newline

judge_fault:
        mov     ah, 'G'
        cmp     al, 13
        je      1f
        mov     ah, 'N'
        cmp     al, 11
        je      1f
        mov     ah, 'S'
        cmp     al, 12
        je      1f
        mov     ah, 'T'
        cmp     al, 10
        je      1f
        mov     ah, 'P'
        cmp     al, 14
        je      1f
        mov     al, '?'
        ret
1:      mov     al, ah
        mov     edx, [out_err]
        cmp     edx, SLOT
        je      2f
        or      al, 0x20
        test    edx, edx
        jz      2f
        mov     al, '?'
2:      ret

judge_load:
        mov     al, [m_access]
        cmp     al, [GDT + SLOT + 5]
        mov     al, '.'
        je      1f
        mov     al, '+'
1:      ret
judge_zf:
        test    byte ptr [out_flags], 0x40
        mov     al, '1'
        jnz     1f
        mov     al, '0'
1:      ret
judge_far:
        mov     al, [out_cs]
        and     al, 3
        add     al, '0'
        ret
judge_lldt:
        mov     eax, LDTSEL
        lldt    ax
        jmp     judge_load
judge_ltr:
        and     byte ptr [GDT + TSSSEL + 5], 0xFD
        mov     eax, TSSSEL
        ltr     ax
        jmp     judge_load

        .macro run_matrix name, cpl, rpl, judge=load, base=0
        say     "\name cpl\cpl rpl\rpl"
        mov     dword ptr [m_snip], offset snip_\name
        mov     dword ptr [m_cpl], \cpl
        mov     dword ptr [m_rpl], \rpl
        mov     dword ptr [m_judge], offset judge_\judge
        mov     dword ptr [m_base], \base
        mov     dword ptr [m_flags], 0xCF
        call    matrix
        .endm

main:
        post    0x10
        .irp    cpl, 0, 1, 3
        .irp    rpl, 0, 1, 3
        run_matrix ds, \cpl, \rpl
        run_matrix ss, \cpl, \rpl
        run_matrix lar, \cpl, \rpl, zf
        run_matrix lsl, \cpl, \rpl, zf
        run_matrix verr, \cpl, \rpl, zf
        run_matrix verw, \cpl, \rpl, zf
        .endr
        .endr
        post    0x11
        run_matrix gs, 0, 0
        run_matrix pop_es, 0, 0
        run_matrix pop_es, 3, 3
        run_matrix les, 3, 3
        run_matrix lss, 0, 0
        run_matrix lss, 3, 3
        run_matrix lldt, 0, 0, lldt
        run_matrix lldt, 0, 3, lldt
        run_matrix lldt, 3, 0, lldt
        run_matrix ltr, 0, 0, ltr
        run_matrix ltr, 0, 3, ltr
        run_matrix ltr, 3, 0, ltr
        post    0x12
        .irp    rpl, 0, 1, 3
        run_matrix jmpf, 0, \rpl, far, 0xF0000
        run_matrix callf, 0, \rpl, far, 0xF0000
        run_matrix retf, 0, \rpl, far, 0xF0000
        run_matrix iret, 0, \rpl, far, 0xF0000
        run_matrix jmpf, 3, \rpl, far, 0xF0000
        run_matrix callf, 3, \rpl, far, 0xF0000
        run_matrix retf, 3, \rpl, far, 0xF0000
        run_matrix iret, 3, \rpl, far, 0xF0000
        run_matrix retf, 1, \rpl, far, 0xF0000
        run_matrix iret, 1, \rpl, far, 0xF0000
        .endr

        # Values: LAR and LSL of known descriptors, with both operand sizes.
        post    0x13
        mov     edi, offset known
        mov     ecx, (known_end - known) / 8
1:      push    ecx
        mov     eax, cs:[edi]
        mov     [GDT + SLOT], eax
        mov     eax, cs:[edi + 4]
        mov     [GDT + SLOT + 4], eax
        add     edi, 8
        mov     ebx, SLOT
        mov     eax, -1
        lar     eax, ebx
        say     "lar "
        call    put32
        call    space
        mov     eax, -1
        lar     ax, bx
        call    put32
        call    space
        mov     eax, -1
        lsl     eax, ebx
        call    put32
        call    space
        mov     eax, -1
        lsl     ax, bx
        call    put32
        call    newline
        pop     ecx
        dec     ecx
        jnz     1b

        post    0x14
        call    singles
        ret
        .balign 8
known:  desc    0x12345678, 0x00ABC, 0x93, 4
        desc    0x12345678, 0x00ABC, 0x93, 13
        desc    0x12345678, 0xFFFFF, 0xFB, 12
        desc    0x12345678, 0x12345, 0xF7, 0
        desc    0x12345678, 0x12345, 0x89, 0
        desc    0x12345678, 0x12345, 0x81, 1
        desc    0x12345678, 0x12345, 0xE2, 8
        desc    0x12345678, 0x12345, 0xEC, 0
        desc    0x12345678, 0x12345, 0xE4, 0
        desc    0x12345678, 0x12345, 0x85, 0
        desc    0x12345678, 0x12345, 0x8E, 0
known_end:

singles:
        case    "null to ds"
        xor     eax, eax
        mov     ds, eax
        endcase
        case    "null with rpl 3 to es"
        mov     eax, 3
        mov     es, eax
        endcase
        case    "null to ss"
        xor     eax, eax
        mov     ss, eax
        endcase
        case    "null to ss in ring 3", 3
        mov     eax, 3
        mov     ss, eax
        endcase
        case    "beyond the GDT limit"
        mov     eax, 0x800
        mov     ds, eax
        endcase
        case    "beyond the LDT limit"
        mov     eax, 0x107
        mov     ds, eax
        endcase
        case    "last of the GDT is a null descriptor"
        mov     eax, 0x7F8
        mov     ds, eax
        endcase
        case    "LDT descriptor is empty"
        mov     eax, 0x04
        mov     ds, eax
        endcase
        mov     eax, [GDT + DATA3 - 3]
        mov     [LDT + 8], eax
        mov     eax, [GDT + DATA3 + 1]
        mov     [LDT + 12], eax
        case    "LDT data", 3
        mov     eax, 0x0F
        mov     ds, eax
        mov     eax, ds:[LDT + 12]
        endcase
        case    "LDT stack, then RPL wrong", 3
        mov     eax, 0x0F
        mov     ss, eax
        mov     eax, 0x0E
        mov     ss, eax
        endcase
        case    "no LDT"
        xor     eax, eax
        lldt    ax
        mov     eax, 0x0F
        mov     ds, eax
        endcase
        case    "LDTR back"
        mov     eax, LDTSEL
        lldt    ax
        xor     eax, eax
        sldt    ax
        endcase
        case    "LLDT through the LDT"
        mov     eax, 0x0C
        lldt    ax
        endcase
        case    "LTR of a busy TSS"
        mov     eax, TSSSEL
        ltr     ax
        endcase
        case    "mov cs"
        mov     eax, CODE0
        .byte   0x8E, 0xC8
        endcase
        case    "mov from segment 6"
        .byte   0x8C, 0xF0
        endcase
        case    "load of a segment from memory reads a word"
        mov     dword ptr [esp - 4], 0xFFFF0010
        mov     es, [esp - 4]
        mov     eax, es
        endcase
        case    "push and pop of segments"
        mov     dword ptr [esp - 4], -1
        push    gs
        mov     eax, [esp]
        pop     fs
        endcase
        case    "16-bit push of a segment"
        .byte   0x66
        push    ds
        mov     ax, [esp]
        endcase
        case    "ARPL raises"
        mov     eax, 0x1000
        mov     ecx, 0x0003
        arpl    ax, cx
        pushfd
        pop     edx
        and     edx, 0x40
        endcase
        case    "ARPL keeps"
        mov     eax, 0x1003
        mov     ecx, 0x0001
        arpl    ax, cx
        pushfd
        pop     edx
        and     edx, 0x40
        endcase
        case    "SGDT SIDT", 3
        sgdt    [esp - 8]
        mov     eax, [esp - 8]
        mov     edx, [esp - 6]
        endcase
        case    "SIDT", 3
        sidt    [esp - 8]
        mov     eax, [esp - 8]
        mov     edx, [esp - 6]
        endcase
        case    "SLDT STR 32", 3
        mov     eax, -1
        sldt    eax
        mov     edx, -1
        str     edx
        endcase
        case    "SLDT STR 16", 3
        mov     eax, -1
        sldt    ax
        mov     edx, -1
        str     dx
        endcase
        .irp    insn, "lgdt [esp]", "lidt [esp]", "lldt ax", "ltr ax", "lmsw ax", "clts", "hlt", "invlpg [esp]", "mov eax, cr0", "mov cr3, eax", "mov eax, dr7", "mov dr0, eax", "wbinvd", "invd", "cli", "sti", "in al, 0x60", "out 0x60, al", "rdmsr", "wrmsr"
        case    "ring 3: \insn", 3
        \insn
        endcase
        .endr
        case    "SMSW ring 3", 3
        xor     eax, eax
        smsw    ax
        endcase
        case    "LMSW sets TS and MP"
        mov     ax, 0x0B
        lmsw    ax
        mov     edx, cr0
        clts
        mov     eax, cr0
        and     eax, 0x1F
        and     edx, 0x1F
        endcase
        case    "LMSW cannot clear PE"
        mov     ax, 0
        lmsw    ax
        mov     eax, cr0
        and     eax, 0x1F
        endcase
        case    "CR1 does not exist"
        .byte   0x0F, 0x20, 0xC8
        endcase
        case    "LOCK on a register"
        .byte   0xF0, 0x01, 0xC8
        endcase
        case    "undefined UD2"
        ud2
        endcase
        case    "far jump through a register"
        .byte   0xFF, 0xE8
        endcase
        case    "LES of a register"
        .byte   0xC4, 0xC0
        endcase
        case    "LDS null keeps going"
        mov     dword ptr [esp - 8], 0x55AA
        mov     dword ptr [esp - 4], 0
        lds     eax, [esp - 8]
        endcase
        case    "BOUND inside"
        mov     dword ptr [esp - 8], 5
        mov     dword ptr [esp - 4], 10
        mov     eax, 10
        bound   eax, [esp - 8]
        endcase
        case    "BOUND outside"
        mov     dword ptr [esp - 8], 5
        mov     dword ptr [esp - 4], 10
        mov     eax, 11
        bound   eax, [esp - 8]
        endcase
        case    "DIV by zero"
        xor     ecx, ecx
        div     ecx
        endcase
        case    "INTO without overflow"
        xor     eax, eax
        into
        endcase
        case    "INTO in ring 0"
        mov     al, 0x7F
        inc     al
        into
        endcase
        case    "INTO in ring 3: gate too privileged", 3
        mov     al, 0x7F
        inc     al
        into
        endcase
        case    "INT3 in ring 0"
        int3
        endcase
        case    "INT3 in ring 3: gate too privileged", 3
        int3
        endcase
        case    "INT 0x20 in ring 3: gate too privileged", 3
        int     0x20
        endcase
        case    "INT 0x80: empty gate"
        int     0x80
        endcase
        case    "INT 0x80: empty gate in ring 3", 3
        int     0x80
        endcase
        case    "FPU with EM"
        mov     eax, cr0
        or      al, 4
        mov     cr0, eax
        fld1
        endcase
        case    "WAIT with TS and MP"
        mov     eax, cr0
        and     al, 0xFB
        or      al, 0x0A
        mov     cr0, eax
        fwait
        endcase
        case    "FPU with TS"
        fld1
        endcase
        case    "CLTS"
        clts
        mov     eax, cr0
        and     eax, 0x1F
        endcase
        ret

        rom_end
