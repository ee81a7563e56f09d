//! Smaller and simpler programs that still show the same finding.
//!
//! Works on the text form: a program is its lines, a line its words, and a word
//! that is left out is a field at its default. So dropping lines drops
//! operations, dropping words simplifies them, and nothing here has to know what
//! an operation means but for the numbers of other operations, which move when a
//! line goes. Deterministic: the same program and the same test give the same.

use latefork_wire::program::Program;
use latefork_wire::text;

/// Fields whose value is the number of another operation.
const OPERATION_FIELDS: [&str; 1] = ["op"];
/// Classes whose parameter is the number of another operation.
const OPERATION_CLASSES: [&str; 4] = ["status-of", "args-of", "buffer-of", "index-of"];
/// Threads that a program can have.
const THREADS: u8 = 4;

/// How far the search is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Candidates tried.
    pub tried: u64,
    /// Candidates that still showed the finding.
    pub kept: u64,
    /// Operations left.
    pub steps: usize,
    /// Words left, operations included.
    pub words: usize,
}

/// One line of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    thread: String,
    operation: String,
    fields: Vec<(String, String)>,
}

/// A program in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Draft {
    setup: Vec<(String, String)>,
    schedule: Vec<(usize, String)>,
    lines: Vec<Line>,
}

/// A search for a smaller program.
struct Search<'a, E> {
    draft: Draft,
    shows: &'a mut dyn FnMut(&Program) -> Result<bool, E>,
    report: &'a mut dyn FnMut(Progress),
    progress: Progress,
}

/// The smallest and simplest program found from `program` for which `shows`
/// holds, which it does for `program` itself. `report` hears of each candidate.
///
/// # Errors
///
/// What `shows` fails with.
pub fn minimize<E>(
    program: &Program,
    shows: &mut dyn FnMut(&Program) -> Result<bool, E>,
    report: &mut dyn FnMut(Progress),
) -> Result<Program, E> {
    let mut search = Search {
        draft: Draft::of(program),
        shows,
        report,
        progress: Progress::default(),
    };
    loop {
        let before = search.draft.clone();
        search.drop_threads()?;
        search.drop_lines()?;
        search.drop_points()?;
        search.drop_words()?;
        search.simplify_values()?;
        search.join_threads()?;
        if search.draft == before {
            break;
        }
    }
    Ok(search.draft.program().unwrap_or_else(|| program.clone()))
}

