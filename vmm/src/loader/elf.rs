//! The uncompressed ELF32 kernel, by physical addresses.
//!
//! Source: System V ABI, "Program Header"; the entry point of Linux's i386
//! `vmlinux` is a physical address (`arch/x86/kernel/vmlinux.lds.S`).

use std::ops::Range;

use object::elf::{EM_386, ET_EXEC, FileHeader32, ProgramHeader32};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};
use vm_memory::GuestAddress;

use super::{LoadError, LoadedKernel};
use crate::layout::HIGH_MEMORY;
use crate::memory::GuestRam;

/// One PT_LOAD segment with bytes in it.
struct Segment<'a> {
    physical: Range<u64>,
    linear: Range<u64>,
    bytes: &'a [u8],
}

/// Loads every PT_LOAD segment of `image`, checked as a whole first.
pub(super) fn load(ram: &GuestRam, image: &[u8]) -> Result<LoadedKernel, LoadError> {
    let segments = segments(image)?;
    let allowed = HIGH_MEMORY.0..ram.size() as u64;
    for segment in &segments.list {
        if segment.physical.start < allowed.start || segment.physical.end > allowed.end {
            return Err(LoadError::SegmentRange {
                segment: segment.physical.clone(),
                ram: allowed,
            });
        }
    }
    let entry = physical_entry(&segments)?;
    for segment in &segments.list {
        // RAM holds zeros, so that what follows the file's bytes is cleared.
        ram.write(GuestAddress(segment.physical.start), segment.bytes)?;
    }
    let ends = segments.list.iter().map(|segment| segment.physical.end);
    Ok(LoadedKernel {
        entry,
        end: ends.max().unwrap_or(0),
        header: None,
    })
}

struct Segments<'a> {
    entry: u64,
    list: Vec<Segment<'a>>,
}

fn segments(image: &[u8]) -> Result<Segments<'_>, LoadError> {
    check_identity(image)?;
    let header = FileHeader32::<Endianness>::parse(image).map_err(malformed("header"))?;
    let endian = header.endian().map_err(malformed("header"))?;
    let headers = header
        .program_headers(endian, image)
        .map_err(malformed("program header table"))?;
    let mut list = Vec::new();
    for program in headers {
        if program.p_type(endian) == elf::PT_LOAD && program.p_memsz(endian) != 0 {
            list.push(segment(program, endian, image)?);
        }
    }
    list.sort_by_key(|segment| segment.physical.start);
    for pair in list.windows(2) {
        if pair[0].physical.end > pair[1].physical.start {
            return Err(LoadError::SegmentOverlap {
                first: pair[0].physical.clone(),
                second: pair[1].physical.clone(),
            });
        }
    }
    Ok(Segments {
        entry: header.e_entry(endian).into(),
        list,
    })
}

/// Class, byte order, machine and type, whatever the class.
fn check_identity(image: &[u8]) -> Result<(), LoadError> {
    let (Some(class), Some(data)) = (image.get(4), image.get(5)) else {
        return Err(LoadError::Elf {
            what: "header",
            reason: format!("the file ends after {} bytes", image.len()),
        });
    };
    if *class == elf::ELFCLASS64.0 {
        return Err(LoadError::SixtyFourBit);
    }
    let half = |at: usize| {
        let bytes = [*image.get(at)?, *image.get(at + 1)?];
        Some(if *data == elf::ELFDATA2MSB.0 {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    };
    let machine = half(0x12).unwrap_or(0);
    if machine != EM_386.0 || *data != elf::ELFDATA2LSB.0 {
        return Err(LoadError::Machine { machine });
    }
    let kind = half(0x10).unwrap_or(0);
    if kind != ET_EXEC.0 {
        return Err(LoadError::ElfType { kind });
    }
    Ok(())
}

fn segment<'a>(
    program: &ProgramHeader32<Endianness>,
    endian: Endianness,
    image: &'a [u8],
) -> Result<Segment<'a>, LoadError> {
    let size = u64::from(program.p_memsz(endian));
    if program.p_filesz(endian) > program.p_memsz(endian) {
        return Err(LoadError::Elf {
            what: "segment",
            reason: format!(
                "{} bytes in the file and {size} in memory",
                program.p_filesz(endian)
            ),
        });
    }
    let bytes = program.data(endian, image).map_err(|()| LoadError::Elf {
        what: "segment",
        reason: format!(
            "bytes {:#x}+{:#x} lie past the end of the file",
            program.p_offset(endian),
            program.p_filesz(endian)
        ),
    })?;
    let range = |start: u32| u64::from(start)..u64::from(start) + size;
    Ok(Segment {
        physical: range(program.p_paddr(endian)),
        linear: range(program.p_vaddr(endian)),
        bytes,
    })
}

/// The entry point as a physical address; some linkers write the linear one.
fn physical_entry(segments: &Segments<'_>) -> Result<u32, LoadError> {
    let entry = segments.entry;
    let physical = segments
        .list
        .iter()
        .find_map(|segment| {
            if segment.physical.contains(&entry) {
                return Some(entry);
            }
            segment
                .linear
                .contains(&entry)
                .then(|| entry - segment.linear.start + segment.physical.start)
        })
        .ok_or(LoadError::Entry { entry })?;
    u32::try_from(physical).map_err(|_| LoadError::Entry { entry })
}

fn malformed(what: &'static str) -> impl Fn(object::Error) -> LoadError {
    move |error| LoadError::Elf {
        what,
        reason: error.to_string(),
    }
}
