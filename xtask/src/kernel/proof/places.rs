//! How crowded the map of edges is: the places that an image counts, and how
//! many of their numbers are distinct.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection};

/// Where the image lists its places (`linux/harness_covered.h` of the patch).
const SECTION: &str = ".debug_harness_places";
/// Bytes of a place's entry: address (4), number (2), bytes of its code (2).
const ENTRY: usize = 8;

/// Places of an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Where edges are counted.
    pub(super) all: usize,
    /// Their distinct numbers of 16 bits.
    pub(super) distinct: usize,
}

impl Places {
    /// Finds them in the `vmlinux` at `path`.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let image = object::File::parse(&*bytes)
            .with_context(|| format!("{} is no ELF file", path.display()))?;
        let section = image
            .section_by_name(SECTION)
            .with_context(|| format!("{} has no section {SECTION}", path.display()))?;
        Self::in_section(section.data()?)
    }

    fn in_section(list: &[u8]) -> Result<Self> {
        let (entries, rest) = list.as_chunks::<ENTRY>();
        ensure!(
            rest.is_empty(),
            "{SECTION} holds {} bytes, not whole entries of {ENTRY}",
            list.len()
        );
        let numbers: HashSet<[u8; 2]> = entries.iter().map(|entry| [entry[4], entry[5]]).collect();
        Ok(Self {
            all: entries.len(),
            distinct: numbers.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_with_the_same_number_are_one_cell() {
        let entry = |address: u32, number: u16| {
            let [a, b, c, d] = address.to_le_bytes();
            let [low, high] = number.to_le_bytes();
            [a, b, c, d, low, high, 36, 0]
        };
        let list = [entry(0x1000, 7), entry(0x2000, 0x107), entry(0x3000, 7)].concat();
        let places = Places::in_section(&list).unwrap();
        assert_eq!((places.all, places.distinct), (3, 2));
    }

    #[test]
    fn half_an_entry_is_an_error() {
        Places::in_section(&[0; 12]).unwrap_err();
    }
}
