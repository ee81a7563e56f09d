//! Findings that are known: counted, not stopped at.

use std::collections::BTreeMap;
use std::path::Path;

use super::FuzzError;

/// Signatures of known findings, with how often each came up.
///
/// The file has one signature a line; empty lines and those that start with
/// `#` do not count. Without a file nothing is known, and with
/// `LATEFORK_KNOWN=off` the file is not read.
#[derive(Debug, Default)]
pub(super) struct Known {
    counts: BTreeMap<String, u64>,
}

impl Known {
    pub(super) fn read(path: &Path) -> Result<Self, FuzzError> {
        if std::env::var_os("LATEFORK_KNOWN").is_some_and(|value| value == "off") {
            return Ok(Self::default());
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(FuzzError::File {
                what: "cannot read",
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim);
        let signatures = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self {
            counts: signatures.map(|line| (line.to_owned(), 0)).collect(),
        }
    }

    /// Counts a finding; whether it is none of the known. The first of each
    /// known one is said on standard error.
    pub(super) fn is_new(&mut self, signature: &str) -> bool {
        let Some(count) = self.counts.get_mut(signature) else {
            return true;
        };
        *count += 1;
        if *count == 1 {
            eprintln!("latefork: a known finding, goes on: {signature}");
        }
        false
    }
}

impl Drop for Known {
    /// Says what was counted, where there was anything.
    fn drop(&mut self) {
        for (signature, count) in self.counts.iter().filter(|(_, count)| **count > 0) {
            eprintln!("latefork: known finding, {count} times: {signature}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_signatures_are_known() {
        let mut known = Known::parse("# why\n\n P5 second-continuation async \nP10 stuck\n");
        assert!(!known.is_new("P5 second-continuation async"));
        assert!(known.is_new("P5 second-continuation"));
        assert!(known.is_new("# why") && known.is_new(""));
        assert_eq!(known.counts["P5 second-continuation async"], 1);
        assert_eq!(known.counts["P10 stuck"], 0);
    }
}
