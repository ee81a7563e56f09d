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
        let kind = choose(&mut ThisHost)?;
        let rustc = match kind {
            Kind::Rustup => "rustc",
            Kind::Debian => DEBIAN_RUSTC,
        };
        Self::new(kind, rustc)
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

/// What a machine has of compilers, and how it gets one.
trait Host {
    /// Whether rustup's toolchain has core for [`TARGET`].
    fn has_rustup_target(&self) -> bool;
    /// Whether Debian's compiler is there, with the source of core.
    fn has_debian(&self) -> bool;
    /// Asks rustup for the target; without rustup, or offline, nothing happens.
    fn add_rustup_target(&mut self);
    /// Installs Debian's packages.
    ///
    /// # Errors
    /// Not root, or no Debian: with the commands that give a compiler.
    fn install_debian(&mut self) -> Result<()>;
}

/// rustup's target where it is, else Debian's compiler where it is; else the
/// one that can be had, in the same order.
fn choose(host: &mut impl Host) -> Result<Kind> {
    if host.has_rustup_target() {
        return Ok(Kind::Rustup);
    }
    if host.has_debian() {
        return Ok(Kind::Debian);
    }
    host.add_rustup_target();
    if host.has_rustup_target() {
        return Ok(Kind::Rustup);
    }
    host.install_debian()?;
    if !host.has_debian() {
        bail!(
            "{} are installed, but not all of {DEBIAN_RUSTC}, {DEBIAN_CARGO} and {DEBIAN_SOURCE} is there",
            PACKAGES.join(" ")
        );
    }
    Ok(Kind::Debian)
}

/// Debian's packages, where neither they nor rustup's target are there.
pub(super) fn packages() -> &'static [&'static str] {
    wanted(&mut ThisHost)
}

fn wanted(host: &mut impl Host) -> &'static [&'static str] {
    if host.has_rustup_target() || host.has_debian() {
        return &[];
    }
    host.add_rustup_target();
    match host.has_rustup_target() {
        true => &[],
        false => &PACKAGES,
    }
}

struct ThisHost;

impl Host for ThisHost {
    fn has_rustup_target(&self) -> bool {
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]));
        sysroot.is_ok_and(|sysroot| has_target(Path::new(sysroot.trim())))
    }

    fn has_debian(&self) -> bool {
        [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_SOURCE]
            .iter()
            .all(|path| Path::new(path).exists())
    }

    fn add_rustup_target(&mut self) {
        let mut rustup = Command::new("rustup");
        rustup
            .args(["target", "add", TARGET])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Whether it worked shows in what is there then.
        let _ = rustup.status();
    }

    fn install_debian(&mut self) -> Result<()> {
        if !apt::is_root()? || !Path::new("/usr/bin/apt-get").exists() {
            bail!(
                "no compiler for {TARGET}: run `rustup target add {TARGET}`, or on Debian `{}`",
                apt::hint(&PACKAGES)
            );
        }
        apt::install(&PACKAGES)
    }
}

/// Whether the toolchain at `sysroot` has the target's core.
fn has_target(sysroot: &Path) -> bool {
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let Ok(entries) = std::fs::read_dir(libraries) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is there, what can be had, and what was done.
    #[derive(Default)]
    struct Machine {
        rustup: bool,
        debian: bool,
        online: bool,
        packages: bool,
        done: Vec<&'static str>,
    }

    impl Host for Machine {
        fn has_rustup_target(&self) -> bool {
            self.rustup
        }

        fn has_debian(&self) -> bool {
            self.debian
        }

        fn add_rustup_target(&mut self) {
            self.done.push("rustup");
            self.rustup = self.online;
        }

        fn install_debian(&mut self) -> Result<()> {
            self.done.push("apt");
            self.debian = self.packages;
            Ok(())
        }
    }

    fn check(mut machine: Machine, kind: Option<Kind>, done: &[&str]) {
        assert_eq!(choose(&mut machine).ok(), kind);
        assert_eq!(machine.done, done);
    }

    #[test]
    fn what_is_there_is_taken_rustup_first_and_nothing_is_fetched() {
        let machine = |rustup, debian| Machine {
            rustup,
            debian,
            online: true,
            packages: true,
            ..Machine::default()
        };
        check(machine(true, true), Some(Kind::Rustup), &[]);
        check(machine(true, false), Some(Kind::Rustup), &[]);
        check(machine(false, true), Some(Kind::Debian), &[]);
    }

    #[test]
    fn what_is_missing_is_fetched_in_the_same_order() {
        let machine = |online, packages| Machine {
            online,
            packages,
            ..Machine::default()
        };
        check(machine(true, true), Some(Kind::Rustup), &["rustup"]);
        check(machine(false, true), Some(Kind::Debian), &["rustup", "apt"]);
        check(machine(false, false), None, &["rustup", "apt"]);
    }

    #[test]
    fn packages_are_wanted_where_rustup_cannot_help() {
        let machine = |rustup, debian, online| Machine {
            rustup,
            debian,
            online,
            ..Machine::default()
        };
        assert!(wanted(&mut machine(true, false, false)).is_empty());
        assert!(wanted(&mut machine(false, true, false)).is_empty());
        assert!(wanted(&mut machine(false, false, true)).is_empty());
        assert_eq!(wanted(&mut machine(false, false, false)), PACKAGES);
    }

    #[test]
    fn target_is_there_where_its_core_is() {
        let sysroot = tempfile::tempdir().unwrap();
        assert!(!has_target(sysroot.path()));
        let libraries = sysroot.path().join("lib/rustlib").join(TARGET).join("lib");
        std::fs::create_dir_all(&libraries).unwrap();
        // A folder that an interrupted download left.
        assert!(!has_target(sysroot.path()));
        std::fs::write(libraries.join("libcore-0123.rlib"), b"").unwrap();
        assert!(has_target(sysroot.path()));
    }

    #[test]
    fn each_kind_is_called_with_what_it_needs() {
        let cargo = |kind| {
            let toolchain = Toolchain {
                kind,
                version: String::new(),
            };
            let command = toolchain.cargo();
            let program = command.get_program().to_string_lossy().into_owned();
            let arguments = command
                .get_args()
                .map(|word| word.to_string_lossy().into_owned());
            (program, arguments.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(cargo(Kind::Rustup), ("cargo".into(), "--offline".into()));
        let (program, arguments) = cargo(Kind::Debian);
        assert_eq!(program, DEBIAN_CARGO);
        assert!(arguments.contains("-Zbuild-std=core"), "{arguments}");
        assert!(arguments.contains(DEBIAN_SOURCE), "{arguments}");
    }
}
