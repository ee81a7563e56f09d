//! Scenarios: programs with what their traces must and must not hold.
//!
//! ```text
//! scenario pipe-read-forks
//! property P5 P6
//! hazard 4
//! t0 create slot=0 kind=pipe
//! t0 async index=read a0=fd:0 a1=own a2=len:7
//! expect returned op=1 value=0 tid!=$from continuations=1
//! never second
//! ```
//! `expect KIND condition…`: some event meets all conditions.
//! `expect xN KIND …`: exactly N events do. `never KIND …`: none does.
//! A condition is `field=value`, `!=`, `<` or `>`; a value is a number, a
//! word of the field's own (a row, a register, an outcome), `$field` of the
//! same event, or `$a` to `$d`, which `field=?a` of an earlier line took.
//! Further lines: `property P5 …`, `hazard N …`, `row WORD …` (what the
//! scenario is for), `flavour control`, `leak N`, `watchdog TICKS`.

use crate::field::Token;
use crate::frame::{Flavour, RunOptions};
use crate::op::{Observation, Row};
use crate::program::Program;
use crate::trace::{Event, KINDS, Outcome, REGISTERS};

use super::{Problem, TextError, parse_lines, without_comment};

/// Directives that are no part of the program.
const DIRECTIVES: [&str; 9] = [
    "scenario", "property", "hazard", "row", "expect", "never", "flavour", "leak", "watchdog",
];

/// One scenario of a file.
#[derive(Clone, Copy, Debug)]
pub struct Scenario<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its lines, the first included.
    body: &'a str,
    /// Number of its first line in the file.
    first_line: usize,
}

/// The scenarios of a file, in order.
pub fn scenarios(text: &str) -> impl Iterator<Item = Scenario<'_>> {
    let mut rest = text;
    let mut line = 1;
    core::iter::from_fn(move || {
        let (start, skipped) = find_start(rest)?;
        line += skipped;
        let body = &rest[start..];
        let first_end = body.find('\n').map_or(body.len(), |end| end + 1);
        let end = find_start(&body[first_end..]).map_or(body.len(), |(end, _)| first_end + end);
        let name = without_comment(&body[..first_end])
            .strip_prefix("scenario")
            .unwrap_or("")
            .trim();
        let found = Scenario {
            name,
            body: &body[..end],
            first_line: line,
        };
        line += body[..end].matches('\n').count();
        rest = &body[end..];
        Some(found)
    })
}

/// Where the next line that starts a scenario begins, and how many lines
/// stand before it.
fn find_start(text: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    for (lines, line) in text.split_inclusive('\n').enumerate() {
        if line.starts_with("scenario ") {
            return Some((at, lines));
        }
        at += line.len();
    }
    None
}

impl<'a> Scenario<'a> {
    fn lines(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let first = self.first_line;
        self.body
            .lines()
            .enumerate()
            .map(move |(at, line)| (first + at, without_comment(line)))
    }

    /// The words behind the directive `name`, over all its lines.
    pub fn words(&self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines().flat_map(move |(_, line)| {
            let mut words = line.split_ascii_whitespace();
            let matches = words.next() == Some(name);
            words.filter(move |_| matches)
        })
    }

    /// The program.
    ///
    /// # Errors
    /// The first line that is no part of one.
    pub fn program(&self) -> Result<Program, TextError<'a>> {
        parse_lines(self.lines().filter(|(_, line)| {
            let first = line.split_ascii_whitespace().next().unwrap_or("");
            !DIRECTIVES.contains(&first)
        }))
    }

    /// How it is run.
    #[must_use]
    pub fn options(&self) -> RunOptions {
        let number = |name| {
            self.words(name)
                .next()
                .and_then(u16::parse_token)
                .unwrap_or(0)
        };
        RunOptions {
            flavour: self
                .words("flavour")
                .next()
                .and_then(Flavour::parse_token)
                .unwrap_or_default(),
            leak_repeats: number("leak"),
            watchdog_ticks: number("watchdog"),
            ..RunOptions::default()
        }
    }

    /// Checks the expectations against a trace, which `trace` gives from its
    /// start each time; the first that does not hold is the error.
    ///
    /// # Errors
    /// The line that does not hold, or one that is malformed.
    pub fn check<I: Iterator<Item = Event>>(
        &self,
        trace: impl Fn() -> I,
    ) -> Result<(), Failure<'a>> {
        let mut bound = [None; 4];
        for (line, text) in self.lines() {
            let mut words = text.split_ascii_whitespace();
            let verdict = match words.next() {
                Some("expect") => expect(words, trace(), &mut bound),
                Some("never") => never(words, trace(), &mut bound),
                _ => continue,
            };
            match verdict {
                Ok(true) => {}
                Ok(false) => return Err(Failure::Unmet { line, text }),
                Err((word, problem)) => {
                    return Err(Failure::Malformed(TextError {
                        line,
                        word,
                        problem,
                    }));
                }
            }
        }
        Ok(())
    }
}

