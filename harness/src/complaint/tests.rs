//! Consoles with and without complaints.

use super::*;

fn check(console: &str, expected: &[(&str, &[&str])]) {
    let found = complaints(console);
    let seen: Vec<(&str, Vec<&str>)> = found
        .iter()
        .map(|c| {
            (
                c.title.as_str(),
                c.frames.iter().map(String::as_str).collect(),
            )
        })
        .collect();
    let expected: Vec<(&str, Vec<&str>)> = expected
        .iter()
        .map(|(title, frames)| (*title, frames.to_vec()))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn an_ordinary_console_has_none() {
    check(
        "Linux version 6.12.117\nCPU: vendor_id 'LateforkSoft' unknown, using generic init.\n\
         CPU: Your system may be unstable.\nprintk: debug: ignoring loglevel setting.\n\
         [    0.012345] Run /init as init process\nrandom: crng init done\n",
        &[],
    );
}

#[test]
fn an_oops_and_its_panic_are_one_complaint() {
    check(
        "[    0.120000] BUG: kernel NULL pointer dereference, address: 00000014\n\
         [    0.120000] #PF: supervisor read access in kernel mode\n\
         [    0.120000] #PF: error_code(0x0000) - not-present page\n\
         [    0.120000] *pde = 00000000 \n\
         [    0.120000] Oops: Oops: 0000 [#1] PREEMPT\n\
         [    0.120000] CPU: 0 UID: 1000 PID: 41 Comm: victim Not tainted 6.12.117 #1\n\
         [    0.120000] EIP: filename_lookup+0x52/0x140\n\
         [    0.120000] Code: 8b 40 14 85 c0 74 07\n\
         [    0.120000] EAX: 00000000 EBX: c1e3bf2c ECX: 00000001 EDX: 00000000\n\
         [    0.120000] Call Trace:\n\
         [    0.120000]  ? show_regs+0x50/0x60\n\
         [    0.120000]  path_openat+0x1b/0x200\n\
         [    0.120000]  do_filp_open.isra.0+0x61/0xd0\n\
         [    0.120000]  do_sys_openat2+0x61/0xd0\n\
         [    0.120000] ---[ end trace 0000000000000000 ]---\n\
         [    0.120000] Kernel panic - not syncing: Fatal exception\n",
        &[(
            "BUG: kernel NULL pointer dereference, address",
            &["filename_lookup", "path_openat", "do_filp_open"],
        )],
    );
}

#[test]
fn a_warning_is_known_by_its_function_not_its_line() {
    let one = "------------[ cut here ]------------\n\
         do not call blocking ops when !TASK_RUNNING; state=1 set at [<c0177f5a>] 0xc0177f5a\n\
         WARNING: CPU: 0 PID: 40 at kernel/sched/core.c:8451 __might_sleep+0x5e/0x80\n\
         CPU: 0 UID: 0 PID: 40 Comm: victim Not tainted 6.12.117 #1\n\
         EIP: __might_sleep+0x5e/0x80\n\
         Call Trace:\n ? show_regs+0x50/0x60\n kmem_cache_alloc_noprof+0x3a/0x1f0\n \
         dup_task_struct+0x2a/0x1b0\n copy_process+0x90/0x1000\n kernel_clone+0x90/0x300\n";
    let other = one.replace("8451", "8460").replace("PID: 40", "PID: 77");
    let expected: &[(&str, &[&str])] = &[(
        "WARNING: at kernel/sched/core.c __might_sleep",
        &["kmem_cache_alloc_noprof", "dup_task_struct", "copy_process"],
    )];
    check(one, expected);
    check(&other, expected);
    let signature = complaints(one)[0].signature();
    assert_eq!(
        signature,
        "WARNING: at kernel/sched/core.c __might_sleep | kmem_cache_alloc_noprof \
         | dup_task_struct | copy_process"
    );
}

#[test]
fn a_panic_by_itself_and_other_reports_have_titles() {
    check(
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n",
        &[(
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
            &[],
        )],
    );
    check(
        "INFO: task victim:41 blocked for more than 2 seconds.\n",
        &[("INFO: task victim blocked for more than seconds.", &[])],
    );
    check(
        "BUG kmalloc-64 (Not tainted): Poison overwritten\n",
        &[("BUG kmalloc-64 (Not tainted): Poison overwritten", &[])],
    );
}

#[test]
fn two_different_complaints_stay_two() {
    check(
        "WARNING: CPU: 0 PID: 4 at a.c:1 one+0x1/0x2\nCall Trace:\n a+0x1/0x2\n\
         BUG: scheduling while atomic: victim/41/0x00000002\nCall Trace:\n b+0x1/0x2\n",
        &[
            ("WARNING: at a.c one", &["one", "a"]),
            ("BUG: scheduling while atomic: victim/41/0x00000002", &["b"]),
        ],
    );
}

#[test]
fn any_text_has_a_bounded_title() {
    let long = format!("BUG: {}\n", "ä".repeat(500));
    let found = complaints(&long);
    assert!(found[0].title.len() <= LONGEST_TITLE);
}

#[test]
fn addresses_in_brackets_and_lines_of_bugs_are_left_out() {
    let console = |address: &str, line: u32| {
        format!(
            "list_del corruption. prev->next should be {address}, but was 00000000. (prev={address})\n\
             kernel BUG at lib/list_debug.c:{line}!\n"
        )
    };
    let one = complaints(&console("c0c3a2ac", 62));
    assert_eq!(one, complaints(&console("c1d3a30c", 65)));
    let titles: Vec<&str> = one.iter().map(|known| known.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "list_del corruption. prev->next should be but was prev",
            "kernel BUG at lib/list_debug.c"
        ]
    );
}
