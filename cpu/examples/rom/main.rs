//! Runs a test ROM for the 386 on the CPU: 64 KiB at 0xF0000 or 128 KiB at
//! 0xE0000, aliased below 4 GiB, entered by reset in real mode.
//!
//! ```text
//! cargo run -p latefork-cpu --example rom -- FILE --post-port 0x190 --out-port 0xE9
//! ```
//! Text goes to standard output as it comes, progress and the verdict to
//! standard error. The exit code is 0 if the ROM halted after progress code
//! 0xFF, 1 if it ended otherwise, 2 for a wrong command line or file.

mod machine;

use std::io::Write;
use std::process::ExitCode;

use latefork_cpu::CpuModel;
use machine::{Outcome, Ports};

const USAGE: &str = "usage: rom FILE [--post-port N] [--out-port N] [--budget INSTRUCTIONS] [--model fuzz|sse]
numbers are decimal, or hexadecimal with 0x; defaults: --post-port 0x190 --out-port 0xE9 --budget 10000000000 --model fuzz";

struct Options {
    file: String,
    ports: Ports,
    budget: u64,
    model: CpuModel,
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{name}: `{text}` is not a number; write 400 or 0x190"))
}

fn port(name: &str, text: &str) -> Result<u16, String> {
    let value = number(name, text)?;
    u16::try_from(value)
        .map_err(|_| format!("{name}: {value:#x} is not a port; ports end at 0xffff"))
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut file = None;
    let mut ports = Ports {
        post: 0x190,
        out: 0xe9,
    };
    let mut budget = 10_000_000_000;
    let mut model = CpuModel::Fuzz;
    while let Some(argument) = arguments.next() {
        if !argument.starts_with("--") {
            if let Some(first) = file.replace(argument.clone()) {
                return Err(format!("two files: `{first}` and `{argument}`; name one"));
            }
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{argument} wants a value"))?;
        match argument.as_str() {
            "--post-port" => ports.post = port(&argument, &value)?,
            "--out-port" => ports.out = port(&argument, &value)?,
            "--budget" => budget = number(&argument, &value)?,
            "--model" if value == "fuzz" => model = CpuModel::Fuzz,
            "--model" if value == "sse" => model = CpuModel::Sse,
            "--model" => {
                return Err(format!(
                    "--model: `{value}` is not a model; write fuzz or sse"
                ));
            }
            _ => return Err(format!("`{argument}` is not an option\n{USAGE}")),
        }
    }
    let file = file.ok_or_else(|| format!("no file\n{USAGE}"))?;
    Ok(Options {
        file,
        ports,
        budget,
        model,
    })
}

fn verdict(outcome: Outcome) -> (String, u8) {
    match outcome {
        Outcome::Passed => ("passed".into(), 0),
        Outcome::Halted => ("failed: HLT before progress code 0xFF".into(), 1),
        Outcome::TripleFault => ("failed: triple fault".into(), 1),
        Outcome::Unsupported(what) => (format!("failed: not supported: {what}"), 1),
        Outcome::OutOfBudget => ("failed: out of budget; raise it with --budget".into(), 1),
    }
}

fn execute() -> Result<u8, String> {
    let options = parse(std::env::args().skip(1))?;
    let image = std::fs::read(&options.file)
        .map_err(|error| format!("{}: cannot be read: {error}", options.file))?;
    let mut out = std::io::stdout().lock();
    let report = machine::run(
        &image,
        options.ports,
        options.model,
        options.budget,
        |byte| {
            // A closed pipe must not end the test.
            let _ = out.write_all(&[byte]);
            if byte == b'\n' {
                let _ = out.flush();
            }
        },
    )
    .map_err(|error| format!("{}: {error}", options.file))?;
    let (message, code) = verdict(report.outcome);
    let posts: Vec<String> = report
        .posts
        .iter()
        .map(|post| format!("{post:02X}"))
        .collect();
    eprintln!("progress codes: {}", posts.join(" "));
    eprintln!("{message} after {} instructions", report.retired);
    Ok(code)
}

fn main() -> ExitCode {
    match execute() {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}
