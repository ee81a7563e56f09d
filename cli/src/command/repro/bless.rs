//! `latefork repro --bless`: headers of regressions, written from what happens.

use anyhow::{Result, bail};
use latefork_harness::replay::regression::{Expectations, Expected, FLAVOURS};
use latefork_harness::replay::sidecar::write_whole;
use latefork_harness::replay::{Artifact, Record, replay};

use super::{Options, Worst, line};
use crate::lab::Lab;

/// Writes what a regression gives on each flavour into its header.
pub(super) fn bless(lab: &mut Lab, options: &Options, artifact: &Artifact) -> Result<Worst> {
    let Record::Regression(header) = &artifact.record else {
        bail!("no regression: its header lacks `#: ordered: WHY` or `#: timed: WHY`");
    };
    let mut expected = Vec::new();
    for flavour in FLAVOURS {
        let wanted = lab.flavour(flavour);
        let station = lab.open(&wanted)?;
        let first = replay(&mut station.executor, &artifact.program)?.outcome;
        for time in 2..=options.times {
            let again = replay(&mut station.executor, &artifact.program)?.outcome;
            if again != first {
                bail!("not blessed: run {time} on {flavour} gave {}", line(&again));
            }
        }
        expected.push(Expected::of(flavour, &first));
    }
    if header.expected == expected {
        println!("{}: as it was", artifact.path.display());
        return Ok(Worst::Reproduced);
    }
    println!("{}: blessed", artifact.path.display());
    for (sign, side) in [("-", &header.expected), ("+", &expected)] {
        let other = if sign == "-" {
            &expected
        } else {
            &header.expected
        };
        for one in side.iter().filter(|one| !other.contains(one)) {
            println!("  {sign} {} {}", one.flavour, one.verdict);
            one.signatures
                .iter()
                .for_each(|s| println!("  {sign}   {s}"));
        }
    }
    let text = std::fs::read_to_string(&artifact.path)?;
    let text = Expectations::bless(&text, &expected);
    write_whole(&artifact.path, text.as_bytes())?;
    Ok(Worst::Reproduced)
}
