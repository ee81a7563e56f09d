# Real mode: addressing with both address sizes, stacks, strings, transfers,
# interrupts, segment loads, and a sample of everything else with 16-bit and
# 32-bit operands. Undefined flags are masked, test by test.
        .equ REAL_MODE_PART, 1
        .include "rom.inc"

        .equ v_mask,    0x600           # which flags the next dump shows
        .equ v_cont,    0x602           # where an exception goes on
        .equ v_start,   0x604           # IP of the test
        .equ v_sum,     0x608
        .equ ALL,       0x0ED5
        .equ NOAF,      0x0EC5
        .equ CZ,        0x0641
        .equ NOOF,      0x06D5
        .equ NOOFAF,    0x06C5
        .equ CO,        0x0E01
        .equ NONE,      0x0600
        .equ ZFONLY,    0x0640
        .equ CFONLY,    0x0601
        .equ AFCF,      0x0611

        .code16
putc16: push    dx
        mov     dx, TEXT
        out     dx, al
        pop     dx
        ret
puts16: push    bp
        mov     bp, sp
        push    si
        push    ax
        mov     si, [bp + 2]
1:      mov     al, cs:[si]
        inc     si
        test    al, al
        jz      2f
        call    putc16
        jmp     1b
2:      mov     [bp + 2], si
        pop     ax
        pop     si
        pop     bp
        ret
put32_16:
        ror     eax, 16
        call    put16_16
        ror     eax, 16
put16_16:
        xchg    al, ah
        call    put8_16
        xchg    al, ah
put8_16:
        ror     al, 4
        call    put4_16
        ror     al, 4
put4_16:
        push    ax
        and     al, 15
        add     al, '0'
        cmp     al, '9'
        jbe     1f
        add     al, 'A' - '9' - 1
1:      call    putc16
        pop     ax
        ret
nl16:   mov     al, 10
        jmp     putc16
sp16:   push    ax
        mov     al, 32
        call    putc16
        pop     ax
        ret

        .macro say16 text
        call    puts16
        .asciz  "\text"
        .endm

        # Fills 0x10000 to 0x5FFFF with a pattern.
fill:   mov     bx, 0x1000
        mov     eax, 0x12345678
1:      mov     es, bx
        xor     di, di
        mov     cx, 0x4000
2:      stosd
        imul    eax, eax, 0x19660D
        add     eax, 0x3C6EF35F
        loop    2b
        add     bx, 0x1000
        cmp     bx, 0x6000
        jb      1b
        ret

        # The sum of all that memory, to see what the tests have written.
sum:    cld
        mov     bx, 0x1000
        xor     eax, eax
1:      mov     ds, bx
        xor     si, si
        mov     cx, 0x4000
2:      rol     eax, 1
        add     eax, [si]
        add     si, 4
        loop    2b
        add     bx, 0x1000
        cmp     bx, 0x6000
        jb      1b
        call    put32_16
        jmp     nl16

        # Registers before a test.
load:   pop     ax
        mov     ss:[v_start], ax
        mov     bx, 0
        mov     ss, bx
        mov     esp, 0x7000
        push    ax
        mov     ax, 0x2000
        mov     ds, ax
        mov     ax, 0x3000
        mov     es, ax
        mov     ax, 0x4000
        mov     fs, ax
        mov     ax, 0x5000
        mov     gs, ax
        mov     eax, 0xA1B2C3D4
        mov     ebx, 0x00000100
        mov     ecx, 0x00000003
        mov     edx, 0x55667788
        mov     ebp, 0x00000200
        mov     esi, 0x00000020
        mov     edi, 0x00000340
        pushd   0
        popfd
        ret

        # Registers after a test, on one line.
        # On the stack: return IP.
dump16: pushfd
        pushad
        push    ds
        push    es
        xor     bx, bx
        mov     ds, bx
        mov     bp, sp
        # es ds, edi esi ebp esp ebx edx ecx eax, flags
        mov     di, 32
1:      call    sp16
        mov     eax, [bp + di]
        cmp     di, 16
        jne     2f
        add     eax, 6                  # ESP before the call and the pushes
