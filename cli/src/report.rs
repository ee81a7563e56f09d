//! Numbers for reports.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// Prints `value` on standard output, as JSON that people can read too.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Milliseconds, with their fraction.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// `count` a second; 0 if no time passed.
#[allow(clippy::cast_precision_loss, reason = "a report shows a few digits")]
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// Memory of this process that lies in RAM, in KiB; 0 where /proc does not say.
pub(crate) fn resident_kib() -> u64 {
    status_kib("VmRSS:")
}

/// A field of /proc/self/status that is in KiB.
fn status_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
