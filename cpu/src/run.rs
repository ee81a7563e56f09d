//! The run loop: blocks at full speed, single instructions where something
//! has to be looked at between two of them.

mod fetch;
mod single;

use fetch::FetchPage;

use crate::Cpu;
use crate::address::Instructions;
use crate::block::Block;
use crate::decode::Extent;
use crate::exception::ExceptionClass;
use crate::exit::Exit;
use crate::memory::Memory;
use crate::op::{Flow, Op};
use crate::segment::seg;
use crate::state::{Core, Raised, Shadow, Stop};
use crate::system;

/// Why the block loop gives up control.
enum Pause {
    /// Look for interrupts and the like, then go on.
    Boundary,
    /// Execute one instruction alone first.
    Single,
    /// Leave `run`.
    Exit(Exit),
}

/// Executes ops until one does not go on with the next; returns the last one.
#[inline(always)]
fn execute<'a>(core: &mut Core, memory: &Memory<'_>, ops: &'a [Op]) -> (Flow, &'a Op) {
    for op in ops {
        let flow = (op.handler)(core, memory, op);
        if flow != Flow::Next {
            return (flow, op);
        }
    }
    (Flow::Next, &ops[0])
}

impl Cpu {
    /// Executes until `budget` instructions have been retired or something
    /// needs the host. The budget is kept exactly; a budget of 0 only looks
    /// whether an interrupt could be taken. A delivered interrupt counts as an
    /// instruction.
    pub fn run(&mut self, memory: &Memory<'_>, budget: Instructions) -> Exit {
        let deadline = self.core.retired.saturating_add(budget.0);
        self.core.deadline = deadline;
        self.core.io.resume();
        let mut resumed = self.core.io.in_progress();
        loop {
            self.core.deadline = deadline;
            if !resumed && let Some(exit) = self.boundary(memory) {
                return exit;
            }
            let pause = if resumed || self.core.needs_single_steps() {
                resumed = false;
                self.single(memory)
            } else if self.core.hooks.breakpoints.is_empty() {
                self.blocks::<false>(memory)
            } else {
                self.blocks::<true>(memory)
            };
            let pause = match pause {
                Pause::Single => self.single(memory),
                other => other,
            };
            if let Pause::Exit(exit) = pause {
                return exit;
            }
        }
    }

    /// What is looked at between instructions.
    fn boundary(&mut self, memory: &Memory<'_>) -> Option<Exit> {
        let core = &mut *self.core;
        if let Some(vector) = core.pending_vector {
            // A delivery counts, as a fault does: else a guest whose handlers
            // are interrupted before their first instruction would run forever.
            if core.retired >= core.deadline {
                return Some(Exit::Budget);
            }
            core.stepping = true;
            let delivered = system::deliver_interrupt(core, memory, vector);
            core.stepping = false;
            if delivered.is_err() {
                let exit = core.exit_of_stop();
                self.drop_written(memory);
                return Some(exit);
            }
            core.pending_vector = None;
            core.retired += 1;
            core.halted = false;
            core.shadow = Shadow::None;
            core.io.clear();
            self.drop_written(memory);
        }
        let core = &mut *self.core;
        if core.interrupt_line && core.interrupts_enabled() && core.shadow == Shadow::None {
            return Some(Exit::InterruptWindow);
        }
        if core.halted {
            return Some(Exit::Halted);
        }
        (core.retired >= core.deadline).then_some(Exit::Budget)
    }

    /// Drops the blocks that instructions have written to.
    fn drop_written(&mut self, memory: &Memory<'_>) {
        while let Some((address, len)) = self.core.code.written.pop() {
            self.cache.written(&mut self.core, memory, address, len);
        }
    }

    /// Executes whole blocks; with `BREAKPOINTS`, only those that have none.
    fn blocks<const BREAKPOINTS: bool>(&mut self, memory: &Memory<'_>) -> Pause {
        self.core.shadow = Shadow::None;
        let mut fetch = FetchPage::NONE;
        let mut index = match self.enter(memory, &mut fetch, Extent::Block) {
            Ok(index) => index,
            Err(raised) => return self.raised_between(memory, raised),
        };
        loop {
            let core = &mut *self.core;
            let block = self.cache.block(index);
            if !core.has_room_for(block) || BREAKPOINTS && core.has_breakpoint_in(block) {
                return if core.retired < core.deadline {
                    Pause::Single
                } else {
                    Pause::Boundary
                };
            }
            let (flow, op) = execute(core, memory, block.ops);
            let link = if flow == Flow::Next {
                core.eip = core.eip.wrapping_add(block.len());
                core.retired += u64::from(block.count());
                block.link()
            } else if flow <= Flow::Indirect {
                // Modulo 2^64: an op that jumps early has taken some off.
                let retired = u64::from(op.ordinal) + u64::from(op.retires);
                core.retired = core.retired.wrapping_add(retired);
                &op.link
            } else if flow == Flow::End && core.goes_on_after(op) {
                core.retired += u64::from(op.ordinal) + 1;
                core.shadow = Shadow::None;
                fetch = FetchPage::NONE;
                &op.link
            } else {
                let op = op.clone();
                return self.left(memory, flow, &op);
            };
            // The same way as last time, or some other known block?
            if let Some(key) = fetch.follow(core) {
                let hint = link.get();
                if self.cache.is(hint, key) {
                    index = hint;
                    continue;
                }
                if let Some(known) = self.cache.jumped_to(key) {
                    link.set(known);
                    index = known;
                    continue;
                }
            }
            if core.retired >= core.deadline {
                // Nothing of the next instruction may show: neither a fault
                // of its fetch nor an accessed bit.
                return Pause::Boundary;
            }
            index = match self.enter(memory, &mut fetch, Extent::Block) {
                Ok(next) => next,
                Err(raised) => return self.raised_between(memory, raised),
            };
        }
    }

