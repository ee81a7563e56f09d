//! `/init` of the guest: runs programs against the async call and reports
//! what it saw.
//!
//! Roles, all of one image: init (boots, supervises, talks to the host), the
//! helper (serves FUSE, acts on the victim from outside), the victim (runs a
//! program), and what a victim executes.
//!
//! On an ordinary Linux it runs as `init run FILE [control]` and prints the
//! trace of the program in FILE.

#![no_std]
#![no_main]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a system call's registers are what they are: 32 bits, signed or not"
)]

mod boot;
mod console;
mod files;
mod fuse;
mod helper;
mod interp;
mod kernel;
mod leak;
mod link;
mod memory;
mod random;
mod rt;
mod selftest;
mod shared;
mod supervise;
mod sys;
mod tasks;
mod victim;

use latefork_wire::frame::{Flavour, RunOptions};
use latefork_wire::trace::Detail;

use crate::shared::Reporter;

/// The entry, with the stack as the kernel left it: argc, argv, 0, envp.
#[unsafe(no_mangle)]
extern "C" fn agent_main(stack: *const u32) -> ! {
    // SAFETY: it is that stack.
    unsafe { rt::note_capabilities(stack) };
    kernel::find_shown();
    let argument = |at: usize| {
        // SAFETY: argc words of argv follow argc; each points to a string
        // that ends in a zero.
        unsafe {
            if at >= *stack as usize {
                return "";
            }
            let start = *stack.add(1 + at) as *const u8;
            let len = (0..4096).find(|len| *start.add(*len) == 0).unwrap_or(0);
            core::str::from_utf8(core::slice::from_raw_parts(start, len)).unwrap_or("")
        }
    };
    if argument(0) == interp::EXECUTED {
        executed();
    }
    if sys::getpid() == 1 {
        boot::run();
    }
    match (argument(1), argument(2)) {
        ("run", path) if !path.is_empty() => on_host(path, argument(3) == "control"),
        _ => {
            console::line(format_args!("usage: init run FILE [control]"));
            sys::exit_group(2)
        }
    }
}

/// The image that a victim executed: says that it runs, and who is with it.
fn executed() -> ! {
    if memory::map_shared().is_ok() {
        let pid = sys::getpid();
        let tasks = tasks::list(pid, |_| {});
        let descriptors = (0..64).filter(|fd| sys::call(221, &[*fd, 1]) >= 0);
        Reporter::AGENT.report_as(
            pid,
            Detail::Executed {
                pid,
                tasks: tasks as u32,
                descriptors: descriptors.count() as u32,
            },
        );
    }
    sys::exit_group(42)
}

/// Runs one program on whatever Linux this is, without FUSE.
fn on_host(path: &str, control: bool) -> ! {
    let made = memory::make_shared().and_then(|()| memory::make_cells());
    if let Err(error) = made {
        console::line(format_args!("init: cannot map its memory ({error})"));
        sys::exit_group(1);
    }
    boot::start_helper(None);
    let _ = memory::make_victim();
    let mut supervisor = supervise::Supervisor::new();
    supervisor.park_victim();
    let options = RunOptions {
        flavour: if control {
            Flavour::Control
        } else {
            Flavour::Async
        },
        ..RunOptions::default()
    };
    let done = boot::run_file(&mut supervisor, path, &options);
    sys::exit_group(u32::from(!done))
}
