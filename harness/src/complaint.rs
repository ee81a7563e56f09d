//! What the kernel says of itself on the console: warnings, oopses, panics,
//! reports of sanitizers and of its own checks.
//!
//! A complaint is known by its title without numbers and addresses, and by the
//! functions on the stack, so that the same defect has the same signature in
//! every run, on every engine, and after a rebuild. Formats follow Linux 6.12:
//! `kernel/panic.c`, `arch/x86/mm/fault.c`, `arch/x86/kernel/dumpstack.c`,
//! `mm/slub.c`, `lib/ubsan.c`, `kernel/hung_task.c`.

/// Functions of a stack that go into a signature.
const FRAMES: usize = 3;
/// Longest title kept, in bytes.
const LONGEST_TITLE: usize = 120;

/// Beginnings of lines that are complaints, by what the kernel has to offer.
const MARKS: &[&str] = &[
    "BUG: ",
    "WARNING: ",
    "BUG kmalloc",
    "Oops: ",
    "Kernel panic - not syncing: ",
    "kernel BUG at ",
    "general protection fault",
    "double fault: ",
    "invalid opcode: ",
    "divide error: ",
    "stack segment: ",
    "int3: ",
    "INFO: task ",
    "INFO: rcu",
    "INFO: possible recursive locking",
    "INFO: inconsistent lock state",
    "UBSAN: ",
    "refcount_t: ",
    "list_add corruption",
    "list_del corruption",
    "Bad page state",
    "Bad rss-counter state",
    "VFS: Close: file count is 0",
    "unreferenced object ",
    "Fixing recursive fault but reboot is needed",
    "note: ",
];

/// Lines that begin with a mark and are none: they say what was known already.
const ECHOES: &[&str] = &["note: "];

/// Functions that report, and stand on every stack above the culprit.
const REPORTERS: &[&str] = &[
    "dump_stack",
    "dump_stack_lvl",
    "show_stack",
    "__warn",
    "__warn_printk",
    "warn_slowpath_fmt",
    "report_bug",
    "panic",
    "die",
    "__die",
    "oops_end",
    "exc_overflow",
    "exc_invalid_op",
    "handle_bug",
    "handle_exception",
    "exc_page_fault",
    "page_fault_oops",
    "__might_sleep",
    "__might_resched",
    "__schedule_bug",
];

/// Functions in which every task that sleeps stands: a hung one is known by what
/// it waits for.
const SLEEPERS: &[&str] = &[
    "__schedule",
    "schedule",
    "schedule_timeout",
    "schedule_preempt_disabled",
    "io_schedule",
];
/// The title of a task that sleeps for too long.
const HUNG: &str = "INFO: task ";

/// One complaint of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The first line, without timestamp, numbers and addresses.
    pub title: String,
    /// The innermost functions, reporters left out; at most three.
    pub frames: Vec<String>,
}

impl Complaint {
    /// What tells this complaint from others: title and functions.
    pub fn signature(&self) -> String {
        let mut signature = self.title.clone();
        for frame in &self.frames {
            signature.push_str(" | ");
            signature.push_str(frame);
        }
        signature
    }
}

/// The complaints on a console, in order. What a panic repeats of the oops
/// before it is one complaint.
pub fn complaints(console: &str) -> Vec<Complaint> {
    let mut found: Vec<Complaint> = Vec::new();
    let mut in_trace = false;
    for line in console.lines() {
        let line = without_timestamp(line);
        if is_complaint(line) {
            in_trace = false;
            if !repeats(line, found.last()) {
                found.push(Complaint {
                    title: title_of(line),
                    frames: culprit_in_title(line).into_iter().collect(),
                });
            }
            continue;
        }
        let Some(complaint) = found.last_mut() else {
            continue;
        };
        if let Some(place) = line.strip_prefix("EIP: ") {
            add_frame(complaint, place);
        } else if line.starts_with("Call Trace:") {
            in_trace = true;
        } else if in_trace {
            in_trace = add_trace_line(complaint, line);
        }
    }
    found
}

