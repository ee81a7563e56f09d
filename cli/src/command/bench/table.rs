//! The report as a table for people.

use super::{Report, Spread, Timed};

/// Prints one line a measurement: median, 99th percentile, and QEMU's.
pub(super) fn print(report: &Report) {
    let qemu = report.host.qemu.as_deref().unwrap_or("not measured");
    println!("{}; load {}", report.host.processor, report.host.load);
    println!("QEMU: {qemu}");
    println!();
    println!(
        "{:<36} {:>12} {:>12} {:>12} {:>8}",
        "", "p50", "p99", "QEMU p50", "ratio"
    );
    let boot = &report.boot;
    let reset = &report.reset;
    let qemu_boot = boot.qemu_ready_bzimage.as_ref();
    both(
        "boot to the agent's hello (vmlinux)",
        &boot.hello.time,
        None,
    );
    both("boot to READY (vmlinux)", &boot.ready.time, qemu_boot);
    both(
        "boot to READY (bzImage)",
        &boot.ready_bzimage.time,
        qemu_boot,
    );
    both("start from the cached snapshot", &reset.start, None);
    line("reset", &reset.reset_us, report.qemu_loadvm_us.as_ref());
    line("execution", &reset.execution_us, None);
    println!();
    println!(
        "boot to READY: {} instructions, {:.0} million a second",
        boot.ready.instructions, boot.ready.million_instructions_per_second
    );
    println!(
        "execution ({} programs): {} instructions, {:.1} blocks decoded, {:.1} pages restored, {:.0} a second",
        reset.programs,
        reset.instructions_per_execution,
        reset.blocks_decoded_per_execution,
        reset.pages_per_reset,
        reset.executions_per_second
    );
    let memory = &report.memory;
    println!(
        "memory: {} KiB resident: guest RAM {}, snapshot {}, program {}, other {}",
        memory.resident_kib,
        memory.guest_ram_kib,
        memory.snapshot_kib,
        memory.program_kib,
        memory.other_kib
    );
}

/// Wall time, and below it time on a processor.
fn both(name: &str, ours: &Timed, qemu: Option<&Timed>) {
    line(name, &ours.wall_us, qemu.map(|qemu| &qemu.wall_us));
    let qemu = qemu.map(|qemu| &qemu.processor_us);
    line("  on a processor", &ours.processor_us, qemu);
}

fn line(name: &str, ours: &Spread, qemu: Option<&Spread>) {
    let (theirs, ratio) = match qemu {
        Some(qemu) => (time(qemu.p50), format!("{:.4}", ours.p50 / qemu.p50)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    println!(
        "{name:<36} {:>12} {:>12} {theirs:>12} {ratio:>8}",
        time(ours.p50),
        time(ours.p99)
    );
}

/// Microseconds as people read them.
fn time(micros: f64) -> String {
    if micros < 10_000.0 {
        format!("{micros:.1} us")
    } else {
        format!("{:.1} ms", micros / 1e3)
    }
}
