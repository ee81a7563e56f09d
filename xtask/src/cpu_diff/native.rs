//! The host side: builds `native/runner.c` and runs batches through it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::wire::{self, Case, Outcome};
use crate::sh;

/// A running native runner.
#[derive(Debug)]
pub(crate) struct Native {
    program: PathBuf,
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Native {
    /// Builds the runner and starts it.
    pub(crate) fn start() -> Result<Self> {
        let program = build()?;
        let (child, stdin, stdout) = spawn(&program)?;
        Ok(Self {
            program,
            child,
            stdin,
            stdout,
        })
    }

    /// Executes `cases` on the host processor, with `arena` as the contents
    /// of the data pages before the first of them.
    ///
    /// # Errors
    ///
    /// A runner that died is started again, so that the caller may look for
    /// the case that killed it.
    pub(crate) fn run(&mut self, arena: &[u8], cases: &[Case]) -> Result<Vec<Outcome>> {
        match self.exchange(&wire::encode(arena, cases)) {
            Ok(answer) => wire::decode(&answer, cases.len()),
            Err(error) => {
                let status = self.child.wait().context("waiting for the native runner")?;
                (self.child, self.stdin, self.stdout) = spawn(&self.program)?;
                Err(error.context(format!("the native runner died ({status})")))
            }
        }
    }

    fn exchange(&mut self, batch: &[u8]) -> Result<Vec<u8>> {
        self.stdin.write_all(batch)?;
        let mut len = [0; 4];
        self.stdout.read_exact(&mut len)?;
        let mut answer = vec![0; u32::from_le_bytes(len) as usize];
        self.stdout.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to do here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path) -> Result<(Child, ChildStdin, ChildStdout)> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| {
            format!(
                "cannot run {} (does this kernel run 32-bit programs?)",
                program.display()
            )
        })?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => Ok((child, stdin, stdout)),
        _ => bail!("the native runner has no pipes"),
    }
}

/// Compiles the runner with the host's C compiler; it needs no 32-bit libc.
fn build() -> Result<PathBuf> {
    let directory = sh::root().join("target/cpu-diff");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let source = sh::root().join("xtask/src/cpu_diff/native/runner.c");
    let program = directory.join("runner");
    let fresh = directory.join(format!("runner.{}", std::process::id()));
    let status = Command::new("gcc")
        .args(["-m32", "-O2", "-ffreestanding", "-nostdlib", "-static"])
        .args(["-fno-pic", "-no-pie", "-fno-stack-protector"])
        .args(["-mno-sse", "-mno-mmx", "-fcf-protection=none"])
        .args(["-fno-asynchronous-unwind-tables"])
        .args(["-fno-tree-loop-distribute-patterns"])
        .args(["-Wall", "-Wextra", "-Werror"])
        .args(["-Wl,-Ttext-segment=0x0C000000", "-Wl,--build-id=none"])
        .arg(&source)
        .arg("-o")
        .arg(&fresh)
        .status()
        .context("cannot start gcc (install the package `gcc`)")?;
    if !status.success() {
        bail!("gcc cannot build {} ({status})", source.display());
    }
    std::fs::rename(&fresh, &program)
        .with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}
