# Exceptions that TCG does not raise, or raises at another time. What they push,
# and where they leave the registers, is the manual's.
        .include "case.inc"

        case system32, "INT1 is DB, a trap", 1, none, "TCG has no INT1 (SDM vol. 2, INT n)"
        .byte   0xF1
        faulting
        hlt
        case system32, "UD of LOCK with an instruction that does not take it", 6, none, "TCG ignores LOCK here (SDM vol. 2, LOCK)"
        faulting
        .byte   0xF0, 0x8B, 0x06
        hlt
        case real, "GP over the end of a segment", 13, none, "TCG checks no limits (SDM vol. 3, 20.3)"
        mov     si, 0xFFFF
        faulting
        mov     ax, [si]
        hlt
        case real, "SS over the end of a segment", 12, none, "TCG checks no limits (SDM vol. 3, 20.3)"
        mov     bp, 0xFFFF
        faulting
        mov     ax, [bp]
        hlt
        case prot16, "GP over the limit of a segment", 13, 0, "TCG checks no limits (SDM vol. 3, 5.3)"
        mov     eax, 0x1FFFE
        faulting
        mov     eax, [eax]
        hlt
        case system32, "GP of a null selector in DS", 13, 0, "TCG lets null selectors of ring 0 be used (SDM vol. 3, 5.4.1)"
        xor     eax, eax
        mov     ds, eax
        faulting
        mov     eax, [esi]
        hlt
        case paged32, "GP of a null selector in ES, in ring 3", 13, 0, "TCG lets null selectors be used (SDM vol. 3, 5.4.1)"
        ring3
        xor     eax, eax
        mov     es, eax
        faulting
        stosb
        int     0x80
        case system32, "MF at the next x87 instruction", 16, none, "TCG raises MF at FWAIT alone (SDM vol. 1, 8.7.1)"
        fninit
        push    0x340
        fldcw   [esp]
        fldz
        fld1
        fdiv    st, st(1)
        faulting
        fld1
        hlt
        case paged32, "AC in ring 3", 17, 0, "TCG has no alignment check (SDM vol. 3, 6.15)"
        mov     eax, cr0
        or      eax, 0x40000
        mov     cr0, eax
        ring3   0x40002
        faulting
        mov     eax, [esi + 1]
        int     0x80
        case paged32, "AC of a word, a qword of the x87 and a far pointer", 17, 0, "TCG has no alignment check (SDM vol. 3, 6.15)"
        mov     eax, cr0
        or      eax, 0x40000
        mov     cr0, eax
        ring3   0x40002
        mov     ax, [esi + 2]
        mov     al, [esi + 3]
        fild    qword ptr [esi + 8]
        faulting
        fild    qword ptr [esi + 4]
        int     0x80
        case system32, "XM of DIVSS by zero", 19, none, "TCG raises no XM (SDM vol. 1, 11.5)"
        push    0x1D80
        ldmxcsr [esp]
        xorps   xmm0, xmm0
        mov     eax, 1
        cvtsi2ss xmm1, eax
        faulting
        divss   xmm1, xmm0
        hlt
        case paged32, "XM in ring 3", 19, none, "TCG raises no XM (SDM vol. 1, 11.5)"
        ring3
        push    0x1D80
        ldmxcsr [esp]
        xorps   xmm0, xmm0
        mov     eax, 1
        cvtsi2ss xmm1, eax
        faulting
        divss   xmm1, xmm0
        int     0x80
        case system32, "UD of an SSE exception without OSXMMEXCPT", 6, none, "TCG raises nothing (SDM vol. 3, 2.5, OSXMMEXCPT)"
        mov     eax, 0x200
        mov     cr4, eax
        push    0x1D80
        ldmxcsr [esp]
        xorps   xmm0, xmm0
        mov     eax, 1
        cvtsi2ss xmm1, eax
        faulting
        divss   xmm1, xmm0
        hlt
        case system32, "GP of CR0 with PG and without PE", 13, 0, "TCG lets it be set (SDM vol. 2, MOV to CR)"
        mov     eax, 0x80000010
        faulting
        mov     cr0, eax
        hlt
        case system32, "GP of CR0 with NW and without CD", 13, 0, "TCG lets it be set (SDM vol. 2, MOV to CR)"
        mov     eax, cr0
        or      eax, 0x20000000
        faulting
        mov     cr0, eax
        hlt
        case system32, "GP of a reserved bit of CR4", 13, 0, "TCG does not get to the handler (SDM vol. 2, MOV to CR)"
        mov     eax, 0x80000000
        faulting
        mov     cr4, eax
        hlt
        case system32, "GP of a reserved MSR", 13, 0, "TCG answers with 0 (SDM vol. 2, RDMSR)"
        mov     ecx, 0x12345678
        faulting
        rdmsr
        hlt