    /// Leaves the block loop after `op` for the reason in `flow`.
    #[inline]
    fn left(&mut self, memory: &Memory<'_>, flow: Flow, op: &Op) -> Pause {
        let core = &mut *self.core;
        core.retired += u64::from(op.ordinal);
        if flow == Flow::End {
            core.retired += 1;
            self.drop_written(memory);
            return Pause::Boundary;
        }
        let done = std::mem::take(&mut core.done);
        core.retired += u64::from(done.count);
        core.eip = op.start_eip(core).wrapping_add(u32::from(done.bytes));
        if flow == Flow::Again {
            return Pause::Boundary;
        }
        self.raised(memory)
    }

    /// An exception of the fetch at `Core::eip`. With the budget spent it is
    /// left for the next run, which fetches again.
    fn raised_between(&mut self, memory: &Memory<'_>, _: Raised) -> Pause {
        if self.core.retired >= self.core.deadline {
            self.core.take_stop();
            return Pause::Boundary;
        }
        self.raised(memory)
    }

    /// Handles `Core::stop`; EIP and the count of retired instructions are up
    /// to date.
    fn raised(&mut self, memory: &Memory<'_>) -> Pause {
        let core = &mut *self.core;
        let mut stop = core.take_stop();
        if let Stop::Exception(exception) = stop {
            let (shadow, held) = (core.shadow, core.debug_hits);
            core.shadow = Shadow::None;
            core.hooks.hit = None;
            if system::deliver_exception(core, memory, exception).is_ok() {
                // A fault counts like the instruction that it took the
                // place of: else a guest whose handlers fault at their
                // first instruction would run forever within a budget.
                if exception.class() != ExceptionClass::Trap {
                    core.retired += 1;
                }
                core.io.clear();
            } else {
                core.shadow = shadow;
                core.debug_hits = held;
            }
            stop = core.take_stop();
            if stop == Stop::None {
                self.drop_written(memory);
                return Pause::Boundary;
            }
        }
        // The instruction starts again: from the bytes that are there then.
        self.drop_written(memory);
        match stop {
            Stop::Exit(exit) => {
                self.core.io.used = 0;
                Pause::Exit(exit)
            }
            _ => Pause::Single,
        }
    }
}

impl Core {
    /// Whether all of a block may run: inside the budget and the code segment.
    #[inline(always)]
    fn has_room_for(&self, block: Block<'_>) -> bool {
        let last = self.eip.wrapping_add(block.len() - 1);
        last <= self.segments[seg::CS as usize].limit
            && last >= self.eip
            && self.deadline - self.retired >= u64::from(block.count())
    }

    /// Whether the next block may run right after `op`, which may have changed
    /// anything: nothing has to be looked at between the two.
    #[inline(always)]
    fn goes_on_after(&self, op: &Op) -> bool {
        let waiting = self.interrupt_line && self.interrupts_enabled();
        let stops = waiting || self.halted || self.needs_single_steps();
        !stops && self.code.written.is_empty() && self.retired_at(op) + 1 < self.deadline
    }

    /// Whether a host breakpoint is in the linear addresses of a block at EIP.
    fn has_breakpoint_in(&self, block: Block<'_>) -> bool {
        let first = self.linear_eip();
        let last = first.saturating_add(block.len() - 1);
        self.hooks.breakpoints.range(first..=last).next().is_some()
    }

    /// The exit for which a delivery stopped.
    fn exit_of_stop(&mut self) -> Exit {
        self.io.used = 0;
        match self.take_stop() {
            Stop::Exit(exit) => exit,
            _ => Exit::TripleFault,
        }
    }

    #[inline(always)]
    fn linear_eip(&self) -> u32 {
        self.windows[seg::CS as usize].base.wrapping_add(self.eip)
    }
}
