use vm_memory::Bytes;

use super::*;
use crate::layout::{COVERAGE_EVENTS, COVERAGE_MAP};

/// A PT_LOAD segment of a made-up kernel.
#[derive(Clone, Copy)]
struct Load {
    vaddr: u32,
    paddr: u32,
    filesz: u32,
    memsz: u32,
}

const TEXT: Load = Load {
    vaddr: 0xc010_0000,
    paddr: 0x10_0000,
    filesz: 0x100,
    memsz: 0x2000,
};

/// An ELF32 executable whose segments are filled with 0xcc.
fn elf(entry: u32, loads: &[Load]) -> Vec<u8> {
    let mut image = b"\x7fELF\x01\x01\x01".to_vec();
    image.resize(16, 0);
    let count = u16::try_from(loads.len()).unwrap();
    image.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    image.extend(entry.to_le_bytes());
    image.extend(52u32.to_le_bytes());
    image.extend([0; 8]);
    for half in [52, 32, count, 40, 0, 0] {
        image.extend(u16::to_le_bytes(half));
    }
    let mut offset = 52 + 32 * u32::from(count);
    for load in loads {
        for word in [
            1,
            offset,
            load.vaddr,
            load.paddr,
            load.filesz,
            load.memsz,
            7,
            0,
        ] {
            image.extend(word.to_le_bytes());
        }
        offset += load.filesz;
    }
    image.resize(offset as usize, 0xcc);
    image
}

/// A bzImage header of protocol 2.12 with one setup sector.
fn bzimage(body: usize, init_size: u32, xloadflags: u16) -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x1fe..0x200].copy_from_slice(&0xaa55u16.to_le_bytes());
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020cu16.to_le_bytes());
    image[0x211] = 1;
    image[0x236..0x238].copy_from_slice(&xloadflags.to_le_bytes());
    image[0x258..0x260].copy_from_slice(&0x10_0000u64.to_le_bytes());
    image[0x260..0x264].copy_from_slice(&init_size.to_le_bytes());
    image.resize(1024 + body, 0xcc);
    image
}

fn boot(
    kernel: &[u8],
    initramfs: Option<&[u8]>,
    line: &str,
) -> (GuestRam, Result<BootEntry, LoadError>) {
    let ram = GuestRam::new(16).unwrap();
    let source = BootSource {
        kernel,
        initramfs,
        command_line: line,
    };
    let entry = load(&ram, &source);
    (ram, entry)
}

fn fails(kernel: &[u8]) -> LoadError {
    boot(kernel, None, "").1.unwrap_err()
}

fn word(ram: &GuestRam, address: u64) -> u32 {
    ram.regions().read_obj(GuestAddress(address)).unwrap()
}

#[test]
fn a_vmlinux_is_loaded_by_physical_address() {
    let (ram, entry) = boot(&elf(0x10_0010, &[TEXT]), Some(b"cpio"), "quiet");
    let entry = entry.unwrap();
    assert_eq!(entry.entry, 0x10_0010);
    assert_eq!(word(&ram, 0x10_00fc), 0xcccc_cccc);
    assert_eq!(word(&ram, 0x10_0100), 0);
    let zero_page = BOOT_PARAMS.0;
    assert_eq!(word(&ram, zero_page + 0x202), 0x5372_6448);
    assert_eq!(word(&ram, zero_page + 0x228), 0x2_0000);
    assert_eq!(word(&ram, zero_page + 0x218), 0xff_f000);
    assert_eq!(word(&ram, zero_page + 0x21c), 4);
    assert_eq!(word(&ram, 0xff_f000), u32::from_le_bytes(*b"cpio"));
    let mut line = [0; 6];
    ram.read(COMMAND_LINE, &mut line).unwrap();
    assert_eq!(&line, b"quiet\0");
}

#[test]
fn the_memory_map_leaves_the_coverage_blocks_out() {
    let (ram, entry) = boot(&elf(0x10_0000, &[TEXT]), None, "");
    entry.unwrap();
    let zero_page = BOOT_PARAMS.0;
    assert_eq!(word(&ram, zero_page + 0x1e8) & 0xff, 2);
    let map: Vec<(u64, u64)> = (0..2u64)
        .map(|index| {
            let at = zero_page + 0x2d0 + index * 20;
            (word(&ram, at).into(), word(&ram, at + 8).into())
        })
        .collect();
    assert_eq!(map, [(0, 0x8_0000), (0x10_0000, 0xf0_0000)]);
    for block in [COVERAGE_MAP, COVERAGE_EVENTS] {
        assert!(
            map.iter()
                .all(|(at, size)| block.0 < *at || block.0 >= at + size)
        );
    }
}

#[test]
fn an_entry_given_as_a_linear_address_is_translated() {
    let (_, entry) = boot(&elf(0xc010_0020, &[TEXT]), None, "");
    assert_eq!(entry.unwrap().entry, 0x10_0020);
}

#[test]
fn what_is_no_kernel_is_refused() {
    assert!(matches!(fails(b""), LoadError::NotAKernel));
    assert!(matches!(fails(b"#!/bin/sh\n"), LoadError::NotAKernel));
    assert!(matches!(fails(b"\x7fELF"), LoadError::Elf { .. }));
}

