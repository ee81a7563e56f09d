//! The guest kernel's symbols: addresses of functions, and the function at an
//! address.

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// Where the guest's kernel lists the places at which it counts edges, in
/// entries of eight bytes: address (4), number (2), bytes of code (2). See
/// `linux/harness_covered.h` of the guest kernel's harness patch.
const PLACES: &str = ".debug_harness_places";

/// Functions of a kernel image, by address.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    functions: Vec<Function>,
    /// Start and bytes of the code that counts edges, by address.
    places: Vec<(u32, u32)>,
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
        let listed = file.section_by_name(PLACES);
        let listed = listed.and_then(|section| section.data().ok());
        Self {
            functions,
            places: places(listed.unwrap_or_default()),
        }
    }

    /// Whether the instruction at `address` is there to count an edge.
    pub fn counts_an_edge(&self, address: u32) -> bool {
        let after = self.places.partition_point(|(start, _)| *start <= address);
        let before = after.checked_sub(1).and_then(|at| self.places.get(at));
        before.is_some_and(|(start, bytes)| address - start < *bytes)
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

fn places(list: &[u8]) -> Vec<(u32, u32)> {
    let (entries, _) = list.as_chunks::<8>();
    let place = |[a, b, c, d, _, _, low, high]: &[u8; 8]| {
        let bytes = u16::from_le_bytes([*low, *high]);
        (u32::from_le_bytes([*a, *b, *c, *d]), u32::from(bytes))
    };
    let mut places: Vec<_> = entries.iter().map(place).collect();
    places.sort_unstable();
    places
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
        let symbols = Symbols {
            functions,
            places: Vec::new(),
        };
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

    #[test]
    fn an_edge_is_counted_from_a_place_to_the_end_of_its_code() {
        let symbols = Symbols {
            functions: Vec::new(),
            places: places(&[0, 2, 0, 0, 7, 0, 36, 0, 0, 1, 0, 0, 9, 0, 34, 0]),
        };
        let cases = [
            (0xff, false),
            (0x100, true),
            (0x121, true),
            (0x122, false),
            (0x1ff, false),
            (0x200, true),
            (0x223, true),
            (0x224, false),
        ];
        for (address, expected) in cases {
            assert_eq!(symbols.counts_an_edge(address), expected, "{address:#x}");
        }
    }
}
