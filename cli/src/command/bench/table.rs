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
    let qemu = report.qemu.as_ref().map(|qemu| &qemu.instruction_clock);
    line(
        "reset after a program",
        &reset.reset_us,
        qemu.map(|qemu| &qemu.loadvm_us),
    );
    line(
        "execution of a program",
        &reset.execution_us,
        qemu.map(|qemu| &qemu.execution_us),
    );
    line("round trip of the empty program", &reset.empty_us, None);
    println!();
    executions(report);
    println!();
    profile(report);
    println!();
    programs(reset);
    println!();
    println!(
        "boot to READY: {} instructions, {:.0} million a second",
        boot.ready.instructions, boot.ready.million_instructions_per_second
    );
    let memory = &report.memory;
    println!(
        "memory: {} KiB resident: guest RAM {}, snapshot {}, program {}, heap {}, stack {}, other {}",
        memory.resident_kib,
        memory.guest_ram_kib,
        memory.snapshot_kib,
        memory.program_kib,
        memory.heap_kib,
        memory.stack_kib,
        memory.other_kib
    );
}

/// Executions a second, and QEMU's.
fn executions(report: &Report) {
    let ours = &report.reset.throughput;
    println!(
        "executions a second (reset, run, verdict): {:.0}, on a processor {:.0}; {} of {} not clean",
        ours.per_second, ours.per_processor_second, ours.not_clean, ours.executions
    );
    let Some(qemu) = &report.qemu else {
        return;
    };
    for (name, theirs) in [
        ("the host's clock", qemu.host_clock.per_second),
        ("-icount, idle skipped", qemu.instruction_clock.per_second),
    ] {
        println!(
            "  QEMU (loadvm, run; {name}): {theirs:.1}; ours is {:.1} times as many",
            ours.per_second / theirs
        );
    }
}

/// Where instructions go.
fn profile(report: &Report) {
    println!(
        "{:<36} {:>12} {:>8} {:>12}",
        "instructions of the mean program", "", "%", "the empty one"
    );
    for share in &report.profile {
        println!(
            "  {:<34} {:>12} {:>8.1} {:>12}",
            share.part, share.instructions, share.percent, share.of_empty
        );
    }
}

fn programs(reset: &super::reset::Report) {
    println!(
        "{:<36} {:>12} {:>8} {:>8} {:>10} {:>10} {:>10}",
        "program", "instructions", "pages", "blocks", "reset p50", "reset p99", "run p50"
    );
    for program in &reset.programs {
        println!(
            "{:<36} {:>12} {:>8.1} {:>8.2} {:>10} {:>10} {:>10}",
            program.name,
            program.instructions,
            program.pages,
            program.blocks,
            time(program.reset_us.p50),
            time(program.reset_us.p99),
            time(program.execution_us.p50)
        );
    }
    println!(
        "{:<36} {:>12} {:>8.1} {:>8.2} {:>10} {:>10} {:>10}",
        "all",
        reset.instructions_per_execution,
        reset.pages_per_reset,
        reset.blocks_decoded_per_execution,
        time(reset.reset_us.p50),
        time(reset.reset_us.p99),
        time(reset.execution_us.p50)
    );
    println!(
        "{:<36} {:>12} {:>8} {:>8} {:>10} {:>10} {:>10}",
        "(empty)",
        reset.instructions_of_empty,
        "",
        "",
        "",
        "",
        time(reset.empty_us.p50)
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