impl<E> Search<'_, E> {
    /// Takes `candidate` if it is a program that still shows the finding.
    fn attempt(&mut self, candidate: Draft) -> Result<bool, E> {
        if candidate == self.draft {
            return Ok(false);
        }
        let Some(program) = candidate.program() else {
            return Ok(false);
        };
        self.progress.tried += 1;
        let shows = (self.shows)(&program)?;
        if shows {
            self.progress.kept += 1;
            self.draft = candidate;
        }
        self.progress.steps = self.draft.lines.len();
        self.progress.words = self.draft.words();
        (self.report)(self.progress);
        Ok(shows)
    }

    /// All operations of a thread at once.
    fn drop_threads(&mut self) -> Result<(), E> {
        for thread in (0..THREADS).rev().map(|number| format!("t{number}")) {
            let gone: Vec<usize> = self.draft.places(|line| line.thread == thread);
            self.attempt(self.draft.without_lines(&gone))?;
        }
        Ok(())
    }

    /// Operations: halves first, then ever smaller runs of them, from the end.
    fn drop_lines(&mut self) -> Result<(), E> {
        let mut run = self.draft.lines.len().div_ceil(2).max(1);
        loop {
            let mut end = self.draft.lines.len();
            while end > 0 {
                let start = end.saturating_sub(run);
                let gone: Vec<usize> = (start..end).collect();
                self.attempt(self.draft.without_lines(&gone))?;
                end = start;
            }
            if run == 1 {
                return Ok(());
            }
            run = run.div_ceil(2);
        }
    }

    fn drop_points(&mut self) -> Result<(), E> {
        for place in (0..self.draft.schedule.len()).rev() {
            let mut candidate = self.draft.clone();
            candidate.schedule.remove(place);
            self.attempt(candidate)?;
        }
        Ok(())
    }

    /// Words: a field that goes has its default.
    fn drop_words(&mut self) -> Result<(), E> {
        for place in (0..self.draft.setup.len()).rev() {
            let mut candidate = self.draft.clone();
            candidate.setup.remove(place);
            self.attempt(candidate)?;
        }
        for line in 0..self.draft.lines.len() {
            for field in (0..self.draft.lines[line].fields.len()).rev() {
                let mut candidate = self.draft.clone();
                candidate.lines[line].fields.remove(field);
                self.attempt(candidate)?;
            }
        }
        Ok(())
    }

    /// Values: a class with a smaller parameter, a smaller number, the own cell
    /// in place of a class.
    fn simplify_values(&mut self) -> Result<(), E> {
        for line in 0..self.draft.lines.len() {
            for field in 0..self.draft.lines[line].fields.len() {
                let (name, value) = self.draft.lines[line].fields[field].clone();
                for simpler in simpler(&name, &value) {
                    let mut candidate = self.draft.clone();
                    candidate.lines[line].fields[field].1 = simpler;
                    if self.attempt(candidate)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Operations of other threads, done by an earlier one.
    fn join_threads(&mut self) -> Result<(), E> {
        for thread in 1..THREADS {
            let (from, to) = (format!("t{thread}"), format!("t{}", thread - 1));
            let mut candidate = self.draft.clone();
            for line in candidate
                .lines
                .iter_mut()
                .filter(|line| line.thread == from)
            {
                line.thread.clone_from(&to);
            }
            self.attempt(candidate)?;
        }
        Ok(())
    }
}

/// Simpler values of a field, the simplest first.
fn simpler(name: &str, value: &str) -> Vec<String> {
    if OPERATION_FIELDS.contains(&name) {
        return Vec::new();
    }
    if let Ok(number) = value.parse::<u32>() {
        return smaller(number).map(|n| n.to_string()).collect();
    }
    match value.split_once(':') {
        Some((class, _)) if OPERATION_CLASSES.contains(&class) => Vec::new(),
        Some((class, parameter)) => {
            let number: u32 = parameter.parse().unwrap_or(0);
            let classes = smaller(number).map(|n| format!("{class}:{n}"));
            std::iter::once("own".to_owned())
                .chain(std::iter::once(class.to_owned()))
                .chain(classes)
                .collect()
        }
        None if value == "own" => Vec::new(),
        None => vec!["own".to_owned()],
    }
}

/// Numbers between 1 and `number`, a few, in order.
fn smaller(number: u32) -> impl Iterator<Item = u32> {
    let tries = [1, 2, number / 2, number.saturating_sub(1)];
    let mut seen = Vec::new();
    tries.into_iter().filter(move |&n| {
        let new = n > 0 && n < number && !seen.contains(&n);
        seen.push(n);
        new
    })
}

impl Draft {
    fn of(program: &Program) -> Self {
        let mut draft = Self::default();
        for line in program.to_string().lines() {
            let mut words = line.split(' ');
            match words.next() {
                Some("setup") => draft.setup = words.filter_map(field).collect(),
                Some("schedule") => draft.schedule = words.filter_map(point).collect(),
                Some(thread) => draft.lines.push(Line {
                    thread: thread.to_owned(),
                    operation: words.next().unwrap_or_default().to_owned(),
                    fields: words.filter_map(field).collect(),
                }),
                None => {}
            }
        }
        draft
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let join = |fields: &[(String, String)]| -> String {
            let words = fields
                .iter()
                .map(|(name, value)| format!(" {name}={value}"));
            words.collect()
        };
        if !self.setup.is_empty() {
            text.push_str(&format!("setup{}\n", join(&self.setup)));
        }
        if !self.schedule.is_empty() {
            let points = self
                .schedule
                .iter()
                .map(|(op, after)| format!(" {op}+{after}"));
            text.push_str(&format!("schedule{}\n", points.collect::<String>()));
        }
        for line in &self.lines {
            let fields = join(&line.fields);
            text.push_str(&format!("{} {}{fields}\n", line.thread, line.operation));
        }
        text
    }

    /// The program, unless a word became one that its field does not take.
    fn program(&self) -> Option<Program> {
        text::parse(&self.text()).ok()
    }

    fn words(&self) -> usize {
        let fields = self.lines.iter().map(|line| 1 + line.fields.len());
        fields.sum::<usize>() + self.setup.len() + self.schedule.len()
    }

    fn places(&self, wanted: impl Fn(&Line) -> bool) -> Vec<usize> {
        let lines = self.lines.iter().enumerate();
        lines
            .filter(|(_, line)| wanted(line))
            .map(|(at, _)| at)
            .collect()
    }

    /// The draft without the lines `gone` (in order), the numbers of the others
    /// moved; what named a line that is gone names the one in its place.
    fn without_lines(&self, gone: &[usize]) -> Self {
        let moved = |op: usize| op - gone.iter().filter(|&&line| line < op).count();
        let kept = self.lines.iter().enumerate();
        let kept = kept.filter(|(at, _)| !gone.contains(at));
        let lines = kept.map(|(_, line)| Line {
            fields: line
                .fields
                .iter()
                .map(|(name, value)| (name.clone(), renumbered(name, value, &moved)))
                .collect(),
            ..line.clone()
        });
        let points = self.schedule.iter().filter(|(op, _)| !gone.contains(op));
        Self {
            setup: self.setup.clone(),
            schedule: points
                .map(|(op, after)| (moved(*op), after.clone()))
                .collect(),
            lines: lines.collect(),
        }
    }
}

/// A value with the number of an operation moved, where it is one.
fn renumbered(name: &str, value: &str, moved: &dyn Fn(usize) -> usize) -> String {
    if OPERATION_FIELDS.contains(&name)
        && let Ok(op) = value.parse()
    {
        return moved(op).to_string();
    }
    if let Some((class, parameter)) = value.split_once(':')
        && OPERATION_CLASSES.contains(&class)
        && let Ok(op) = parameter.parse()
    {
        return format!("{class}:{}", moved(op));
    }
    value.to_owned()
}

fn field(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

fn point(word: &str) -> Option<(usize, String)> {
    let (op, after) = word.split_once('+')?;
    Some((op.parse().ok()?, after.to_owned()))
}

#[cfg(test)]
mod tests;
