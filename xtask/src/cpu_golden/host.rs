//! What this computer's processor does: records of x87 and SSE instructions
//! for the crate's unit tests, and `cpu/conformance/user.txt`.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use latefork_cpu::conformance::{FORMAT, write_case, write_setup};

use super::{Golden, setup};
use crate::{apt, cpu_diff, sh};

const FOLDER: &str = "cpu/tests/golden";
/// Cases among which those of the suite are found, and the seed.
const CASES: (u64, u64) = (120_000, 21);

const HEAD: &str = "\
# Instructions of user programs, one case each, as a host processor executed
# them. README.md has the format. Written by `cargo xtask cpu-golden`.
";

/// All data from the host processor.
pub(super) fn make() -> Result<Vec<Golden>> {
    if !cfg!(target_arch = "x86_64") {
        bail!("golden data of the host needs an x86-64 processor; use --only cases or images");
    }
    Ok(vec![
        records("x87", &["16", "1"])?,
        records("sse", &["8", "1"])?,
        cases()?,
    ])
}

/// The output of a program in C.
fn records(name: &str, arguments: &[&str]) -> Result<Golden> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let program = scratch.path().join(name);
    let source = sh::root().join(FOLDER).join(format!("{name}.c"));
    sh::run(
        Command::new("gcc")
            .args(["-O1", "-o"])
            .arg(&program)
            .arg(&source),
    )
    .with_context(|| {
        format!(
            "a C compiler is needed: {}",
            apt::hint(&["gcc", "libc6-dev"])
        )
    })?;
    let output = Command::new(&program).args(arguments).output()?;
    if !output.status.success() {
        bail!("{name}.c failed ({})", output.status);
    }
    Ok(Golden {
        path: format!("{FOLDER}/{name}.bin"),
        bytes: output.stdout,
    })
}

fn cases() -> Result<Golden> {
    let setup = Arc::new(setup::flat());
    let (count, seed) = CASES;
    let mut text = format!("format {FORMAT}\n{HEAD}\n{}", write_setup(&setup));
    for case in cpu_diff::record(count, seed, &setup)? {
        let _ = write!(text, "\n{}", write_case(&case));
    }
    Ok(Golden {
        path: "cpu/conformance/user.txt".to_owned(),
        bytes: text.into_bytes(),
    })
}