2:      call    put32_16
        sub     di, 4
        cmp     di, 4
        jge     1b
        call    sp16
        mov     ax, [bp + 2]
        call    put16_16
        call    sp16
        mov     ax, [bp]
        call    put16_16
        call    sp16
        mov     ax, fs
        call    put16_16
        call    sp16
        mov     ax, gs
        call    put16_16
        call    sp16
        mov     ax, [bp + 36]
        and     ax, [v_mask]
        call    put16_16
        call    nl16
        mov     ax, [bp + 40]           # return IP
        mov     ss:[v_cont], ax
        mov     sp, 0x7000
        jmp     word ptr ss:[v_cont]

        .macro t name, mask=ALL
        say16   "\name:"
        mov     word ptr ss:[v_mask], \mask
        mov     word ptr ss:[v_cont], offset 9f
        call    load
        .endm
        .macro e
        call    dump16
9:
        .endm

        # Exceptions 0 to 15 print vector and IP (from the test's start), flags.
        .balign 8
real_stubs:
        .set    rv, 0
        .rept   0x40
        push    rv
        jmp     real_event
        .balign 8
        .set    rv, rv + 1
        .endr
real_event:
        push    bp
        mov     bp, sp
        say16   " #"
        mov     ax, [bp + 2]
        call    put8_16
        say16   " ip+"
        mov     ax, [bp + 4]
        sub     ax, ss:[v_start]
        call    put16_16
        call    sp16
        mov     ax, [bp + 6]
        call    put16_16
        call    sp16
        mov     ax, [bp + 8]
        and     ax, 0x7700
        call    put16_16
        say16   " sp="
        lea     ax, [bp + 10]
        call    put16_16
        pushf
        pop     ax
        and     ax, 0x7700
        call    sp16
        call    put16_16
        call    nl16
        mov     sp, 0x7000
        jmp     word ptr ss:[v_cont]

real_mode_part:
        pop     ax
        mov     ss:[0x5F0], ax
        # The vector table.
        xor     di, di
        mov     es, di
        mov     ax, offset real_stubs
        mov     cx, 0x40
1:      stosw
        mov     es:[di], cs
        add     di, 2
        add     ax, 8
        loop    1b
        call    fill
        call    addressing
        call    sum
        call    sibs
        call    sum
        call    stacks
        call    sum
        call    strings
        call    sum
        call    transfers
        call    sum
        call    segs
        call    sum
        call    arithmetic
        call    sum
        call    undefined
        call    sum
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     fs, ax
        mov     gs, ax
        cli
        mov     sp, 0x7FF0
        jmp     word ptr ss:[0x5F0]

addressing:
        pop     ax
        mov     ss:[0x5F2], ax
        .irp    rm, 0, 1, 2, 3, 4, 5, 7
        t       "mov ax mod0 rm\rm"
        .byte   0x8B, 0x00 + \rm
        e
        .endr
        t       "mov ax disp16"
        .byte   0x8B, 0x06
        .word   0x1234
        e
        .irp    rm, 0, 1, 2, 3, 4, 5, 6, 7
        t       "mov ax mod1 rm\rm"
        .byte   0x8B, 0x40 + \rm, 0x85
        e
        t       "mov eax mod2 rm\rm"
        .byte   0x66, 0x8B, 0x80 + \rm
        .word   0xFE10
        e
        t       "lea ax mod1 rm\rm"
        .byte   0x8D, 0x40 + \rm, 0x85
        e
        t       "lea eax mod2 rm\rm"
        .byte   0x66, 0x8D, 0x80 + \rm
        .word   0xFE10
        e
        t       "store cl gs mod2 rm\rm"
        .byte   0x65, 0x88, 0x88 + \rm
        .word   0x0410
        e
        .endr
        .irp    rm, 1, 3, 6, 7
        t       "mov eax 32-bit mod0 rm\rm"
        .byte   0x67, 0x66, 0x8B, 0x00 + \rm
        e
        t       "mov ax 32-bit mod1 rm\rm"
        .byte   0x67, 0x8B, 0x40 + \rm, 0x10
        e
        .endr
        t       "mov eax 32-bit disp32"
        .byte   0x67, 0x66, 0x8B, 0x05
        .long   0x00004321
        e
        t       "lea with wrap 16"
        lea     ax, [bx + si - 0x200]
        e
        t       "lea 32 of a 16-bit address is zero-extended"
        .byte   0x66, 0x8D, 0x80
        .word   0xFFF0
        e
        t       "moffs16"
        mov     al, ds:[0x777]
        e
        t       "moffs32 with fs"
        .byte   0x64, 0x67, 0x66, 0xA1
        .long   0x0777
        e
        t       "xlat"
        mov     al, 0x33
        xlat    es:[bx]
        e
        mov     ax, ss:[0x5F2]
        push    ax
        ret

        # LEA with all SIB bytes, from patched code in RAM.
