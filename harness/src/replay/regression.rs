//! The header of a regression: what its program gives on each flavour.
//!
//! ```text
//! # What the program shows, for people.
//! #: ordered: FUSE holds the inner copy
//! #: faithful finding
//! #: - P5 second-continuation async
//! #: hardened clean
//! t0 create slot=0 kind=pipe
//! ```
//! `ordered` programs hold on any engine, as something in the guest decides
//! their order; `timed` ones hang on instruction counts and hold on the software
//! engine alone. Either gives its reason. The lines of flavours are written by
//! `latefork repro --bless`, and reviewed.

use super::Outcome;

/// What begins a line of the header.
const MARK: &str = "#:";
/// The flavours of which every regression tells, in order.
pub const FLAVOURS: [&str; 2] = ["faithful", "hardened"];

/// What decides a program's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The guest itself: a pipe, FUSE, a flag.
    Ordered,
    /// Instruction counts.
    Timed,
}

impl Order {
    /// The word in the header.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Timed => "timed",
        }
    }
}

/// What one flavour gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The flavour.
    pub flavour: String,
    /// The verdict's name.
    pub verdict: String,
    /// The signatures, in order.
    pub signatures: Vec<String>,
}

impl Expected {
    /// What `outcome` on `flavour` makes expect.
    pub fn of(flavour: &str, outcome: &Outcome) -> Self {
        Self {
            flavour: flavour.to_owned(),
            verdict: outcome.verdict.clone(),
            signatures: outcome.signatures.clone(),
        }
    }

    /// Whether `outcome` is as expected.
    pub fn is_met(&self, outcome: &Outcome) -> bool {
        self.verdict == outcome.verdict && self.signatures == outcome.signatures
    }
}

/// The whole header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectations {
    /// What decides the order.
    pub order: Order,
    /// Why.
    pub reason: String,
    /// What each flavour gives; empty until blessed.
    pub expected: Vec<Expected>,
}

/// What is wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A line of no known form.
    #[error(
        "line {line}: `{text}` is no line of a header: use `ordered: WHY`, `timed: WHY`, \
         `FLAVOUR VERDICT` or `- SIGNATURE`"
    )]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// Nothing says what decides the order, or why.
    #[error("the header lacks `#: ordered: WHY` or `#: timed: WHY`")]
    NoOrder,
}

impl Expectations {
    /// Reads the header of `text`; `None` where there is none.
    ///
    /// # Errors
    ///
    /// A line that is none of a header's, or no order.
    pub fn parse(text: &str) -> Result<Option<Self>, HeaderError> {
        let mut order = None;
        let mut expected: Vec<Expected> = Vec::new();
        let mut lines = 0;
        for (at, line) in text.lines().enumerate() {
            let Some(line) = line.strip_prefix(MARK).map(str::trim) else {
                continue;
            };
            lines += 1;
            if let Some(found) = order_of(line) {
                order = Some(found);
            } else if !add_expected(&mut expected, line) {
                return Err(HeaderError::Line {
                    line: at + 1,
                    text: line.to_owned(),
                });
            }
        }
        match (lines, order) {
            (0, _) => Ok(None),
            (_, None) => Err(HeaderError::NoOrder),
            (_, Some((order, reason))) => Ok(Some(Self {
                order,
                reason,
                expected,
            })),
        }
    }

    /// What `flavour` is expected to give.
    pub fn of(&self, flavour: &str) -> Option<&Expected> {
        self.expected.iter().find(|found| found.flavour == flavour)
    }

    /// `text` with the lines of flavours replaced by `expected`.
    pub fn bless(text: &str, expected: &[Expected]) -> String {
        let mut blessed = String::new();
        let mut written = false;
        for line in text.lines() {
            let header = line.strip_prefix(MARK).map(str::trim);
            match header {
                Some(header) if order_of(header).is_none() => continue,
                None if !written && !line.starts_with('#') => {
                    put(&mut blessed, expected);
                    written = true;
                }
                _ => {}
            }
            blessed.push_str(line);
            blessed.push('\n');
        }
        blessed
    }
}

fn put(text: &mut String, expected: &[Expected]) {
    for one in expected {
        text.push_str(&format!("{MARK} {} {}\n", one.flavour, one.verdict));
        for signature in &one.signatures {
            text.push_str(&format!("{MARK} - {signature}\n"));
        }
    }
}

fn order_of(line: &str) -> Option<(Order, String)> {
    let (word, reason) = line.split_once(':')?;
    let order = [Order::Ordered, Order::Timed]
        .into_iter()
        .find(|order| order.word() == word)?;
    let reason = reason.trim();
    (!reason.is_empty()).then(|| (order, reason.to_owned()))
}

/// Takes in `FLAVOUR VERDICT` or `- SIGNATURE`.
fn add_expected(expected: &mut Vec<Expected>, line: &str) -> bool {
    if let Some(signature) = line.strip_prefix("- ") {
        return match expected.last_mut() {
            Some(last) => {
                last.signatures.push(signature.to_owned());
                true
            }
            None => false,
        };
    }
    let Some((flavour, verdict)) = line.split_once(' ') else {
        return false;
    };
    let known = FLAVOURS.contains(&flavour) && !verdict.contains(' ');
    if known {
        expected.push(Expected {
            flavour: flavour.to_owned(),
            verdict: verdict.to_owned(),
            signatures: Vec::new(),
        });
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# What it shows.
#: ordered: a pipe decides
#: faithful finding
#: - P12 WARNING: at x | y
#: - P5 second-continuation async
#: hardened clean
# t0 is alone.
t0 nop
# Behind.
t0 nop
";

    #[test]
    fn a_header_gives_order_and_expectations() {
        let header = Expectations::parse(TEXT).unwrap().unwrap();
        assert_eq!(header.order, Order::Ordered);
        assert_eq!(header.reason, "a pipe decides");
        let faithful = header.of("faithful").unwrap();
        assert_eq!(faithful.verdict, "finding");
        assert_eq!(faithful.signatures.len(), 2);
        assert_eq!(header.of("hardened").unwrap().signatures, [""; 0]);
        assert_eq!(Expectations::parse("# no header\nt0 nop\n"), Ok(None));
    }

    #[test]
    fn blessing_changes_the_expectations_alone() {
        let header = Expectations::parse(TEXT).unwrap().unwrap();
        let same = Expectations::bless(TEXT, &header.expected);
        assert_eq!(Expectations::parse(&same), Ok(Some(header.clone())));
        assert_eq!(same.lines().count(), TEXT.lines().count());
        let mut changed = header.clone();
        changed.expected[0].signatures.pop();
        let blessed = Expectations::bless(TEXT, &changed.expected);
        assert_eq!(Expectations::parse(&blessed), Ok(Some(changed)));
        assert_eq!(blessed.lines().count() + 1, TEXT.lines().count());
        let program = latefork_wire::text::parse(TEXT).unwrap();
        assert_eq!(latefork_wire::text::parse(&blessed).unwrap(), program);
    }

    #[test]
    fn what_is_no_header_is_named() {
        let check = |text: &str, line: usize| match Expectations::parse(text) {
            Err(HeaderError::Line { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{text}: {other:?}"),
        };
        check("#: ordered\n", 1);
        check("#: ordered: x\n#: - P5 x\n", 2);
        check("# x\n#: mended clean\n", 2);
        let lacking = Expectations::parse("#: hardened clean\n");
        assert_eq!(lacking, Err(HeaderError::NoOrder));
    }
}
