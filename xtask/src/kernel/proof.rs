//! `cargo xtask kernel --test`: boots an image in QEMU with the small `/init`
//! of `guest-kernel/tests/` and judges what it prints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::variant::{Flavour, Variant};
use crate::sh;

/// What QEMU exits with when the guest wrote 1 to its debug exit port.
const EXIT_PANIC: i32 = 3;
/// Runs in which the map of one program must be the same.
const MAP_RUNS: usize = 20;
/// A backstop in seconds, far beyond the slowest run.
const BACKSTOP: &str = "300";

/// An image and an initramfs to boot it with.
#[derive(Debug)]
struct Guest {
    image: PathBuf,
    initramfs: PathBuf,
    _folder: TempDir,
}

/// How QEMU counts time.
#[derive(Debug, Clone, Copy)]
enum Clock {
    /// Instructions: 1 = 1 ns
    Instructions,
    /// The host's clock
    Host,
}

/// What a boot printed, and how QEMU ended.
#[derive(Debug)]
struct Run {
    console: String,
    code: Option<i32>,
}

/// Runs the tests on the image in the folder `image`.
///
/// # Errors
/// When a test that the flavour passes fails, when one that faithful is known
/// to fail passes or fails otherwise, when the map of edges is not the same in
/// every run, or when a panic does not reach the panic port.
pub(crate) fn run(variant: &Variant, image: &Path) -> Result<()> {
    let guest = Guest::new(image)?;
    let flavour = variant.flavour();
    let known = match flavour {
        Flavour::Faithful => read_known(&tests().join("faithful.known"))?,
        Flavour::Hardened => BTreeMap::new(),
    };
    for clock in [Clock::Instructions, Clock::Host] {
        let run = guest.boot("tests", flavour, clock)?;
        judge(&run.console, &known)
            .with_context(|| format!("{clock:?} clock; the console:\n{}", run.console))?;
    }
    println!("tests: {} known to fail, all others pass", known.len());

    let first = guest.map(flavour)?;
    for _ in 1..MAP_RUNS {
        let again = guest.map(flavour)?;
        ensure!(
            first == again,
            "the map differs between runs: {first} / {again}"
        );
    }
    println!("map: the same in {MAP_RUNS} runs: {first}");

    let run = guest.boot("panic", Flavour::Hardened, Clock::Host)?;
    ensure!(
        run.code == Some(EXIT_PANIC) && run.console.contains("Call Trace:"),
        "a panic did not reach the port after its text (exit code {:?}):\n{}",
        run.code,
        run.console
    );
    println!("panic: reached port 0x505 after its text");
    Ok(())
}

impl Guest {
    fn new(image: &Path) -> Result<Self> {
        let folder = TempDir::new()?;
        let init = folder.path().join("init");
        let sources = ["init.c", "sys.c"].map(|name| tests().join(name));
        sh::run(
            Command::new("gcc")
                .args(["-m32", "-march=i486", "-mno-sse", "-O1", "-Wall", "-Werror"])
                .args([
                    "-fno-builtin",
                    "-fno-pic",
                    "-fno-stack-protector",
                    "-nostdlib",
                ])
                .args(["-static", "-Wl,--build-id=none,-z,noexecstack", "-I"])
                .arg(image)
                .arg("-o")
                .arg(&init)
                .args(&sources),
        )?;
        let initramfs = folder.path().join("initramfs");
        fs::write(&initramfs, archive(&fs::read(&init)?))?;
        Ok(Self {
            image: image.join("bzImage"),
            initramfs,
            _folder: folder,
        })
    }

