# Paging: rights of the directory and of the table, CR0.WP, accessed and dirty
# bits, error codes and CR2, 4-MiB pages, INVLPG and CR3 writes, faults in the
# middle of pushes, calls, strings and gate deliveries.
#
# The directory is at PD, one table at PT0 maps the first 4 MiB onto itself; the
# page at PROBE is the one whose entries change; it maps to frame FRAME.
        .include "rom.inc"

        .equ PD,        0x10000
        .equ PT0,       0x11000
        .equ PT1,       0x12000         # maps 0x00400000
        .equ PROBE,     0x00404000
        .equ PDE,       PD + 4
        .equ PTE,       PT1 + 4 * 4
        .equ FRAME,     0x20000
        .equ p_row,     scratch
        .equ p_snip,    scratch + 8
        .equ p_cpl,     scratch + 12
        .equ p_wp,      scratch + 16

        .balign 4
read:   mov     eax, ds:[PROBE]
        int     0x30
write:  mov     ds:[PROBE], eax
        int     0x30

reload: mov     eax, cr3
        mov     cr3, eax
        ret

        # Prints the fault, or both entries' low bytes. (Whether a walk that faults sets
        # the directory entry's accessed bit is the processor's affair.)
show:   mov     eax, [out_vec]
        cmp     al, 0x30
        jne     1f
        say     "ok "
        jmp     2f
1:      call    put8
        say     "e"
        mov     al, [out_err]
        call    put8
        say     "@"
        mov     eax, [out_cr2]
        jmp     put32
2:      mov     al, [PDE]
        call    put8
        call    space
        mov     al, [PTE]
        jmp     put8

        # All 64 combinations of P RW US in both entries, for one access.
sweep:
        call    newline
        mov     dword ptr [p_row], 0
1:      mov     eax, [p_row]
        mov     ecx, eax
        and     eax, 7
        or      eax, PT1
        mov     [PDE], eax
        shr     ecx, 3
        or      ecx, FRAME
        mov     [PTE], ecx
        call    reload
        mov     al, [p_cpl]
        call    ring
        mov     eax, [p_snip]
        mov     [in_eip], eax
        mov     eax, cr0
        and     eax, 0xFFFEFFFF
        or      eax, [p_wp]
        mov     cr0, eax
        call    run
        call    show
        mov     al, [p_row]
        and     al, 3
        cmp     al, 3
        je      2f
        say     " | "
        jmp     3f
2:      call    newline
3:      inc     dword ptr [p_row]
        cmp     dword ptr [p_row], 64
        jb      1b
        ret

        .macro do_sweep snippet, cpl, wp
        say     "\snippet cpl\cpl wp\wp"
        mov     dword ptr [p_snip], offset \snippet
        mov     dword ptr [p_cpl], \cpl
        mov     dword ptr [p_wp], \wp << 16
        call    sweep
        .endm

main:
        post    0x30
        # Everything from 0 to 4 MiB is a user page, writable.
        mov     edi, PD
        mov     ecx, 0x3000 / 4
        xor     eax, eax
        rep stosd
        mov     dword ptr [PD], PT0 + 7
        mov     edi, PT0
        mov     eax, 7
