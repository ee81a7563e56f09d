//! `cargo xtask kvm-lane`: the KVM engine on a KVM of the hardware's kind, on
//! any machine.
//!
//! QEMU emulates an AMD processor with SVM and nested paging; a Debian kernel
//! with kvm-amd runs on that; and in there the tests of the KVM engine run, as
//! static binaries in an initramfs. What they print comes out on one serial
//! line, and the verdict as QEMU's exit code.

mod base;
mod outer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::base::Base;
use self::outer::{Outer, Verdict};
use crate::initramfs::cpio::Archive;
use crate::initramfs::read;
use crate::kernel::variant::Flavour;
use crate::{initramfs, kernel, qemu, sh};

/// What to run in the lane.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Arguments of the test programs: tests whose name contains this alone, say
    #[arg(
        allow_hyphen_values = true,
        trailing_var_arg = true,
        value_name = "FILTER"
    )]
    filter: Vec<String>,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 540, value_name = "SECONDS")]
    limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: Vec::new(),
            limit: 540,
        }
    }
}

/// The packages whose tests run in the lane, each with the tests' name.
const TESTS: [(&str, &str); 2] = [("latefork-vmm", "kvm"), ("latefork-harness", "kvm")];
/// The command, which tests call.
const COMMAND: &str = "latefork";
/// The target of static binaries, named so that the flags reach no build script.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const STATIC: &str = "-C target-feature=+crt-static -C relocation-model=static";
/// Ends QEMU with an exit code.
const EXIT_SOURCE: &str = "xtask/src/kvm_lane/exit.c";
/// The list of generated programs, which run in the lane too.
const LIST: &str = "corpora/lists/generated.list";
const INIT: &str = include_str!("kvm_lane/init.sh");

/// What one outer machine runs, as arguments of the test programs. There are two
/// machines at a time: each has one processor, and the host two at least.
const SHARES: [&[&str]; 2] = [
    &["corpora::", "session::"],
    &["--skip", "corpora::", "--skip", "session::"],
];

/// Builds the lane, runs it, and fails unless all that ran passed.
pub(crate) fn run(options: &Options) -> Result<()> {
    // One package has both emulators.
    qemu::ensure()?;
    let base = Base::fetch()?;
    for flavour in [Flavour::Faithful, Flavour::Hardened] {
        kernel::build_fuzz(flavour)?;
    }
    initramfs::build(&[], &initramfs::default_output())?;
    let folder = sh::root().join("target/kvm-lane");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    samples(&folder.join("samples.json"))?;
    let content = pack(&base, &build_tests()?, &folder)?;
    let started = Instant::now();
    let filter: Vec<&str> = options.filter.iter().map(String::as_str).collect();
    let shares: &[&[&str]] = match filter.is_empty() {
        true => &SHARES,
        false => &[&filter],
    };
    let limit = Duration::from_secs(options.limit);
    let passed = run_shares(&base, &folder, &content, shares, limit)?;
    ensure!(passed > 0, "kvm-lane: no test ran");
    println!(
        "kvm-lane: {passed} tests passed in {} s",
        started.elapsed().as_secs()
    );
    Ok(())
}

