//! `cargo xtask agent`: the guest's /init.
//!
//! Rust for i586 without a standard library. Where rustup has the
//! i586-unknown-linux-musl target its core is used; elsewhere Debian's
//! `rustc-web` builds core from `rust-web-src`. A finished image is kept in
//! the user's cache folder under a hash of everything that went into it.

mod inputs;
mod instructions;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::inputs::Key;
use self::toolchain::Toolchain;
use crate::sh;

/// How to build the agent.
#[derive(Debug, Args)]
pub(crate) struct Options {}

/// Leaves the agent under `target/guest/agent/init` and says where.
pub(crate) fn run(_options: &Options) -> Result<()> {
    println!("{}", build()?.display());
    Ok(())
}

/// Debian's packages of a compiler for the agent; none where there is one, or
/// where rustup could add it just now.
pub(crate) fn packages() -> &'static [&'static str] {
    toolchain::packages()
}

/// Builds the agent unless it is cached; returns the image's path.
pub(crate) fn build() -> Result<PathBuf> {
    let output = sh::root().join("target/guest/agent/init");
    let toolchain = Toolchain::find()?;
    let number = inputs::async_number()?;
    let key = Key::of(&toolchain, number)?;
    let cached = inputs::cache()?.join(key.name());
    if !cached.exists() {
        let image = toolchain.build(number)?;
        instructions::check(&image)?;
        write(&cached, &fs::read(&image)?)?;
    }
    let bytes = fs::read(&cached).with_context(|| format!("cannot read {}", cached.display()))?;
    if fs::read(&output).is_ok_and(|there| there == bytes) {
        return Ok(output);
    }
    write(&output, &bytes)?;
    Ok(output)
}

/// Checks the agent's own workspace: formatting and lints, on the host's target.
/// No toolchain has clippy and core for the guest's at once without a download;
/// what differs between the two is the size of a pointer, and inline assembly,
/// which nothing assembles here.
pub(crate) fn lint() -> Result<()> {
    let folder = sh::root().join("guest-agent");
    sh::run(sh::command("cargo", &["fmt", "--check"]).current_dir(&folder))?;
    sh::run(
        sh::command("cargo", &["clippy", "--quiet", "--target-dir"])
            .arg(sh::root().join("target/guest-agent-clippy"))
            .args(["--", "-D", "warnings"])
            .current_dir(&folder),
    )
}

/// Writes an executable file, all of it or nothing.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    let Some(folder) = path.parent() else {
        bail!("{} has no folder", path.display());
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut staged = tempfile::NamedTempFile::new_in(folder)?;
    staged.write_all(bytes)?;
    staged
        .as_file()
        .set_permissions(fs::Permissions::from_mode(0o755))?;
    staged
        .persist(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