1:      mov     [edi], eax
        add     edi, 4
        add     eax, 0x1000
        cmp     edi, PT0 + 0x1000
        jb      1b
        mov     eax, PD
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        jmp     1f
1:      .irp    snippet, read, write
        .irp    cpl, 0, 3
        do_sweep \snippet, \cpl, 0
        do_sweep \snippet, \cpl, 1
        .endr
        .endr
        mov     eax, cr0
        and     eax, 0xFFFEFFFF
        mov     cr0, eax

        post    0x31
        call    fresh
        # The TLB keeps an entry until INVLPG or a write of CR3.
        case    "INVLPG shows a changed entry"
        mov     dword ptr [FRAME], 0x11110000
        mov     dword ptr [FRAME + 0x1000], 0x22220000
        mov     eax, ds:[PROBE]
        mov     dword ptr [PTE], FRAME + 0x1007
        invlpg  [PROBE]
        mov     edx, ds:[PROBE]
        endcase
        call    fresh
        case    "CR3 shows a changed entry"
        mov     eax, ds:[PROBE]
        mov     dword ptr [PTE], FRAME + 0x1007
        mov     ecx, cr3
        mov     cr3, ecx
        mov     edx, ds:[PROBE]
        endcase
        call    fresh
        case    "a page that becomes present needs no flush"
        mov     dword ptr [PTE], 0
        mov     ecx, cr3
        mov     cr3, ecx
        mov     dword ptr [PTE], FRAME + 0x1007
        mov     eax, ds:[PROBE]
        endcase
        call    fresh
        case    "accessed and dirty after a read, then a write"
        mov     dword ptr [PTE], FRAME + 7
        mov     ecx, cr3
        mov     cr3, ecx
        mov     eax, ds:[PROBE]
        mov     eax, [PTE]
        mov     ds:[PROBE], ecx
        mov     edx, [PTE]
        endcase

        # Accesses over a page boundary: the second page faults, nothing is written.
        post    0x32
        call    fresh
        mov     dword ptr [PTE + 4], 0
        mov     dword ptr [FRAME + 0xFFC], 0xAAAAAAAA
        case    "dword over the boundary: write"
        mov     eax, 0x12345678
        mov     ds:[PROBE + 0xFFE], eax
        endcase
        mov     eax, [FRAME + 0xFFC]
        call    put32
        call    newline
        case    "dword over the boundary: read in ring 3", 3
        mov     eax, ds:[PROBE + 0xFFD]
        endcase
        mov     dword ptr [PTE + 4], FRAME + 0x1000 + 1
        call    reload
        case    "boundary, second page read only, ring 3", 3
        mov     eax, 0x12345678
        mov     ds:[PROBE + 0xFFE], eax
        endcase
        mov     eax, [FRAME + 0xFFC]
        call    put32
        call    newline
        case    "word over the boundary, second page is a kernel page", 3
        mov     ax, ds:[PROBE + 0xFFF]
        endcase
        mov     dword ptr [PTE + 4], 0
        call    reload
        case    "rep movsb stops at the page end"
        mov     esi, 0x3000
        mov     edi, PROBE + 0xFF0
        mov     ecx, 0x40
        rep movsb
        endcase
        mov     eax, [out_regs + 24]
        call    put32
        call    space
        mov     eax, [out_regs]
        call    put32
        call    space
        mov     eax, [out_regs + 4]
        call    put32
        call    newline
        case    "rep stosd backwards stops at the page start"
        std
        mov     edi, PROBE + 0x10
        mov     ecx, 0x40
        mov     dword ptr [PTE - 4], 0
        rep stosd
        endcase
        mov     eax, [out_regs + 24]
        call    put32
        call    space
        mov     eax, [out_regs]
        call    put32
        call    newline
        case    "repe cmpsb faults in the source"
        mov     esi, PROBE + 0xFFC
        mov     edi, PROBE + 0xFFC
        mov     ecx, 0x40
        repe cmpsb
        endcase
        mov     eax, [out_regs + 24]
        call    put32
        call    newline
        .macro ring3_stack name, sp
        call    fresh
        say     "\name:"
        mov     al, 3
        call    ring
        mov     dword ptr [in_esp], \sp
        case_again
        .endm
        ring3_stack "push at a page that is not there", PROBE
        push    eax
        endcase
        ring3_stack "call at a page that is not there", PROBE
        call    1f
