//! Functions that check arithmetic for overflow: what debug assertions leave in
//! a linked program.

use std::collections::HashMap;

use addr2line::gimli;
use anyhow::Result;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags, SymbolKind, elf};

/// Functions of core that report an overflow which only checked arithmetic
/// notices; division is always checked.
const REPORTS: [&str; 5] = [
    "panic_const_add_overflow",
    "panic_const_sub_overflow",
    "panic_const_mul_overflow",
    "panic_const_shl_overflow",
    "panic_const_shr_overflow",
];

/// Names of the functions of `crates` that call one of [`REPORTS`].
pub(super) fn with_overflow_checks(
    file: &object::File<'_>,
    crates: &[&str],
) -> Result<Vec<String>> {
    let reports: HashMap<u64, ()> = file
        .symbols()
        .filter(|symbol| {
            let name = symbol.name().unwrap_or("");
            REPORTS.iter().any(|report| name.contains(report))
        })
        .map(|symbol| (symbol.address(), ()))
        .collect();
    let slots = slots(file);
    let mut found = Vec::new();
    for symbol in file.symbols() {
        if symbol.kind() != SymbolKind::Text || symbol.size() == 0 {
            continue;
        }
        let Some(name) = demangled(symbol.name().unwrap_or("")) else {
            continue;
        };
        if !is_of(&name, crates) {
            continue;
        }
        let Some(index) = symbol.section_index() else {
            continue;
        };
        let section = file.section_by_index(index)?;
        let code = section.data_range(symbol.address(), symbol.size())?;
        let code = code.unwrap_or(&[]);
        let reports = |target: u64| reports.contains_key(&target);
        if calls_any(code, symbol.address(), &slots, reports) {
            found.push(name);
        }
    }
    Ok(found)
}

/// What words that hold addresses hold: for calls through the global offset
/// table.
fn slots(file: &object::File<'_>) -> HashMap<u64, u64> {
    let relative = RelocationFlags::Elf {
        r_type: elf::R_X86_64_RELATIVE,
    };
    let relocations = file.dynamic_relocations().into_iter().flatten();
    relocations
        .filter(|(_, relocation)| relocation.flags() == relative)
        .map(|(at, relocation)| (at, relocation.addend().cast_unsigned()))
        .collect()
}

fn calls_any(
    code: &[u8],
    address: u64,
    slots: &HashMap<u64, u64>,
    wanted: impl Fn(u64) -> bool,
) -> bool {
    let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    decoder
        .into_iter()
        .filter_map(|instruction| target(&instruction, slots))
        .any(wanted)
}

/// Where a call or a jump goes, if that is fixed.
fn target(instruction: &Instruction, slots: &HashMap<u64, u64>) -> Option<u64> {
    let transfer = matches!(instruction.mnemonic(), Mnemonic::Call | Mnemonic::Jmp);
    if !transfer {
        return None;
    }
    match instruction.op0_kind() {
        OpKind::NearBranch64 => Some(instruction.near_branch64()),
        OpKind::Memory if instruction.is_ip_rel_memory_operand() => {
            slots.get(&instruction.ip_rel_memory_address()).copied()
        }
        _ => None,
    }
}

fn demangled(name: &str) -> Option<String> {
    addr2line::demangle(name, gimli::DW_LANG_Rust)
}

/// Whether a demangled function is one of `crates`' own: `latefork_cpu::f`, or a
/// method of a type or a trait of theirs.
pub(super) fn is_of(function: &str, crates: &[&str]) -> bool {
    crates.iter().any(|name| {
        let path = format!("latefork_{name}::");
        let function = function.trim_start_matches(['<', '&', '(']);
        function.starts_with(&path)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{calls_any, is_of};

    #[test]
    fn direct_calls_and_calls_through_a_table_are_seen() {
        // nop; call +0x10 (from 0x1001, so to 0x1016); ret
        let direct = [0x90, 0xe8, 0x10, 0, 0, 0, 0xc3];
        let none = HashMap::new();
        assert!(calls_any(&direct, 0x1000, &none, |to| to == 0x1016));
        assert!(!calls_any(&direct, 0x1000, &none, |to| to == 0x1010));
        // call [rip+0x100]: the slot is at 0x1106
        let through = [0xff, 0x15, 0, 1, 0, 0];
        let slots = HashMap::from([(0x1106, 0x4000)]);
        assert!(calls_any(&through, 0x1000, &slots, |to| to == 0x4000));
        assert!(!calls_any(&through, 0x1000, &none, |_| true));
    }

    #[test]
    fn functions_belong_to_the_crate_that_their_path_begins_with() {
        let crates = ["cpu", "vmm"];
        assert!(is_of("latefork_cpu::run::Cpu::run", &crates));
        assert!(is_of(
            "<latefork_vmm::bus::Bus as core::fmt::Debug>::fmt",
            &crates
        ));
        assert!(!is_of("core::ptr::drop_glue::<latefork_cpu::Cpu>", &crates));
        assert!(!is_of("latefork_wire::program::f", &crates));
    }
}
