# Interrupt, trap and call gates; returns to outer rings; error codes.
# Matrices as in segments.S: one letter for each access byte of a gate or of the
# code segment behind it, a digit for the ring that the handler runs in.
        .include "rom.inc"

        .equ SLOT,      FIRSTFREE       # a call gate
        .equ TARGET,    FIRSTFREE + 8   # a code segment
        .equ STK16,     FIRSTFREE + 16  # a 16-bit stack of ring 0
        .equ VECTOR,    0x31
        .equ m_access,  scratch + 4
        .equ m_cpl,     scratch + 16
        .equ m_snip,    scratch + 20
        .equ m_slot,    scratch + 24    # address of the access byte that changes
        .equ m_code,    scratch + 28    # the error code that means "the selector"

        # What a gate leads to: EDX = ESP on arrival.
hit:    mov     edx, esp
        int     0x30

        .balign 4
snip_int:
        int     VECTOR
snip_call:
        .byte   0x9A
        .long   0
        .word   SLOT
snip_call3:
        .byte   0x9A
        .long   0
        .word   SLOT + 3
snip_jmp:
        .byte   0xEA
        .long   0
        .word   SLOT

        # Sets IDT entry VECTOR, or the call gate: selector AX, type CL, count CH.
set_gate:
        mov     dword ptr [edi], offset hit
        mov     [edi + 2], ax
        mov     [edi + 4], ch
        mov     [edi + 5], cl
        mov     word ptr [edi + 6], 0
        ret
        # Sets the code segment TARGET with access byte CL.
set_target:
        mov     edi, GDT + TARGET
        mov     dword ptr [edi], 0x0000FFFF
        mov     dword ptr [edi + 4], 0x00CF000F
        mov     [edi + 5], cl
        ret

matrix:
        mov     dword ptr [m_access], 0
1:      mov     al, [m_access]
        test    al, 0x3F
        jnz     2f
        call    newline
2:      mov     edi, [m_slot]
        mov     al, [m_access]
        mov     [edi], al
        # The gate's bytes make no sense as a TSS or as a code segment.
        cmp     edi, GDT + SLOT + 5
        jne     6f
        mov     ah, al
        and     ah, 0x17
        cmp     ah, 1
        je      7f
        and     al, 0x18
        cmp     al, 0x18
        jne     6f
7:      mov     al, '_'
        jmp     5f
6:      mov     al, [m_cpl]
        call    ring
        mov     eax, [m_snip]
        mov     [in_eip], eax
        call    run
        mov     eax, [out_vec]
        cmp     al, 0x30
        jne     3f
        mov     al, [out_cs]
        and     al, 3
        add     al, '0'
        jmp     5f
3:      mov     ah, 'G'
        cmp     al, 13
        je      4f
        mov     ah, 'N'
        cmp     al, 11
        je      4f
        mov     ah, 'S'
        cmp     al, 12
        je      4f
        mov     ah, 'T'
        cmp     al, 10
        je      4f
        mov     ah, 'P'
        cmp     al, 14
        je      4f
        mov     al, '?'
        jmp     5f
4:      mov     al, ah
        mov     edx, [out_err]
        cmp     edx, [m_code]
        je      5f
        or      al, 0x20
        test    edx, edx
        jz      5f
        mov     al, '?'
5:      call    putc
        inc     byte ptr [m_access]
        jnz     1b
        jmp     newline

        .macro run_matrix name, cpl, snippet, slot, code
        say     "\name cpl\cpl"
        mov     dword ptr [m_snip], offset \snippet
        mov     dword ptr [m_cpl], \cpl
        mov     dword ptr [m_slot], \slot
        mov     dword ptr [m_code], \code
        call    matrix
        .endm
        .macro idt_gate selector, type
        mov     edi, IDT + VECTOR * 8
        mov     eax, \selector
        mov     ecx, \type
        call    set_gate
        .endm
        .macro call_gate selector, type
        mov     edi, GDT + SLOT
        mov     eax, \selector
        mov     ecx, \type
        call    set_gate
        .endm
        .macro target access
        mov     cl, \access
        call    set_target
        .endm

        # Reports where a gate led: ring, SS, ESP on arrival, and 8 dwords of the stack.
        .macro gate_case name, cpl, snippet
        say     "\name:"
        mov     al, \cpl
        call    ring
        mov     dword ptr [in_eip], offset \snippet
        call    show_gate
        .endm
