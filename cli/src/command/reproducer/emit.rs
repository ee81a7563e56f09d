//! A program as C: the runtime, which is the same for all, and a function whose
//! statements are the steps.

mod step;

use std::fmt::Write as _;

use latefork_wire::layout;
use latefork_wire::op::{Op, OpIndex};
use latefork_wire::program::{Ending, Program, Start};
use latefork_wire::resolve::Resolved;

/// What every file has, in order.
const RUNTIME: [&str; 5] = [
    include_str!("runtime/calls.c"),
    include_str!("runtime/objects.c"),
    include_str!("runtime/fuse.c"),
    include_str!("runtime/steps.c"),
    include_str!("runtime/start.c"),
];

/// Something that only the harness can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotInC {
    op: usize,
    word: &'static str,
    why: &'static str,
}

impl std::fmt::Display for NotInC {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { op, word, why } = self;
        write!(
            f,
            "operation {op} ({word}): {why}, so it has no form in C: `latefork minimize` may drop it"
        )
    }
}

/// Cells of the calls before a step, as far as they are known when the file is
/// written: by the program's order.
#[derive(Clone, Debug)]
struct Cells {
    status: [u32; 64],
    args: [u32; 64],
    index: [u32; 64],
}

impl Resolved for Cells {
    fn status_of(&self, op: OpIndex) -> u32 {
        self.status[op.index()]
    }

    fn args_of(&self, op: OpIndex) -> u32 {
        self.args[op.index()]
    }
}

/// The whole file.
///
/// # Errors
///
/// The first step that C cannot express.
pub(super) fn c_file(program: &Program, name: &str, number: u32) -> Result<String, NotInC> {
    let mut text = header(program, name);
    text.push_str(&constants(program, number));
    text.push_str(&RUNTIME.concat());
    text.push_str("\n/* ---- the program ------------------------------------------------ */\n\n");
    text.push_str(&setup(program));
    text.push_str(&spawn_all(program));
    text.push_str(&threads(program)?);
    text.push_str(&finish(program));
    Ok(text)
}

fn header(program: &Program, name: &str) -> String {
    let mut text = format!(
        "/*\n * {name}, written by `latefork reproducer`.\n *\n\
         \x20*   gcc -m32 -march=i586 -O1 -nostdlib -static -ffreestanding -fno-pic \\\n\
         \x20*       -fno-stack-protector -fno-strict-aliasing -o reproducer THIS.c\n *\n\
         \x20* Run it as root, or as /init, on an i386 kernel with the call; look at the\n\
         \x20* kernel's log. It makes files in /t, and mounts FUSE at /f where it needs that.\n"
    );
    if !program.schedule.is_empty() {
        text.push_str(
            " * The program's schedule (forced switches) is left out: only the harness has it,\n\
             \x20* so what hangs on it may take many runs.\n",
        );
    }
    text.push_str(" *\n");
    for line in program.to_string().lines() {
        let _ = writeln!(text, " *   {line}");
    }
    text.push_str(" */\n\n");
    text
}

fn constants(program: &Program, number: u32) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("ASYNC", number),
        ("UNWRITTEN", layout::STATUS_UNWRITTEN),
        ("CALLS", layout::CALLS),
        ("CALLS_BYTES", layout::CALLS_BYTES),
        ("CALLS_READ_ONLY", layout::CALLS_READ_ONLY),
        ("CALLS_WRITE_ONLY", layout::CALLS_WRITE_ONLY),
        ("SHARED_CELLS", layout::SHARED_CELLS),
        ("EDGES", layout::EDGES),
        ("EDGE_PAGES", layout::EDGE_PAGES),
        ("SLOW", layout::SLOW),
        ("SLOW_STRIDE", layout::SLOW_STRIDE),
        ("USES_FUSE", u32::from(uses_fuse(program))),
    ] {
        let _ = writeln!(text, "#define {name} {value:#x}u");
    }
    text.push('\n');
    text
}

/// Whether any word of the program names a FUSE file, or a path or page of one.
fn uses_fuse(program: &Program) -> bool {
    let text = program.to_string();
    let paths = (4..9).any(|path| {
        text.split_ascii_whitespace()
            .any(|word| word.ends_with(&format!("=path:{path}")))
    });
    paths || text.contains("fuse") || text.contains("=slow")
}