/// Runs each share in an outer machine of its own, side by side; says how many
/// tests passed.
fn run_shares(
    base: &Base,
    folder: &Path,
    content: &[u8],
    shares: &[&[&str]],
    limit: Duration,
) -> Result<u32> {
    let mut machines = Vec::new();
    for (number, share) in shares.iter().enumerate() {
        let file = |name: &str| folder.join(format!("{name}-{number}"));
        let initramfs = file("initramfs.cpio");
        // Archives one after another are one to the kernel.
        let mut arguments = Archive::new();
        arguments.program("arguments", share.join(" ").as_bytes());
        let whole = [content, &arguments.finish()].concat();
        fs::write(&initramfs, whole)
            .with_context(|| format!("cannot write {}", initramfs.display()))?;
        machines.push(Outer {
            kernel: &base.kernel,
            initramfs,
            report: file("report"),
            limit,
        });
    }
    let verdicts: Vec<Result<Verdict>> = std::thread::scope(|scope| {
        let threads: Vec<_> = machines
            .iter()
            .map(|machine| scope.spawn(|| machine.run()))
            .collect();
        let join = |thread: ScopedJoinHandle<'_, _>| thread.join().expect("it does not panic");
        threads.into_iter().map(join).collect()
    });
    let mut passed = 0;
    let mut failure = None;
    for (machine, verdict) in machines.iter().zip(verdicts) {
        match judge(&verdict?, &machine.report) {
            Ok(tests) => passed += tests,
            // The other machine's report is of use, too.
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(passed), Err)
}

/// Runs the corpora on the software engine, here: in the emulated machine it
/// would take twenty times as long. Makes the templates too.
fn samples(output: &Path) -> Result<()> {
    let mut cargo = sh::command("cargo", &["run", "--quiet", "--package", "latefork", "--"]);
    cargo
        .args(["corpus", "expect", "--list", LIST, "--output"])
        .arg(output);
    sh::run(&mut cargo)
}

/// Prints what a machine reported; anything but "all passed" is an error. Says
/// how many tests passed.
fn judge(verdict: &Verdict, report: &Path) -> Result<u32> {
    let text =
        fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    print!("{}", text.replace('\r', ""));
    let results = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("test result: ok. "));
    let passed: Vec<u32> = results
        .filter_map(|rest| rest.split(' ').next()?.parse().ok())
        .collect();
    match verdict {
        Verdict::Passed if passed.len() == TESTS.len() => Ok(passed.iter().sum()),
        Verdict::Passed => bail!(
            "kvm-lane: {} of {} test programs reported",
            passed.len(),
            TESTS.len()
        ),
        Verdict::Failed => bail!("kvm-lane: a test failed; see above"),
        Verdict::Died(console) => {
            bail!("kvm-lane: the outer machine ended without a verdict; its console:\n{console}")
        }
        Verdict::Hung(console) => {
            bail!("kvm-lane: no verdict within the limit; the console ends with:\n{console}")
        }
    }
}

/// Builds the test programs as static binaries; gives their paths in order.
fn build_tests() -> Result<Vec<PathBuf>> {
    TESTS
        .iter()
        .map(|(package, test)| build_test(package, test))
        .collect()
}

fn build_test(package: &str, test: &str) -> Result<PathBuf> {
    let arguments = ["test", "--no-run", "--features", "kvm-lane", "--test", test];
    let messages = build(package, &arguments)?;
    executable(&messages, test, Role::Test)
        .with_context(|| format!("cargo named no test program `{test}` of {package}"))
}

/// Builds the command, which the tests call.
fn build_command() -> Result<PathBuf> {
    let messages = build(COMMAND, &["build", "--bin", COMMAND])?;
    executable(&messages, COMMAND, Role::Program)
        .with_context(|| format!("cargo named no program `{COMMAND}`"))
}

/// Builds a static program; gives cargo's messages.
fn build(package: &str, arguments: &[&str]) -> Result<String> {
    let mut command = sh::command("cargo", arguments);
    command
        .args(["--profile", "lane", "--target", TARGET])
        .args(["--package", package])
        .args(["--message-format", "json-render-diagnostics"])
        .env("RUSTFLAGS", STATIC)
        .stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cannot build {package} for the lane");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What cargo built a program as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Program,
    Test,
}

/// The program called `name` in cargo's messages.
fn executable(messages: &str, name: &str, role: Role) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_test = message["profile"]["test"] == (role == Role::Test);
        let named = message["target"]["name"] == name && is_test;
        let path = message["executable"].as_str()?;
        named.then(|| PathBuf::from(path))
    })
}