show_gate:
        mov     edi, [in_esp]           # parameters 1 to 8 on the caller's stack
        mov     ecx, 16
        mov     eax, 0xC0DE0001
1:      mov     [edi], eax
        inc     eax
        add     edi, 4
        dec     ecx
        jnz     1b
show_go:
        call    run
        call    report
        cmp     byte ptr [out_vec], 0x30
        jne     2f
        mov     edi, [out_regs + 20]
        mov     ecx, 8
        call    dump
        call    newline
2:      ret

main:
        post    0x20
        .irp    cpl, 0, 1, 3
        idt_gate CODE0, 0xEE
        run_matrix "idt gate type", \cpl, snip_int, IDT+VECTOR*8+5, VECTOR*8+2
        idt_gate TARGET, 0xEE
        target  0x9B
        run_matrix "int target", \cpl, snip_int, GDT+TARGET+5, TARGET
        call_gate CODE0, 0xEC
        run_matrix "call gate type", \cpl, snip_call, GDT+SLOT+5, SLOT
        run_matrix "call gate type rpl3", \cpl, snip_call3, GDT+SLOT+5, SLOT
        call_gate TARGET, 0xEC
        run_matrix "call gate target", \cpl, snip_call, GDT+TARGET+5, TARGET
        run_matrix "jmp gate target", \cpl, snip_jmp, GDT+TARGET+5, TARGET
        .endr

        post    0x21
        target  0x9B
        .irp    cpl, 0, 1, 3
        idt_gate CODE0, 0xEE
        gate_case "interrupt gate 32", \cpl, snip_int
        idt_gate CODE0, 0xEF
        gate_case "trap gate 32", \cpl, snip_int
        idt_gate CODE0, 0xE6
        gate_case "interrupt gate 16", \cpl, snip_int
        idt_gate CODE0, 0xE7
        gate_case "trap gate 16", \cpl, snip_int
        call_gate CODE0, 0xEC
        gate_case "call gate 32 count 0", \cpl, snip_call
        call_gate CODE0, 0x03EC
        gate_case "call gate 32 count 3", \cpl, snip_call
        call_gate CODE0, 0x1FEC
        gate_case "call gate 32 count 31", \cpl, snip_call
        call_gate CODE0, 0xE3EC
        gate_case "call gate 32 count with reserved bits", \cpl, snip_call
        call_gate CODE0, 0xE4
        gate_case "call gate 16 count 0", \cpl, snip_call
        call_gate CODE0, 0x04E4
        gate_case "call gate 16 count 4", \cpl, snip_call
        call_gate CODE0, 0xEC
        gate_case "jump through gate", \cpl, snip_jmp
        .endr

        # IF with interrupt and trap gates, flags that are cleared.
        post    0x22
        idt_gate CODE0, 0xEE
        say     "flags through interrupt gate:"
        mov     al, 3
        call    ring
        mov     dword ptr [in_flags], 0x4202    # IF NT
        mov     dword ptr [in_eip], offset snip_int
        call    show_gate
        idt_gate CODE0, 0xEF
        say     "flags through trap gate:"
        mov     al, 3
        call    ring
        mov     dword ptr [in_flags], 0x7202    # IF NT IOPL3
        mov     dword ptr [in_eip], offset snip_int
        call    show_gate

        # Bad selectors behind gates.
        post    0x23
        .irp    sel, 0, 0x3, DATA0, TSSSEL, 0x7FF, 0x800, 0xFC, 0x4
        idt_gate \sel, 0xEE
        gate_case "int gate to \sel", 0, snip_int
        gate_case "int gate to \sel ring 3", 3, snip_int
        call_gate \sel, 0xEC
        gate_case "call gate to \sel", 3, snip_call
        .endr

        # A stack segment in the TSS that is no good: #TS and its error code.
        post    0x24
        idt_gate CODE0, 0xEE
        call_gate CODE0, 0xEC
        .irp    sel, 0, 3, DATA1, DATA3, CODE0, 0x11, TSSSEL, 0x800, 0x58, 0x60
        mov     dword ptr [TSS0 + 16], \sel     # SS1: entered from ring 3 through TARGET of ring 1
        target  0xBB
        idt_gate TARGET+1, 0xEE
        call_gate TARGET+1, 0xEC
        gate_case "SS1=\sel int", 3, snip_int
        gate_case "SS1=\sel call", 3, snip_call
        .endr
        mov     dword ptr [GDT + STK16], 0x0000FFFF
        mov     dword ptr [GDT + STK16 + 4], 0x00003300       # not present
        mov     dword ptr [TSS0 + 16], STK16 + 1
        gate_case "SS1 not present int", 3, snip_int
        gate_case "SS1 not present call", 3, snip_call
        mov     byte ptr [GDT + STK16 + 5], 0xB1
        gate_case "SS1 read only int", 3, snip_int
        mov     byte ptr [GDT + STK16 + 5], 0xB2              # accessed bit must be set
        mov     dword ptr [TSS0 + 12], STACK1                 # 16-bit stack: SP only
        gate_case "SS1 is a 16-bit stack, int", 3, snip_int
        mov     al, [GDT + STK16 + 5]
        call    put8
        call    newline
        gate_case "SS1 is a 16-bit stack, call", 3, snip_call
        call_gate TARGET+1, 0x02EC
        gate_case "SS1 is a 16-bit stack, call with 2", 3, snip_call
        call_gate TARGET+1, 0x02E4
        gate_case "SS1 is a 16-bit stack, 16-bit call with 2", 3, snip_call
        mov     dword ptr [TSS0 + 12], STACK1
        mov     dword ptr [TSS0 + 16], DATA1

        # The TSS limit: no room for SS1:ESP1.
        mov     word ptr [GDT + TSSSEL], 0x10
        and     byte ptr [GDT + TSSSEL + 5], 0xFD
        mov     eax, TSSSEL
        ltr     ax
        gate_case "TSS limit below SS1 int", 3, snip_int
        gate_case "TSS limit below SS1 call", 3, snip_call
        mov     word ptr [GDT + TSSSEL], 0x2FFF
        and     byte ptr [GDT + TSSSEL + 5], 0xFD
        mov     eax, TSSSEL
        ltr     ax

        # A 16-bit TSS gives stacks too.
        mov     word ptr [TSS0 + 0x2000 + 2], KSTACK
        mov     word ptr [TSS0 + 0x2000 + 4], DATA0
        mov     word ptr [TSS0 + 0x2000 + 6], STACK1
        mov     word ptr [TSS0 + 0x2000 + 8], DATA1
        mov     dword ptr [GDT + STK16], 0x60000067 
        mov     dword ptr [GDT + STK16 + 4], 0x00008100
        mov     eax, STK16
        ltr     ax
        gate_case "286 TSS int", 3, snip_int
        gate_case "286 TSS call", 3, snip_call
        and     byte ptr [GDT + TSSSEL + 5], 0xFD
        mov     eax, TSSSEL
        ltr     ax

        # Conforming handlers stay in the caller's ring.
        post    0x25
        target  0x9F
        idt_gate TARGET, 0xEE
        call_gate TARGET, 0x02EC
        gate_case "conforming int", 3, snip_int
        gate_case "conforming call", 3, snip_call
        gate_case "conforming jmp", 3, snip_jmp

        # A vector beyond the IDT limit, and faults while delivering.
        post    0x26
        lidt    cs:[short_idt]
        case    "INT beyond the IDT limit"
        int     0x35
        endcase
        case    "INT beyond the IDT limit, ring 3", 3
        int     0x35
        endcase
        lidt    cs:[idt_pointer]
        # #DF: #GP, and the #GP gate is not present: #NP while delivering #GP.
        mov     byte ptr [IDT + 13 * 8 + 5], 0x0E
        case    "double fault from GP gate not present"
        mov     eax, 0x800
        mov     ds, eax
        endcase
        mov     byte ptr [IDT + 13 * 8 + 5], 0x8E
        # A benign one first: #BR whose gate is absent is plain #NP with EXT.
        mov     byte ptr [IDT + 5 * 8 + 5], 0x0E
        case    "BR gate not present"
        mov     dword ptr [esp - 8], 5
        mov     dword ptr [esp - 4], 10
        mov     eax, 11
        bound   eax, [esp - 8]
        endcase
        mov     byte ptr [IDT + 5 * 8 + 5], 0x8E
        mov     byte ptr [IDT + 6 * 8 + 5], 0x84
        case    "UD gate is a call gate"
        ud2
        endcase
        mov     byte ptr [IDT + 6 * 8 + 5], 0x8E
        mov     byte ptr [IDT + 0 * 8 + 5], 0x0E
        case    "DE gate not present: contributory, then NP is double"
        xor     ecx, ecx
        div     ecx
        endcase
        mov     byte ptr [IDT + 0 * 8 + 5], 0x8E
        # The INT3 gate absent: software, no EXT bit in QEMU and on CPUs.
        mov     byte ptr [IDT + 3 * 8 + 5], 0x6E
        case    "INT3 gate not present", 3
        int3
        endcase
        mov     byte ptr [IDT + 3 * 8 + 5], 0xEE
        case    "INT3 in ring 3", 3
        int3
        endcase
        mov     byte ptr [IDT + 4 * 8 + 5], 0xEE
        case    "INTO in ring 3", 3
        mov     al, 0x7F
        inc     al
        into
        endcase
        mov     byte ptr [IDT + 1 * 8 + 5], 0xEE

        post    0x27
        call    returns
        call    ports
        call    flags
        ret

        .balign 8
