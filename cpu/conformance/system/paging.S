# Paging: rights, error codes, accessed and dirty bits, the TLB.
        .include "case.inc"

        .irp    page, 0x400010, 0x401010, 0x402010, 0x403010, 0x404010, 0x405010, 0x809010
        case paged32, "read of \page in ring 0"
        mov     eax, ds:[\page]
        hlt
        case paged32, "write of \page in ring 0"
        mov     ds:[\page], eax
        hlt
        case paged32, "write of \page in ring 0 without WP"
        mov     eax, cr0
        and     eax, 0xFFFEFFFF
        mov     cr0, eax
        mov     ds:[\page], ecx
        hlt
        case paged32, "read of \page in ring 3"
        ring3
        mov     eax, ds:[\page]
        int     0x80
        case paged32, "write of \page in ring 3"
        ring3
        mov     ds:[\page], eax
        int     0x80
        .endr
        .irp    page, 0x400010, 0x403010, 0x404010, 0x408010, 0x409010, 0x809010
        case pae32, "read of \page in ring 0"
        mov     eax, ds:[\page]
        hlt
        case pae32, "write of \page in ring 0"
        mov     ds:[\page], eax
        hlt
        case pae32, "write of \page in ring 3"
        ring3
        mov     ds:[\page], eax
        int     0x80
        case pae32, "fetch from \page in ring 3"
        mov     byte ptr [DATA + 16], 0x90
        mov     word ptr [DATA + 17], 0x80CD
        ring3
        mov     eax, \page
        jmp     eax
        .endr
        case paged32, "fetch from another page"
        mov     byte ptr [CODE + 0x800], 0xF4
        mov     eax, 0x406800
        jmp     eax
        case paged32, "PF of a fetch that begins on a page and ends on the next"
        mov     word ptr [DATA + 0xFFE], 0xB890
        mov     dword ptr [PROBES + 4], 0xA006
        mov     eax, 0x400FFE
        jmp     eax
        case paged32, "a dword on two pages"
        mov     dword ptr [DATA + 0xFFC], 0x44332211
        mov     dword ptr [DATA + 0x1000], 0x88776655
        mov     eax, ds:[0x400FFE]
        mov     ds:[0x400FFD], ecx
        hlt
        case paged32, "PF of a write on two pages, the second is not there: nothing is written"
        mov     dword ptr [PROBES + 4], 0xA006
        mov     ds:[0x400FFE], ecx
        hlt
        case paged32, "PF of REP MOVSB in the middle"
        mov     dword ptr [PROBES + 4], 0xA006
        mov     esi, DATA
        mov     edi, 0x400FF8
        mov     ecx, 0x20
        rep movsb
        hlt
        case paged32, "PF of PUSH leaves ESP"
        mov     dword ptr [PROBES + 12], 0
        ring3   2, 0x404000
        push    eax
        case paged32, "PF of CALL leaves ESP and EIP"
        mov     dword ptr [PROBES + 12], 0
        ring3   2, 0x404000
        call    1f
