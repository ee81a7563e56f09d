# Virtual-8086 mode: entry with IRETD, exits through gates, the instructions
# that IOPL guards, port permissions, segments of 64 KiB, what is undefined.
# Every snippet ends in an exception, most of them in UD2.
        .include "rom.inc"

        .equ vm_flags,  scratch
        .equ vm_sp,     0x6F00
        .equ VSEG,      0x2000          # DS; the others follow in steps of 0x100

        # Runs the 16-bit snippet at EAX in V86 mode with EFLAGS [vm_flags].
run_vm: mov     [in_eip], eax
        pop     dword ptr [home_eip]
        mov     [home_esp], esp
        push    VSEG + 0x300            # GS
        push    VSEG + 0x200            # FS
        push    VSEG                    # DS
        push    VSEG + 0x100            # ES
        push    0x0100                  # SS
        push    vm_sp
        push    dword ptr [vm_flags]
        push    0xF000
        push    dword ptr [in_eip]
        mov     dword ptr [in_esp], vm_sp
        mov     eax, 0x11111111
        mov     ecx, 0x22222222
        mov     edx, 0x00000190
        mov     ebx, 0x00000040
        mov     ebp, 0x55555555
        mov     esi, 0x00000080
        mov     edi, 0x000000C0
        iretd

        # The report, then EBX ECX and what was pushed above SS: ES DS FS GS.
show_vm:
        call    report
        say     "   "
        mov     eax, [out_regs + 16]
        call    put32
        call    space
        mov     eax, [out_regs + 24]
        call    put32
        mov     edi, KSTACK - 16
        mov     ecx, 4
        call    dump
        jmp     newline

        # vm name, flags: the 16-bit snippet that follows, up to `endvm`.
        .macro vm name, fl=0x20002
        say     "\name:"
        mov     dword ptr [vm_flags], \fl
        mov     eax, offset 8f
        call    run_vm
        call    show_vm
        jmp     9f
        .code16
8:
        .endm
        .macro endvm
        ud2
        .code32
9:
        .endm
        .equ IOPL3, 0x23002

main:   post    0x60
        mov     edi, VSEG << 4
        mov     ecx, 0x8000
        mov     eax, 0x01020304
1:      stosd
        rol     eax, 1
        add     eax, 0x1357
        loop    1b
        # Ports 0x190 and 0xE9 are open in the bitmap, the others are not.
        mov     word ptr [TSS0 + 102], 0x1000
        mov     edi, TSS0 + 0x1000
        mov     ecx, 0x2000 / 4
        mov     eax, -1
        rep stosd
        mov     byte ptr [TSS0 + 0x1000 + 0x190 / 8], 0xFE

        vm      "enter and leave"
        endvm
        vm      "segments"
        mov     ax, ds
        mov     bx, es
        mov     cx, ss
        mov     dx, cs
        endvm
        vm      "load from memory"
        mov     eax, [bx]
        mov     ecx, es:[bx]
        mov     bx, fs:[si]
        mov     dx, gs:[di]
        endvm
        vm      "load a segment like in real mode"
        mov     ax, 0x2040
        mov     ds, ax
        mov     eax, [bx]
        push    ds
        pop     es
        endvm
        vm      "lds"
        mov     dword ptr ss:[0x100], 0x21000008
        lds     bx, ss:[0x100]
        mov     eax, [bx]
        endvm
        vm      "far jump"
        .byte   0xEA
        .word   1f, 0xF000
1:      mov     ax, cs
        endvm
        vm      "far call and return"
        .byte   0x9A
        .word   1f, 0xF000
        jmp     2f
1:      mov     bx, sp
        mov     ax, ss:[bx + 2]
        retf
2:
        endvm
        vm      "store"
        mov     dword ptr [bx], 0x55AA55AA
        mov     eax, [bx]
        endvm
        vm      "stack with 32-bit operands"
        pushd   0x12345678
        pop     ax
        pop     cx
        endvm
        .irp    fl, 0x20002, 0x21002, 0x22002, 0x23002
        vm      "cli with \fl", \fl
        cli
        endvm
        vm      "sti with \fl", \fl
        sti
        endvm
        vm      "pushf with \fl", \fl
        pushf
        pop     ax
        endvm
        vm      "pushfd with \fl", \fl
        pushfd
        pop     eax
        endvm
        vm      "popf with \fl", \fl
        push    0x4ED5
        popf
        pushfd
        pop     eax
        endvm
        vm      "popfd with \fl", \fl
        pushd   0x00247ED5 & 0xFFFFFEFF
        .byte   0x66
        popf
        pushfd
        pop     eax
        endvm
        vm      "int 0x30 with \fl", \fl
        int     0x30
        endvm
        vm      "int 0x31 with \fl: gate of DPL 0", \fl
        int     0x31
        endvm
        vm      "int3 with \fl", \fl
        int3
        endvm
        vm      "iret with \fl", \fl
        push    0x3ED5 & 0xFEFF
        push    0xF000
        push    offset 1f
        iret
1:      pushfd
        pop     eax
        endvm
        vm      "in al, dx with \fl: allowed by the map", \fl
        out     dx, al
        endvm
        vm      "in al, 0x60 with \fl: not allowed", \fl
        in      al, 0x60
        endvm
        .endr
        .irp    insn, "hlt", "lgdt [bx]", "lidt [bx]", "lmsw ax", "clts", "mov eax, cr0", "mov cr0, eax", "mov dr7, eax", "invd", "wbinvd", "invlpg [bx]", "rdmsr"
        vm      "ring 0 only: \insn", IOPL3
        \insn
        endvm
        .endr
        .irp    insn, "lldt ax", "ltr ax", "sldt ax", "str ax", "lar ax, bx", "lsl ax, bx", "verr ax", "verw ax", "arpl ax, bx"
        vm      "undefined: \insn", IOPL3
        \insn
        endvm
        .endr
        vm      "sgdt", IOPL3
        sgdt    [bx]
        mov     ax, [bx]
        endvm
        vm      "smsw", IOPL3
        smsw    ax
        endvm
        vm      "divide error"
        xor     cx, cx
        div     cx
        endvm
        vm      "bound"
        mov     dword ptr [bx], 0x00010000
        mov     ax, 5
        bound   ax, [bx]
        endvm
        vm      "string with rep"
        mov     ecx, 4
        rep movsw
        endvm

        # Gates that V86 mode may not take: handler of another ring than 0.
        mov     edi, IDT + 0x32 * 8
        mov     dword ptr [edi], (CODE1 << 16)
        mov     dword ptr [edi + 4], 0xEE00
        vm      "int to ring 1", IOPL3
        int     0x32
        endvm
        # A 16-bit gate: the frame has words.
        mov     edi, IDT + 0x33 * 8
        mov     dword ptr [edi], offset narrow + (CODE0 << 16)
        mov     dword ptr [edi + 4], 0xE600
        say     "16-bit gate:"
        mov     dword ptr [vm_flags], IOPL3
        mov     eax, offset 1f
        call    run_vm
        say     " dumped"
        mov     edi, KSTACK - 16        # nine words; IP is left out
        mov     ecx, 4
        call    dump
        call    newline
        jmp     2f
        .code16
1:      int     0x33
        .code32
narrow: mov     eax, DATA0
        mov     ds, eax
        mov     es, eax
        mov     esp, [home_esp]
        jmp     dword ptr [home_eip]
2:
        ret

        rom_end
