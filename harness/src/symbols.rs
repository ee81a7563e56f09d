//! The guest kernel's symbols: addresses of functions, and the function at an
//! address.

use object::{Object, ObjectSymbol, SymbolKind};

/// Functions of a kernel image, by address.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    functions: Vec<Function>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    start: u32,
    end: u32,
    name: String,
}

impl Symbols {
    /// The symbols of an ELF image; none of an image that is no ELF or has no
    /// symbol table (a bzImage).
    pub fn read(image: &[u8]) -> Self {
        let Ok(file) = object::File::parse(image) else {
            return Self::default();
        };
        let mut functions: Vec<Function> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
            .filter_map(|symbol| {
                let start = u32::try_from(symbol.address()).ok()?;
                Some(Function {
                    start,
                    end: start.saturating_add(u32::try_from(symbol.size()).ok()?),
                    name: symbol.name().ok()?.to_owned(),
                })
            })
            .collect();
        functions.sort_by(|a, b| (a.start, &a.name).cmp(&(b.start, &b.name)));
        Self { functions }
    }

    /// The function that `address` lies in.
    pub fn function_at(&self, address: u32) -> Option<&str> {
        let after = self
            .functions
            .partition_point(|function| function.start <= address);
        let candidates = self.functions.get(..after)?;
        let found = candidates
            .iter()
            .rev()
            .take(4)
            .find(|function| address < function.end);
        found.map(|function| function.name.as_str())
    }
}

/// Where the function `name` of an ELF image starts; `None` where it has no such
/// function, or the image no symbols.
pub fn address_of(image: &[u8], name: &str) -> Option<u32> {
    let file = object::File::parse(image).ok()?;
    let symbol = file
        .symbols()
        .find(|symbol| symbol.is_definition() && symbol.name() == Ok(name))?;
    u32::try_from(symbol.address()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_symbols_has_no_functions() {
        assert_eq!(address_of(b"no image at all", "schedule"), None);
        assert_eq!(Symbols::read(b"\x7fELF").function_at(0xc010_0000), None);
    }

    #[test]
    fn an_address_belongs_to_the_function_around_it() {
        let function = |start, end, name: &str| Function {
            start,
            end,
            name: name.to_owned(),
        };
        let functions = vec![function(16, 32, "one"), function(40, 48, "two")];
        let symbols = Symbols { functions };
        let cases = [
            (15, None),
            (16, Some("one")),
            (31, Some("one")),
            (32, None),
            (47, Some("two")),
        ];
        for (address, expected) in cases {
            assert_eq!(symbols.function_at(address), expected, "{address}");
        }
    }
}