sibs:   pop     ax
        mov     ss:[0x5F2], ax
        .irp    mod, 0, 1, 2
        say16   "sib mod\mod:"
        xor     ax, ax
        mov     ds, ax
        mov     dword ptr ds:[v_sum], 0
        xor     cx, cx
1:      xor     ax, ax
        mov     ds, ax
        mov     dword ptr ds:[0x8000], 0x048D6667 + (\mod << 30)
        mov     ds:[0x8004], cl
        mov     dword ptr ds:[0x8005], 0x87654321
        mov     word ptr ds:[0x8009], 0xCB90    # nop retf, wherever the instruction ends
        .if     \mod == 1
        mov     dword ptr ds:[0x8006], 0xCB909090
        .endif
        .if     \mod == 0
        mov     dl, cl
        and     dl, 7
        cmp     dl, 5
        je      2f
        mov     dword ptr ds:[0x8005], 0xCB909090
2:
        .endif
        push    cx
        mov     ss:[0x5F8], sp
        call    load_sib
        push    cs
        push    offset 3f
        .byte   0xEA
        .word   0x8000, 0
3:      xor     bx, bx
        mov     ds, bx
        rol     dword ptr ds:[v_sum], 3
        add     ds:[v_sum], eax
        mov     sp, ss:[0x5F8]
        pop     cx
        inc     cl
        test    cl, 31
        jnz     4f
        mov     eax, ds:[v_sum]
        call    sp16
        call    put32_16
4:      test    cl, cl
        jnz     1b
        call    nl16
        .endr
        mov     ax, ss:[0x5F2]
        push    ax
        ret
load_sib:
        mov     eax, 0x01020304
        mov     ebx, 0x11223344
        mov     ecx, 0x21436587
        mov     edx, 0x0FEDCBA9
        mov     ebp, 0x10000001
        mov     esi, 0x20000003
        mov     edi, 0x40000007
        and     esp, 0xFFFF
        ret