1:
        endcase
        ring3_stack "far call whose second push faults", PROBE+4
        .byte   0x9A
        .long   0
        .word   CODE3
        endcase
        mov     eax, [FRAME]
        call    put32
        call    newline
        ring3_stack "pusha whose fifth push faults", PROBE+16
        pushad
        endcase
        ring3_stack "popa over the page end", PROBE+0xFF0
        popad
        endcase
        ring3_stack "enter with a bad frame", PROBE+8
        enter   16, 0
        endcase
        ring3_stack "enter touches the end of its frame", PROBE+16
        mov     eax, 1
        enter   0x100, 0
        endcase
        ring3_stack "leave from a page that is not there", PROBE+16
        mov     ebp, PROBE - 4
        leave
        endcase
        ring3_stack "pop into a page that is not there", PROBE+16
        pop     dword ptr ds:[PROBE - 8]
        endcase
        ring3_stack "ret from a page that is not there", PROBE-4
        ret
        endcase
        ring3_stack "iret whose frame ends on the next page", PROBE+0xFF8
        iretd
        endcase
        ring3_stack "retf whose frame ends on the next page", PROBE+0xFFC
        retf
        endcase
        ring3_stack "xchg with a page that is not there", PROBE+16
        xchg    eax, ds:[PROBE - 8]
        endcase
        ring3_stack "jump to a page that is not there", PROBE+16
        mov     eax, PROBE - 0xF0000 - 0x1000
        jmp     eax
        endcase
        ring3_stack "jump to a kernel page", PROBE+16
        mov     byte ptr [PTE], 3
        mov     eax, PROBE - 0xF0000
        jmp     eax
        endcase
        call    fresh
        mov     dword ptr [FRAME + 0xFFE], 0xB890        # nop; mov eax, ... over the end
        case    "instruction over the page end: second page faults", 3
        mov     eax, PROBE - 0xF0000 + 0xFFE
        jmp     eax
        endcase

        # A descriptor table on a page that is not there: a supervisor access.
        post    0x33
        call    fresh
        mov     word ptr [IDT + 0x32 * 8], offset lgdt_bad
        mov     byte ptr [IDT + 0x32 * 8 + 5], 0xEE
        case    "LDT on a page that is not there, ring 3", 3
        int     0x32
        mov     eax, 0x0F
        mov     ds, eax
        int     0x30
        endcase
        mov     word ptr [GDT + LDTSEL + 2], LDT
        mov     word ptr [GDT + LDTSEL + 4], 0x8200
        mov     eax, LDTSEL
        lldt    ax

        # 4-MiB pages.
        post    0x34
        mov     eax, cr4
        or      al, 0x10
        mov     cr4, eax
        mov     dword ptr [0x00005000], 0x50005000
        .irp    wp, 0, 1
        .irp    cpl, 0, 3
        say     "4 MiB pages cpl\cpl wp\wp"
        call    newline
        mov     dword ptr [p_wp], \wp << 16
        mov     dword ptr [p_cpl], \cpl
        call    large
        .endr
        .endr
        mov     eax, cr0
        and     eax, 0xFFFEFFFF
        mov     cr0, eax
        mov     eax, cr4
        and     al, 0xEF
        mov     cr4, eax
        mov     dword ptr [PDE], 0x87
        mov     dword ptr [0x10], 0x00020007
        call    reload
        case    "PS is ignored without CR4.PSE"
        mov     eax, ds:[PROBE]
        endcase

        call    fresh
        call    global
        ret

        # Is the PDE's dirty bit set, in all eight settings?
large:  mov     dword ptr [p_row], 0
1:      .irp    snippet, read, write
        mov     eax, [p_row]
        or      eax, 0x80
        mov     [PDE], eax
        call    reload
        mov     al, [p_cpl]
        call    ring
        mov     dword ptr [in_eip], offset \snippet
        mov     eax, cr0
        and     eax, 0xFFFEFFFF
        or      eax, [p_wp]
        mov     cr0, eax
        call    run
        call    show
        say     " | "
        .endr
        call    newline
        inc     dword ptr [p_row]
        cmp     dword ptr [p_row], 8
        jb      1b
        ret

lgdt_bad:
        mov     word ptr ss:[GDT + LDTSEL + 2], 0x3000
        mov     word ptr ss:[GDT + LDTSEL + 4], 0x8240
        push    eax
        mov     eax, LDTSEL
        lldt    ax
        pop     eax
        iretd

        # Global pages outlive a write of CR3, not one of CR4.PGE.
global: mov     eax, cr4
        or      al, 0x80
        mov     cr4, eax
        mov     dword ptr [PTE], FRAME + 0x107
        call    reload
        case    "global page over CR3"
        mov     eax, ds:[PROBE]
        mov     dword ptr [PTE], FRAME + 0x1107
        mov     ecx, cr3
        mov     cr3, ecx
        mov     edx, ds:[PROBE]
        mov     ecx, cr4
        and     cl, 0x7F
        mov     cr4, ecx
        endcase
        mov     eax, cr4
        or      al, 0x80
        mov     cr4, eax
        mov     dword ptr [PTE], FRAME + 0x107
        mov     eax, cr4
        xor     al, 0x80
        mov     cr4, eax
        xor     al, 0x80
        mov     cr4, eax
        case    "global page over CR4.PGE"
        mov     eax, ds:[PROBE]
        mov     dword ptr [PTE], FRAME + 0x1107
        mov     ecx, cr4
        xor     cl, 0x80
        mov     cr4, ecx
        mov     edx, ds:[PROBE]
        endcase
        mov     eax, cr4
        and     al, 0x7F
        mov     cr4, eax
        ret

        # Both entries present, user, writable; pages around absent.
fresh:  mov     edi, PT1
        mov     ecx, 1024
        xor     eax, eax
        rep stosd
        mov     dword ptr [PDE], PT1 + 7
        mov     dword ptr [PTE], FRAME + 7
        jmp     reload

        rom_end