short_idt:
        .word   0x31 * 8 - 1
        .long   IDT

        # IRET and RET to other rings, with bad frames.
        .macro frame5 ip, cs, fl, sp, ss
        push    \ss
        push    \sp
        push    \fl
        push    \cs
        push    offset \ip
        .endm
landing:
        mov     edx, esp
        int     0x30
returns:
        case    "iret to ring 3"
        frame5  landing, CODE3, 0x202, STACK3-16, DATA3
        iretd
        endcase
        case    "iret to ring 1"
        frame5  landing, CODE1, 0x3202, STACK1-16, DATA1
        iretd
        endcase
        case    "iret to ring 3 leaves data segments that it may not see"
        mov     eax, DATA1
        mov     es, eax
        mov     eax, DATA3
        mov     fs, eax
        mov     eax, CODE0
        mov     gs, eax
        frame5  landing, CODE3, 2, STACK3-16, DATA3
        iretd
        endcase
        case    "iret to ring 3, SS of ring 0"
        frame5  landing, CODE3, 2, STACK3-16, DATA0
        iretd
        endcase
        case    "iret to ring 3, SS null"
        frame5  landing, CODE3, 2, STACK3-16, 0
        iretd
        endcase
        case    "iret to ring 3, SS RPL 0"
        frame5  landing, CODE3, 2, STACK3-16, 0x40
        iretd
        endcase
        case    "iret to ring 3, SS is code"
        frame5  landing, CODE3, 2, STACK3-16, CODE3
        iretd
        endcase
        case    "iret, CS null"
        frame5  landing, 0, 2, STACK3-16, DATA3
        iretd
        endcase
        case    "iret, CS beyond the limit"
        frame5  landing, 0x803, 2, STACK3-16, DATA3
        iretd
        endcase
        case    "iret, CS is data"
        frame5  landing, DATA3, 2, STACK3-16, DATA3
        iretd
        endcase
        case    "iret to an inner ring", 3
        frame5  landing, CODE0, 2, STACK3-16, DATA3
        iretd
        endcase
        case    "iret from ring 3 cannot change IF and IOPL", 3
        push    0x3202
        push    CODE3
        push    offset landing
        iretd
        endcase
        case    "iret from ring 0 changes all"
        push    0x247ED7
        push    CODE0
        push    offset landing
        iretd
        endcase
        case    "iret 16 in ring 0"
        pushw   0x0246
        pushw   CODE0
        pushw   offset landing
        iretw
        endcase
        case    "iret 16 to ring 3"
        pushw   DATA3
        pushw   STACK3 - 16
        pushw   0x0246
        pushw   CODE3
        pushw   offset landing
        iretw
        endcase
        case    "retf to ring 3"
        push    DATA3
        push    STACK3 - 16
        push    CODE3
        push    offset landing
        retf
        endcase
        case    "retf 8 to ring 3 releases both stacks"
        push    DATA3
        push    STACK3 - 64
        push    1
        push    2
        push    CODE3
        push    offset landing
        retf    8
        endcase
        case    "retf 16 to ring 3"
        pushw   DATA3
        pushw   STACK3 - 64
        pushw   CODE3
        pushw   offset landing
        .byte   0x66
        retf
        endcase
        case    "retf 4 in the same ring"
        push    1
        push    CODE0
        push    offset landing
        retf    4
        endcase
        case    "retf, SS not writable"
        push    CODE3
        push    STACK3 - 16
        push    CODE3
        push    offset landing
        retf
        endcase
        case    "retf to an inner ring", 3
        push    CODE0
        push    offset landing
        retf
        endcase
        case    "call far in the same ring keeps CS and EIP"
        .byte   0x9A
        .long   far_landing
        .word   CODE0
        endcase
        case    "call far 16-bit operand"
        .byte   0x66, 0x9A
        .word   far_landing
        .word   CODE0
        endcase
        case    "call far from ring 3, RPL 0 selector of its ring", 3
        .byte   0x9A
        .long   far_landing
        .word   0x38
        endcase
        ret