#[test]
fn kernels_of_other_machines_are_refused() {
    let good = elf(0x10_0000, &[TEXT]);
    let with = |at: usize, byte: u8| {
        let mut image = good.clone();
        image[at] = byte;
        image
    };
    assert!(matches!(fails(&with(4, 2)), LoadError::SixtyFourBit));
    assert!(matches!(
        fails(&with(18, 40)),
        LoadError::Machine { machine: 40 }
    ));
    assert!(matches!(fails(&with(5, 2)), LoadError::Machine { .. }));
    assert!(matches!(
        fails(&with(16, 3)),
        LoadError::ElfType { kind: 3 }
    ));
    assert!(matches!(
        fails(&bzimage(100, 0, XLF_KERNEL_64)),
        LoadError::SixtyFourBit
    ));
}

#[test]
fn segments_are_checked_before_anything_is_written() {
    let beyond = Load {
        paddr: 0xff_f000,
        ..TEXT
    };
    let low = Load {
        paddr: 0x7000,
        ..TEXT
    };
    let wrapping = Load {
        paddr: 0xffff_f000,
        ..TEXT
    };
    for bad in [beyond, low, wrapping] {
        let (ram, result) = boot(&elf(0x10_0000, &[TEXT, bad]), None, "");
        assert!(matches!(result, Err(LoadError::SegmentRange { .. })));
        assert_eq!(ram.dirty().written().count(), 0);
    }
    let inside = Load {
        paddr: 0x10_1fff,
        ..TEXT
    };
    assert!(matches!(
        fails(&elf(0x10_0000, &[inside, TEXT])),
        LoadError::SegmentOverlap { .. }
    ));
    let shrunk = Load {
        memsz: 0x10,
        ..TEXT
    };
    assert!(matches!(
        fails(&elf(0x10_0000, &[shrunk])),
        LoadError::Elf {
            what: "segment",
            ..
        }
    ));
    let mut cut = elf(0x10_0000, &[TEXT]);
    cut.truncate(cut.len() - 1);
    assert!(matches!(
        fails(&cut),
        LoadError::Elf {
            what: "segment",
            ..
        }
    ));
    assert!(matches!(
        fails(&elf(0x20_0000, &[TEXT])),
        LoadError::Entry { entry: 0x20_0000 }
    ));
    assert!(matches!(fails(&elf(0, &[])), LoadError::Entry { .. }));
}

#[test]
fn a_bzimage_is_loaded_at_one_mebibyte() {
    let (ram, entry) = boot(&bzimage(0x100, 0x10_0000, 0), None, "");
    assert_eq!(entry.unwrap().entry, 0x10_0000);
    assert_eq!(word(&ram, 0x10_0000), 0xcccc_cccc);
    assert_eq!(word(&ram, BOOT_PARAMS.0 + 0x228), 0x2_0000);
}

#[test]
fn a_bzimage_that_needs_more_than_ram_is_refused() {
    assert!(matches!(
        fails(&bzimage(0x100, 0xff_ffff, 0)),
        LoadError::TooLarge { .. }
    ));
    assert!(matches!(
        fails(&bzimage(16 << 20, 0, 0)),
        LoadError::TooLarge { .. }
    ));
}

#[test]
fn an_initramfs_must_fit_above_the_kernel() {
    let kernel = elf(0x10_0000, &[TEXT]);
    let room = (16 << 20) - 0x10_2000;
    let (_, fits) = boot(&kernel, Some(&vec![1; room]), "");
    assert!(fits.is_ok());
    for size in [room + 1, 17 << 20] {
        let (_, result) = boot(&kernel, Some(&vec![1; size]), "");
        assert!(matches!(result, Err(LoadError::InitramfsTooLarge { .. })));
    }
    let (_, empty) = boot(&kernel, Some(&[]), "");
    assert!(matches!(empty, Err(LoadError::InitramfsEmpty)));
}

#[test]
fn a_command_line_must_fit_and_be_text() {
    let kernel = elf(0x10_0000, &[TEXT]);
    assert!(boot(&kernel, None, &"a".repeat(2047)).1.is_ok());
    assert!(matches!(
        boot(&kernel, None, &"a".repeat(2048)).1,
        Err(LoadError::CommandLineTooLong { size: 2048 })
    ));
    for line in ["a\0b", "caf\u{e9}"] {
        assert!(matches!(
            boot(&kernel, None, line).1,
            Err(LoadError::CommandLine(_))
        ));
    }
}

#[test]
fn the_device_argument_names_window_and_line() {
    assert_eq!(device_arguments(), "virtio_mmio.device=4096@0xd0000000:10");
}

/// An input of the fuzz target: sizes, then command line, initramfs, kernel.
fn fuzz_input(kernel: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 1, 1];
    bytes.extend(b"console=ttyS0 ro");
    bytes.extend([0x30; 64]);
    bytes.extend(kernel);
    bytes
}

#[test]
fn the_fuzz_target_loads_good_images_and_refuses_their_mutants() {
    for image in [elf(0x10_0000, &[TEXT]), bzimage(0x40, 0x10_0000, 0)] {
        let seed = fuzz_input(&image);
        testing::load_any(&seed).unwrap();
        for at in 0..seed.len() {
            let mut bytes = seed.clone();
            bytes[at] ^= 0xff;
            // Many a mutant is still an image; none may break a promise.
            let _ = testing::load_any(&bytes);
        }
    }
    assert!(matches!(testing::load_any(&[]), Err(LoadError::NotAKernel)));
}

#[test]
fn the_committed_seeds_are_these() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpora/loader/");
    for (name, image) in [
        ("elf", elf(0x10_0000, &[TEXT])),
        ("bzimage", bzimage(0x40, 0x10_0000, 0)),
    ] {
        let seed = std::fs::read(format!("{folder}{name}")).unwrap();
        assert_eq!(seed, fuzz_input(&image), "{name}");
    }
}
