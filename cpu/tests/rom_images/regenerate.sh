#!/usr/bin/env bash
# Builds the test images from their sources and records what QEMU's TCG prints
# for each: NAME.S -> NAME.bin, NAME.qemu.txt. Run on request only; the results
# are committed. Lines where this CPU follows the manual and TCG does not stand,
# with their reasons, in NAME.deviations.txt, which this script leaves alone.
set -euo pipefail
cd "$(dirname "$0")"
for tool in as ld qemu-system-i386; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing: apt-get install -y --no-install-recommends binutils qemu-system-x86" >&2
        exit 1
    }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for source in ${*:-*.S}; do
    name=${source%.S}
    as --32 -o "$scratch/image.o" "$name.S"
    ld -m elf_i386 -Ttext 0 -e 0 --oformat binary -o "$scratch/image.bin" "$scratch/image.o"
    # isa-debug-exit ends QEMU with an odd code: 1 is the image's own `out QUIT, 0`.
    status=0
    timeout 60 qemu-system-i386 -M pc -cpu qemu32,+nx -accel tcg -bios "$scratch/image.bin" \
        -display none -nodefaults -no-reboot \
        -debugcon "file:$scratch/text" -global isa-debugcon.iobase=0xe9 \
        -device isa-debug-exit,iobase=0x501,iosize=1 || status=$?
    [ "$status" = 1 ] || { echo "$name: QEMU ended with $status, not by the image's own exit" >&2; exit 1; }
    mv "$scratch/image.bin" "$name.bin"
    mv "$scratch/text" "$name.qemu.txt"
    echo "$name: $(wc -l <"$name.qemu.txt") lines"
done
qemu-system-i386 --version | head -1 >qemu-version.txt
