//! The condition and the patch that plants it.

use std::fmt::{self, Write as _};

use anyhow::{Result, bail};

use crate::cpu_diff::rng::Rng;

/// One way that an async call can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// The descriptor, as the kernel's header names it.
    call: &'static str,
    /// Whether it has forked.
    forked: bool,
    /// The value that goes into the status, as an expression in C.
    value: &'static str,
}

const fn step(call: &'static str, forked: bool, value: &'static str) -> Step {
    Step {
        call,
        forked,
        value,
    }
}

const OK: &str = "ret >= 0";
const FAULT: &str = "ret == -EFAULT";
const ERROR: &str = "ret < 0 && ret != -EFAULT";

/// What a condition is made of: ways that calls go without help from other
/// steps, so that each is about as far away as the next.
const POOL: [Step; 17] = [
    step("STAT64", false, OK),
    step("STAT64", false, ERROR),
    step("STAT64", false, FAULT),
    step("READ", false, ERROR),
    step("WRITE", false, ERROR),
    step("OPEN", false, OK),
    step("OPEN", false, ERROR),
    step("ACCESS", false, OK),
    step("ACCESS", false, ERROR),
    step("FSYNC", false, ERROR),
    step("CLOCK_NANOSLEEP", true, OK),
    step("CLOCK_NANOSLEEP", false, ERROR),
    step("RECVFROM", false, ERROR),
    step("WAIT4", false, ERROR),
    step("SEMTIMEDOP", false, OK),
    step("FCNTL64", false, ERROR),
    step("SPLICE", false, ERROR),
];

/// Calls that have to go a certain way, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Condition {
    seed: u64,
    steps: Vec<Step>,
}

impl Condition {
    /// Draws `steps` calls, each of another descriptor.
    pub(super) fn draw(seed: u64, steps: usize) -> Result<Self> {
        let mut rng = Rng::new(seed);
        let mut pool = POOL.to_vec();
        let mut drawn: Vec<Step> = Vec::new();
        while drawn.len() < steps {
            if pool.is_empty() {
                bail!("--steps {steps}: there are not that many descriptors to draw from");
            }
            let step = rng.pick(&pool);
            pool.retain(|other| other.call != step.call);
            drawn.push(step);
        }
        Ok(Self { seed, steps: drawn })
    }

    /// A patch of `kernel/async_call.c` as hardened has it.
    pub(super) fn patch(&self) -> String {
        let planted = self.functions();
        let added = planted.lines().count();
        let mut patch = format!(
            "Subject: planted: panic after {} calls in order\n\n{self}\n\n\
             diff --git a/kernel/async_call.c b/kernel/async_call.c\n\
             --- a/kernel/async_call.c\n+++ b/kernel/async_call.c\n\
             @@ -280,2 +280,{} @@\n \n",
            self.steps.len(),
            added + 2,
        );
        for line in planted.lines() {
            let _ = writeln!(patch, "+{line}");
        }
        let _ = write!(
            patch,
            " static long do_async(struct pt_regs *cookie, unsigned int index,\n\
             @@ -310,2 +{},3 @@\n \
             \tharness_async_done(index, ret);\n\
             +\tplanted_look(index, async_is_worker(current), ret);\n \n",
            310 + added,
        );
        patch
    }

    /// A function a step, which the compiler cannot join with its caller: each
    /// is a place of its own in the map.
    fn functions(&self) -> String {
        let last = self.steps.len() - 1;
        let mut text = String::from("static unsigned int planted;\n\n");
        for number in 0..last {
            let next = number + 1;
            let _ = write!(
                text,
                "static noinline void planted_{next}(void)\n{{\n\tplanted = {next};\n}}\n\n"
            );
        }
        text.push_str(
            "static noinline void planted_look(unsigned int index, bool forked, int ret)\n{\n\
             \tswitch (planted) {\n",
        );
        for (number, step) in self.steps.iter().enumerate() {
            let then = match number == last {
                true => "panic(\"planted condition reached\")".to_owned(),
                false => format!("planted_{}()", number + 1),
            };
            let forked = if step.forked { "forked" } else { "!forked" };
            let _ = write!(
                text,
                "\tcase {number}:\n\t\tif (index == ASYNC_{} && {forked} && {})\n\
                 \t\t\t{then};\n\t\tbreak;\n",
                step.call, step.value
            );
        }
        text.push_str("\t}\n}\n\n");
        text
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {:#x}:", self.seed)?;
        for (number, step) in self.steps.iter().enumerate() {
            let then = if number == 0 { "" } else { ", then" };
            let how = if step.forked {
                "forks"
            } else {
                "does not fork"
            };
            write!(f, "{then} {} {how} with {}", step.call, step.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_calls_and_each_once() {
        let condition = Condition::draw(7, 5).unwrap();
        assert_eq!(Condition::draw(7, 5).unwrap(), condition);
        assert_ne!(Condition::draw(8, 5).unwrap().steps, condition.steps);
        let mut calls: Vec<_> = condition.steps.iter().map(|step| step.call).collect();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), 5);
        Condition::draw(7, 100).unwrap_err();
    }

    #[test]
    fn the_patch_applies_to_the_source_that_hardened_has() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kernel/async_call.c");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let source = "}\n\n\
            static long do_async(struct pt_regs *cookie, unsigned int index,\n\
            \t\t     int __user *status)\n{\n\tput_user(ret, status);\n\
            \tharness_async_done(index, ret);\n\n\tif (async_is_worker(current))\n}\n";
        std::fs::write(&file, source).unwrap();
        let patch = folder.path().join("one.patch");
        std::fs::write(&patch, Condition::draw(7, 3).unwrap().patch()).unwrap();
        let output = std::process::Command::new("patch")
            .args([
                "--strip=1",
                "--fuzz=0",
                "--batch",
                "--forward",
                "--directory",
            ])
            .arg(folder.path())
            .arg("--input")
            .arg(&patch)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let patched = std::fs::read_to_string(&file).unwrap();
        assert!(patched.contains("\t\tif (index == ASYNC_"), "{patched}");
        let call = "\tharness_async_done(index, ret);\n\tplanted_look(index, ";
        assert!(patched.contains(call), "{patched}");
        assert_eq!(patched.matches("noinline").count(), 3);
    }
}
