//! `cargo xtask guest-test`: the agent's self-test in QEMU.
//!
//! On hardened every scenario passes. On faithful exactly those fail that
//! `guest-agent/expected/faithful.txt` lists, each by the mechanism that
//! stands there. Both hold with QEMU counting instructions and without.
//!
//! The `sse` kernels run what looks at registers and per-task state (property
//! P6), on a processor with FXSR and SSE.

mod expected;
mod files;
mod tap;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::expected::Expected;
use self::files::Files;
use self::tap::{Report, Verdict};
use crate::kernel::variant::{Config, Flavour, Variant};
use crate::qemu::{self, Boot, Clock, Processor};
use crate::{initramfs, kernel, sh};

/// What is freed is poisoned, so that its use shows at once.
const POISON: &str = "slub_debug=FZP page_poison=1 debug_pagealloc=on";

/// How many random programs the agent must survive.
const RANDOM_PROGRAMS: u32 = 300;

/// Wall-clock limit of one boot: a backstop.
const LIMIT: Duration = Duration::from_secs(420);

/// Which self-test.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Only this flavour of the guest kernel
    #[arg(long, value_enum)]
    flavour: Option<Flavour>,
    /// Only this configuration: fuzz (every scenario), sse (those of P6)
    #[arg(long, value_enum)]
    config: Option<Config>,
    /// Only the scenario of this name; its trace is printed
    #[arg(long, value_name = "SCENARIO")]
    only: Option<String>,
    /// Only with this clock
    #[arg(long, value_enum)]
    clock: Option<Clock>,
    /// So many times each
    #[arg(long, value_name = "N", default_value_t = 1)]
    times: u32,
    /// A built kernel's folder under target/guest, instead of building one
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
}

/// Runs the self-test and judges it.
pub(crate) fn run(options: &Options) -> Result<()> {
    qemu::ensure()?;
    // Of its own: nobody builds another agent into a run that takes minutes.
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("initramfs.cpio");
    initramfs::build(&[], &archive)?;
    let flavours = match options.flavour {
        Some(flavour) => vec![flavour],
        None => vec![Flavour::Hardened, Flavour::Faithful],
    };
    let configs = match options.config {
        Some(config) => vec![config],
        None => vec![Config::Fuzz, Config::Sse],
    };
    for config in configs {
        for flavour in &flavours {
            test_kernel(*flavour, config, options, &archive)?;
        }
    }
    Ok(())
}

fn test_kernel(flavour: Flavour, config: Config, options: &Options, archive: &Path) -> Result<()> {
    let folder = match &options.image {
        Some(name) => sh::root().join("target/guest").join(name),
        None => kernel::build(&Variant::new(flavour, config, None)?)?,
    };
    let machine = Machine {
        kernel: &folder.join("bzImage"),
        initramfs: archive,
        flavour,
        config,
    };
    if let Some(only) = &options.only {
        return machine.show(only);
    }
    let expected = match flavour {
        Flavour::Hardened => Expected::default(),
        Flavour::Faithful => Expected::read("guest-agent/expected/faithful.txt")?,
    };
    let clocks = match options.clock {
        Some(clock) => vec![clock],
        // What SSE adds does not hang on the clock.
        None if config == Config::Sse => vec![Clock::Instructions],
        None => vec![Clock::Instructions, Clock::Host],
    };
    let name = machine.name();
    let mut first: Option<Report> = None;
    let repeated = (0..options.times.max(1)).flat_map(|_| &clocks);
    for clock in repeated {
        let report = machine.test(*clock)?;
        let expected = match config {
            Config::Sse => expected.clone().limited_to(&report),
            _ => expected.clone(),
        };
        let summary = expected
            .judge(&report)
            .with_context(|| format!("{name} with {}", clock.name()))?;
        println!("{name} with {}: {summary}", clock.name());
        match &first {
            None => first = Some(report),
            Some(first) => same_verdicts(first, &report)?,
        }
    }
    match (flavour, config) {
        (Flavour::Hardened, Config::Fuzz) => {
            machine.run_files()?;
            machine.survive()
        }
        // Faithful may end the machine: its defects are what programs hit.
        _ => Ok(()),
    }
}

