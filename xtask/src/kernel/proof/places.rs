//! How crowded the map of edges is: the places that an image counts, and how
//! many of their hashes are distinct.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol};

/// What the compiler calls at each place.
const CALLEE: &str = "__sanitizer_cov_trace_pc";
/// `call rel32` (Intel SDM, volume 2, CALL).
const CALL: u8 = 0xe8;

/// Places of an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Calls of the counting function.
    pub(super) all: usize,
    /// Their distinct 16-bit hashes.
    pub(super) distinct: usize,
}

impl Places {
    /// Finds them in the `vmlinux` at `path`.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let image = object::File::parse(&*bytes)
            .with_context(|| format!("{} is no ELF file", path.display()))?;
        let callee = image
            .symbols()
            .find(|symbol| symbol.name() == Ok(CALLEE))
            .with_context(|| format!("{} has no {CALLEE}", path.display()))?;
        let callee = u32::try_from(callee.address())?;
        let mut returns = Vec::new();
        for section in image.sections() {
            if matches!(section.name(), Ok(".text" | ".init.text")) {
                let start = u32::try_from(section.address())?;
                returns.extend(returns_from(callee, start, section.data()?));
            }
        }
        let hashes: HashSet<u16> = returns.iter().copied().map(hash).collect();
        Ok(Self {
            all: returns.len(),
            distinct: hashes.len(),
        })
    }
}

/// The address behind each call of `callee` in `code`, which starts at `start`.
fn returns_from(callee: u32, start: u32, code: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    for (at, window) in code.windows(5).enumerate() {
        let [CALL, a, b, c, d] = *window else {
            continue;
        };
        let behind = start.wrapping_add(u32::try_from(at + 5).unwrap_or(u32::MAX));
        if behind.wrapping_add(u32::from_le_bytes([a, b, c, d])) == callee {
            found.push(behind);
        }
    }
    found
}

/// The kernel's hash of a return address (`kernel/harness.c` of the patch).
fn hash(address: u32) -> u16 {
    let [_, _, low, high] = address.wrapping_mul(0x9e37_79b1).to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_wherever_they_stand() {
        // nop; call 0x1100; call 0x1200; call 0x1100
        let mut code = vec![0x90];
        for target in [0x1100u32, 0x1200, 0x1100] {
            let behind = 0x1000 + u32::try_from(code.len()).unwrap() + 5;
            code.push(CALL);
            code.extend(target.wrapping_sub(behind).to_le_bytes());
        }
        assert_eq!(returns_from(0x1100, 0x1000, &code), [0x1006, 0x1010]);
    }

    #[test]
    fn the_hash_is_the_upper_half_of_the_product() {
        assert_eq!(hash(1), 0x9e37);
        assert_eq!(hash(2), 0x3c6e);
    }
}
