//! Compilers that can build for i586 without a standard library.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{apt, sh};

const TARGET: &str = "i586-unknown-linux-musl";
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library";

/// Position, linking and what is left out: a static program at fixed
/// addresses, without start files and libraries.
const FLAGS: &str = "-Crelocation-model=static -Clink-self-contained=no -Clinker=gcc \
    -Clinker-flavor=gcc -Clink-arg=-m32 -Clink-arg=-nostdlib -Clink-arg=-nostartfiles \
    -Clink-arg=-static -Clink-arg=-no-pie -Clink-arg=-Wl,--build-id=none";

/// A compiler that was found.
#[derive(Debug)]
pub(super) struct Toolchain {
    kind: Kind,
    version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// rustup's, with the target's core built already.
    Rustup,
    /// Debian's, which builds core itself.
    Debian,
}

impl Toolchain {
    /// Finds a toolchain; as root, on Debian, installs one where none is.
    pub(super) fn find() -> Result<Self> {
        if rustup_has_target() {
            return Self::new(Kind::Rustup, "rustc");
        }
        if !debian_is_there() {
            obtain()?;
        }
        if rustup_has_target() {
            return Self::new(Kind::Rustup, "rustc");
        }
        Self::new(Kind::Debian, DEBIAN_RUSTC)
    }

    fn new(kind: Kind, rustc: &str) -> Result<Self> {
        let version = output(Command::new(rustc).arg("-vV"))
            .with_context(|| format!("`{rustc} -vV` gives no version"))?;
        Ok(Self { kind, version })
    }

    /// What the compiler says of itself.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Builds the agent; returns the linked file.
    pub(super) fn build(&self, number: u32) -> Result<PathBuf> {
        let target = sh::root().join("target/guest-agent");
        let mut command = self.cargo();
        command
            .current_dir(sh::root().join("guest-agent"))
            .args(["build", "--quiet", "--release", "--target", TARGET])
            .arg("--target-dir")
            .arg(&target)
            .env("LATEFORK_ASYNC_NUMBER", number.to_string())
            .env("RUSTFLAGS", FLAGS)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTUP_TOOLCHAIN");
        eprintln!("building the guest agent");
        sh::run(&mut command)?;
        Ok(target.join(TARGET).join("release/latefork-agent"))
    }

    fn cargo(&self) -> Command {
        if self.kind == Kind::Rustup {
            let mut command = Command::new("cargo");
            command.arg("--offline");
            return command;
        }
        let mut vendor = OsString::from("source.rust-src.directory=\"");
        vendor.push(DEBIAN_SOURCE);
        vendor.push("/vendor\"");
        let mut command = Command::new(DEBIAN_CARGO);
        // Without RUSTC= a rustup shim that comes first in PATH would be used.
        command
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["--offline", "-Zbuild-std=core,alloc"])
            .args(["--config", "source.crates-io.replace-with=\"rust-src\""])
            .arg("--config")
            .arg(vendor);
        command
    }
}

fn rustup_has_target() -> bool {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]));
    sysroot.is_ok_and(|sysroot| {
        Path::new(sysroot.trim())
            .join("lib/rustlib")
            .join(TARGET)
            .join("lib")
            .exists()
    })
}

fn debian_is_there() -> bool {
    Path::new(DEBIAN_RUSTC).exists()
        && Path::new(DEBIAN_CARGO).exists()
        && Path::new(DEBIAN_SOURCE).exists()
}

/// Debian's packages, where neither they nor rustup's target are there.
pub(super) fn packages() -> &'static [&'static str] {
    match rustup_has_target() || debian_is_there() || rustup_adds_target() {
        true => &[],
        false => &PACKAGES,
    }
}

fn rustup_adds_target() -> bool {
    let mut rustup = Command::new("rustup");
    rustup
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    rustup.status().is_ok_and(|status| status.success())
}

/// Gets a toolchain: rustup's target, else Debian's packages.
fn obtain() -> Result<()> {
    if rustup_adds_target() {
        return Ok(());
    }
    if !apt::is_root()? || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "no compiler for {TARGET}: run `rustup target add {TARGET}`, or on Debian `{}`",
            apt::hint(&PACKAGES)
        );
    }
    apt::install(&PACKAGES)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