/// A scenario that differs between the clocks is a defect of the scenario.
fn same_verdicts(first: &Report, second: &Report) -> Result<()> {
    let differs = first
        .scenarios()
        .iter()
        .zip(second.scenarios())
        .find(|(a, b)| a.name != b.name || a.verdict != b.verdict);
    match differs {
        Some((a, b)) => bail!(
            "scenario {} was {:?} at first and {:?} later",
            a.name,
            a.verdict,
            b.verdict
        ),
        None => Ok(()),
    }
}

struct Machine<'a> {
    kernel: &'a Path,
    initramfs: &'a Path,
    flavour: Flavour,
    config: Config,
}

impl Machine<'_> {
    fn name(&self) -> String {
        match self.config {
            Config::Fuzz => self.flavour.to_string(),
            config => format!("{}-{config}", self.flavour),
        }
    }

    fn boot(&self, clock: Clock, append: &str) -> Result<String> {
        self.boot_with(clock, &format!("latefork.selftest=1 {append}"))
    }

    fn boot_with(&self, clock: Clock, append: &str) -> Result<String> {
        // Faithful warns at its first blocked call; hardened never may.
        let warn = match self.flavour {
            Flavour::Hardened => "panic_on_warn=1",
            Flavour::Faithful => "panic_on_warn=0",
        };
        Boot {
            kernel: self.kernel,
            initramfs: self.initramfs,
            append: format!("{warn} {POISON} {append}"),
            clock,
            processor: match self.config {
                Config::Sse => Processor::PentiumThree,
                _ => Processor::Pentium,
            },
            limit: LIMIT,
        }
        .run()
    }

    /// Runs every scenario; after one that ends the machine, boots again and
    /// goes on with the next.
    fn test(&self, clock: Clock) -> Result<Report> {
        let mut report = Report::default();
        let chosen = match self.config {
            Config::Sse => "latefork.property=P6",
            _ => "",
        };
        loop {
            let append = format!("latefork.first={} {chosen}", report.next());
            let console = self.boot(clock, &append)?;
            // Else the registers of P6 were compared without SSE.
            let sse = u32::from(self.config == Config::Sse);
            if !console.contains(&format!(" sse={sse}\n")) {
                bail!("the agent does not say sse={sse}:\n{}", tail(&console));
            }
            let before = report.next();
            report.add(&console)?;
            if report.is_complete() {
                return Ok(report);
            }
            if report.next() == before {
                bail!(
                    "the guest ended before a scenario began:\n{}",
                    tail(&console)
                );
            }
        }
    }

    /// Runs programs from the initramfs, good ones and bad ones.
    fn run_files(&self) -> Result<()> {
        let files = Files::new()?;
        let archive = tempfile::NamedTempFile::new()?;
        initramfs::build(&files.paths(), archive.path())?;
        let machine = Machine {
            initramfs: archive.path(),
            ..*self
        };
        let argument = format!("latefork.run={}", files.argument());
        let console = machine.boot_with(Clock::Instructions, &argument)?;
        let count = files.judge(&console)?;
        println!("hardened: {count} files from the initramfs, each run or refused in one line");
        Ok(())
    }

    /// Runs random programs: the agent reports an end of each.
    fn survive(&self) -> Result<()> {
        let console = self.boot_with(
            Clock::Instructions,
            &format!("latefork.random={RANDOM_PROGRAMS}"),
        )?;
        if !console.contains("# random programs without an end: 0\n") {
            bail!(
                "the agent did not survive random programs:\n{}",
                tail(&console)
            );
        }
        println!("hardened: {RANDOM_PROGRAMS} random programs, each with an end");
        Ok(())
    }

    fn show(&self, only: &str) -> Result<()> {
        let console = self.boot(
            Clock::Instructions,
            &format!("latefork.only={only} latefork.trace=1"),
        )?;
        print!("{console}");
        let mut report = Report::default();
        report.add(&console)?;
        let found = report.scenarios().iter().find(|found| found.name == only);
        match found.map(|found| found.verdict) {
            Some(Verdict::Passed) => Ok(()),
            Some(verdict) => bail!("scenario {only}: {verdict:?}"),
            None => bail!("there is no scenario {only}"),
        }
    }
}

fn tail(console: &str) -> String {
    let lines: Vec<_> = console.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