stacks: pop     ax
        mov     ss:[0x5F2], ax
        t       "push sp"
        push    sp
        pop     ax
        e
        t       "pop sp"
        push    0x6F00
        pop     sp
        mov     ax, sp
        mov     sp, 0x7000
        e
        t       "push imm8 sign-extended"
        push    -2
        pop     ax
        e
        t       "push imm8 32-bit"
        .byte   0x66, 0x6A, 0x80
        pop     eax
        e
        t       "push imm32"
        pushd   0x89ABCDEF
        pop     ax
        pop     bx
        e
        t       "pusha"
        pusha
        pop     ax
        pop     bx
        pop     cx
        pop     dx
        e
        t       "popa"
        pushd   0x11112222
        pushd   0x33334444
        pushd   0x55556666
        pushd   0x77778888
        popa
        e
        t       "pushad popad"
        pushad
        add     dword ptr [esp + 28], 0x1111
        popad
        e
        t       "push and pop memory"
        push    word ptr [bx]
        pop     word ptr [si]
        mov     ax, [si]
        e
        t       "pop memory relative to esp uses the new esp"
        push    0x1111
        push    0x2222
        .byte   0x67
        pop     word ptr [esp]
        pop     ax
        e
        t       "enter 8, 0"
        enter   8, 0
        mov     ax, [bp]
        e
        t       "enter 16, 1"
        enter   16, 1
        mov     ax, [bp - 2]
        e
        t       "enter 4, 3"
        mov     bp, 0x6F80
        mov     word ptr [bp - 2], 0xAAAA
        mov     word ptr [bp - 4], 0xBBBB
        enter   4, 3
        mov     ax, [bp - 2]
        mov     bx, [bp - 4]
        mov     cx, [bp - 6]
        e
        t       "enter 4, 2 with 32-bit operands"
        .byte   0x66
        enter   4, 2
        mov     eax, [bp - 4]
        e
        t       "leave"
        mov     bp, 0x6F00
        mov     word ptr [bp], 0x7777
        leave
        e
        t       "leave 32"
        mov     ebp, 0x6F00
        mov     dword ptr [bp], 0x77778888
        .byte   0x66
        leave
        e
        t       "push at SP 0 wraps"
        mov     sp, 0
        mov     ax, ss:[0xFFFE]
        push    0x4321
        mov     bx, sp
        mov     cx, ss:[0xFFFE]
        mov     ss:[0xFFFE], ax
        mov     sp, 0x7000
        e
        t       "pushf popf"
        push    0x0FD5
        popf
        pushf
        pop     ax
        and     ah, 0xFE
        push    ax
        popf
        e
        t       "pushfd masks RF and VM"
        pushd   0x00277ED5 & 0xFFFFFEFF
        popfd
        pushfd
        pop     eax
        pushd   0
        popfd
        e
        mov     ax, ss:[0x5F2]
        push    ax
        ret

strings:
        pop     ax
        mov     ss:[0x5F2], ax
        .irp    s, b, w, d
        t       "movs\s"
        movs\s
        e
        t       "std movs\s"
        std
        movs\s
        e
        t       "rep movs\s"
        rep movs\s
        e
        t       "rep movs\s with CX 0"
        xor     cx, cx
        rep movs\s
        e
        t       "rep movs\s overlapping"
        push    ds
        pop     es
        mov     di, 0x24
        mov     cx, 20
        rep movs\s
        mov     eax, [0x40]
        e
        t       "std rep movs\s 32-bit addresses"
        std
        mov     esi, 0x1000
        mov     edi, 0x1010
        mov     ecx, 9
        .byte   0x67
        rep movs\s
        e
        t       "rep stos\s"
        mov     cx, 17
        rep stos\s
        e
        t       "lods\s"
        lods\s
        e
        t       "rep lods\s"
        rep lods\s
        e
        t       "repe cmps\s equal"
        push    ds
        pop     es
        mov     di, si
        mov     cx, 5
        repe cmps\s
        e
        t       "repe cmps\s"
        mov     cx, 5
        repe cmps\s
        e
        t       "repne cmps\s"
        mov     cx, 5
        repne cmps\s
        e
        t       "repne scas\s"
        mov     cx, 50
        repne scas\s
        e
        t       "repe scas\s"
        mov     eax, es:[di]
        repe scas\s
        e
        t       "std scas\s 32-bit addresses"
        std
        .byte   0x67
        scas\s
        e
        .endr
        t       "movsb with gs override"
        .byte   0x65
        movsb
        mov     al, es:[di - 1]
        e
        t       "lodsw with ss override"
        .byte   0x36
        lodsw
        e
        t       "SI wraps in rep lodsb"
        mov     si, 0xFFFE
        mov     cx, 4
        rep lodsb
        e
        t       "DI wraps backwards in rep stosb"
        std
        mov     di, 1
        mov     ecx, 0x00050004
        rep stosb
        e
        t       "16-bit addresses keep the upper halves"
        mov     esi, 0xABCD0020
        mov     edi, 0xDCBA0030
        mov     ecx, 0x12340002
        rep movsw
        e
        t       "ECX counts with 32-bit addresses"
        mov     ecx, 0x00000006
        .byte   0x67
        rep stosb
        e
        mov     ax, ss:[0x5F2]
        push    ax
        ret

