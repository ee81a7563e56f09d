//! What user space and the machine must know of an image: the call's number,
//! the indexes of its table, the harness's addresses; as C, Rust and JSON.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::cache::hex;
use super::source::{Source, Tree};
use super::variant::Variant;

const HEADERS: [&str; 2] = [
    "include/uapi/linux/async_call.h",
    "include/uapi/linux/harness.h",
];

/// Writes `abi.h`, `abi.rs` and `guest.json` beside the image in `folder`.
pub(crate) fn write(
    tree: &Tree,
    syscall: u32,
    source: &Source,
    variant: &Variant,
    folder: &Path,
) -> Result<()> {
    let mut constants = vec![("NR_ASYNC".to_owned(), syscall)];
    for header in HEADERS {
        let path = tree.root().join(header);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        constants.extend(parse(&text).with_context(|| header.to_owned())?);
    }
    fs::write(folder.join("abi.h"), print_c(&constants))?;
    fs::write(folder.join("abi.rs"), print_rust(&constants))?;
    let digest =
        |name: &str| -> Result<String> { Ok(hex(&Sha256::digest(fs::read(folder.join(name))?))) };
    let description = json!({
        "name": variant.name(),
        "linux": tree.version(),
        "source": source.digest(),
        "syscall": syscall,
        "vmlinux_sha256": digest("vmlinux")?,
        "bzimage_sha256": digest("bzImage")?,
    });
    fs::write(folder.join("guest.json"), format!("{description:#}\n"))?;
    Ok(())
}

/// The constants of a header in which every `#define` with a value is one.
fn parse(header: &str) -> Result<Vec<(String, u32)>> {
    let mut constants = Vec::new();
    for line in header.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("#define") {
            continue;
        }
        let (Some(name), Some(value)) = (words.next(), words.next()) else {
            continue;
        };
        let number = match value.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => value.parse(),
        };
        match number {
            Ok(number) => constants.push((name.to_owned(), number)),
            Err(_) => bail!("the value of {name} is `{value}`, not a number"),
        }
    }
    Ok(constants)
}

fn print_c(constants: &[(String, u32)]) -> String {
    let mut text = String::from("/* Written by `cargo xtask kernel`. */\n");
    for (name, value) in constants {
        let prefix = if name == "NR_ASYNC" { "__" } else { "" };
        text.push_str(&format!("#define {prefix}{name} {value:#x}\n"));
    }
    text
}

fn print_rust(constants: &[(String, u32)]) -> String {
    let mut text = String::from("// Written by `cargo xtask kernel`.\n");
    for (name, value) in constants {
        text.push_str(&format!("pub const {name}: u32 = {value:#x};\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_define_with_a_value_becomes_a_constant() {
        let header = "#ifndef H\n#define H\n#define A\t3\t/* 4 */\n#define B 0x80000\n#endif\n";
        let constants = parse(header).unwrap();
        assert_eq!(constants, [("A".to_owned(), 3), ("B".to_owned(), 0x80000)]);
        assert!(print_rust(&constants).ends_with("pub const B: u32 = 0x80000;\n"));
        assert!(print_c(&constants).ends_with("#define B 0x80000\n"));
    }

    #[test]
    fn a_define_that_is_no_number_is_refused() {
        parse("#define A (1 + 2)\n").unwrap_err();
    }
}