far_landing:
        mov     eax, [esp]
        sub     eax, [in_eip]
        mov     edx, [esp + 4]
        int     0x30

        # I/O permission: IOPL and the bitmap of the TSS.
ports:
        say     "I/O bitmap"
        call    newline
        mov     word ptr [TSS0 + 102], 0x1000
        mov     edi, TSS0 + 0x1000
        mov     ecx, 0x2000 / 4
        mov     eax, -1
        rep stosd
        mov     byte ptr [TSS0 + 0x1000 + 0x80 / 8], 0xFE      # port 0x80 only
        mov     byte ptr [TSS0 + 0x1000 + 0x300 / 8], 0x0F     # ports 0x304 to 0x307
        mov     byte ptr [TSS0 + 0x2FFF], 0x7F                 # port 0xFFFF
        case    "out 0x80", 3
        out     0x80, al
        endcase
        case    "out 0x81", 3
        out     0x81, al
        endcase
        case    "word at 0x80", 3
        out     0x80, ax
        endcase
        case    "dword at 0x304", 3
        mov     edx, 0x304
        out     dx, eax
        endcase
        case    "dword at 0x303", 3
        mov     edx, 0x303
        out     dx, eax
        endcase
        case    "dword at 0x305", 3
        mov     edx, 0x305
        out     dx, eax
        endcase
        case    "word at 0x306", 3
        mov     edx, 0x306
        out     dx, ax
        endcase
        case    "byte at 0xFFFF reads the byte behind: beyond the limit", 3
        mov     edx, 0xFFFF
        out     dx, al
        endcase
        case    "outs is checked before memory", 3
        mov     edx, 0x81
        outsb
        endcase
        case    "ins is checked", 3
        mov     edx, 0x81
        insb
        endcase
        case    "rep outs of none is checked not at all or first", 3
        mov     edx, 0x80
        mov     ecx, 0
        rep outsb
        endcase
        say     "iopl 3:"
        mov     al, 3
        call    ring
        mov     dword ptr [in_flags], 0x3002
        mov     dword ptr [in_eip], offset iopl3
        call    run
        call    report
        mov     word ptr [TSS0 + 102], 0x3000
        case    "no bitmap", 3
        out     0x80, al
        endcase
        ret
iopl3:  out     0x81, al
        cli
        sti
        int     0x30

        # POPF, PUSHF, CLI and STI by ring and IOPL.
flags:
        .irp    start, 0x0002, 0x1002, 0x3002
        .irp    cpl, 0, 1, 3
        say     "popf cpl\cpl fl\start:"
        mov     al, \cpl
        call    ring
        mov     dword ptr [in_flags], \start
        mov     dword ptr [in_eip], offset popf_all
        call    run
        call    report
        say     "popf16 cpl\cpl fl\start:"
        mov     al, \cpl
        call    ring
        mov     dword ptr [in_flags], \start
        mov     dword ptr [in_eip], offset popf_16
        call    run
        call    report
        .endr
        .endr
        ret
popf_all:
        push    0x003C7AD7 - 0x20000 - 0x100000
        popfd
        pushfd
        pop     eax
        push    0
        popfd
        pushfd
        pop     edx
        int     0x30
popf_16:
        pushw   0x7AD7
        popfw
        pushfd
        pop     eax
        pushfw
        pop     dx
        int     0x30

        rom_end
