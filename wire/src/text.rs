//! The form for people: programs as text, one line a step.
//!
//! ```text
//! # A read from an empty pipe forks; the write lets it finish.
//! setup privilege=user
//! schedule 1+1200
//! t0 create slot=0 kind=pipe
//! t0 async index=read a0=fd:0 a1=own a2=len:7
//! t0 feed slot=0 end=1 bytes=16
//! t0 await-status op=1 ticks=50
//! ```
//! Fields at their default (0, the first word) are left out. `#` starts a
//! comment. Text that was printed parses to the same program.

pub mod scenario;

use core::fmt;

use crate::field::Token;
use crate::op::{Op, OpCode, Thread};
use crate::program::{MAX_POINTS, MAX_STEPS, Point, Program, Step};
use crate::record::{Record, SetError};

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.setup != crate::program::Setup::default() {
            out.write_str("setup")?;
            self.setup.write_fields(out)?;
            out.write_str("\n")?;
        }
        if !self.schedule.is_empty() {
            out.write_str("schedule")?;
            for point in self.schedule.iter() {
                out.write_str(" ")?;
                point.write_token(out)?;
            }
            out.write_str("\n")?;
        }
        for step in self.steps.iter() {
            writeln!(out, "{step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "t{} {}", self.thread.number(), self.op.code().word())?;
        self.op.write_fields(out)
    }
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextError<'a> {
    /// Line, from 1.
    pub line: usize,
    /// The word that is wrong.
    pub word: &'a str,
    /// Why.
    pub problem: Problem,
}

/// Why a word is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A line starts with something that is no directive and no thread.
    UnknownLine,
    /// No such operation.
    UnknownOperation,
    /// The thread's line names no operation.
    NoOperation,
    /// A word that is not `name=value`.
    NoField,
    /// The operation has no such field.
    UnknownField,
    /// The field has no such value.
    BadValue,
    /// More than [`MAX_STEPS`] steps.
    TooManySteps,
    /// More than [`MAX_POINTS`] points.
    TooManyPoints,
    /// No event of that kind, or it has no such field.
    UnknownEvent,
}

impl fmt::Display for TextError<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word;
        write!(out, "line {}: ", self.line)?;
        match self.problem {
            Problem::UnknownLine => write!(
                out,
                "`{word}` starts no line: use setup, schedule or t0 to t3"
            ),
            Problem::UnknownOperation => write!(out, "there is no operation `{word}`"),
            Problem::NoOperation => write!(out, "`{word}` stands without an operation"),
            Problem::NoField => write!(out, "`{word}` is not of the form name=value"),
            Problem::UnknownField => write!(out, "`{word}` is no field here"),
            Problem::BadValue => write!(out, "`{word}` has no such value"),
            Problem::TooManySteps => write!(out, "more than {MAX_STEPS} steps"),
            Problem::TooManyPoints => write!(out, "more than {MAX_POINTS} schedule points"),
            Problem::UnknownEvent => write!(out, "`{word}` is no event or no field of it"),
        }
    }
}

impl core::error::Error for TextError<'_> {}

/// Reads a program.
///
/// # Errors
/// The first line that is no part of a program, with the word at fault.
pub fn parse(text: &str) -> Result<Program, TextError<'_>> {
    parse_lines(text.lines().enumerate().map(|(at, line)| (at + 1, line)))
}

/// Reads a program from numbered lines.
fn parse_lines<'a>(
    lines: impl Iterator<Item = (usize, &'a str)>,
) -> Result<Program, TextError<'a>> {
    let mut program = Program::default();
    for (line, text) in lines {
        parse_line(&mut program, text).map_err(|(word, problem)| TextError {
            line,
            word,
            problem,
        })?;
    }
    Ok(program)
}

type WordError<'a> = (&'a str, Problem);

/// The part of a line before a comment.
fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or("").trim()
}

fn parse_line<'a>(program: &mut Program, line: &'a str) -> Result<(), WordError<'a>> {
    let mut words = without_comment(line).split_ascii_whitespace();
    let Some(first) = words.next() else {
        return Ok(());
    };
    match first {
        "setup" => {
            words.try_for_each(|word| set_field(word, |name, value| program.setup.set(name, value)))
        }
        "schedule" => words.try_for_each(|word| {
            let point = Point::parse_token(word).ok_or((word, Problem::BadValue))?;
            match program.schedule.push(point) {
                true => Ok(()),
                false => Err((word, Problem::TooManyPoints)),
            }
        }),
        _ => {
            let step = parse_step(first, words)?;
            match program.steps.push(step) {
                true => Ok(()),
                false => Err((first, Problem::TooManySteps)),
            }
        }
    }
}

fn parse_step<'a>(
    first: &'a str,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<Step, WordError<'a>> {
    let thread = first
        .strip_prefix('t')
        .and_then(Thread::parse_token)
        .ok_or((first, Problem::UnknownLine))?;
    let name = words.next().ok_or((first, Problem::NoOperation))?;
    let mut op = op_by_word(name).ok_or((name, Problem::UnknownOperation))?;
    words.try_for_each(|word| set_field(word, |field, value| op.set(field, value)))?;
    Ok(Step { thread, op })
}

fn op_by_word(word: &str) -> Option<Op> {
    let code = OpCode::ALL.iter().find(|code| code.word() == word)?;
    Some(code.with_defaults())
}

fn set_field<'a>(
    word: &'a str,
    set: impl FnOnce(&'a str, &'a str) -> Result<(), SetError>,
) -> Result<(), WordError<'a>> {
    let (name, value) = word.split_once('=').ok_or((word, Problem::NoField))?;
    set(name, value).map_err(|error| match error {
        SetError::UnknownField => (word, Problem::UnknownField),
        SetError::BadValue => (word, Problem::BadValue),
    })
}