fn setup(program: &Program) -> String {
    let setup = &program.setup;
    let (user, capability) = step::privilege(setup.privilege);
    let mut text = "static void setup(void)\n{\n".to_owned();
    if setup.nproc > 0 {
        let _ = writeln!(text, "\tlimit(6, {});", setup.nproc);
    }
    let _ = writeln!(text, "\tprivilege({user}, {capability});\n}}\n");
    text
}

fn used_threads(program: &Program) -> Vec<u8> {
    let uses = |thread: &u8| {
        program
            .steps
            .iter()
            .any(|step| step.thread.number() == *thread)
    };
    (0..4).filter(uses).collect()
}

fn spawn_all(program: &Program) -> String {
    let mut text = "static void spawn_all(void)\n{\n".to_owned();
    if program.setup.start == Start::All {
        for thread in used_threads(program)
            .into_iter()
            .filter(|thread| *thread > 0)
        {
            let _ = writeln!(text, "\tspawn({thread});");
        }
    }
    text.push_str("}\n\n");
    text
}

/// One function with the steps of each thread.
fn threads(program: &Program) -> Result<String, NotInC> {
    let mut cells = Cells {
        status: [0; 64],
        args: [0; 64],
        index: [0; 64],
    };
    let mut bodies: Vec<String> = vec![String::new(); 4];
    // Steps that a child runs, by thread: how many are left, and its exit code.
    let mut children: [Vec<(u8, u8)>; 4] = Default::default();
    for (at, one) in program.steps.iter().enumerate() {
        let thread = one.thread.index();
        let statements = step::statements(at, one, &mut cells)?;
        let body = &mut bodies[thread];
        let _ = writeln!(body, "\t/* {at}: {one} */");
        body.push_str(&statements);
        if !matches!(one.op, Op::Fork(_)) {
            end_children(body, &mut children[thread]);
        }
        if let Op::Fork(fork) = one.op {
            match fork.ops {
                0 => {
                    let _ = writeln!(body, "\tsys1(252, {});\n\t}}\n\t}}", fork.code);
                    end_children(body, &mut children[thread]);
                }
                ops => children[thread].push((ops, fork.code)),
            }
        }
    }
    let mut text =
        "static void run_thread(u32 number)\n{\n\tshared->now_tid[number] = (u32)gettid();\n"
            .to_owned();
    for thread in used_threads(program) {
        let mut body = std::mem::take(&mut bodies[usize::from(thread)]);
        for (_, code) in children[usize::from(thread)].drain(..).rev() {
            let _ = writeln!(body, "\tsys1(252, {code});\n\t}}\n\t}}");
        }
        let _ = writeln!(text, "\tif (number != {thread})\n\t\tgoto not_{thread};");
        text.push_str(&body);
        let _ = writeln!(text, "not_{thread}:;");
    }
    text.push_str("}\n\n");
    Ok(text)
}

/// Counts a step of the innermost child, and closes it after its last.
fn end_children(body: &mut String, children: &mut Vec<(u8, u8)>) {
    while let Some((left, code)) = children.last_mut() {
        *left -= 1;
        if *left > 0 {
            return;
        }
        let _ = writeln!(body, "\tsys1(252, {code});\n\t}}\n\t}}");
        children.pop();
    }
}

fn finish(program: &Program) -> String {
    let setup = &program.setup;
    let mut text = "static void finish(void)\n{\n\tu32 left = 300;\n\n".to_owned();
    let others: Vec<String> = used_threads(program)
        .into_iter()
        .filter(|thread| *thread > 0)
        .map(|thread| format!("shared->done[{thread}]"))
        .collect();
    if setup.start == Start::All && !others.is_empty() {
        let _ = writeln!(
            text,
            "\twhile (left-- && !({}))\n\t\tticks(1);",
            others.join(" && ")
        );
    }
    // A status may come a little later than the last step.
    let _ = writeln!(text, "\tticks({} + 5);\n\t(void)left;", setup.rest.min(50));
    for (at, step) in program.steps.iter().enumerate() {
        if matches!(step.op, Op::Async(_) | Op::Prepare(_)) {
            let _ = writeln!(text, "\treport({at});");
        }
    }
    text.push_str(&match setup.ending {
        Ending::ExitGroup => format!("\tsys1(252, {});\n", setup.code),
        Ending::Exit => format!("\tsys1(1, {});\n", setup.code),
        Ending::Kill => "\tsys2(37, sys0(20), 9);\n".to_owned(),
    });
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests;