1:      nop
        case paged32, "PF of POP to memory leaves ESP"
        ring3
        push    eax
        pop     dword ptr ds:[0x404000]
        case paged32, "a stale entry without INVLPG"
        mov     eax, ds:[0x400000]
        mov     dword ptr [PROBES], 0xA067
        mov     dword ptr [DATA + 0x1000], 0x12345678
        invlpg  ds:[0x400000]
        mov     ecx, ds:[0x400000]
        hlt
        case paged32, "a write of CR3 shows changed entries"
        mov     eax, ds:[0x400000]
        mov     dword ptr [PROBES], 0xA067
        mov     dword ptr [DATA + 0x1000], 0x12345678
        mov     eax, cr3
        mov     cr3, eax
        mov     ecx, ds:[0x400000]
        hlt
        case paged32, "PG off and on again shows changed entries"
        mov     eax, ds:[0x400000]
        mov     dword ptr [PROBES], 0xA067
        mov     dword ptr [DATA + 0x1000], 0x12345678
        mov     eax, cr0
        and     eax, 0x7FFFFFFF
        mov     cr0, eax
        or      eax, 0x80000000
        mov     cr0, eax
        mov     ecx, ds:[0x400000]
        hlt
        case paged32, "INVLPG ends a global page"
        mov     eax, ds:[0x407000]
        mov     dword ptr [PROBES + 28], 0xA167
        mov     dword ptr [DATA + 0x1000], 0x12345678
        invlpg  ds:[0x407000]
        mov     ecx, ds:[0x407000]
        hlt
        case paged32, "CR4.PGE ends global pages"
        mov     eax, ds:[0x407000]
        mov     dword ptr [PROBES + 28], 0xA167
        mov     dword ptr [DATA + 0x1000], 0x12345678
        mov     eax, cr4
        xor     al, 0x80
        mov     cr4, eax
        mov     ecx, ds:[0x407000]
        hlt
        case paged32, "a page that becomes present needs no INVLPG"
        mov     dword ptr [PROBES + 16], 0x9067
        mov     eax, ds:[0x404000]
        hlt
        case paged32, "a page that becomes writable after INVLPG"
        mov     eax, ds:[0x402000]
        mov     dword ptr [PROBES + 8], 0x9027
        invlpg  ds:[0x402000]
        mov     ds:[0x402000], ecx
        hlt
        case paged32, "accessed, then dirty"
        mov     eax, ds:[0x401000]
        mov     ecx, [PROBES + 4]
        mov     ds:[0x401000], eax
        mov     edx, [PROBES + 4]
        hlt
        case paged32, "a cleared dirty bit is set again after INVLPG"
        mov     ds:[0x401000], eax
        mov     dword ptr [PROBES + 4], 0xA007
        invlpg  ds:[0x401000]
        mov     ds:[0x401000], eax
        mov     edx, [PROBES + 4]
        hlt
        case paged32, "a directory entry that is not accessed"
        mov     dword ptr [PD + 4], PROBES + 7
        invlpg  ds:[0x400000]
        mov     eax, ds:[0x400000]
        mov     edx, [PD + 4]
        hlt
        case paged32, "accessed and dirty of a 4-MiB page"
        mov     dword ptr [PD + 8], 0x87
        mov     eax, ds:[0x809000]
        mov     ecx, [PD + 8]
        mov     ds:[0x809000], eax
        mov     edx, [PD + 8]
        hlt
        case paged32, "PF of a reserved bit of a 4-MiB page"
        mov     dword ptr [PD + 8], 0x002000E7
        mov     eax, ds:[0x800000]
        hlt
        case pae32, "PF of a reserved bit of a PAE entry"
        mov     byte ptr [PROBES + 7], 0x40
        mov     eax, ds:[0x400000]
        hlt
        case pae32, "PF of NX without EFER.NXE"
        mov     ecx, 0xC0000080
        xor     eax, eax
        xor     edx, edx
        wrmsr
        mov     eax, ds:[0x408000]
        hlt
        case pae32, "accessed and dirty of a 2-MiB page"
        mov     dword ptr [PD + 32], 0x87
        mov     eax, ds:[0x809000]
        mov     ds:[0x80A000], eax
        mov     edx, [PD + 32]
        hlt
        case pae32, "a write of CR3 shows changed entries"
        mov     eax, ds:[0x400000]
        mov     dword ptr [PROBES], 0xA067
        mov     dword ptr [DATA + 0x1000], 0x12345678
        mov     eax, cr3
        mov     cr3, eax
        mov     ecx, ds:[0x400000]
        hlt
        case pae32, "INT from ring 3 and IRET back"
        ring3
        int     0x81
        case paged32, "user bit of the directory entry"
        and     byte ptr [PD + 4], 0xFB
        ring3
        mov     eax, ds:[0x400000]
        case paged32, "write bit of the directory entry"
        and     byte ptr [PD + 4], 0xFD
        ring3
        mov     ds:[0x400000], eax
        case paged32, "an access of the CPU to the GDT is one of the supervisor"
        ring3
        mov     eax, DATA3
        mov     fs, eax
        int     0x80
        case paged32, "PF of a descriptor that lies on a page that is not there"
        mov     dword ptr [PT + 4], 0x1062
        invlpg  [GDT]
        mov     eax, FRESH
        mov     fs, eax
        hlt
        case paged32, "the accessed bit of a descriptor is written in ring 3"
        or      byte ptr [GDT + FRESH + 5], 0x60
        ring3
        mov     eax, FRESH + 3
        mov     gs, eax
        int     0x80