transfers:
        pop     ax
        mov     ss:[0x5F2], ax
        t       "call and ret 4"
        push    1
        push    2
        call    1f
        jmp     2f
1:      mov     bx, sp
        ret     4
2:
        e
        t       "call far and retf"
        call    0xF000:1f
        jmp     2f
1:      pop     ax
        sub     ax, ss:[v_start]
        pop     bx
        push    bx
        add     ax, ss:[v_start]
        push    ax
        sub     ax, ss:[v_start]
        retf
2:
        e
        t       "call far indirect, retf 2"
        mov     word ptr ss:[0x6000], offset 1f
        mov     ss:[0x6002], cs
        push    0
        call    dword ptr ss:[0x6000]
        jmp     2f
1:      mov     bx, sp
        retf    2
2:
        e
        t       "call near indirect"
        mov     ax, offset 1f
        call    ax
        jmp     2f
1:      mov     ax, 0x600D
        ret
2:
        e
        t       "jump far indirect 32"
        mov     dword ptr ss:[0x6000], offset 1f
        mov     ss:[0x6004], cs
        .byte   0x66, 0x36, 0xFF, 0x2E
        .word   0x6000
1:      mov     ax, 0x600D
        e
        t       "call with 32-bit operand"
        .byte   0x66, 0xE8
        .long   1f - 2f
2:      jmp     3f
1:      mov     bx, sp
        .byte   0x66
        ret
3:
        e
        t       "loop"
        mov     ax, 0
        mov     cx, 5
1:      inc     ax
        loop    1b
        e
        t       "loop with ECX"
        mov     ax, 0
        mov     ecx, 7
1:      inc     ax
        .byte   0x67
        loop    1b
        e
        t       "loopne"
        mov     ax, 0
        mov     cx, 9
1:      inc     ax
        cmp     ax, 4
        loopne  1b
        e
        t       "loope"
        mov     ax, 0
        mov     cx, 9
1:      inc     ax
        cmp     ax, 1
        loope   1b
        e
        t       "jcxz ignores the upper half"
        mov     ecx, 0x10000
        mov     ax, 1
        jcxz    1f
        mov     ax, 2
1:
        e
        t       "jecxz"
        mov     ecx, 0x10000
        mov     ax, 1
        .byte   0x67
        jcxz    1f
        mov     ax, 2
1:
        e
        t       "int 0x20"
        sti
        int     0x20
        e
        t       "int3"
        int3
        e
        t       "into"
        mov     al, 0x80
        dec     al
        into
        e
        t       "into without overflow"
        into
        e
        t       "divide error points at the instruction"
        xor     cx, cx
        div     cx
        e
        t       "quotient too large"
        mov     cl, 1
        div     cl
        e
        t       "idiv overflow"
        mov     eax, 0x80000000
        mov     edx, -1
        mov     ecx, -1
        idiv    ecx
        e
        t       "aam 0"
        .byte   0xD4, 0
        e
        t       "bound in"
        mov     word ptr [bx], -5
        mov     word ptr [bx + 2], 5
        mov     ax, -5
        bound   ax, [bx]
        e
        t       "bound out"
        mov     word ptr [bx], -5
        mov     word ptr [bx + 2], 5
        mov     ax, 6
        bound   ax, [bx]
        e
        t       "iret"
        pushf
        push    cs
        push    offset 1f
        iret
        mov     ax, 0xBAD
1:
        e
        t       "iretd"
        pushd   0x00040AD5
        push    0
        push    cs
        pushd   offset 1f
        .byte   0x66
        iret
        mov     ax, 0xBAD
1:      pushfd
        pop     eax
        pushd   0
        popfd
        e
        t       "single step" NONE
        pushf
        pop     ax
        or      ah, 1
        push    ax
        popf
        nop
        nop
        e
        mov     ax, ss:[0x5F2]
        push    ax
        ret

