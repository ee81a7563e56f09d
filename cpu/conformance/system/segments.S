# Segment loads, limits, types, expand-down.
        .include "case.inc"

        .irp    selector, 0, 3, DATA0, DATA3, READONLY, CODE0, EXECONLY, CONFORMING, TASK2, CALLGATE, ABSENT, DOWN, LDATA0, LDATA3, FRESH, 0x44, 0x100, 0x4C
        case system32, "DS = \selector in ring 0"
        mov     eax, \selector
        mov     ds, eax
        mov     ecx, cs:[GDT + FRESH + 4]
        hlt
        case system32, "SS = \selector in ring 0"
        mov     eax, \selector
        mov     ss, eax
        hlt
        case paged32, "FS = \selector in ring 3"
        ring3
        mov     eax, \selector
        mov     fs, eax
        int     0x80
        case paged32, "SS = \selector in ring 3"
        ring3
        mov     eax, \selector
        mov     ss, eax
        int     0x80
        .endr
        .irp    offset, 0x18, 0x1C
        case system32, "dword at \offset of 20 bytes"
        mov     eax, SMALL
        mov     fs, eax
        mov     eax, fs:[\offset]
        hlt
        .endr
        .irp    offset, 0x1D, 0x1F, 0x20, 0xFFFFFFFC, 0xFFFFFFFE
        case system32, "dword at \offset of 20 bytes", 13, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        mov     eax, SMALL
        mov     fs, eax
        faulting
        mov     eax, fs:[\offset]
        hlt
        .endr
        case system32, "byte at 1F of 20 bytes"
        mov     eax, SMALL
        mov     fs, eax
        mov     fs:[0x1F], cl
        hlt
        .irp    offset, 0x20, 0xFFFFFFFF
        case system32, "byte at \offset of 20 bytes", 13, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        mov     eax, SMALL
        mov     fs, eax
        faulting
        mov     fs:[\offset], cl
        hlt
        .endr
        .irp    offset, 0x1F, 0x20, 0xFFFFFFFE
        case paged32, "word at \offset of 20 bytes, in ring 3", 13, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        ring3
        mov     eax, SMALL3
        mov     fs, eax
        faulting
        mov     ax, fs:[\offset]
        int     0x80
        .endr
        .irp    offset, 0, 0x7FFC, 0x7FFE, 0x7FFF, 0xFFFFFFFD
        case system32, "dword at \offset of expand-down from 8000", 13, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        mov     eax, DOWN
        mov     fs, eax
        faulting
        mov     eax, fs:[\offset]
        hlt
        .endr
        .irp    offset, 0x8000, 0x9000
        case system32, "dword at \offset of expand-down from 8000"
        mov     eax, DOWN
        mov     fs, eax
        mov     eax, fs:[\offset]
        hlt
        .endr
        case system32, "dword over the end of an expand-down segment of 64 KiB", 13, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        mov     byte ptr [GDT + DOWN + 6], 0
        mov     eax, DOWN
        mov     fs, eax
        mov     eax, fs:[0xA000]
        faulting
        mov     eax, fs:[0xFFFE]
        hlt
        case system32, "GP of a write to a read-only segment", 13, 0, "TCG checks no types (SDM vol. 3, 5.5)"
        mov     eax, READONLY
        mov     ds, eax
        mov     eax, [esi]
        faulting
        mov     [esi], eax
        hlt
        case system32, "GP of a write to a code segment", 13, 0, "TCG checks no types (SDM vol. 3, 5.5)"
        mov     eax, cs:[esi]
        faulting
        mov     cs:[esi], eax
        hlt
        case system32, "GP of a fetch beyond the limit of CS", 13, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        mov     word ptr [GDT + CODE16], 0x80FF
        .byte   0xEA
        .long   0x80FE
        .word   CODE16
        .org    0xFE
        .code16
        faulting
        mov     ax, 0x1234
        case system32, "GP of a jump beyond the limit of CS"
        .byte   0xEA
        .long   0x10000
        .word   CODE16
        case paged32, "SS of a stack access with EBP over the limit", 12, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        ring3
        mov     eax, SMALL3 + 3
        mov     ss, eax
        mov     ebp, 0x1E
        faulting
        mov     eax, [ebp]
        int     0x80
        case paged32, "SS of a push over the limit", 12, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        ring3
        mov     eax, SMALL3 + 3
        mov     ss, eax
        mov     esp, 0x22
        faulting
        push    eax
        int     0x80
        case paged32, "SS of a pop over the limit", 12, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        ring3
        mov     eax, SMALL3 + 3
        mov     ss, eax
        mov     esp, 0x1E
        faulting
        pop     eax
        int     0x80
        case system32, "a 16-bit stack wraps"
        mov     eax, DATA16
        mov     ss, eax
        mov     esp, 0x12340000
        push    eax
        pushw   7
        pop     ecx
        hlt
        case prot16, "32-bit pushes on a 16-bit stack"
        push    eax
        pushad
        popad
        pop     edx
        hlt
        case prot16, "addresses of 16 bits wrap inside the segment"
        mov     bx, 0x9000
        mov     si, 0x6000
        mov     byte ptr [0x5000], 0x77
        mov     al, [bx + si - 0xA000]
        hlt
        case prot16, "32-bit address in 16-bit code"
        mov     ecx, 0x9000
        mov     dword ptr [ecx + 4], 0x12345678
        mov     eax, [ecx + 4]
        hlt
        case real, "segment bases"
        mov     ax, 0x900
        mov     es, ax
        mov     word ptr es:[0x10], 0x1234
        mov     ax, [0x9010]
        hlt
        case real, "unreal mode: a limit of 4 GiB outlives protected mode"
        mov     word ptr [si], 0x17
        mov     dword ptr [si + 2], 0x9100
        mov     dword ptr [0x9108], 0x0000FFFF
        mov     dword ptr [0x910C], 0x008F9300
        lgdt    [si]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        mov     bx, 8
        mov     fs, bx
        and     al, 0xFE
        mov     cr0, eax
        mov     ebx, 0x00009104
        mov     ecx, fs:[ebx + 4]
        hlt
        case real, "protected mode and back"
        mov     word ptr [si], 0x17
        mov     dword ptr [si + 2], 0x9100
        mov     dword ptr [0x9108], 0x0000FFFF
        mov     dword ptr [0x910C], 0x00009B00
        lgdt    [si]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        .byte   0xEA
        .word   CODE + 1f - START, 8
1:      and     al, 0xFE
        mov     cr0, eax
        .byte   0xEA
        .word   CODE + 2f - START, 0
2:      mov     cx, cs
        hlt
        case system32, "ENTER and LEAVE with levels"
        mov     ebp, 0x5800
        mov     [ebp - 4], esi
        mov     [ebp - 8], edi
        enter   16, 3
        push    eax
        leave
        hlt
        case real, "GP of PUSHA at SP 15", 13, none, "TCG checks no limits (SDM vol. 2, PUSHA)"
        mov     sp, 15
        faulting
        pusha
        hlt