fn is_complaint(line: &str) -> bool {
    let marked = MARKS.iter().any(|mark| line.starts_with(mark));
    marked && !ECHOES.iter().any(|echo| line.starts_with(echo))
}

/// An oops prints its cause, then `Oops:`, then the panic that it leads to.
fn repeats(line: &str, last: Option<&Complaint>) -> bool {
    let Some(last) = last else {
        return false;
    };
    let follows = line.starts_with("Oops: ")
        || line.starts_with("invalid opcode: ")
        || line.starts_with("Kernel panic - not syncing: Fatal exception")
        || line.starts_with("Kernel panic - not syncing: panic_on_warn")
        || line.starts_with("Kernel panic - not syncing: hung_task");
    follows && !last.title.starts_with("Kernel panic")
}

/// A line of a stack: ` [? ]function+0x1/0x2`. Returns whether the stack goes on.
fn add_trace_line(complaint: &mut Complaint, line: &str) -> bool {
    let trimmed = line.trim_start();
    if trimmed.len() == line.len() {
        return false;
    }
    // What is marked with a question mark may be left over from older calls.
    if !trimmed.starts_with('?') && !trimmed.starts_with('<') {
        add_frame(complaint, trimmed);
    }
    true
}

fn add_frame(complaint: &mut Complaint, place: &str) {
    let Some(function) = function_of(place) else {
        return;
    };
    let known = complaint.frames.contains(&function);
    let name = function.as_str();
    let sleeps = complaint.title.starts_with(HUNG) && SLEEPERS.contains(&name);
    if complaint.frames.len() < FRAMES && !known && !sleeps && !REPORTERS.contains(&name) {
        complaint.frames.push(function);
    }
}

/// `function` of `function+0x12/0x34 [module]`; a compiler's suffixes dropped.
fn function_of(place: &str) -> Option<String> {
    let (name, _) = place.split_once("+0x")?;
    let name = name.split('.').next()?;
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(valid)).then(|| name.to_owned())
}

/// A warning names its function in its first line.
fn culprit_in_title(line: &str) -> Option<String> {
    let place = line.split_ascii_whitespace().next_back()?;
    let function = function_of(place)?;
    (!REPORTERS.contains(&function.as_str())).then_some(function)
}

/// `[   12.345678] text` without its first part.
fn without_timestamp(line: &str) -> &str {
    let line = line.trim_end();
    let Some(rest) = line.strip_prefix('[') else {
        return line;
    };
    match rest.split_once("] ") {
        Some((time, text)) if time.trim().bytes().all(|b| b.is_ascii_digit() || b == b'.') => text,
        _ => line,
    }
}

/// The line without what differs from run to run or from build to build.
fn title_of(line: &str) -> String {
    let mut title = String::new();
    for word in line.split_ascii_whitespace() {
        let Some(word) = stable(word) else {
            continue;
        };
        if !title.is_empty() {
            title.push(' ');
        }
        title.push_str(&word);
    }
    let end = title.floor_char_boundary(LONGEST_TITLE);
    title.truncate(end);
    title.trim_end_matches([',', ':', ' ']).to_owned()
}

/// A word of a title: places lose their line and offset, numbers go.
fn stable(word: &str) -> Option<String> {
    if let Some(function) = function_of(word) {
        return Some(function);
    }
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if is_number(bare) || ["CPU:", "PID:", "#PF:", "SMP", "PREEMPT"].contains(&word) {
        return None;
    }
    // (prev=c0c3a2ac): an address; exitcode=0x0000000b is none.
    if let Some((name, value)) = word.split_once('=')
        && word.starts_with('(')
        && is_number(value.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
    {
        return Some(name.trim_start_matches('(').to_owned());
    }
    // file.c:123, file.c:123! and name:123
    match word.split_once(':') {
        Some((name, rest))
            if rest.starts_with(|c: char| c.is_ascii_digit())
                && rest
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b":!".contains(&b)) =>
        {
            Some(name.to_owned())
        }
        _ => Some(word.to_owned()),
    }
}

/// Whether a word without its punctuation is a number or an address.
fn is_number(bare: &str) -> bool {
    let digits = bare.trim_start_matches("0x").trim_start_matches('-');
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && digits.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
