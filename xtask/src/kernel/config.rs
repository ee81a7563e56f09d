//! The kernel's configuration: tinyconfig, fragments, and a check that every
//! wanted symbol stuck.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::make;
use super::source::Tree;
use super::variant::Variant;

/// Symbols and their values; `n` for one that is not set.
type Symbols = BTreeMap<String, String>;

/// Writes `.config` into the folder `objects`.
///
/// # Errors
/// Names the first symbol that a fragment wants and Kconfig did not grant.
pub(crate) fn configure(variant: &Variant, tree: &Tree, objects: &Path) -> Result<()> {
    let mut wanted = Symbols::new();
    for fragment in variant.fragments() {
        let text = fs::read_to_string(&fragment)
            .with_context(|| format!("cannot read {}", fragment.display()))?;
        wanted.extend(parse(&text).with_context(|| fragment.display().to_string())?);
    }
    fs::create_dir_all(objects).with_context(|| format!("cannot make {}", objects.display()))?;
    let path = objects.join(".config");
    make::quietly(tree, objects, "tinyconfig")?;
    // Of a choice's symbols the last one counts: the wanted ones come last.
    let mut symbols = parse(&fs::read_to_string(&path)?)?;
    symbols.retain(|name, _| !wanted.contains_key(name));
    fs::write(&path, print(&symbols) + &print(&wanted))?;
    make::quietly(tree, objects, "olddefconfig")?;
    let got = parse(&fs::read_to_string(&path)?)?;
    check(&wanted, &got)
}

fn parse(text: &str) -> Result<Symbols> {
    let mut symbols = Symbols::new();
    for line in text.lines().map(str::trim) {
        let unset = line
            .strip_prefix("# ")
            .and_then(|rest| rest.strip_suffix(" is not set"));
        if let Some(name) = unset {
            symbols.insert(name.to_owned(), "n".to_owned());
        } else if line.is_empty() || line.starts_with('#') {
            continue;
        } else if let Some((name, value)) = line.split_once('=')
            && name.starts_with("CONFIG_")
        {
            symbols.insert(name.to_owned(), value.to_owned());
        } else {
            bail!("`{line}` is neither CONFIG_X=value nor `# CONFIG_X is not set`");
        }
    }
    Ok(symbols)
}

fn print(symbols: &Symbols) -> String {
    let line = |(name, value): (&String, &String)| match value.as_str() {
        "n" => format!("# {name} is not set\n"),
        value => format!("{name}={value}\n"),
    };
    symbols.iter().map(line).collect()
}

fn check(wanted: &Symbols, got: &Symbols) -> Result<()> {
    for (name, value) in wanted {
        let found = got.get(name).map_or("n", String::as_str);
        if found != value {
            bail!(
                "{name} did not stick: wanted {value}, the configuration has {found} \
                 (a dependency is missing, or this kernel has no such symbol)"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::variant::{Config, Flavour};

    #[test]
    fn a_later_line_overrides_an_earlier_one() {
        let symbols = parse("CONFIG_A=y\n# words\n# CONFIG_A is not set\nCONFIG_B=\"x=y\"\n");
        let expect = "# CONFIG_A is not set\nCONFIG_B=\"x=y\"\n";
        assert_eq!(print(&symbols.unwrap()), expect);
    }

    #[test]
    fn a_line_that_is_no_symbol_is_refused() {
        parse("CONFIG_A\n").unwrap_err();
        parse("A=y\n").unwrap_err();
    }

    /// A kernel's build that knows every symbol but `CONFIG_LKDTM`.
    const MAKEFILE: &str = "tinyconfig:\n\t: > $(O)/.config\n\
                            olddefconfig:\n\tsed -i /CONFIG_LKDTM/d $(O)/.config\n";

    #[test]
    fn a_kernel_that_lacks_a_symbol_is_not_configured() {
        let work = tempfile::tempdir().unwrap();
        let tree = Tree::at(work.path());
        fs::create_dir(tree.root()).unwrap();
        fs::write(tree.root().join("Makefile"), MAKEFILE).unwrap();
        let variant = Variant::new(Flavour::Hardened, Config::Fuzz, None).unwrap();
        let objects = tree.objects(Config::Fuzz);
        let error = configure(&variant, &tree, &objects).unwrap_err();
        let line = format!("{error:#}");
        assert!(
            line.starts_with("CONFIG_LKDTM did not stick: wanted y"),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
        let all = MAKEFILE.replace("LKDTM", "NONE");
        fs::write(tree.root().join("Makefile"), all).unwrap();
        configure(&variant, &tree, &objects).unwrap();
    }

    #[test]
    fn a_symbol_that_did_not_stick_is_named() {
        let wanted = parse("CONFIG_A=y\n# CONFIG_B is not set\n").unwrap();
        check(&wanted, &parse("CONFIG_A=y\n").unwrap()).unwrap();
        for got in ["", "CONFIG_A=m", "CONFIG_A=y\nCONFIG_B=y"] {
            let error = check(&wanted, &parse(got).unwrap())
                .unwrap_err()
                .to_string();
            let name = if got.contains("CONFIG_B") {
                "CONFIG_B"
            } else {
                "CONFIG_A"
            };
            assert!(error.starts_with(name), "{error}");
        }
    }
}