/// Why a scenario fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<'a> {
    /// An expectation does not hold.
    Unmet {
        /// Its line in the file.
        line: usize,
        /// Its text.
        text: &'a str,
    },
    /// An expectation cannot be read.
    Malformed(TextError<'a>),
}

impl core::fmt::Display for Failure<'_> {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unmet { line, text } => write!(out, "line {line}: `{text}` does not hold"),
            Self::Malformed(error) => error.fmt(out),
        }
    }
}

impl core::error::Error for Failure<'_> {}

type Bound = [Option<u32>; 4];
type Verdict<'a> = Result<bool, (&'a str, Problem)>;

fn expect<'a>(
    mut words: impl Iterator<Item = &'a str> + Clone,
    trace: impl Iterator<Item = Event>,
    bound: &mut Bound,
) -> Verdict<'a> {
    let mut peek = words.clone();
    let wanted = peek
        .next()
        .and_then(|word| word.strip_prefix('x'))
        .and_then(u16::parse_token);
    if wanted.is_some() {
        words = peek;
    }
    let count = count_matches(words, trace, bound)?;
    Ok(match wanted {
        Some(wanted) => count == usize::from(wanted),
        None => count > 0,
    })
}

fn never<'a>(
    words: impl Iterator<Item = &'a str> + Clone,
    trace: impl Iterator<Item = Event>,
    bound: &mut Bound,
) -> Verdict<'a> {
    Ok(count_matches(words, trace, bound)? == 0)
}

/// Counts the events that meet the conditions; the first binds `?` values.
fn count_matches<'a>(
    mut words: impl Iterator<Item = &'a str> + Clone,
    trace: impl Iterator<Item = Event>,
    bound: &mut Bound,
) -> Result<usize, (&'a str, Problem)> {
    let kind = words.next().unwrap_or("");
    let Some((_, fields)) = KINDS.iter().find(|(word, _)| *word == kind) else {
        return Err((kind, Problem::UnknownEvent));
    };
    for word in words.clone() {
        let (name, _, _) = split_condition(word).ok_or((word, Problem::NoField))?;
        if !["op", "thread", "tid"].contains(&name) && !fields.contains(&name) {
            return Err((word, Problem::UnknownEvent));
        }
    }
    let mut count = 0;
    for event in trace.filter(|event| event.detail.word() == kind) {
        let mut taken = *bound;
        let mut holds = true;
        for word in words.clone() {
            holds &= condition(word, &event, &mut taken).ok_or((word, Problem::BadValue))?;
        }
        if holds {
            count += 1;
            if count == 1 {
                *bound = taken;
            }
        }
    }
    Ok(count)
}

#[derive(Clone, Copy)]
enum Relation {
    Equal,
    Unequal,
    Less,
    Greater,
}

fn split_condition(word: &str) -> Option<(&str, Relation, &str)> {
    let at = word.find(['=', '!', '<', '>'])?;
    let (name, rest) = word.split_at(at);
    let (relation, value) = if let Some(value) = rest.strip_prefix("!=") {
        (Relation::Unequal, value)
    } else if let Some(value) = rest.strip_prefix('=') {
        (Relation::Equal, value)
    } else if let Some(value) = rest.strip_prefix('<') {
        (Relation::Less, value)
    } else {
        (Relation::Greater, rest.strip_prefix('>')?)
    };
    Some((name, relation, value))
}

fn condition(word: &str, event: &Event, bound: &mut Bound) -> Option<bool> {
    let (name, relation, text) = split_condition(word)?;
    let found = event.field(name)?;
    if let Some(place) = text.strip_prefix('?').and_then(variable) {
        bound[place] = Some(found);
        return Some(true);
    }
    let wanted = match text.strip_prefix('$') {
        Some(reference) => match variable(reference) {
            // A variable that nothing bound makes the condition false.
            Some(place) => match bound[place] {
                Some(value) => value,
                None => return Some(false),
            },
            None => event.field(reference)?,
        },
        None => value(name, text)?,
    };
    Some(match relation {
        Relation::Equal => found == wanted,
        Relation::Unequal => found != wanted,
        Relation::Less => found < wanted,
        Relation::Greater => found > wanted,
    })
}

fn variable(letter: &str) -> Option<usize> {
    ["a", "b", "c", "d"].iter().position(|name| *name == letter)
}

#[allow(clippy::cast_possible_truncation, reason = "there are few registers")]
fn value(name: &str, text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix('-') {
        return Some(u32::parse_token(digits)?.wrapping_neg());
    }
    if let Some(number) = u32::parse_token(text) {
        return Some(number);
    }
    match name {
        "row" => Row::parse_token(text).map(|row| row as u32),
        "what" => Observation::parse_token(text).map(|what| what as u32),
        "outcome" => Outcome::parse_token(text).map(|outcome| outcome as u32),
        "which" => REGISTERS
            .iter()
            .position(|register| *register == text)
            .map(|at| at as u32),
        _ => None,
    }
}