segs:   pop     ax
        mov     ss:[0x5F2], ax
        t       "mov es"
        mov     ax, 0x1234
        mov     es, ax
        e
        t       "les"
        mov     dword ptr [bx], 0x34567890
        les     di, [bx]
        e
        t       "lds 32"
        mov     dword ptr [bx], 0x00001111
        mov     word ptr [bx + 4], 0x2222
        lds     edi, [bx]
        e
        t       "lfs lgs"
        mov     dword ptr [bx], 0x34567890
        lfs     si, [bx]
        lgs     di, [bx]
        e
        t       "lss"
        mov     dword ptr [bx], 0x00107654
        lss     sp, [bx]
        mov     ax, ss
        mov     bx, sp
        xor     cx, cx
        mov     ss, cx
        mov     sp, 0x7000
        e
        t       "push pop segments"
        push    gs
        pop     es
        .byte   0x66
        push    fs
        .byte   0x66
        pop     ds
        e
        t       "mov eax, ds zero-extends"
        .byte   0x66, 0x8C, 0xD8
        e
        t       "mov to memory from a segment writes a word"
        mov     dword ptr [bx], -1
        .byte   0x66, 0x8C, 0x1F
        mov     eax, [bx]
        e
        t       "smsw"
        xor     ax, ax
        smsw    ax
        e
        t       "sgdt"
        sgdt    [bx]
        mov     ax, [bx]
        e
        mov     ax, ss:[0x5F2]
        push    ax
        ret

        .macro op name, mask, insn:vararg
        t       "\name", \mask
        \insn
        e
        .endm