/// The lane's initramfs: the outer system, the tests, the guest's images and
/// the programs.
fn pack(base: &Base, tests: &[PathBuf], folder: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for name in [
        "bin",
        "dev",
        "proc",
        "sys",
        "tmp",
        "modules",
        "tests",
        "lane",
        "lane/target",
    ] {
        archive.folder(name);
    }
    archive.character_device("dev/console", 5, 1);
    archive.program("bin/busybox", &read(&base.busybox)?);
    for module in &base.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.program(&format!("modules/{name}"), &read(module)?);
    }
    archive.program("bin/exit", &build_exit(folder)?);
    for (path, (package, _)) in tests.iter().zip(TESTS) {
        archive.program(&format!("tests/{package}"), &stripped(path, folder)?);
    }
    let command = stripped(&build_command()?, folder)?;
    archive.program("lane/latefork", &command);
    archive.program("init", INIT.as_bytes());
    add_images(&mut archive)?;
    archive.program("lane/samples.json", &read(&folder.join("samples.json"))?);
    archive.folder("lane/corpora");
    add_folder(&mut archive, "corpora/regressions")?;
    archive.folder("lane/bench");
    add_folder(&mut archive, "bench/programs")?;
    Ok(archive.finish())
}

/// The guest's images, at their places of a checkout.
fn add_images(archive: &mut Archive) -> Result<()> {
    let names = [
        "hardened-fuzz/vmlinux",
        "faithful-fuzz/vmlinux",
        "agent/initramfs.cpio",
        "hardened.snapshot",
        "faithful.snapshot",
    ];
    archive.folder("lane/target/guest");
    for name in names {
        if let Some((folder, _)) = name.split_once('/') {
            archive.folder(&format!("lane/target/guest/{folder}"));
        }
        let path = sh::root().join("target/guest").join(name);
        archive.program(&format!("lane/target/guest/{name}"), &read(&path)?);
    }
    Ok(())
}

/// A folder of the repository with all below it.
fn add_folder(archive: &mut Archive, name: &str) -> Result<()> {
    archive.folder(&format!("lane/{name}"));
    let path = sh::root().join(name);
    let listing = fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
    let mut entries: Vec<PathBuf> = listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    entries.sort();
    for entry in entries {
        let file = entry.file_name().unwrap_or_default().to_string_lossy();
        let inner = format!("{name}/{file}");
        if entry.is_dir() {
            add_folder(archive, &inner)?;
        } else {
            archive.program(&format!("lane/{inner}"), &read(&entry)?);
        }
    }
    Ok(())
}

/// `program` without what only a debugger reads: it has to fit into memory.
fn stripped(program: &Path, folder: &Path) -> Result<Vec<u8>> {
    let to = folder.join("stripped");
    let (from, into) = (program.to_string_lossy(), to.to_string_lossy());
    sh::run(&mut sh::command("strip", &["-o", &into, &from]))?;
    read(&to)
}

fn build_exit(folder: &Path) -> Result<Vec<u8>> {
    let to = folder.join("exit");
    let into = to.to_string_lossy();
    sh::run(&mut sh::command(
        "cc",
        &["-static", "-Os", "-s", "-o", &into, EXIT_SOURCE],
    ))?;
    read(&to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_is_found_among_cargos_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"latefork_vmm\"},",
            "\"profile\":{\"test\":false},\"executable\":null}\n",
            "not a message\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"kvm\"},",
            "\"profile\":{\"test\":true},\"executable\":\"/t/kvm-1\"}\n",
        );
        assert_eq!(
            executable(messages, "kvm", Role::Test),
            Some(PathBuf::from("/t/kvm-1"))
        );
        assert_eq!(executable(messages, "kvm", Role::Program), None);
        assert_eq!(executable(messages, "soft", Role::Test), None);
    }

    #[test]
    fn only_reports_of_every_program_pass() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report.txt");
        let judged = |text: &str, verdict| {
            fs::write(&report, text).unwrap();
            judge(&verdict, &report).map_err(|error| error.to_string())
        };
        let both = "test result: ok. 9 passed\ntest result: ok. 3 passed\n";
        assert_eq!(judged(both, Verdict::Passed), Ok(12));
        let one = judged("test result: ok. 9 passed\n", Verdict::Passed);
        assert_eq!(one.unwrap_err(), "kvm-lane: 1 of 2 test programs reported");
        for verdict in [
            Verdict::Failed,
            Verdict::Died(String::new()),
            Verdict::Hung(String::new()),
        ] {
            assert!(judged(both, verdict).is_err());
        }
    }
}
