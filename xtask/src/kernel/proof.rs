//! `cargo xtask kernel --test`: boots an image in QEMU with the small `/init`
//! of `guest-kernel/tests/` and judges what it prints.

mod complaints;
mod guest;
mod places;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use self::guest::Guest;
use self::places::Places;
use super::variant::{Config, Flavour, Variant};
use crate::qemu::{Clock, Run};
use crate::sh;

/// Runs in which the map of one program must be the same.
const MAP_RUNS: usize = 20;

/// Runs the tests on the image in the folder `image`.
///
/// # Errors
/// When a test that the flavour passes fails, when one that faithful is known
/// to fail passes or fails otherwise, when the map of edges is not the same in
/// every run, or when a complaint does not reach the panic port.
pub(crate) fn run(variant: &Variant, image: &Path) -> Result<()> {
    let guest = Guest::new(variant, image)?;
    let known = match variant.flavour() {
        Flavour::Faithful => read_known(&tests().join("faithful.known"))?,
        Flavour::Hardened => BTreeMap::new(),
    };
    for clock in [Clock::Instructions, Clock::Host] {
        let run = guest.tests(clock)?;
        judge(&run.console, &known)
            .and_then(|()| silent(variant, &run))
            .with_context(|| format!("{}; the console:\n{}", clock.name(), run.console))?;
    }
    println!("tests: {} known to fail, all others pass", known.len());

    let maps = side_by_side(&[(); MAP_RUNS], |()| guest.map())?;
    for map in &maps {
        ensure!(
            *map == maps[0],
            "the map differs between runs: {} / {map}",
            maps[0]
        );
    }
    println!("map: the same in {MAP_RUNS} runs: {}", maps[0]);
    let places = Places::of(&image.join("vmlinux"))?;
    println!(
        "places: {} counted, {} distinct hashes of 65536",
        places.all, places.distinct
    );
    let proven = complaints::prove(variant, &guest)?;
    println!("complaints: {proven} ways to provoke one end at port 0x505, their text before it");
    Ok(())
}

/// Does `job` with each of `inputs`, on as many threads as there are
/// processors; the results stand as the inputs do.
fn side_by_side<T: Sync, R: Send>(
    inputs: &[T],
    job: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let share = inputs
        .len()
        .div_ceil(thread::available_parallelism()?.get());
    thread::scope(|scope| {
        let started: Vec<_> = inputs
            .chunks(share.max(1))
            .map(|part| scope.spawn(|| part.iter().map(&job).collect::<Result<Vec<_>>>()))
            .collect();
        let mut results = Vec::new();
        for thread in started {
            match thread.join() {
                Ok(part) => results.extend(part?),
                Err(_) => bail!("a thread of the proof panicked"),
            }
        }
        Ok(results)
    })
}

/// Hardened complains of nothing, and lockdep was there to look.
fn silent(variant: &Variant, run: &Run) -> Result<()> {
    if variant.flavour() == Flavour::Hardened {
        ensure!(
            run.code == Some(0),
            "the kernel complained: the panic port ended QEMU with {:?}",
            run.code
        );
    }
    if variant.config() == Config::Lockdep {
        for line in ["lockdep: on", "kmemleak: nothing"] {
            ensure!(
                run.console.lines().any(|found| found == line),
                "`{line}` is not there"
            );
        }
    }
    Ok(())
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
    fn jobs_side_by_side_keep_their_order_and_report_a_failure() {
        let numbers: Vec<u32> = (0..7).collect();
        let doubled = side_by_side(&numbers, |number| Ok(number * 2)).unwrap();
        assert_eq!(doubled, [0, 2, 4, 6, 8, 10, 12]);
        side_by_side(&numbers, |number| {
            ensure!(*number != 5, "five");
            Ok(())
        })
        .unwrap_err();
    }

    #[test]
    fn a_run_that_stops_early_fails() {
        assert!(!check("", &[]));
        assert!(!check("1..2\nok 1 - a\n", &[]));
        assert!(!check("1..2\nok 2 - a\nok 1 - b\n", &[]));
    }
}
