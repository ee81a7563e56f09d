# Debug traps: the places where TF traps, in rings 0 and 3; instruction and data
# breakpoints; DR6. A handler of vector 1 notes EIP (from the snippet's start)
# and returns, so that a snippet shows every trap on its way to `int 0x30`.
        .include "rom.inc"

        .equ log,       FREE            # EIPs
        .equ log_end,   FREE - 4        # how many
        .equ log_dr6,   FREE - 8        # DR6 bits of all traps, together

note:   push    eax
        push    ecx
        push    ds
        mov     eax, DATA0
        mov     ds, eax
        mov     ecx, [log_end]
        cmp     ecx, 40
        jae     1f
        mov     eax, [esp + 12]
        sub     eax, [in_eip]
        mov     [log + ecx * 4], eax
        inc     dword ptr [log_end]
        mov     eax, dr6
        or      [log_dr6], eax
        mov     eax, 0xFFFF0FF0
        mov     dr6, eax
        # An instruction breakpoint would come back at once: RF lets it pass.
        or      dword ptr [esp + 20], 0x10000
        pop     ds
        pop     ecx
        pop     eax
        iretd
1:      pop     ds
        pop     ecx
        pop     eax
        jmp     vector_stubs + 16

show:   say     " traps at"
        mov     edi, log
        mov     ecx, [log_end]
        test    ecx, ecx
        jz      2f
1:      call    space
        mov     eax, [edi]
        call    put16
        add     edi, 4
        dec     ecx
        jnz     1b
2:      say     " dr6="
        mov     eax, [log_dr6]
        call    put16
        say     " then"
        jmp     report

        .macro trace name, cpl=0, fl=0x102
        say     "\name:"
        mov     al, \cpl
        call    ring
        mov     dword ptr [in_flags], \fl
        mov     dword ptr [in_eip], offset 8f
        mov     dword ptr [log_end], 0
        mov     dword ptr [log_dr6], 0
        call    run
        call    show
        jmp     9f
8:
        .endm
        # A breakpoint: number, address, R/W and LEN bits; then `trace`.
        .macro watch n, at, bits
        mov     eax, \at
        mov     dr\n, eax
        mov     eax, 0x400 | (2 << (\n * 2)) | (\bits << (16 + \n * 4))
        mov     dr7, eax
        .endm

main:   post    0x80
        mov     word ptr [IDT + 8], offset note
        mov     edi, FREE + 0x1000
        mov     ecx, 0x400
        xor     eax, eax
        rep stosd
        .irp    cpl, 0, 3
        trace   "straight line cpl\cpl", \cpl
        nop
        mov     eax, 1
        inc     eax
        endcase
        trace   "jumps and calls cpl\cpl", \cpl
        mov     ecx, 2
1:      call    2f
        loop    1b
        jmp     3f
2:      nop
        ret
3:
        endcase
        trace   "rep stosb cpl\cpl", \cpl
        mov     ecx, 3
        mov     edi, FREE + 0x1000
        rep stosb
        nop
        endcase
        trace   "rep with none cpl\cpl", \cpl
        xor     ecx, ecx
        rep stosb
        nop
        endcase
        trace   "pushfd shows TF cpl\cpl", \cpl
        pushfd
        pop     eax
        endcase
        trace   "popfd clears TF cpl\cpl", \cpl
        push    2
        popfd
        nop
        nop
        endcase
        trace   "popfd sets TF cpl\cpl", \cpl, 2
        push    0x102
        popfd
        nop
        nop
        endcase
        trace   "mov ss holds back cpl\cpl", \cpl
        mov     eax, ss
        mov     ss, eax
        nop
        nop
        endcase
        trace   "pop ss holds back cpl\cpl", \cpl
        push    ss
        pop     ss
        nop
        nop
        endcase
        trace   "far call cpl\cpl", \cpl
        mov     eax, cs
        push    eax
        push    offset 1f
        retf
        nop
1:      nop
        endcase
        trace   "load of DS and LEA cpl\cpl", \cpl
        push    ds
        pop     ds
        lea     eax, [eax]
        endcase
        trace   "a fault comes alone cpl\cpl", \cpl
        nop
        ud2
        endcase
        trace   "division by zero cpl\cpl", \cpl
        xor     ecx, ecx
        div     ecx
        endcase
        .endr
        trace   "iretd sets TF", 0, 2
        push    0x102
        push    CODE0
        push    offset 1f
        iretd
        nop
1:      nop
        nop
        endcase
        trace   "iretd clears TF"
        push    2
        push    CODE0
        push    offset 1f
        iretd
1:      nop
        endcase
        trace   "sti and cli", 0
        sti
        cli
        nop
        endcase
        trace   "mov to dr7 and cr3", 0
        mov     eax, dr7
        mov     dr7, eax
        mov     eax, cr3
        mov     cr3, eax
        endcase
        trace   "LSS", 0
        mov     [esp - 64], esp
        mov     [esp - 60], ss
        lss     esp, [esp - 64]
        nop
        endcase

        post    0x81
        # TCG does not survive an instruction breakpoint that is hit under RF:
        # those are tested in src/system/tests/debug.rs.
        watch   2, "(0xF0000 + offset 7f)", 0
        trace   "breakpoint in the middle of an instruction", 0, 2
        .byte   0xB8
7:      .long   0
        nop
        endcase
        watch   3, "(FREE + 0x1000)", 0xD
        trace   "write of 4 bytes", 0, 2
        mov     ds:[FREE + 0x1000], eax
        mov     eax, ds:[FREE + 0x1000]
        mov     ds:[FREE + 0x1003], al
        mov     ds:[FREE + 0x1004], al
        mov     ds:[FREE + 0x0FFD], eax
        mov     ds:[FREE + 0x0FFC], eax
        nop
        endcase
        watch   0, "(FREE + 0x1002)", 0x7
        trace   "access of 2 bytes, ring 3", 3, 2
        mov     eax, ds:[FREE + 0x1000]
        mov     al, ds:[FREE + 0x1001]
        mov     al, ds:[FREE + 0x1003]
        mov     ds:[FREE + 0x1002], al
        mov     al, ds:[FREE + 0x1004]
        nop
        endcase
        watch   1, "(FREE + 0x1001)", 0x1
        trace   "a byte in the way of push, pop and stos", 3, 2
        mov     ebp, esp
        mov     esp, FREE + 0x1004
        push    eax
        pop     ecx
        mov     esp, ebp
        mov     edi, FREE + 0x1000
        mov     ecx, 4
        rep stosb
        nop
        endcase
        watch   2, "(FREE + 0x1000)", 0xD
        trace   "read-modify-write", 0, 2
        add     dword ptr ds:[FREE + 0x1000], 1
        xchg    eax, ds:[FREE + 0x1000]
        cmp     eax, ds:[FREE + 0x1000]
        endcase
        xor     eax, eax
        mov     dr7, eax
        trace   "no breakpoint is left", 0, 2
        mov     ds:[FREE + 0x1000], eax
        nop
        endcase
        ret

        rom_end
