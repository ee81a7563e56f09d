//! SanitizerCoverage's counters in a linked program, and whose they are.
//!
//! `__sancov_cntrs` holds a byte an edge, `__sancov_pcs` a pair of words an
//! edge: its address and flags (Clang's documentation of SanitizerCoverage,
//! "PC-Table"). The program is position-independent, so the addresses stand in
//! its relocations.

use std::collections::HashMap;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Result, anyhow, ensure};
use object::{Object, ObjectSection, RelocationFlags, elf};

use crate::sh;

/// Bytes of an entry of the table.
const PAIR: u64 = 16;

/// The addresses of all edges that have a counter.
pub(super) fn edges(file: &object::File<'_>) -> Result<Vec<u64>> {
    let (Some(counters), Some(table)) = (
        file.section_by_name("__sancov_cntrs"),
        file.section_by_name("__sancov_pcs"),
    ) else {
        return Ok(Vec::new());
    };
    ensure!(
        counters.size() == table.size() / PAIR,
        "{} counters, but {} addresses",
        counters.size(),
        table.size() / PAIR
    );
    let relocated: HashMap<u64, i64> = file
        .dynamic_relocations()
        .into_iter()
        .flatten()
        .filter(|(_, relocation)| {
            let relative = RelocationFlags::Elf {
                r_type: elf::R_X86_64_RELATIVE,
            };
            relocation.flags() == relative
        })
        .map(|(at, relocation)| (at, relocation.addend()))
        .collect();
    (0..counters.size())
        .map(|edge| {
            let entry = table.address() + edge * PAIR;
            let address = relocated.get(&entry).copied();
            let address = address.ok_or_else(|| anyhow!("edge {edge} has no address"))?;
            Ok(address.cast_unsigned())
        })
        .collect()
}

/// The places of those `edges` that belong to one of `crates`, inlined or not:
/// by source file, and by the function's name where there is none.
pub(super) fn of_crates(path: &Path, edges: &[u64], crates: &[&str]) -> Result<Vec<String>> {
    let loader = Loader::new(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let root = sh::root();
    let mut places = Vec::new();
    for &edge in edges {
        let mut named = false;
        let mut frames = loader
            .find_frames(edge)
            .map_err(|error| anyhow!("{error}"))?;
        while let Some(frame) = frames.next().map_err(|error| anyhow!("{error}"))? {
            named = true;
            let function = frame.function.as_ref();
            let function = function.and_then(|name| Some(name.demangle().ok()?.into_owned()));
            let location = frame.location.as_ref();
            let file = location.and_then(|location| location.file).unwrap_or("");
            if is_of(file, function.as_deref(), &root, crates) {
                let line = location.and_then(|location| location.line).unwrap_or(0);
                places.push(format!("{file}:{line} {}", function.unwrap_or_default()));
                break;
            }
        }
        ensure!(
            named || loader.find_symbol(edge).is_some(),
            "no function at {edge:#x}: was the target stripped?"
        );
    }
    Ok(places)
}

fn is_of(file: &str, function: Option<&str>, root: &Path, crates: &[&str]) -> bool {
    let inside = Path::new(file).strip_prefix(root).ok();
    let first = inside.and_then(|path| path.components().next());
    let folder = first.and_then(|name| name.as_os_str().to_str());
    // Sources of fuzz/instrumented/ are named from that folder.
    let instrumented = crates.iter().any(|name| {
        let source = format!("../../../{name}/src/");
        file.contains(&source)
    });
    let named = function.is_some_and(|function| super::calls::is_of(function, crates));
    folder.is_some_and(|folder| crates.contains(&folder)) || instrumented || named
}

#[cfg(test)]
mod tests {
    use super::is_of;
    use crate::sh;

    #[test]
    fn an_edge_belongs_to_a_crate_by_file_or_function() {
        let root = sh::root();
        let of = |file: &str, function| is_of(file, function, &root, &["cpu", "vmm"]);
        let own = root.join("cpu/src/run.rs");
        assert!(of(own.to_str().unwrap(), None));
        assert!(of("/x/fuzz/instrumented/vmm/../../../vmm/src/bus.rs", None));
        assert!(of("", Some("latefork_vmm::bus::Bus::read")));
        assert!(!of("", Some("latefork_vmmx::f")));
        assert!(!of(
            "/registry/object-0.40.0/src/read.rs",
            Some("object::read::f")
        ));
        assert!(!of(root.join("fuzz/src/lib.rs").to_str().unwrap(), None));
    }
}