    /// Boots with `mode` as /init's argument. Hardened runs end at the first
    /// complaint; faithful complains, and goes on.
    fn boot(&self, mode: &str, flavour: Flavour, clock: Clock) -> Result<Run> {
        let mut line = String::from(
            "console=ttyS0 loglevel=5 norandmaps panic=-1 clocksource=jiffies lpj=5000000",
        );
        let mut qemu = Command::new("timeout");
        qemu.args(["--signal=KILL", BACKSTOP, "qemu-system-i386"])
            .args([
                "-M",
                "pc",
                "-cpu",
                "pentium,-tsc",
                "-m",
                "32",
                "-nodefaults",
            ])
            .args(["-display", "none", "-no-reboot", "-serial", "stdio"]);
        if flavour == Flavour::Hardened {
            line.push_str(" panic_on_warn=1");
            qemu.args(["-device", "isa-debug-exit,iobase=0x505,iosize=1"]);
        }
        if matches!(clock, Clock::Instructions) {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        let output = qemu
            .arg("-kernel")
            .arg(&self.image)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", &format!("{line} -- {mode}")])
            .stdin(Stdio::null())
            .output()
            .context("cannot start qemu-system-i386")?;
        Ok(Run {
            console: String::from_utf8_lossy(&output.stdout).replace('\r', ""),
            code: output.status.code(),
        })
    }

    /// The line that tells size and digest of the counted program's map.
    fn map(&self, flavour: Flavour) -> Result<String> {
        let run = self.boot("map", flavour, Clock::Host)?;
        let line = run
            .console
            .lines()
            .find(|line| line.starts_with("map cells "));
        match line {
            Some(line) => Ok(line.to_owned()),
            None => bail!("no map was printed; the console:\n{}", run.console),
        }
    }
}

fn tests() -> PathBuf {
    sh::root().join("guest-kernel/tests")
}

/// Known failures: test number, wait status in hexadecimal, and why.
fn read_known(path: &Path) -> Result<BTreeMap<u32, String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut known = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(number), Some(status)) = (words.next(), words.next()) else {
            bail!("{}: `{line}` is not `number status reason`", path.display());
        };
        known.insert(number.parse()?, status.to_owned());
    }
    Ok(known)
}

/// Compares TAP output with what is known to fail.
fn judge(console: &str, known: &BTreeMap<u32, String>) -> Result<()> {
    let plan = console.lines().find_map(|line| line.strip_prefix("1.."));
    let count: u32 = plan.context("no test ran")?.parse()?;
    let mut seen = 0;
    for line in console.lines() {
        let (passed, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => continue,
        };
        seen += 1;
        let number: u32 = rest.split(' ').next().unwrap_or_default().parse()?;
        ensure!(number == seen, "test {number} came in place of test {seen}");
        let status = rest.rsplit_once("# wait status ").map(|(_, status)| status);
        match (known.get(&number), passed) {
            (None, true) => {}
            (Some(expect), false) if status == Some(expect) => {}
            (Some(_), _) => bail!("known to fail otherwise: {line}"),
            (None, false) => bail!("{line}"),
        }
    }
    ensure!(seen == count, "only {seen} of {count} tests ended");
    Ok(())
}

/// A cpio archive (newc) with /dev/console and an executable /init.
fn archive(init: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, "dev", 0o040_755, (0, 0), &[]);
    append(&mut out, "dev/console", 0o020_600, (5, 1), &[]);
    append(&mut out, "init", 0o100_755, (0, 0), init);
    append(&mut out, "TRAILER!!!", 0, (0, 0), &[]);
    out
}

/// Fields as in the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.
fn append(out: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
    let fields = [
        u32::try_from(out.len()).unwrap_or(u32::MAX),
        mode,
        0,
        0,
        1,
        0,
        u32::try_from(data.len()).unwrap_or(u32::MAX),
        0,
        0,
        device.0,
        device.1,
        u32::try_from(name.len() + 1).unwrap_or(u32::MAX),
        0,
    ];
    out.extend(b"070701");
    for field in fields {
        out.extend(format!("{field:08x}").bytes());
    }
    out.extend(name.bytes());
    out.push(0);
    pad(out);
    out.extend(data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(console: &str, known: &[(u32, &str)]) -> bool {
        let known = known.iter().map(|&(n, s)| (n, s.to_owned())).collect();
        judge(console, &known).is_ok()
    }

    #[test]
    fn a_run_is_judged_by_what_is_known() {
        let good = "1..2\nok 1 - a\nok 2 - b\n";
        let bad = "1..2\nok 1 - a\nnot ok 2 - b # wait status 300\n";
        assert!(check(good, &[]));
        assert!(!check(good, &[(2, "300")]));
        assert!(!check(bad, &[]));
        assert!(check(bad, &[(2, "300")]));
        assert!(!check(bad, &[(2, "400")]));
    }

    #[test]
    fn a_run_that_stops_early_fails() {
        assert!(!check("", &[]));
        assert!(!check("1..2\nok 1 - a\n", &[]));
        assert!(!check("1..2\nok 2 - a\nok 1 - b\n", &[]));
    }

    #[test]
    fn archive_members_are_aligned() {
        let archive = archive(b"12345");
        let at = |name: &str| {
            let found = archive
                .windows(name.len())
                .position(|part| part == name.as_bytes());
            found.unwrap() - 110
        };
        assert_eq!(at("dev/console") % 4, 0);
        assert_eq!(&archive[at("init")..][..6], b"070701");
        assert_eq!(archive.len() % 4, 0);
    }
}
