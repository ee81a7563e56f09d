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

/// Time that the threads of process `pid` ("self" for this one) spent on a
/// processor: what a busy host does not stretch. Zero where /proc does not say.
pub(crate) fn processor_time(pid: &str) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let nanos = tasks.flatten().filter_map(|task| {
        // The first field is nanoseconds (Linux Documentation/scheduler/sched-stats.rst).
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
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

/// Resident KiB of the mappings of this process for which `wanted` holds, by
/// their first address and the rest of their line in /proc/self/smaps.
pub(crate) fn mapping_kib(wanted: impl Fn(u64, &str) -> bool) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut counted = false;
    let mut total = 0;
    for line in smaps.lines() {
        let word = line.split(' ').next().unwrap_or_default();
        if let Some((start, _)) = word.split_once('-') {
            let start = u64::from_str_radix(start, 16).unwrap_or(0);
            counted = wanted(start, line);
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| counted) {
            let size = size.trim().trim_end_matches(" kB");
            total += size.parse::<u64>().unwrap_or(0);
        }
    }
    total
}