arithmetic:
        pop     ax
        mov     ss:[0x5F2], ax
        .irp    o, add, or, adc, sbb, and, sub, xor, cmp
        .irp    c, clc, stc
        t       "\c \o al", NOAF
        \c
        \o      al, dl
        e
        t       "\c \o ax", NOAF
        \c
        \o      ax, dx
        e
        t       "\c \o eax", NOAF
        \c
        \o      eax, edx
        e
        t       "\c \o mem", NOAF
        \c
        \o      [bx], ax
        mov     dx, [bx]
        e
        .endr
        .endr
        .irp    o, inc, dec, neg, not
        op      "\o cl", ALL, \o cl
        op      "\o ax", ALL, \o ax
        op      "\o eax", ALL, \o eax
        .endr
        .irp    o, rol, ror, rcl, rcr
        .irp    n, 1, 5, 9, 17, 31
        op      "\o ax \n", CFONLY, \o ax, \n
        op      "\o al \n", CFONLY, \o al, \n
        op      "\o eax \n", CFONLY, \o eax, \n
        .endr
        .endr
        .irp    o, shl, shr, sar
        .irp    n, 1, 4, 7
        op      "\o ax \n", NOOFAF, \o ax, \n
        op      "\o al \n", NOOFAF, \o al, \n
        op      "\o eax \n", NOOFAF, \o eax, \n
        .endr
        op      "\o eax 31", NOOFAF, \o eax, 31
        op      "\o ax 1 with of", NOAF, \o ax, 1
        .endr
        op      "shl by 32 is nothing", ALL, shl eax, 32
        op      "shld", NOOFAF, shld eax, edx, 4
        op      "shrd", NOOFAF, shrd ax, dx, 4
        op      "shld cl", NOOFAF, shld edx, eax, cl
        op      "mul cl", CO, mul cl
        op      "mul dx", CO, mul dx
        op      "mul edx", CO, mul edx
        op      "imul cl", CO, imul cl
        op      "imul dx", CO, imul dx
        op      "imul edx", CO, imul edx
        op      "imul eax edx", CO, imul eax, edx
        op      "imul ax imm", CO, imul ax, dx, 0x1234
        op      "imul small", CO, imul ax, cx, 3
        t       "div cx", NONE
        mov     dx, 2
        div     cx
        e
        t       "div ecx", NONE
        mov     edx, 2
        div     ecx
        e
        t       "idiv cl", NONE
        mov     ax, -100
        idiv    cl
        e
        t       "idiv cx", NONE
        mov     dx, -1
        idiv    cx
        e
        .irp    v, 0x00, 0x09, 0x0A, 0x19, 0x9A, 0xA5, 0xFF
        t       "daa \v", NOOF
        mov     al, \v
        daa
        e
        t       "das \v", NOOF
        mov     al, \v
        das
        e
        t       "aaa \v", AFCF
        mov     ax, 0x0100 + \v
        aaa
        e
        t       "aas \v", AFCF
        mov     ax, 0x0100 + \v
        aas
        e
        t       "aam \v", 0x06C4
        mov     al, \v
        aam
        e
        t       "aad \v", 0x06C4
        mov     ax, 0x0300 + \v
        aad
        e
        .endr
        op      "bt", CFONLY, bt ax, dx
        op      "bts imm", CFONLY, bts eax, 5
        op      "btr", CFONLY, btr ax, cx
        op      "btc imm", CFONLY, btc eax, 31
        t       "bt memory far away", CFONLY
        mov     ax, 0x1234
        bt      [bx], ax
        e
        t       "bts memory at a negative offset", CFONLY
        mov     ax, -0x85
        bts     [bx], ax
        mov     ax, [bx - 0x12]
        e
        t       "btc memory 32", CFONLY
        mov     eax, -0x45
        btc     [bx], eax
        mov     eax, [bx - 12]
        e
        op      "bsf", ZFONLY, bsf ax, dx
        op      "bsr", ZFONLY, bsr eax, edx
        t       "bsf of zero", ZFONLY
        mov     dx, 0
        bsf     bx, dx
        e
        op      "cbw", ALL, cbw
        op      "cwde", ALL, cwde
        op      "cwd", ALL, cwd
        op      "cdq", ALL, cdq
        op      "movzx", ALL, movzx eax, dl
        op      "movsx", ALL, movsx eax, dx
        op      "movsx 16", ALL, movsx bx, dl
        op      "bswap", ALL, bswap eax
        op      "xadd", ALL, xadd [bx], ax
        op      "cmpxchg no", ALL, cmpxchg [bx], dx
        t       "cmpxchg yes", ALL
        mov     [bx], ax
        cmpxchg [bx], dx
        e
        t       "cmpxchg8b no", ZFONLY
        cmpxchg8b [bx]
        e
        op      "xchg", ALL, xchg ax, [bx]
        op      "salc", ALL, .byte 0xF9, 0xD6
        op      "lahf", ALL, lahf
        op      "sahf", ALL, sahf
        op      "cmc", ALL, cmc
        .irp    cc, o, b, z, be, s, p, l, le
        t       "set\cc", ALL
        cmp     al, dl
        set\cc  al
        setn\cc bl
        e
        .endr
        t       "cmovz", ALL
        xor     ax, ax
        cmovz   ebx, edx
        cmovnz  ecx, edx
        e
        t       "lock add", NOAF
        lock add [bx], ax
        e
        mov     ax, ss:[0x5F2]
        push    ax
        ret

        # What real mode does not have.
undefined:
        pop     ax
        mov     ss:[0x5F2], ax
        op      "ud2", ALL, ud2
        op      "lar", ALL, lar ax, bx
        op      "lsl", ALL, lsl ax, bx
        op      "verr", ALL, verr ax
        op      "verw", ALL, verw ax
        op      "arpl", ALL, arpl ax, bx
        op      "sldt", ALL, sldt ax
        op      "str", ALL, str ax
        op      "lldt", ALL, lldt ax
        op      "ltr", ALL, ltr ax
        op      "mov cs", ALL, .byte 0x8E, 0xC8
        op      "lea of a register", ALL, .byte 0x8D, 0xC0
        op      "les of a register", ALL, .byte 0xC4, 0xC0
        op      "bound of a register", ALL, .byte 0x62, 0xC0
        op      "FF /7", ALL, .byte 0xFF, 0xF8
        op      "FE /2", ALL, .byte 0xFE, 0xD0
        op      "0F FF", ALL, .byte 0x0F, 0xFF, 0xC0
        mov     ax, ss:[0x5F2]
        push    ax
        ret

        .code32
main:   ret

        rom_end
