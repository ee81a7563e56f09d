# PAE paging: rights and no-execute in both levels, reserved bits, 2-MiB pages,
# with EFER.NXE clear and set. 0 to 2 MiB is one user page onto itself; PROBE is
# mapped by a table of its own onto FRAME, which holds `int 0x30`.
        .include "rom.inc"

        .equ PDPT,      0x10000
        .equ PD,        0x11000
        .equ PT,        0x12000
        .equ PROBE,     0x00200000
        .equ PDE,       PD + 8
        .equ PTE,       PT
        .equ FRAME,     0x20000
        .equ p_row,     scratch
        .equ p_snip,    scratch + 8
        .equ p_cpl,     scratch + 12
        .equ p_wp,      scratch + 16

        .balign 4
read:   mov     eax, ds:[PROBE + 0x100]
        int     0x30
write:  mov     ds:[PROBE + 0x100], eax
        int     0x30
fetch:  mov     eax, PROBE - 0xF0000
        jmp     eax

reload: mov     eax, cr3
        mov     cr3, eax
        ret

        # The entry made of row bits P RW US NX in AL, onto EDI with extra bits ECX.
entry:  movzx   eax, al
        mov     edx, eax
        and     eax, 7
        or      eax, ecx
        mov     [edi], eax
        and     edx, 8
        shl     edx, 28
        mov     [edi + 4], edx
        ret

show:   mov     eax, [out_vec]
        cmp     al, 0x30
        jne     1f
        say     " ok"
        jmp     2f
1:      cmp     al, 14
        jne     3f
        call    space
        mov     al, [out_err]
        test    al, 8                   # TCG forgets P in the code of a reserved bit
        jz      4f
        or      al, 1
4:      call    put8
        mov     eax, [out_cr2]
        and     eax, 0xFFFFFEFF         # the fetch is at PROBE itself
        cmp     eax, PROBE
        je      2f
        say     "@"
        call    put32
2:      ret
3:      say     " #"
        jmp     put8

        # All 256 settings of both entries, 16 on a line.
sweep:  call    newline
        mov     dword ptr [p_row], 0
1:      mov     edi, PDE
        mov     ecx, PT
        mov     al, [p_row]
        and     al, 15
        call    entry
        mov     edi, PTE
        mov     ecx, FRAME
        mov     al, [p_row]
        shr     al, 4
        call    entry
        call    reload
        call    go
        mov     al, [p_row]
        and     al, 15
        cmp     al, 15
        jne     2f
        call    newline
2:      inc     dword ptr [p_row]
        cmp     dword ptr [p_row], 256
        jb      1b
        ret
go:     mov     al, [p_cpl]
        call    ring
        mov     eax, [p_snip]
        mov     [in_eip], eax
        mov     eax, cr0
        and     eax, 0xFFFEFFFF
        or      eax, [p_wp]
        mov     cr0, eax
        pop     dword ptr [scratch + 32]
        call    run
        call    show
        jmp     dword ptr [scratch + 32]

        # A 2-MiB page: 16 settings on a line; the frame is 0.
sweep_large:
        call    newline
        mov     dword ptr [p_row], 0
1:      mov     edi, PDE
        mov     ecx, 0x80
        mov     al, [p_row]
        call    entry
        call    reload
        call    go
        inc     dword ptr [p_row]
        cmp     dword ptr [p_row], 16
        jb      1b
        jmp     newline

        .macro do_sweep how, snippet, cpl, wp
        say     "\how \snippet cpl\cpl wp\wp:"
        mov     dword ptr [p_snip], offset \snippet
        mov     dword ptr [p_cpl], \cpl
        mov     dword ptr [p_wp], \wp << 16
        call    \how
        .endm

main:   post    0x70
        mov     edi, PDPT
        mov     ecx, 0x3000 / 4
        xor     eax, eax
        rep stosd
        mov     dword ptr [PDPT], PD + 1
        mov     dword ptr [PD], 0x87
        mov     word ptr [FRAME], 0x30CD
        mov     eax, cr4
        or      eax, 0x20
        mov     cr4, eax
        mov     eax, PDPT
        mov     cr3, eax
        mov     eax, cr0
        or      eax, 0x80000000
        mov     cr0, eax
        jmp     1f
1:
        .irp    nxe, 0, 1
        say     "NXE \nxe"
        call    newline
        mov     ecx, 0xC0000080
        mov     eax, \nxe << 11
        xor     edx, edx
        wrmsr
        .irp    cpl, 0, 3
        do_sweep sweep, read, \cpl, 0
        do_sweep sweep, write, \cpl, 0
        do_sweep sweep, write, \cpl, 1
        do_sweep sweep, fetch, \cpl, 0
        .endr
        .endr

        post    0x71
        # Physical 0 holds `int 0x30` for the fetches from the large page.
        mov     word ptr [0], 0x30CD
        .irp    cpl, 0, 3
        do_sweep sweep_large, read, \cpl, 0
        do_sweep sweep_large, write, \cpl, 1
        do_sweep sweep_large, fetch, \cpl, 0
        .endr

        post    0x72
        mov     dword ptr [PDE], PT + 7
        mov     dword ptr [PDE + 4], 0
        mov     dword ptr [PTE], FRAME + 7
        mov     dword ptr [PTE + 4], 0
        call    reload
        case    "accessed and dirty bits of 64-bit entries"
        mov     eax, ds:[PROBE]
        mov     eax, [PTE]
        mov     ds:[PROBE], ecx
        mov     edx, [PTE]
        endcase
        case    "an address in an absent gigabyte", 3
        mov     eax, ds:[0x40000000]
        endcase
        # The pointers are read with CR3 and kept.
        case    "the pointers stay until CR3 is written"
        mov     dword ptr [PDPT + 8], PD + 1
        mov     eax, cr3
        mov     cr3, eax
        mov     edx, ds:[0x40000000 + FRAME]
        mov     dword ptr [PDPT + 8], 0
        mov     eax, ds:[0x40000000 + FRAME + 4]
        mov     ecx, cr3
        mov     cr3, ecx
        mov     eax, ds:[0x40000000 + FRAME]
        endcase
        mov     word ptr [FRAME], 0x30CD
        mov     dword ptr [PTE + 4], 0x80000000
        call    reload
        case    "a page loses its right to be executed", 3
        mov     eax, PROBE - 0xF0000
        jmp     eax
        endcase
        ret

        rom_end
